"""What is usual for a customer, against one transaction.

Belongs here: the comparison of one row with earlier rows, in sentences. Must not be here: reasons of a model
(`scoring/reason_texts.py`), statements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import HOUR

ENOUGH: Final = 3
"""Earlier rows below which nothing is called usual."""
RARE: Final = 0.1
"""Share of the earlier rows up to which a value is unusual."""
RECENT: Final = pd.Timedelta(days=1)
"""Rows this young do not make anything usual: an attack would make itself usual by its first payments."""
_FACTS: Final[Mapping[str, tuple[str, str]]] = {
    "country": ("first time in {now}", "in {now}"),
    "merchant_id": ("never at {now} before", "at {now}"),
    "channel": ("first time by {now}", "by {now}"),
    "category": ("first time for {now}", "for {now}"),
}
_MANY_AN_HOUR: Final = 3
Row = Mapping[str, Any] | pd.Series


@dataclass(frozen=True, slots=True)
class Comparison:
    """A sentence about one fact, and whether the transaction is unusual in it."""

    text: str
    unusual: bool


def compare(now: Row, earlier: pd.DataFrame) -> list[Comparison]:
    """Compare a transaction with the customer's earlier ones; the unusual facts come first.

    Both have columns of TRANSACTIONS, with `event_time` as a timestamp. Values that are not known on either side are
    left out. What is usual comes from rows of more than a day before, where there are enough of them.
    """
    if earlier.empty:
        return [Comparison("the first known payment of this customer", unusual=True)]
    is_recent = earlier["event_time"] > now["event_time"] - RECENT
    before = earlier[~is_recent] if (~is_recent).sum() >= ENOUGH else earlier
    recent = earlier.drop(before.index)
    facts = [_value(name, now.get(name), before[name], recent[name]) for name in _FACTS]
    facts += [_amount(now, before), _pace(now, earlier)]
    return sorted((fact for fact in facts if fact is not None), key=lambda fact: not fact.unusual)


def _value(name: str, value: Any, before: pd.Series, recent: pd.Series) -> Comparison | None:
    before = before[before.notna() & (before != NO_MERCHANT)]
    if pd.isna(value) or value == NO_MERCHANT or len(before) < ENOUGH:
        return None
    first, place = _FACTS[name]
    same, total = int((before == value).sum()), len(before)
    if same:
        return Comparison(f"{same} of {total} before {place.format(now=value)}", unusual=same <= RARE * total)
    counts = before.value_counts()
    most = int(counts.iloc[0])
    usual = f"; {most} of {total} before {place.format(now=counts.index[0])}" if most > 1 else ""
    today = int((recent == value).sum())
    new = f"{place} only in the last 24 hours" if today else first
    return Comparison(f"{new.format(now=value)}{usual}", unusual=True)


def _amount(now: Row, earlier: pd.DataFrame) -> Comparison | None:
    amount, before = now["amount_cents"], earlier["amount_cents"]
    if len(before) < ENOUGH or amount <= 0:
        return None
    middle, most = float(before.median()), int(before.max())
    if amount > most:
        return Comparison(f"the largest of {len(before) + 1}; the largest before was {_money(most)}", unusual=True)
    return Comparison(
        f"half of the payments before were up to {_money(middle)}, all up to {_money(most)}", unusual=False
    )


def _pace(now: Row, earlier: pd.DataFrame) -> Comparison | None:
    start = now["event_time"] - pd.Timedelta(HOUR, unit="us")
    count = int((earlier["event_time"] >= start).sum())
    if count < _MANY_AN_HOUR:
        return None
    return Comparison(f"{count} payments in the hour before", unusual=True)


def _money(cents: float) -> str:
    return f"{cents / 100:,.2f}"

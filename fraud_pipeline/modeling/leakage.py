"""Leakage checks: tests that features contain neither the label nor the future.

Belongs here: pure checks that return a verdict. Must not be here: training, orchestration, meanings of features.

A model that is too good is usually wrong. Each check looks for one leak: a feature that is the label, missing values
that reveal the label, a group that is the label, or a feature that changes with the future.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from fraud_pipeline.features.engineer import History
from fraud_pipeline.features.merchant_days import NEVER, days_to_clear
from fraud_pipeline.modeling.metrics import rank_frauds, roc_auc
from fraud_pipeline.schema.transactions import MAX_AMOUNT_CENTS

MIN_FRAUDS: Final = 20
MIN_GROUP_ROWS: Final = 50
INVARIANCE_CUSTOMERS: Final = 200


@dataclass(frozen=True, slots=True)
class LeakVerdict:
    """The result of one check: a sentence with a remedy, and its figures."""

    check: str
    passed: bool
    detail: str
    figures: Mapping[str, float]


class Engineer(Protocol):
    """The part of the feature code that `future_invariance` needs."""

    @property
    def label_maturity(self) -> timedelta: ...

    def compute(self, *, history: History, new: pd.DataFrame) -> pd.DataFrame: ...


def auc(values: NDArray[Any], labels: NDArray[np.float64]) -> float:
    """Probability that a fraud has a larger value than a legitimate row, ties counting half; NaN without both kinds."""
    # Ranks replace the values, because some may be infinite.
    ranks = rank_frauds(rankdata(values), labels, np.ones((1, len(labels))))
    return float(roc_auc(ranks)[0])


def single_feature_auc(values: pd.DataFrame, labels: NDArray[np.float64], *, limit: float = 0.97) -> LeakVerdict:
    """No feature (n, k) alone may separate fraud (n,) better than `limit`, in either direction; missing values rank
    lowest.
    """
    if labels.sum() < MIN_FRAUDS:
        return _too_few("single_feature_auc", labels)
    lowest = values.fillna(-np.inf)
    separation = {name: abs(auc(lowest[name].to_numpy(), labels) - 0.5) + 0.5 for name in values.columns}
    worst = max(separation, key=separation.__getitem__)
    sentence = f"{worst} alone reaches an AUC of {separation[worst]:.3f}"
    passed = separation[worst] <= limit
    remedy = "" if passed else f", above {limit:g}: check whether it is computed from the label or after the fact"
    return LeakVerdict("single_feature_auc", passed, f"{sentence}{remedy}.", {"auc": separation[worst], "limit": limit})


def category_rates(categories: pd.Series, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fraud rate of each row's category (n,), learned on the other half of the rows; a missing one is a category.

    So a category with one row says nothing about itself. Rows are in order of time.
    """
    codes = pd.factorize(categories, use_na_sentinel=False)[0]
    half = np.arange(len(labels)) < len(labels) // 2
    rates = np.empty(len(labels))
    for learned in (half, ~half):
        rows = np.bincount(codes[learned], minlength=codes.max(initial=0) + 1)
        frauds = np.bincount(codes[learned], labels[learned], minlength=len(rows))
        rates[~learned] = ((frauds + labels.mean()) / (rows + 1))[codes[~learned]]
    return rates


def null_pattern_auc(values: pd.DataFrame, labels: NDArray[np.float64], *, limit: float = 0.65) -> LeakVerdict:
    """Missing input values (n, k) must not reveal fraud: rates are learned on the first half, the AUC is of the second.

    Rows are in order of time. Use it for columns of the source only; features are rightly missing without history.
    """
    half = len(labels) // 2
    if min(labels[:half].sum(), labels[half:].sum()) < MIN_FRAUDS / 2:
        return _too_few("null_pattern_auc", labels)
    _, pattern = np.unique(np.packbits(values.isna().to_numpy(), axis=1), axis=0, return_inverse=True)
    rows = np.bincount(pattern[:half], minlength=pattern.max() + 1)
    frauds = np.bincount(pattern[:half], labels[:half], minlength=pattern.max() + 1)
    rate = (frauds + labels[:half].mean()) / (rows + 1)
    reached = auc(rate[pattern[half:]], labels[half:])
    passed = reached <= limit
    remedy = "" if passed else f", above {limit:g}: an optional column is filled in only for frauds or only for others"
    detail = f"Missing values alone reach an AUC of {reached:.3f}{remedy}."
    return LeakVerdict("null_pattern_auc", passed, detail, {"auc": reached, "limit": limit})


def segment_base_rate(
    labels: NDArray[np.float64], segments: Mapping[str, NDArray[Any]], *, limit: float = 0.5
) -> LeakVerdict:
    """No group of a segment (n,) with enough rows may be mostly fraud; such a group would be the label under another
    name.
    """
    worst, highest = "no group", 0.0
    for segment, groups in segments.items():
        rates = pd.Series(labels).groupby(pd.Series(groups), dropna=False).agg(["mean", "size"])
        rates = rates[rates["size"] >= MIN_GROUP_ROWS]
        if len(rates) and rates["mean"].max() > highest:
            worst, highest = f"{segment} {rates['mean'].idxmax()}", float(rates["mean"].max())
    passed = highest <= limit
    remedy = "" if passed else f", above {limit:.0%}: check how these rows were sampled or labelled"
    detail = f"The highest fraud rate of a group is {highest:.1%} ({worst}){remedy}."
    return LeakVerdict("segment_base_rate", passed, detail, {"rate": highest, "limit": limit})


def future_invariance(
    engineer: Engineer, *, history: History, new: pd.DataFrame, cut: pd.Timestamp, seed: int = 0
) -> LeakVerdict:
    """Features of rows before `cut` must keep every bit when everything from `cut` on is removed, changed or added.

    Checks up to `INVARIANCE_CUSTOMERS` customers. The changed future has other amounts, merchants and times, a fraud
    report about every row, and other merchant days, also in values that mature only after `cut`. A cut within a day
    detects more than a cut at midnight.
    """
    generator = np.random.default_rng(seed)
    customers = new["customer_id"].unique()
    sample = generator.choice(customers, min(len(customers), INVARIANCE_CUSTOMERS), replace=False)
    rows = new[new["customer_id"].isin(sample)].reset_index(drop=True)
    known = history.transactions[history.transactions["customer_id"].isin(sample)]
    past = rows["event_time"] < cut
    history = replace(history, transactions=known)
    before = engineer.compute(history=history, new=rows)[past.to_numpy()]
    changed_rows = pd.concat([rows[past], _perturbed(rows[~past], generator)], ignore_index=True)
    changed_history = _other_history(history, changed_rows, cut=cut, settles_in=days_to_clear(engineer.label_maturity))
    after = engineer.compute(history=changed_history, new=changed_rows).iloc[: len(before)]
    names = [name for name in before.columns if before[name].dtype.kind == "f"]
    changed = {
        name: int((before[name].to_numpy().view(np.uint32) != after[name].to_numpy().view(np.uint32)).sum())
        for name in names
    }
    worst = max(changed, key=changed.__getitem__) if changed else "no feature"
    total = sum(count > 0 for count in changed.values())
    detail = f"{len(before)} rows before the cut keep every bit of {len(names)} features."
    if total:
        detail = (
            f"{total} features change with the future, most of all {worst} ({changed[worst]} of {len(before)} rows): "
            "it looks at events at or after its own transaction."
        )
    return LeakVerdict("future_invariance", total == 0, detail, {"features": float(total), "rows": float(len(before))})


def _perturbed(future: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    kept = future[generator.random(len(future)) < 0.7]
    merchants = generator.permutation(kept["merchant_id"].to_numpy())
    amounts = generator.integers(1, MAX_AMOUNT_CENTS // 1000, len(kept))
    later = kept["event_time"] + pd.to_timedelta(generator.integers(0, 3_600, len(kept)), unit="s")
    return kept.assign(merchant_id=merchants, amount_cents=amounts, event_time=later.astype(kept["event_time"].dtype))


def _other_history(history: History, rows: pd.DataFrame, *, cut: pd.Timestamp, settles_in: int) -> History:
    reports = history.reports[history.reports["reported_at"] < cut]
    added = rows[["transaction_id", "event_time", "customer_id", "merchant_id", "amount_cents"]]
    added = added.assign(reported_at=added["event_time"].where(added["event_time"] >= cut, cut), is_fraud=True)[
        list(reports.columns)
    ]
    return History(
        transactions=history.transactions[history.transactions["event_time"] < cut],
        reports=pd.concat([reports, added], ignore_index=True) if len(added) else reports,
        merchant_days=_other_days(history.merchant_days, today=cut.floor("D"), settles_in=settles_in),
    )


def _other_days(days: pd.DataFrame, *, today: pd.Timestamp, settles_in: int) -> pd.DataFrame:
    """Days that are not over get another volume; unsettled days lose their matured legitimate rows."""
    over = days["day"] < today
    settled = days["day"] < today - pd.Timedelta(days=settles_in)
    return days.assign(
        transaction_count=days["transaction_count"].where(over, 7 * days["transaction_count"]),
        amount_sum_cents=days["amount_sum_cents"].where(over, 3 * days["amount_sum_cents"]),
        cleared_count=days["cleared_count"].where(settled, 0),
        last_cleared_time=days["last_cleared_time"].where(settled, NEVER),
    )


def _too_few(check: str, labels: NDArray[np.float64]) -> LeakVerdict:
    detail = f"Only {labels.sum():.0f} frauds: too few to distinguish a leak from chance."
    return LeakVerdict(check, passed=True, detail=detail, figures={"frauds": float(labels.sum())})

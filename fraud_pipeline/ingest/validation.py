"""Raw rows in, accepted rows and rejected rows with their reason out. Nothing is dropped silently.

Belongs here: the rules about a batch of rows. Must not be here: the rules about one column (`column_checks.py`), limits
and reasons (`schema/`), reading files, storing tables.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
import pandas as pd

from fraud_pipeline.ingest.column_checks import check_column
from fraud_pipeline.ingest.money_columns import check_money
from fraud_pipeline.ingest.own_column_checks import check_own_column
from fraud_pipeline.ingest.verdict import Objects, Verdict
from fraud_pipeline.schema.erasure import PREFIX
from fraud_pipeline.schema.fields import transaction_fields
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.raw_transactions import LABEL_UNKNOWN
from fraud_pipeline.schema.reasons import remedy
from fraud_pipeline.schema.transactions import (
    EARLIEST_EVENT_TIME,
    REJECTED_TRANSACTIONS,
    TIME_DTYPE,
    TRANSACTION_COLUMNS,
    UNKNOWN_LABELS,
    empty,
)


class TooManyRejectedRowsError(ValueError):
    """More rows were rejected than the run may tolerate: the input is wrong, not just dirty."""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """`accepted` follows the TRANSACTIONS schema, `rejected` REJECTED_TRANSACTIONS; together they hold every row.

    `normalised` counts, per field, the rows that each rule of `identifiers.NORMALISATIONS` changed. `patterns` say in
    words, with a remedy, what many rejected amounts have in common. `emptied` counts, per field, cells that were
    unusable and became missing. `unknown_labels` are the accepted transactions whose label the source does not know.
    """

    accepted: pd.DataFrame
    rejected: pd.DataFrame
    normalised: Mapping[str, Mapping[str, int]] = dataclass_field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    emptied: Mapping[str, int] = dataclass_field(default_factory=dict)
    unknown_labels: pd.DataFrame = dataclass_field(default_factory=lambda: empty(UNKNOWN_LABELS))

    @property
    def rejected_share(self) -> float:
        total = len(self.accepted) + len(self.rejected)
        return len(self.rejected) / total if total else 0.0

    def summary(self) -> dict[str, int]:
        """Rejected rows by reason, most frequent first."""
        return {str(reason): int(count) for reason, count in self.rejected["reason"].value_counts().items()}


def validate(
    raw: pd.DataFrame,
    *,
    now: pd.Timestamp,
    known_ids: Collection[str] | None = None,
    fallback_time: pd.Timestamp | None = None,
    own_fields: Sequence[OwnField] = (),
    conversion: Conversion | None = None,
) -> ValidationResult:
    """Split raw rows (any types, columns may be absent) into accepted ones and rejected ones with a reason.

    A row gets the first reason that applies, in the order of the fields; a repeated id is judged last, so the first
    good row of an id wins, and none does whose id is in `known_ids`.
    Rejected rows without a usable time carry `fallback_time`, so that they have a day to be stored under. Accepted rows
    have a typed column for each of `own_fields`; an own value never rejects its row. `conversion` makes cents of the
    amounts of rows with a `currency`; served rows have none, because their cents are converted already.
    """
    raw = raw.reset_index(drop=True)
    verdict, fields = Verdict(len(raw)), transaction_fields()
    columns: dict[str, Any] = {}
    for field in fields:
        if field.kind == "amount" and conversion is not None and "currency" in raw:
            columns |= check_money(raw, field, verdict, conversion)
        else:
            columns[field.stored_as] = check_column(raw, field, verdict, now=now)
    columns |= {own.name: check_own_column(raw, own, verdict) for own in own_fields if own.name not in columns}
    ids, times = columns["transaction_id"], pd.Series(columns["event_time"])
    for field in fields:
        if field.together_with:
            empty, other = pd.isna(columns[field.name]), pd.isna(columns[field.together_with])
            verdict.reject(np.asarray(empty & ~other), field=field.name, reason="incomplete_position")
    if known_ids is not None:
        verdict.reject(pd.Series(ids).isin(known_ids).to_numpy(), field="transaction_id", reason="duplicate_id")
    repeated = pd.Series(ids)[verdict.good].duplicated().reindex(raw.index, fill_value=False)
    verdict.reject(repeated.to_numpy(), field="transaction_id", reason="duplicate_id")

    good, bad = verdict.good, ~verdict.good
    names = [*TRANSACTION_COLUMNS, *(field.name for field in own_fields)]
    accepted = pd.DataFrame({name: columns[name] for name in names})[good].reset_index(drop=True)
    # Nobody may learn from a person who was erased.
    unknown = accepted["customer_id"].astype(str).str.startswith(PREFIX).to_numpy(dtype=bool)
    if LABEL_UNKNOWN in raw:
        unknown |= raw[LABEL_UNKNOWN].eq(True).to_numpy()[good]
    usable = times.ge(EARLIEST_EVENT_TIME) & times.le(now)
    fallback = pd.Series(fallback_time, index=times.index, dtype=TIME_DTYPE)
    stored_under = times.where(usable, fallback)
    rejected = pd.DataFrame(
        {
            "row": np.flatnonzero(bad).astype("int64"),
            "event_time": stored_under[bad].reset_index(drop=True),
            "transaction_id": ids[bad],
            "field": verdict.field[bad],
            "reason": verdict.reason[bad],
            "place": _places(raw[bad]),
        }
    )
    return ValidationResult(
        accepted=accepted,
        rejected=rejected[list(REJECTED_TRANSACTIONS.columns)],
        normalised=verdict.normalised,
        patterns=tuple(verdict.patterns),
        emptied=verdict.emptied,
        unknown_labels=accepted.loc[unknown, list(UNKNOWN_LABELS.columns)].reset_index(drop=True),
    )


def check_rejected_share(result: ValidationResult, *, max_share: float) -> None:
    """TooManyRejectedRowsError with the most frequent reasons when more than `max_share` (0..1) of the rows are bad."""
    if result.rejected_share <= max_share:
        return
    groups = result.rejected.groupby(["field", "reason"])["place"].agg(["size", "first"])
    counts = groups.sort_values("size", ascending=False).head(5).reset_index()
    lines = [
        f"  {count} x {field}: {reason} - {remedy(reason, field=field)}"
        + (f" (the first: {place})" if isinstance(place, str) else "")
        for field, reason, count, place in counts.to_numpy()
    ]
    lines += [f"  {pattern}" for pattern in result.patterns]
    total = len(result.accepted) + len(result.rejected)
    raise TooManyRejectedRowsError(
        f"{len(result.rejected)} of {total} rows were rejected ({result.rejected_share:.1%}, limit {max_share:.1%}). "
        "Most frequent reasons:\n" + "\n".join(lines) + "\n"
        "Correct the input or the column mapping; raise the setting max_rejected_share only if these rows may be lost."
    )


def _places(rows: pd.DataFrame) -> Objects:
    """Where rows of a file stand, in words; None where nobody numbered them."""
    if "file_row" not in rows:
        return np.full(len(rows), None, dtype=object)
    numbers = rows["file_row"].astype("Int64").tolist()
    parts = rows["file_part"].tolist() if "file_part" in rows else [None] * len(rows)
    places = [
        None if pd.isna(number) else f"row {number}" + (f" of {part}" if isinstance(part, str) else "")
        for number, part in zip(numbers, parts, strict=True)
    ]
    return np.array(places, dtype=object)

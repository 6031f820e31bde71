"""The rows that champion and challenger both scored while the champion served, and that have a matured label.

Belongs here: which of them count, and for how much. Must not be here: reading them (`database/performance.py`), the
judgement (`gate.py`).

A transaction that the champion blocked has no label without a report. Where enough would-be blocks were held out, they
represent the blocked rows. Otherwise blocked rows are left out, and a challenger that would allow many of them waits.
"""

from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from fraud_pipeline.modeling.dataset import censored_labels, labels_as_of
from fraud_pipeline.policy.holdout import Holdout
from fraud_pipeline.promotion.verdict import GateRules
from fraud_pipeline.schema.transactions import DAY, microseconds


@dataclass(frozen=True, slots=True, eq=False)
class LiveRows:
    """Rows that both models scored while the champion served.

    `rows` have a matured `label`, and a `weight`: the number of rows that each represents. `hidden` rows were blocked
    and never reported, and no other row represents them.
    """

    rows: pd.DataFrame
    hidden: pd.DataFrame
    held_out: int

    def __str__(self) -> str:
        basis = f"{len(self.rows):,} transactions that the challenger scored in shadow, with matured labels"
        if self.held_out:
            return f"{basis}; {self.held_out:,} held out count for what was blocked"
        return f"{basis}; {len(self.hidden):,} more were blocked and never reported" if len(self.hidden) else basis


def live_rows(
    shadowed: pd.DataFrame, reports: pd.DataFrame, *, as_of: pd.Timestamp, label_maturity: timedelta, rules: GateRules
) -> LiveRows | None:
    """Rows with matured labels that both models scored while the champion served; None while frauds are too few.

    `shadowed` holds rows of `shadow_rows`.
    """
    rows = shadowed[shadowed["event_time"] < as_of - label_maturity].reset_index(drop=True)
    rows = rows.assign(label=labels_as_of(rows, reports, as_of=as_of, label_maturity=label_maturity))
    blocked = rows["champion_decision"] == "block"
    stopped = rows.loc[blocked | rows["held_out"], ["transaction_id", "held_out", "share"]].assign(by_model=True)
    days = microseconds(rows["event_time"]) // DAY
    holdout = Holdout.of(rows["transaction_id"], stopped, days=days)
    hidden = censored_labels(rows, reports, rows.loc[blocked, "transaction_id"], as_of=as_of) & (not holdout.enough)
    kept = (holdout.weights > 0) & ~hidden
    live = LiveRows(
        rows=rows.assign(weight=holdout.weights)[kept].reset_index(drop=True),
        hidden=rows[hidden].reset_index(drop=True),
        held_out=int((holdout.held_out & kept).sum()) if holdout.enough else 0,
    )
    return live if live.rows["label"].sum() >= rules.min_frauds else None

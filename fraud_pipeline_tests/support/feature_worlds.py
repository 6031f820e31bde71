"""Small random worlds for tests of features: a few customers and merchants, ties, missing values, late reports."""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st

from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.features.engineer import FeatureEngineer, History
from fraud_pipeline.features.merchant_days import merchant_days
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TRANSACTIONS, empty

START: Final = pd.Timestamp("2026-03-06", tz="UTC")  # a Friday
MATURITY: Final = timedelta(days=5)
ENGINEER: Final = FeatureEngineer(label_maturity=MATURITY)
DAY: Final = pd.Timedelta(days=1)
SECOND: Final = pd.Timedelta(seconds=1)
EXAMPLES: Final = settings(max_examples=settings().max_examples * 3 // 5)
"""A world takes longer to compare than most examples, so there are fewer of them; `make test-fast` makes both fewer."""

Row = dict[str, Any]


def transaction(number: int, *, at: float = 0, **changes: Any) -> Row:
    """One transaction `at` hours after the start; everything else may be changed."""
    return {
        "transaction_id": f"t{number}",
        "event_time": START + pd.Timedelta(hours=at),
        "customer_id": "c0",
        "merchant_id": "m0",
        "amount_cents": 1000,
        "category": None,
        "channel": None,
        "country": None,
        "latitude": math.nan,
        "longitude": math.nan,
    } | changes


def report(row: Row, *, after: float, is_fraud: bool = True) -> Row:
    """What somebody said about a transaction some days after it."""
    named = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount_cents")
    reported = {"reported_at": row["event_time"] + after * DAY, "is_fraud": is_fraud}
    return {name: row[name] for name in named} | reported


def frame(rows: list[Row], schema: Any = TRANSACTIONS) -> pd.DataFrame:
    """Rows as the pipeline's tables hold them."""
    if not rows:
        return empty(schema)
    types = {name: column.dtype.type for name, column in schema.columns.items() if str(column.dtype) != "str"}
    return pd.DataFrame(rows, columns=list(schema.columns), dtype="object").astype(types)


@dataclass(frozen=True)
class World:
    """Everything that ever happened and was reported."""

    transactions: list[Row]
    reports: list[Row]

    def history(self, known: list[Row]) -> History:
        """All reports and merchants' days, and these transactions."""
        reports = frame(self.reports, FRAUD_REPORTS)
        days = merchant_days(frame(self.transactions), reports, label_maturity=MATURITY)
        return History(transactions=frame(known), reports=reports, merchant_days=days)

    def features(self, new: list[Row], known: list[Row] | None = None) -> pd.DataFrame:
        return ENGINEER.compute(history=self.history(self.transactions if known is None else known), new=frame(new))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A few customers and merchants, many ties, missing values, late, double and withdrawn reports."""
    places = st.sampled_from([(math.nan, math.nan), (0.0, 0.0), (1.0, 1.0), (52.5, 13.4)])
    transactions = []
    for number in range(draw(st.integers(1, 9))):
        latitude, longitude = draw(places)
        transactions.append(
            transaction(
                number,
                at=draw(st.sampled_from([0, 0.5, 3, 23, 24, 30, 100, 168, 400, 720, 744, 900])),
                customer_id=draw(st.sampled_from(["c0", "c1"])),
                merchant_id=draw(st.sampled_from(["m0", "m1"])),
                amount_cents=draw(st.sampled_from([-5000, -1, 0, 1, 900, 1000, 5000, 10**10])),
                category=draw(st.sampled_from([None, "food", "fuel"])),
                channel=draw(st.sampled_from([None, "online", "chip"])),
                country=draw(st.sampled_from([None, "DE", "FR"])),
                latitude=latitude,
                longitude=longitude,
            )
        )
    report_draws = st.tuples(st.sampled_from(transactions), st.sampled_from([0, 1, 5, 5.5, 8, 20]), st.booleans())
    return World(
        transactions, [report(row, after=a, is_fraud=f) for row, a, f in draw(st.lists(report_draws, max_size=5))]
    )


def bits(features: pd.DataFrame) -> Any:
    """The features of a frame as the bits they are stored in."""
    return np.ascontiguousarray(features[list(FEATURE_NAMES)].to_numpy(np.float32)).view(np.int32)

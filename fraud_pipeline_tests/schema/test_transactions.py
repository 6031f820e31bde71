"""What a transaction and a report are: which values the schemas of stored tables take, and which they refuse."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pandera.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.schema.transactions import (
    CHANNELS,
    FRAUD_REPORTS,
    MAX_AMOUNT_CENTS,
    OPTIONAL_COLUMNS,
    REJECTED_TRANSACTIONS,
    TRANSACTION_COLUMNS,
    TRANSACTIONS,
    TransactionRow,
    empty,
    microseconds,
    times,
)

FULL: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": pd.Timestamp("2026-03-01 12:00", tz="UTC"),
    "customer_id": "c1",
    "merchant_id": "m1",
    "amount_cents": 1234,
    "category": "food",
    "channel": "chip",
    "country": "DE",
    "latitude": 52.5,
    "longitude": 13.4,
}


def frame(**changes: Any) -> pd.DataFrame:
    """One good row of the TRANSACTIONS schema, with changes."""
    row = pd.DataFrame([FULL | changes])
    return row.astype({"event_time": "datetime64[us, UTC]"})[list(TRANSACTION_COLUMNS)]


class TestSchemas:
    @pytest.mark.parametrize("channel", [*CHANNELS, None])
    def test_accept_what_they_describe(self, channel: str | None) -> None:
        TRANSACTIONS.validate(frame(channel=channel, category=None, country=None, latitude=np.nan, longitude=np.nan))

    @pytest.mark.parametrize(
        "changes",
        [
            {"transaction_id": None},
            {"customer_id": "a\x00b"},
            {"merchant_id": "a\ud800"},
            {"transaction_id": ""},
            {"transaction_id": "x" * 65},
            {"amount_cents": 12.34},
            {"amount_cents": MAX_AMOUNT_CENTS + 1},
            {"amount_cents": -MAX_AMOUNT_CENTS - 1},
            {"category": ""},
            {"category": "food\n"},
            {"channel": "pigeon"},
            {"country": "D"},
            {"country": "de"},
            {"country": "DEU"},
            {"country": "DE\n"},
            {"latitude": -90.5},
            {"latitude": 90.1},
            {"latitude": float("inf")},
            {"longitude": 180.1},
            {"event_time": pd.Timestamp("1989-12-31", tz="UTC")},
        ],
        ids=lambda changes: f"{changes}"[:40],
    )
    def test_refuse_one_bad_value(self, changes: dict[str, Any]) -> None:
        with pytest.raises(pandera.errors.SchemaError):
            TRANSACTIONS.validate(frame(**changes))

    @pytest.mark.parametrize("cents", [0, -1_250])
    def test_accept_card_checks_and_refunds(self, cents: int) -> None:
        TRANSACTIONS.validate(frame(amount_cents=cents))

    def test_refuse_a_repeated_id_an_extra_column_and_another_order(self) -> None:
        good = frame()
        for bad in (pd.concat([good, good]), good.assign(card_number="x"), good[good.columns[::-1]]):
            with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
                TRANSACTIONS.validate(bad)

    def test_a_row_has_the_columns_of_the_table(self) -> None:
        assert TransactionRow._fields == (*TRANSACTION_COLUMNS, "own_fields")
        assert set(TransactionRow._field_defaults) == {*OPTIONAL_COLUMNS, "own_fields"}

    @pytest.mark.parametrize("schema", [TRANSACTIONS, FRAUD_REPORTS, REJECTED_TRANSACTIONS], ids=lambda s: s.name)
    def test_an_empty_table_follows_its_schema(self, schema: Any) -> None:
        none = empty(schema)
        schema.validate(none)
        assert len(none) == 0


class TestTimes:
    @given(st.lists(st.integers(-(2**52), 2**52), max_size=5))
    def test_microseconds_and_times_undo_each_other(self, values: list[int]) -> None:
        array = np.array(values, dtype=np.int64)
        np.testing.assert_array_equal(microseconds(times(array)), array)

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_microseconds_mean_the_same_instant_in_every_zone_and_unit(self, zone: str, unit: Any) -> None:
        instant = pd.Timestamp("2026-03-29 01:30", tz="UTC")
        column = pd.Series(pd.DatetimeIndex([instant]).tz_convert(zone).as_unit(unit))
        assert microseconds(column).tolist() == [(instant - pd.Timestamp(0, tz="UTC")) // timedelta(microseconds=1)]

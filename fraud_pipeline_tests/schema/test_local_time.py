"""Offsets of local clocks: their texts, and times that show them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET, offset_of, offset_of_time, on_local_clock
from fraud_pipeline.schema.money import same_transaction
from fraud_pipeline.schema.own_fields import own_fields_json
from fraud_pipeline.schema.transactions import TransactionRow

ROW = TransactionRow("t", 1, "c", "m", 100)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("+01:00", 60), ("+0100", 60), ("+01", 60), ("-05:30", -330), ("+14:00", 840), ("+00:00", 0), ("-00:01", -1)),
        *((text, None) for text in ("Z", "", "-00:00", "-0000", "-00", "+24:00", "+01:60", "01:00", "CET", "+1:00")),
    ],
)
def test_an_offset_is_read_or_unknown(text: str, minutes: int | None) -> None:
    assert offset_of(text) == minutes


@given(minutes=st.integers(-1_439, 1_439), second=st.integers(0, 2**31))
def test_a_time_that_is_shown_on_a_clock_is_the_same_instant_and_says_its_offset(minutes: int, second: int) -> None:
    moment = datetime.fromtimestamp(second, tz=UTC)
    shown = on_local_clock(moment, minutes)
    assert shown == moment
    assert offset_of_time(shown.isoformat()) == minutes


def test_z_says_nothing_of_the_local_clock() -> None:
    moment = datetime(2026, 1, 31, 13, 45, tzinfo=UTC)
    assert offset_of_time("2026-01-31T13:45:00Z") is None
    assert [on_local_clock(moment, offset) for offset in (None, 1_440, float("nan"), "60")] == [moment] * 4
    assert on_local_clock(moment, None).isoformat() == "2026-01-31T13:45:00+00:00"


def test_a_transaction_that_is_sent_again_to_a_model_with_local_time_is_the_same() -> None:
    zoned = ROW._replace(own_fields=own_fields_json({UTC_OFFSET: 60}))
    other = ROW._replace(own_fields=own_fields_json({UTC_OFFSET: 60, "age": 3}))
    assert same_transaction(ROW, zoned)
    assert same_transaction(zoned, ROW)
    assert not same_transaction(ROW, other)
    assert not same_transaction(zoned, zoned._replace(amount_cents=101))
    assert OFFSET_FIELD.name == UTC_OFFSET

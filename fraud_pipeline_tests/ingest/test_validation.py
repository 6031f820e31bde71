"""Every raw row is accepted or rejected with a reason, and accepted rows follow the schema."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.ingest.validation import (
    TooManyRejectedRowsError,
    ValidationResult,
    check_rejected_share,
    validate,
)
from fraud_pipeline.schema.fields import FIELDS, NO_MERCHANT
from fraud_pipeline.schema.identifiers import read_identifier
from fraud_pipeline.schema.reasons import REASONS, remedy
from fraud_pipeline.schema.transactions import (
    EARLIEST_EVENT_TIME,
    MAX_AMOUNT_CENTS,
    REJECTED_TRANSACTIONS,
    TRANSACTIONS,
)

NOW = pd.Timestamp("2026-03-02", tz="UTC")
CLOCK_TOLERANCE = pd.Timedelta(FIELDS["event_time"].max_ahead)
MONDAY = pd.Timestamp("2026-03-01 12:00", tz="UTC")
GOOD: dict[str, Any] = {
    "transaction_id": "t1",
    "event_time": MONDAY,
    "customer_id": "c1",
    "merchant_id": "m1",
    "amount": 12.34,
    "category": "food",
    "channel": "chip",
    "country": "DE",
    "latitude": 52.5,
    "longitude": 13.4,
}


def raw(*changes: dict[str, Any]) -> pd.DataFrame:
    """One good row per argument, with that argument's changes; ids differ unless changed."""
    rows = [{**GOOD, "transaction_id": f"t{number}", **change} for number, change in enumerate(changes)]
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in GOOD})


def reasons(result: ValidationResult) -> list[tuple[int, str, str]]:
    return list(result.rejected[["row", "field", "reason"]].itertuples(index=False, name=None))


def test_a_good_row_is_accepted_in_cents_and_in_the_order_of_the_schema() -> None:
    result = validate(raw({}, {"amount": 0.01}, {"amount": MAX_AMOUNT_CENTS / 100}), now=NOW)
    TRANSACTIONS.validate(result.accepted)
    assert result.accepted["amount_cents"].tolist() == [1234, 1, MAX_AMOUNT_CENTS]
    assert result.accepted.iloc[0].drop("amount_cents").to_dict() == {
        **{name: value for name, value in GOOD.items() if name != "amount"},
        "transaction_id": "t0",
    }
    assert result.rejected.empty
    REJECTED_TRANSACTIONS.validate(result.rejected)


def test_absent_optional_columns_are_missing_not_zero() -> None:
    result = validate(raw({}, {})[["transaction_id", "event_time", "customer_id", "merchant_id", "amount"]], now=NOW)
    TRANSACTIONS.validate(result.accepted)
    assert len(result.accepted) == 2
    assert result.accepted[["category", "channel", "country"]].to_numpy().tolist() == [[None] * 3] * 2
    assert result.accepted[["latitude", "longitude"]].isna().all(axis=None)


def test_absent_required_columns_reject_every_row() -> None:
    result = validate(raw({}, {}).drop(columns="customer_id"), now=NOW)
    assert reasons(result) == [(0, "customer_id", "missing"), (1, "customer_id", "missing")]


@pytest.mark.parametrize("cell", [None, "", "  ", "NULL", NO_MERCHANT])
def test_a_transaction_without_a_merchant_is_accepted_without_one(cell: str | None) -> None:
    result = validate(raw({"merchant_id": cell}), now=NOW)
    assert result.accepted["merchant_id"].tolist() == [NO_MERCHANT]


@pytest.mark.parametrize("frame", [pd.DataFrame(), raw({}).iloc[:0]])
def test_no_rows_are_no_rows(frame: pd.DataFrame) -> None:
    result = validate(frame, now=NOW)
    TRANSACTIONS.validate(result.accepted)
    REJECTED_TRANSACTIONS.validate(result.rejected)
    check_rejected_share(result, max_share=0)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("transaction_id", None, "missing"),
        ("transaction_id", "  ", "missing"),
        ("customer_id", float("nan"), "missing"),
        ("merchant_id", 17, "wrong_type"),
        ("merchant_id", ["m1"], "wrong_type"),
        ("customer_id", "c\x00", "control_character"),
        ("customer_id", "c\n", "control_character"),
        ("category", "food\x7f", "control_character"),
        ("merchant_id", "m\ud800", "control_character"),
        ("transaction_id", "x" * 65, "too_long"),
        ("customer_id", r"\N", "missing"),
        ("customer_id", "4.51E+15", "lost_digits"),
        ("merchant_id", "12.50", "decimal_id"),
        ("category", "caf\ufffd", "lost_characters"),
        ("event_time", None, "time_missing_or_unreadable"),
        ("event_time", pd.NaT, "time_missing_or_unreadable"),
        ("event_time", "2026-03-01", "wrong_type"),
        ("event_time", 1_772_366_400, "wrong_type"),
        ("event_time", EARLIEST_EVENT_TIME - pd.Timedelta("1us"), "too_early"),
        ("event_time", NOW + CLOCK_TOLERANCE + pd.Timedelta("1us"), "future_time"),
        ("amount", None, "missing"),
        ("amount", "", "missing"),
        ("amount", "12,34", "wrong_type"),
        ("amount", "1_000", "wrong_type"),
        ("amount", True, "wrong_type"),
        ("amount", 1 + 2j, "wrong_type"),
        ("amount", float("inf"), "not_finite"),
        ("amount", "-inf", "not_finite"),
        ("amount", 10**400, "not_finite"),
        ("amount", -MAX_AMOUNT_CENTS / 100 - 0.01, "out_of_range"),
        ("amount", MAX_AMOUNT_CENTS / 100 + 0.01, "out_of_range"),
        ("amount", 12.345, "finer_than_a_cent"),
        ("amount", 0.001, "finer_than_a_cent"),
        ("amount", -0.001, "finer_than_a_cent"),
        ("amount", 1e-9, "finer_than_a_cent"),
        ("latitude", 90.01, "out_of_range"),
        ("longitude", -180.01, "out_of_range"),
        ("latitude", "north", "wrong_type"),
        ("longitude", float("-inf"), "not_finite"),
        ("latitude", None, "incomplete_position"),
        ("longitude", None, "incomplete_position"),
    ],
)
def test_one_bad_cell_rejects_its_row_alone(field: str, value: object, reason: str) -> None:
    result = validate(raw({}, {field: value}, {}), now=NOW)
    assert reasons(result) == [(1, field, reason)]
    assert result.accepted["transaction_id"].tolist() == ["t0", "t2"]
    assert reason in REASONS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel", "telepathy"),
        ("channel", "Chip"),
        ("channel", 7),
        ("country", "DEU"),
        ("country", "de"),
        ("country", "D1"),
        ("country", "D\ud800"),
    ],
)
def test_an_unknown_channel_or_country_is_a_missing_cell_with_a_count(field: str, value: object) -> None:
    result = validate(raw({}, {field: value}, {field: None}, {field: " "}), now=NOW)
    assert result.rejected.empty
    assert result.accepted[field].tolist() == [GOOD[field], None, None, None]
    assert result.emptied == {field: 1}


def test_amounts_of_checks_and_refunds_are_kept() -> None:
    amounts = [0, -0.0, "0.00", 0.1 + 0.2 - 0.3, -0.01, "-12.34", -MAX_AMOUNT_CENTS / 100]
    result = validate(raw(*({"amount": amount} for amount in amounts)), now=NOW)
    TRANSACTIONS.validate(result.accepted)
    assert result.accepted["amount_cents"].tolist() == [0, 0, 0, 0, -1, -1234, -MAX_AMOUNT_CENTS]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "12.34"),
        ("amount", Decimal("12.34")),
        ("amount", np.float32(12.34).item()),
        ("event_time", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("event_time", datetime(2026, 3, 1, 12)),  # noqa: DTZ001 - a time without timezone is UTC
        ("event_time", pd.Timestamp("2026-03-01 14:00+02:00")),
        ("event_time", NOW + CLOCK_TOLERANCE),
        ("latitude", "52.5"),
        ("category", None),
        ("channel", ""),
        ("country", float("nan")),
        ("transaction_id", "naïve id 😀"),
        ("transaction_id", "x" * 64),
    ],
)
def test_other_spellings_of_good_values_pass(field: str, value: object) -> None:
    frame = raw({field: value})
    if field == "amount" and isinstance(value, float):
        frame["amount"] = frame["amount"].astype("float32")
    result = validate(frame, now=NOW)
    TRANSACTIONS.validate(result.accepted)
    assert result.accepted["amount_cents"].tolist() == [1234]


def test_every_whole_cent_passes_however_it_is_stored() -> None:
    """Binary fractions are not exact: 1.15 * 100 is 114.99999999999999."""
    cents = np.concatenate([np.arange(1, 30_000), np.array([9_999_999_999, MAX_AMOUNT_CENTS - 1])])
    frame = raw({}).loc[np.zeros(len(cents), dtype=int)]
    frame["transaction_id"] = [f"t{number}" for number in range(len(cents))]
    frame["amount"] = cents / 100
    assert validate(frame, now=NOW).accepted["amount_cents"].tolist() == cents.tolist()
    small = frame[cents < 30_000].assign(amount=lambda rows: rows["amount"].astype("float32"))
    assert validate(small, now=NOW).accepted["amount_cents"].tolist() == list(range(1, 30_000))


def test_normalised_ids_are_counted_by_field_and_rule() -> None:
    result = validate(raw({"customer_id": " c1"}, {"customer_id": "c1"}, {"merchant_id": "7.0"}), now=NOW)
    assert result.accepted["customer_id"].tolist() == ["c1"] * 3
    assert result.normalised == {"customer_id": {"padding": 1}, "merchant_id": {"whole_number": 1}}


def test_two_spellings_of_one_id_are_a_repeated_id() -> None:
    result = validate(raw({"transaction_id": "17"}, {"transaction_id": "17.0"}), now=NOW)
    assert reasons(result) == [(1, "transaction_id", "duplicate_id")]


def test_the_first_good_row_of_an_id_wins() -> None:
    result = validate(raw({"transaction_id": "a", "amount": 10**9}, *[{"transaction_id": "a"}] * 2), now=NOW)
    assert reasons(result) == [(0, "amount", "out_of_range"), (2, "transaction_id", "duplicate_id")]


def test_known_ids_are_duplicates() -> None:
    result = validate(raw({}, {}), now=NOW, known_ids={"t0"})
    assert reasons(result) == [(0, "transaction_id", "duplicate_id")]


def test_a_row_with_many_faults_gets_the_first_in_the_order_of_the_fields() -> None:
    result = validate(raw({"amount": 10**9, "customer_id": None, "country": "?"}), now=NOW)
    assert reasons(result) == [(0, "customer_id", "missing")]


def test_rejected_rows_keep_usable_ids_and_times_and_get_a_day_otherwise() -> None:
    fallback = pd.Timestamp("2026-02-20", tz="UTC")
    changes: list[dict[str, Any]] = [
        {"amount": 10**9},
        {"transaction_id": "bad\x00id"},
        {"transaction_id": 5},
        {"event_time": None},
        {"event_time": pd.Timestamp("1970-01-01", tz="UTC")},
        {"event_time": pd.Timestamp("2099-01-01", tz="UTC")},
    ]
    rejected = validate(raw(*changes), now=NOW, fallback_time=fallback).rejected
    REJECTED_TRANSACTIONS.validate(rejected)
    assert rejected["transaction_id"].tolist() == ["t0", None, None, "t3", "t4", "t5"]
    assert rejected["event_time"].tolist() == [MONDAY] * 3 + [fallback] * 3
    without = validate(raw(*changes), now=NOW).rejected
    assert without["event_time"].isna().tolist() == [False] * 3 + [True] * 3


def test_ten_percent_bad_rows_stop_a_run_that_allows_five() -> None:
    changes: list[dict[str, Any]] = [{} for _ in range(1000)]
    for number in range(0, 600, 10):
        changes[number] = {"amount": 4711171717.17}
    for number in range(600, 1000, 10):
        changes[number] = {"customer_id": "4000123412341234\x00"}
    result = validate(raw(*changes), now=NOW)
    assert result.summary() == {"out_of_range": 60, "control_character": 40}
    check_rejected_share(result, max_share=0.1)
    with pytest.raises(TooManyRejectedRowsError) as error:
        check_rejected_share(result, max_share=0.05)
    message = str(error.value)
    assert "100 of 1000 rows were rejected (10.0%, limit 5.0%)" in message
    assert f"60 x amount: out_of_range - {remedy('out_of_range', field='amount')}" in message
    assert f"40 x customer_id: control_character - {remedy('control_character', field='customer_id')}" in message
    assert "max_rejected_share" in message
    assert "4711" not in message
    assert "4000" not in message


def test_the_channel_remedy_lists_what_is_allowed() -> None:
    assert "chip, contactless, online, atm, transfer" in REASONS["unknown_channel"]


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.decimals(allow_nan=False),  # pandas itself cannot hold a signaling NaN
    st.binary(max_size=4),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=5),
    st.sampled_from(["\ud800", "a\x00", "\x1c", "\x85", "\ufeff", "x" * 64, "é" * 65, "now", "1e999", "nan", "-0"]),
    st.sampled_from([pd.NaT, pd.NA, np.float64("nan"), np.datetime64("2026-03-01"), [1], {}, object()]),
)
ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.just(value), JUNK) for name, value in GOOD.items()}), max_size=12
)


@given(rows=ROWS, absent=st.sets(st.sampled_from(sorted(GOOD)), max_size=3))
def test_every_row_is_accepted_or_rejected_once_and_tables_follow_their_schemas(
    rows: list[dict[str, Any]], absent: set[str]
) -> None:
    frame = raw(*rows).drop(columns=sorted(absent))
    frame["marker"] = range(len(frame))
    result = validate(frame, now=NOW, fallback_time=NOW - pd.Timedelta(days=1))
    TRANSACTIONS.validate(result.accepted)
    REJECTED_TRANSACTIONS.validate(result.rejected)
    assert len(result.accepted) + len(result.rejected) == len(rows)
    accepted = sorted(set(range(len(rows))) - set(result.rejected["row"]))
    expected = [read_identifier(rows[number]["transaction_id"]).text for number in accepted]
    assert result.accepted["transaction_id"].tolist() == expected
    assert result.rejected["row"].is_monotonic_increasing
    assert result.rejected["row"].is_unique
    assert set(result.rejected["reason"]) <= set(REASONS)
    assert (result.rejected["event_time"] <= NOW).all()
    again = validate(frame.iloc[accepted], now=NOW)
    assert again.rejected.empty

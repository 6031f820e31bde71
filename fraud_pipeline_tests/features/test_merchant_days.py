"""Merchants' days that the database makes of its own events, night by night, are those of `snapshots.merchant_days`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.history import load_history, read_merchant_days, read_reports, read_transactions
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.tables import METADATA
from fraud_pipeline.features.merchant_days import days_to_clear, merchant_days
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import DAY, FRAUD_REPORTS, HOUR, TransactionRow, empty, microseconds, times

START = 20_000 * DAY
LOOKBACK = timedelta(days=20)
LATEST = pd.Timestamp(START + 90 * DAY, unit="us", tz="UTC")
MATURITIES = (timedelta(days=2), timedelta(days=3, hours=5))

# What happens on a day: events (hours back from its end, merchant, whether by a file), and reports (which event, how
# many hours after it).
EVENTS = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2), st.booleans()), max_size=4)
REPORTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 120), st.booleans()), max_size=3)
LIFE = st.lists(st.tuples(EVENTS, REPORTS, st.booleans()), min_size=1, max_size=12)


@pytest.mark.slow
@given(life=LIFE, label_maturity=st.sampled_from(MATURITIES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_days_made_night_by_night_are_those_of_all_events(
    database: Database, life: list[Any], label_maturity: timedelta
) -> None:
    """With late events and reports over any entrance, and with missed nights."""
    clear(database)
    now = START
    rows: list[TransactionRow] = []
    for events, reports, has_night in life:
        now += DAY
        for hours, merchant, from_file in events:
            name = f"m-{merchant}" if merchant else NO_MERCHANT
            row = TransactionRow(f"t-{len(rows)}", now - hours * HOUR, "c-1", name, 100 + len(rows))
            rows.append(row)
            if from_file:
                load_history(database, transactions=frame([row]), reports=empty(FRAUD_REPORTS))
            else:
                with scoring_batch(database) as batch:
                    batch.remember([row])
        for which, hours, is_fraud in reports:
            if which < len(rows):
                with scoring_batch(database) as batch:
                    at = rows[which].event_time + hours * HOUR
                    batch.add_report(rows[which].transaction_id, reported_at=at, is_fraud=is_fraud)
        if has_night:
            refresh(database, now, label_maturity=label_maturity)
    refresh(database, now, label_maturity=label_maturity)
    assert_same_days(database, now, label_maturity=label_maturity)


def test_a_night_without_changes_makes_only_the_last_day_again(database: Database) -> None:
    label_maturity = MATURITIES[0]
    with scoring_batch(database) as batch:
        batch.remember([TransactionRow(f"t-{n}", START + n * DAY, "c-1", "m-1", 100) for n in range(10)])
    now = START + 10 * DAY
    assert refresh(database, now, label_maturity=label_maturity) == 10
    with days_read(database) as days:
        assert refresh(database, now, label_maturity=label_maturity) == 0
    assert days == [START + 9 * DAY]
    with days_read(database) as days:
        refresh(database, now + DAY, label_maturity=label_maturity)
    assert days == [START + n * DAY for n in (8, 9, 10)], "the last day, the new one, and the one that has matured"


def test_late_events_and_reports_cause_their_days_to_be_made_again(database: Database) -> None:
    label_maturity = MATURITIES[0]
    with scoring_batch(database) as batch:
        batch.remember([TransactionRow(f"t-{n}", START + n * DAY, "c-1", "m-1", 100) for n in range(10)])
    now = START + 10 * DAY
    refresh(database, now, label_maturity=label_maturity)
    with scoring_batch(database) as batch:
        batch.remember([TransactionRow("late", START + 3 * DAY, "c-2", "m-1", 100)])
    with scoring_batch(database) as batch:
        batch.add_report("t-5", reported_at=START + 5 * DAY + HOUR, is_fraud=True)
        batch.add_report("t-2", reported_at=START + 9 * DAY, is_fraud=True)
    with days_read(database) as days:
        assert refresh(database, now, label_maturity=label_maturity) == 2
    assert days == [START + n * DAY for n in (3, 5, 9)], "nobody can be cleared by a report that came too late"
    with days_read(database) as days:
        refresh(database, now, label_maturity=label_maturity)
    assert days == [START + 9 * DAY]


def refresh(database: Database, now: int, *, label_maturity: timedelta) -> int:
    at = pd.Timestamp(now, unit="us", tz="UTC")
    return refresh_merchant_days(database, now=at, lookback=LOOKBACK, label_maturity=label_maturity)


def assert_same_days(database: Database, now: int, *, label_maturity: timedelta) -> None:
    """Volume is equal on all days, and cleared columns on settled days."""
    start, end = (pd.Timestamp(at, unit="us", tz="UTC") for at in (now - LOOKBACK.days * DAY, now))
    expected = merchant_days(
        read_transactions(database, start=start, end=end),
        read_reports(database, start=start, end=LATEST),
        label_maturity=label_maturity,
    )
    expected["day"] = microseconds(expected["day"])
    stored = read_merchant_days(database, start=start, end=end, label_maturity=label_maturity)
    stored = stored.drop_duplicates(["merchant_id", "day"], keep="last").drop(columns="version")
    matured = now - days_to_clear(label_maturity) * DAY
    for days in (expected, stored):
        days.loc[days["day"] >= matured, ["cleared_count", "last_cleared_time"]] = 0
    key = ["day", "merchant_id"]
    pd.testing.assert_frame_equal(
        stored.sort_values(key, ignore_index=True),
        expected[list(stored.columns)].sort_values(key, ignore_index=True),
        check_dtype=False,
    )


def frame(rows: list[TransactionRow]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=TransactionRow._fields)
    return made.assign(event_time=times(made["event_time"].to_numpy()))


def clear(database: Database) -> None:
    """The original tables."""
    with database.transaction() as connection:
        for table in METADATA.sorted_tables:
            if table.name not in ("secrets", "memory_versions"):
                connection.execute(sa.delete(table))
        versions = METADATA.tables["memory_versions"]
        connection.execute(sa.delete(versions).where(versions.c.name != "reports"))


@contextmanager
def days_read(database: Database) -> Iterator[list[int]]:
    """The days whose events are read."""
    days: list[int] = []

    def executed(_connection: Any, _statement: Any, _many: Any, parameters: Any, _options: Any) -> None:
        if isinstance(parameters, dict) and "next_day" in parameters:
            days.append(parameters["day"])

    sa.event.listen(database.engine, "before_execute", executed)
    yield days
    sa.event.remove(database.engine, "before_execute", executed)

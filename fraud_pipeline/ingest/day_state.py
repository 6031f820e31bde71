"""The versions of stored days, as recorded beside the rows.

Belongs here: writing and reading the notes of a day, and the checks before features are computed. Must not be here: the
rules of the plan (`day_plan.py`), features.

Versions and notes are stored in the footers of the files that hold the rows, and nowhere else.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import pandas as pd

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.definitions import CUSTOMER_WINDOWS, LONGEST_WINDOW, MERCHANT_WINDOWS
from fraud_pipeline.features.engineer import FeatureEngineer
from fraud_pipeline.features.merchant_days import days_to_clear
from fraud_pipeline.host.data_location import below
from fraud_pipeline.ingest.day_plan import (
    DayInputs,
    DerivedTable,
    FeatureWindow,
    SourceDay,
    Standing,
    Step,
    StoredDays,
    days_between,
    inputs_now,
    plan,
    spelled,
    standing,
)
from fraud_pipeline.ingest.sources import TransactionSource
from fraud_pipeline.ingest.validation import ValidationResult, validate
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.transactions import DAY
from fraud_pipeline.storage.tables import MissingDaysError, TableStore

REMEDY: Final = (
    "run `fraud-detect ingest`, or ingest_job over these days in the Dagster UI; the schedule daily_ingest does so "
    "every night"
)


class MissingLookbackError(LookupError):
    """Days that features read were never ingested."""


class StaleFeaturesError(LookupError):
    """Features are missing, or were computed from rows that changed since."""


def feature_window(config: FeatureConfig, *, first: date) -> FeatureWindow:
    """The days that features of this configuration read, in a calendar that begins on `first`."""
    return FeatureWindow(
        first=first,
        transactions=max(CUSTOMER_WINDOWS.values()) // DAY,
        reports=LONGEST_WINDOW // DAY,
        merchant_days=max(MERCHANT_WINDOWS.values()) // DAY,
        days_to_clear=days_to_clear(config.label_maturity),
        code=f"{FeatureEngineer.code_version()[:16]}-{config.id}",
    )


def expected_last(*, living: bool, ends: date | None, now: datetime) -> date | None:
    """The last day that should be ingested by now, three hours after its end; `ends` is the calendar's last day.

    None for a source that is not `living`: a synthetic world that has any number of days.
    """
    if not living:
        return None
    ended = (now - timedelta(hours=3)).date() - timedelta(days=1)
    return min(ends or ended, ended)


def read_stored_days(store: TableStore, *, window: FeatureWindow, first: date, last: date) -> StoredDays:
    """Versions of the stored days that features of `first` to `last` read."""
    start = window.start(first)
    transactions = store.versions("transactions", start, last)
    return StoredDays(
        ingested={day: version for day in transactions if (version := _ingested(store, day))},
        versions={
            "transactions": transactions,
            "reports": store.versions("fraud_reports", start, last),
            "merchant_days": store.versions("merchant_days", start, last),
        },
        inputs={
            "merchant_days": _read_inputs(store, "merchant_days", start, last),
            "features": _read_inputs(store, "features", first, last),
        },
    )


def _read_inputs(store: TableStore, table: DerivedTable, first: date, last: date) -> dict[date, DayInputs | None]:
    notes = {day: store.note(table, day) for day in store.days(table) if first <= day <= last}
    return {day: DayInputs.from_json(note) if note else None for day, note in notes.items()}


def plan_of(store: TableStore, source: TransactionSource, *, window: FeatureWindow, last: date) -> list[Step]:
    """The steps that bring every day of the calendar up to `last` up to date (see `day_plan.plan`)."""
    if last < window.first:
        return []
    offered = source.day_versions(start=_midnight(window.first), end=_midnight(last + timedelta(days=1)))
    first = min([*offered, *_calendar_days(store, window, last)], default=last)
    stored = read_stored_days(store, window=window, first=first, last=last)
    return plan(offered, stored, window=window, first=first, last=last)


def notes_of_inputs(
    store: TableStore, table: DerivedTable, days: Sequence[date], *, window: FeatureWindow
) -> dict[date, str]:
    """The notes for these derived days when they are made from the rows stored now."""
    stored = read_stored_days(store, window=window, first=days[0], last=days[-1])
    return {day: inputs_now(stored, table, day, window=window).to_json() for day in days}


def read_standing(store: TableStore, *, window: FeatureWindow, last: date | None = None) -> Standing:
    """The state of the features from the first stored day to `last`, by default the last stored day."""
    days = _calendar_days(store, window, last or date.max)
    if not days:
        return Standing(missing=(), stale={})
    last = last or days[-1]
    stored = read_stored_days(store, window=window, first=days[0], last=last)
    return standing(stored, window=window, first=days[0], last=last)


def check_features(store: TableStore, *, window: FeatureWindow, first: date, last: date) -> None:
    """Raise StaleFeaturesError unless the features of each day exist and were made from the stored rows."""
    stale = standing(
        read_stored_days(store, window=window, first=first, last=last), window=window, first=first, last=last
    )
    if not stale.current:
        raise StaleFeaturesError(f"{below(store.root, 'features')}: {stale.summary}; {REMEDY}, and train again then")


def check_lookback(
    store: TableStore, source: TransactionSource, *, window: FeatureWindow, first: date, last: date
) -> None:
    """Raise MissingLookbackError when a day that features of `first` to `last` read was never ingested.

    Days before the calendar's first day, or before the source's, are not gaps.
    """
    start = window.start(first)
    complete = set(store.days("transactions")) & set(store.days("fraud_reports"))
    absent = [day for day in days_between(start, last) if day not in complete]
    if not absent:
        return
    earliest = min((day for day in complete if day >= window.first), default=last)
    offered = source.day_versions(start=_midnight(absent[0]), end=_midnight(absent[-1] + timedelta(days=1)))
    gaps = [day for day in absent if day > earliest or day in offered]
    if not gaps:
        return
    lost = [day for day in gaps if day not in offered]
    remedy = REMEDY
    if lost:
        begin = lost[-1] + timedelta(days=1)
        remedy += f"; the source no longer has {spelled(lost)}, so set FRAUD_FIRST_DAY to {begin} to begin after that"
    raise MissingLookbackError(
        f"features of {spelled(days_between(first, last))} read the days from {start} on, and {len(gaps)} of these "
        f"were never ingested ({spelled(gaps)}): {remedy}"
    )


def accept(
    store: TableStore,
    raw: pd.DataFrame,
    *,
    days: Collection[date],
    now: pd.Timestamp,
    fallback_time: pd.Timestamp,
    own_fields: Sequence[OwnField] = (),
    conversion: Conversion | None = None,
) -> tuple[ValidationResult, dict[date, str]]:
    """Validate the stored raw rows of `days`; ids of other days' transactions are duplicates. Also returns the days'
    notes.

    A note holds the version of the raw rows, and of the raw rows of each day whose ids were repeated: rows that were
    rejected as duplicates are validated again when that day changes.
    """
    judge = partial(validate, raw, now=now, fallback_time=fallback_time, own_fields=own_fields, conversion=conversion)
    result = judge()
    ids = result.accepted["transaction_id"]
    other_days = store.days_holding("transactions", ids, column="transaction_id", other_than=days)
    if other_days:
        result = judge(known_ids=pd.concat(other_days.values()))
    judged = {day: store.version("raw_transactions", day) for day in days}
    accepted = result.accepted
    holding = other_days | dict(iter(accepted["transaction_id"].groupby(accepted["event_time"].dt.date)))
    repeated = result.rejected[result.rejected["reason"] == "duplicate_id"]
    again_on = dict(iter(repeated["transaction_id"].groupby(repeated["event_time"].dt.date)))
    notes = {}
    for day, version in judged.items():
        again = again_on.get(day)
        holders = [] if again is None else [h for h, held in holding.items() if h != day and held.isin(again).any()]
        read = {holder.isoformat(): judged.get(holder) or _judged_raw(store, holder) for holder in holders}
        notes[day] = json.dumps({"raw": version, "holders": read})
    return result, notes


def source_notes(versions: Mapping[date, SourceDay], *, reports: bool) -> dict[date, str]:
    """The notes for raw transactions or for reports: the source's version of each day."""
    return {day: version.reports if reports else version.transactions for day, version in versions.items()}


def _ingested(store: TableStore, day: date) -> SourceDay | None:
    """The source's version from which the stored tables of a day were made; None when they are inconsistent."""
    try:
        raw, reports = store.note("raw_transactions", day), store.note("fraud_reports", day)
        note = json.loads(store.note("transactions", day) or "{}")
        if raw is None or reports is None or note.get("raw") != store.version("raw_transactions", day):
            return None
        for holder, version in note["holders"].items():
            if _judged_raw(store, date.fromisoformat(holder)) != version:
                return None
    except MissingDaysError:
        return None
    return SourceDay(transactions=raw, reports=reports)


def _judged_raw(store: TableStore, day: date) -> str:
    """The version of the raw rows behind a day's accepted transactions; empty when it was not recorded."""
    return str(json.loads(store.note("transactions", day) or "{}").get("raw", ""))


def _calendar_days(store: TableStore, window: FeatureWindow, last: date) -> list[date]:
    return [day for day in store.days("transactions") if window.first <= day <= last]


def _midnight(day: date) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC")

"""The plan of days: which days to ingest and which features to compute again, from versions alone.

Belongs here: the rules, as pure functions. Must not be here: reading versions (`day_state.py`, the sources), running
the plan (`defs/`).

A version is a text that is equal for equal content. A day is ingested when it is missing, or when the source's version
differs from the ingested one. Derived days (merchants' days and then features) are stale when a day that they read has
another version now, or when the feature code or its configuration changed.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain
from typing import Final, Literal

StepKind = Literal["ingest", "features"]
InputTable = Literal["transactions", "reports", "merchant_days"]
DerivedTable = Literal["merchant_days", "features"]

LONGEST_STEP: Final = 31
"""Maximum days of one step, because a run holds its days and their lookback in memory."""


@dataclass(frozen=True, slots=True)
class SourceDay:
    """The source's versions of a day: of its transactions, and of the reports made on it."""

    transactions: str
    reports: str


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """The days that derived days read, none before `first`; `code` identifies the feature code and its configuration.

    The numbers are days before a day. Features also read transactions and reports of their own day. Merchants' days
    read the transactions of their own day and of the day `days_to_clear` before, and the reports from that day to their
    own.
    """

    first: date
    transactions: int
    reports: int
    merchant_days: int
    days_to_clear: int
    code: str

    @property
    def lookback(self) -> int:
        """The number of days before a day on which its features depend, directly or through merchants' days."""
        return max(self.transactions, self.reports, self.merchant_days + self.days_to_clear)

    def start(self, day: date) -> date:
        """The earliest day on which features of `day` depend."""
        return max(self.first, day - timedelta(days=self.lookback))

    def days_read(self, table: DerivedTable, day: date) -> dict[InputTable, list[date]]:
        """The days of each table that this derived day reads, in order."""
        back: dict[InputTable, Iterable[int]]
        if table == "features":
            back = {
                "transactions": range(self.transactions + 1),
                "reports": range(self.reports + 1),
                "merchant_days": range(1, self.merchant_days + 1),
            }
        else:
            back = {"transactions": {0, self.days_to_clear}, "reports": range(self.days_to_clear + 1)}
        days = {name: sorted(day - timedelta(days=offset) for offset in offsets) for name, offsets in back.items()}
        return {name: [read for read in of_table if read >= self.first] for name, of_table in days.items()}


@dataclass(frozen=True, slots=True)
class DayInputs:
    """The inputs of a derived day: the code, and by table the version of each day that was read."""

    code: str
    read: Mapping[str, Mapping[date, str]]

    def to_json(self) -> str:
        return json.dumps({"code": self.code} | {name: _texts(versions) for name, versions in self.read.items()})

    @classmethod
    def from_json(cls, text: str) -> "DayInputs":
        fields = json.loads(text)
        code = fields.pop("code")
        return cls(
            code=code,
            read={
                name: {date.fromisoformat(day): version for day, version in versions.items()}
                for name, versions in fields.items()
            },
        )


@dataclass(frozen=True, slots=True)
class StoredDays:
    """Versions of the stored days, and the inputs of the derived ones.

    `ingested` holds the source's version of each day whose tables are complete and consistent. Derived days of a
    release that recorded no inputs have None.
    """

    ingested: Mapping[date, SourceDay]
    versions: Mapping[InputTable, Mapping[date, str]]
    inputs: Mapping[DerivedTable, Mapping[date, DayInputs | None]]


@dataclass(frozen=True, slots=True)
class Step:
    """Consecutive days, both ends included, that one run ingests, or derives again."""

    kind: StepKind
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of the features of a span: days without features, and stale days with the days that changed."""

    missing: tuple[date, ...]
    stale: Mapping[date, tuple[date, ...]]

    @property
    def current(self) -> bool:
        return not self.missing and not self.stale

    @property
    def summary(self) -> str:
        """One line with the number of days, their dates, and why they are stale."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({spelled(self.missing)})")
        if self.stale:
            causes = {cause for changed in self.stale.values() for cause in changed}
            why = f"since {spelled(causes)} changed" if causes else "made by other feature code or settings"
            parts.append(f"{len(self.stale)} stale ({spelled(self.stale)}: {why})")
        return f"days of features: {', '.join(parts)}" if parts else "the features of all days are there and current"


def plan(
    offered: Mapping[date, SourceDay], stored: StoredDays, *, window: FeatureWindow, first: date, last: date
) -> list[Step]:
    """The steps that bring every day from `first` to `last` up to date, in order of time.

    In this order each step finds earlier days in their final state, so nothing runs twice. Days that the source does
    not offer (before its first, or expired) do not count as changed.
    """
    ingest = {day for day, version in offered.items() if stored.ingested.get(day) != version}
    remade = standing(stored, window=window, first=first, last=last)
    stored_days = stored.versions["transactions"].keys()
    features = {*remade.missing, *remade.stale} & stored_days
    features |= _followers(ingest, stored_days, window=window)
    due = (day for day in features | ingest if first <= day <= last)
    return list(_steps({day: "ingest" if day in ingest else "features" for day in due}))


def inputs_now(stored: StoredDays, table: DerivedTable, day: date, *, window: FeatureWindow) -> DayInputs:
    """The present inputs of a derived day."""
    return DayInputs(
        code=window.code,
        read={
            name: {read: stored.versions[name][read] for read in days if read in stored.versions[name]}
            for name, days in window.days_read(table, day).items()
        },
    )


def standing(stored: StoredDays, *, window: FeatureWindow, first: date, last: date) -> Standing:
    """The days from `first` to `last` that lack features, and those with stale features.

    Stale merchants' days make features stale that read them, and features of the same day, because both are made
    together.
    """
    days, features = days_between(first, last), stored.inputs["features"]
    earliest = max(window.first, first - timedelta(days=window.merchant_days))
    outdated = {
        day: changed
        for day in days_between(earliest, last)
        if day in stored.versions["transactions"]
        and (changed := _changed(stored, "merchant_days", day, window)) is not None
    }
    stale = {}
    for day in days:
        if day not in features:
            continue
        changed = _changed(stored, "features", day, window)
        read = [*window.days_read("features", day)["merchant_days"], day]
        reasons = [outdated[of_merchants] for of_merchants in read if of_merchants in outdated]
        if changed is not None or reasons:
            stale[day] = tuple(sorted({*(changed or ()), *chain.from_iterable(reasons)}))
    return Standing(missing=tuple(day for day in days if day not in features), stale=stale)


def spelled(days: Collection[date], *, ranges: int = 3) -> str:
    """Days as text, consecutive ones as a range: `2026-01-02 to 2026-01-05, 2026-02-01`."""
    runs = list(_runs(sorted(days)))
    texts = [f"{a}" if a == b else f"{a} to {b}" for a, b in runs[:ranges]]
    return ", ".join(texts) + (f" and {len(runs) - ranges} more" if len(runs) > ranges else "")


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def _changed(stored: StoredDays, table: DerivedTable, day: date, window: FeatureWindow) -> tuple[date, ...] | None:
    """The days whose change made this derived day stale; None while it is current, empty when they are unknown."""
    made, now = stored.inputs[table].get(day), inputs_now(stored, table, day, window=window)
    if made == now:
        return None
    if made is None:
        return ()
    pairs = [(made.read.get(name, {}), now.read.get(name, {})) for name in {*made.read, *now.read}]
    days = {read for then, today in pairs for read in {*then, *today} if then.get(read) != today.get(read)}
    return tuple(sorted(days))


def _followers(changing: Collection[date], days: Collection[date], *, window: FeatureWindow) -> set[date]:
    """Those of `days` whose features read a day that is about to change."""
    followers, newest = set(), None
    for day in sorted({*changing, *days}):
        if newest is not None and newest >= window.start(day):
            followers.add(day)
        if day in changing:
            newest = day
    return followers & set(days)


def _steps(kinds: Mapping[date, StepKind]) -> Iterator[Step]:
    days = sorted(kinds)
    start = 0
    for index, day in enumerate(days):
        following = days[index + 1] if index + 1 < len(days) else None
        goes_on = following == day + timedelta(days=1) and kinds[following] == kinds[day]
        if not goes_on or index + 1 - start == LONGEST_STEP:
            yield Step(kinds[day], first=days[start], last=day)
            start = index + 1


def _runs(days: list[date]) -> Iterator[tuple[date, date]]:
    start = 0
    for index, day in enumerate(days):
        if index + 1 == len(days) or days[index + 1] != day + timedelta(days=1):
            yield days[start], day
            start = index + 1


def _texts(versions: Mapping[date, str]) -> dict[str, str]:
    return {day.isoformat(): version for day, version in sorted(versions.items())}

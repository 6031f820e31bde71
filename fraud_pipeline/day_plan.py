"""Which days must be brought from the source, and whose features must be made again, from versions alone.

Belongs here: the rules, as pure functions. Must not be here: reading versions (`day_state.py`, the sources), running
anything (`defs/`).

A version is a text that is equal for equal content. A day is brought when it is missing, or when the source's version
of it is not the one that was ingested. Features of a day are stale when a day that they read has another version now,
or when the feature code or its configuration changed.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

StepKind = Literal["ingest", "features"]

LONGEST_STEP: Final = 31
"""Days of one step: a run holds its days and their lookback in memory."""


@dataclass(frozen=True, slots=True)
class SourceDay:
    """The versions of what a source gives for a day: its transactions, and the reports that came on it."""

    transactions: str
    reports: str


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """The days that features read: `lookback` days before their own, none before `first`; `code` is what computes."""

    first: date
    lookback: int
    code: str

    def start(self, day: date) -> date:
        """The earliest day that features of `day` read."""
        return max(self.first, day - timedelta(days=self.lookback))


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """What the features of a day were made from: the code, and the version of each day that was read."""

    code: str
    transactions: Mapping[date, str]
    reports: Mapping[date, str]

    def to_json(self) -> str:
        return json.dumps(
            {"code": self.code, "transactions": _texts(self.transactions), "reports": _texts(self.reports)}
        )

    @classmethod
    def from_json(cls, text: str) -> "FeatureInputs":
        fields = json.loads(text)
        days = {name: {date.fromisoformat(day): v for day, v in fields[name].items()} for name in _TABLES}
        return cls(code=fields["code"], **days)


@dataclass(frozen=True, slots=True)
class StoredDays:
    """Versions of the days that are stored.

    `ingested` holds what the source gave for each day whose tables are complete and belong together. Features made by
    a release that recorded no inputs have None.
    """

    ingested: Mapping[date, SourceDay]
    transactions: Mapping[date, str]
    reports: Mapping[date, str]
    features: Mapping[date, FeatureInputs | None]


@dataclass(frozen=True, slots=True)
class Step:
    """Consecutive days, both ends included, that one run ingests, or whose features one run makes again."""

    kind: StepKind
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Standing:
    """What is wrong with the features of a span: days without any, and stale ones with the days that changed."""

    missing: tuple[date, ...]
    stale: Mapping[date, tuple[date, ...]]

    @property
    def current(self) -> bool:
        return not self.missing and not self.stale

    @property
    def summary(self) -> str:
        """One line: how many days, which, and why they are stale."""
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
    """The steps that bring every day from `first` to `last`, in order of time.

    Run in this order, each step finds the days before it as they will be, so nothing has to be done twice. Days that
    the source does not offer (before its first, or no longer kept) are not days that differ.
    """
    ingest = {day for day, version in offered.items() if stored.ingested.get(day) != version}
    remade = standing(stored, window=window, first=first, last=last)
    features = {*remade.missing, *remade.stale} & stored.transactions.keys()
    features |= _followers(ingest, stored.transactions.keys(), window=window)
    due = (day for day in features | ingest if first <= day <= last)
    return list(_steps({day: "ingest" if day in ingest else "features" for day in due}))


def inputs_now(stored: StoredDays, day: date, *, window: FeatureWindow) -> FeatureInputs:
    """What features of `day` would be made from now."""
    days = days_between(window.start(day), day)
    return FeatureInputs(
        code=window.code,
        transactions={read: stored.transactions[read] for read in days if read in stored.transactions},
        reports={read: stored.reports[read] for read in days if read in stored.reports},
    )


def standing(stored: StoredDays, *, window: FeatureWindow, first: date, last: date) -> Standing:
    """Which days from `first` to `last` lack features, and which features are stale and why."""
    days = days_between(first, last)
    stale = {
        day: changed
        for day in days
        if day in stored.features and (changed := _changed(stored, day, window)) is not None
    }
    return Standing(missing=tuple(day for day in days if day not in stored.features), stale=stale)


def spelled(days: Collection[date], *, ranges: int = 3) -> str:
    """Days as text, consecutive ones as a range: `2026-01-02 to 2026-01-05, 2026-02-01`."""
    runs = list(_runs(sorted(days)))
    texts = [f"{a}" if a == b else f"{a} to {b}" for a, b in runs[:ranges]]
    return ", ".join(texts) + (f" and {len(runs) - ranges} more" if len(runs) > ranges else "")


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


_TABLES: Final = ("transactions", "reports")


def _changed(stored: StoredDays, day: date, window: FeatureWindow) -> tuple[date, ...] | None:
    """The days whose change made the features of `day` stale; None while they are current."""
    made, now = stored.features[day], inputs_now(stored, day, window=window)
    if made == now:
        return None
    if made is None:
        return ()
    pairs = ((made.transactions, now.transactions), (made.reports, now.reports))
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

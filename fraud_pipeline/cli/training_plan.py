"""The source of one `fraud-detect train`, from its flags, explicit settings and the remembered choice.

Belongs here: their precedence, and the sentences about it. Must not be here: the shell (`training_command.py`),
Dagster.

A flag is for one run, except that the source it names is remembered once it has proved usable. A flag wins over an
explicit setting, and that over what is remembered.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from fraud_pipeline.cli.column_plan import ColumnFlags, plan_columns
from fraud_pipeline.cli.outlook import Outlook
from fraud_pipeline.cli.planned_split import Waits, waits_for
from fraud_pipeline.database.query_source import data_source
from fraud_pipeline.generator.config import DEFAULT_FIRST_DAY, first_day_of_history
from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.column_mapping import parse_columns
from fraud_pipeline.ingest.source_choice import FileChoice, SourceChoice, SyntheticChoice
from fraud_pipeline.ingest.sources import SourceError
from fraud_pipeline.settings import Settings, agrees, where_set, with_choice

TRANSACTIONS_PER_DAY: Final = 833  # of the default synthetic world
DEFAULT_TRANSACTIONS: Final = 100_000
DAYS_SINCE_TRAINING: Final = timedelta(weeks=5)
"""A new world is at least so much older than its training set: labels mature for three weeks, and two weeks of matured
labels are judged."""
REPORT_DAYS: Final = 3
_OF_A_FILE: Final = ("columns", "declaration", "first_day", "last_day")


class UsageError(ValueError):
    """Flags that do not go together; the message says which, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(ColumnFlags):
    """Options of the command; None where they were not given."""

    data_path: DataLocation | None = None
    data_url: str | None = None
    synthetic: bool = False
    label_delay: timedelta | None = None
    transactions: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings and days of one run, what to remember of them, where the source is from, and further sentences.

    The model learns from `first` to `last`; days up to `history_last`, if there is one, are ingested too, and judged.
    `outlook` is that of a file which was inspected for this run; its problems stop it.
    """

    settings: Settings
    first: date
    last: date
    choice: SourceChoice | None
    origin: str = ""
    notes: tuple[str, ...] = ()
    outlook: Outlook | None = None
    history_last: date | None = None

    @property
    def judged(self) -> tuple[date, date] | None:
        """The first and the last of the newest days that the model does not learn from; reports judge them."""
        if self.history_last is None or self.history_last == self.last:
            return None
        first = self.history_last - timedelta(days=REPORT_DAYS - 1)
        return max(first, self.last + timedelta(days=1)), self.history_last


def plan_training(flags: Flags, *, explicit: Settings, remembered: SourceChoice | None, now: datetime) -> Plan:
    """The plan of a run. Nothing is written.

    Raises UsageError for flags that do not go together, SourceError for a file that cannot be used.
    """
    # What a flag names does not depend on what is remembered, also where that no longer goes with the settings.
    named = flags.synthetic or flags.data_path is not None
    present = explicit if named else with_choice(explicit, remembered)
    if flags.synthetic and flags.data_path is not None:
        raise UsageError("--synthetic and --data-path name two sources: keep one of them")
    if flags.data_url and flags.data_path is None:
        raise UsageError("--data-url is the database of a query: add --data-path QUERY.sql")
    kind = "synthetic" if flags.synthetic else "file" if flags.data_path else present.source_kind
    if kind == "file":
        if flags.transactions is not None:
            raise UsageError(f"--transactions is for the synthetic world, and the source is {_named(flags, present)}")
        return _file(flags, explicit=explicit, remembered=remembered, present=present, now=now)
    if name := _flag_of_a_file(flags):
        raise UsageError(f"{name} is for a file, and the source is the {_named(flags, present)}: add --data-path FILE")
    if kind == "served":
        if flags.transactions is not None:
            raise UsageError("--transactions is for the synthetic world, and the source is what was served")
        return _served(present, now=now)
    return _synthetic(flags, explicit=explicit, remembered=remembered, now=now)


def _flag_of_a_file(flags: Flags) -> str:
    """A flag that only a file uses, if there is one."""
    given = {
        "--columns": flags.columns is not None,
        "--declaration": flags.declaration is not None,
        "--label-delay": flags.label_delay is not None,
        "an option on columns or times": flags.inspects,
    }
    return next((name for name, is_given in given.items() if is_given), "")


def _named(flags: Flags, present: Settings) -> str:
    if flags.data_path is not None:
        return f"file {flags.data_path.name}"
    return "synthetic world" if flags.synthetic or present.source_kind == "none" else present.source_name


def _file(
    flags: Flags, *, explicit: Settings, remembered: SourceChoice | None, present: Settings, now: datetime
) -> Plan:
    path = (flags.data_path or present.data_path or Path()).resolve()
    named = explicit.data_path is not None and explicit.data_path.resolve() == path
    known = present.data_url if flags.data_path is None else explicit.data_url if named else ""
    url = flags.data_url or known
    same = named and explicit.data_url in ("", url)
    base = _without_source(explicit, path=path)
    before = base if flags.data_path is not None else present
    new = flags.data_path is not None and not same
    plan = plan_columns(flags, path=path, url=url, before=before, new=new, label_delay=flags.label_delay)
    source = data_source(
        path,
        url=url,
        columns=parse_columns(plan.columns) if plan.columns else None,
        label_delay=before.label_delay if flags.label_delay is None else flags.label_delay,
        declaration=plan.declaration,
    )
    first, last = source.first_day, source.last_day
    waits = Waits(source.label_delay, before.gap)
    if new and plan.declaration is not None:
        waits = waits_for(
            last - first + timedelta(days=1),
            label_delay=source.label_delay,
            gap=before.gap,
            given=source.has_report_times or flags.label_delay is not None or "label_delay" in base.model_fields_set,
            gap_given="gap" in base.model_fields_set,
        )
    delay = waits.label_delay
    choice = FileChoice(
        chosen_at=now,
        data_path=path,
        data_url=url,
        columns=plan.columns,
        declaration=plan.declaration,
        label_delay=delay,
        # Every label of such a file is there after the delay, so nothing is gained by waiting longer.
        label_maturity=None if source.has_report_times else delay,
        gap=None if waits.gap == Settings.model_fields["gap"].default else waits.gap,
        first_day=first,
        # A database, and a file that settings name, may grow every night, and then so does the calendar.
        last_day=None if same or url else last,
    )
    if isinstance(remembered, FileChoice) and choice.settings() == remembered.settings():
        choice = remembered
    values = {name: value for name, value in choice.settings().items() if name not in base.model_fields_set}
    # Tables are named by the path as it is written.
    written = explicit.data_path if same else path
    values |= {
        "data_path": written,
        "data_url": url,
        "columns": plan.columns,
        "declaration": plan.declaration,
        "label_delay": delay,
    }
    settings = base.model_copy(update=values).checked()
    first, last = max(first, settings.first_day), min(last, settings.last_day or last)
    # Today's rows are still coming into a database.
    last = min(last, (now - timedelta(days=1)).date()) if url else last
    if first > last:
        raise SourceError(
            f"{path}: the file holds {source.first_day} to {source.last_day}, and FRAUD_FIRST_DAY and FRAUD_LAST_DAY "
            "leave no day of it: remove them or name days of the file"
        )
    made = Plan(settings, first, last, choice, outlook=plan.outlook)
    made = _explained(made, flags, explicit=explicit, remembered=remembered)
    read = (f"Read {path.name}: {what} ({rows:,} rows)." for what, rows in source.notes.items())
    short = () if plan.outlook else waits.notes
    return replace(made, notes=(*made.notes, *([plan.note] if plan.note else []), *short, *read))


def _synthetic(flags: Flags, *, explicit: Settings, remembered: SourceChoice | None, now: datetime) -> Plan:
    base = _without_source(explicit, path=None).model_copy(update={"synthetic": True}).checked()
    transactions = DEFAULT_TRANSACTIONS if flags.transactions is None else flags.transactions
    days, today = days_of(transactions), now.astimezone(UTC).date()
    choice = remembered if isinstance(remembered, SyntheticChoice) else _world(base, days=days, today=today, now=now)
    settings = with_choice(base, choice)
    first = settings.first_day
    last = first + timedelta(days=days - 1)
    last = min(last, settings.last_day or last)
    plan = _explained(Plan(settings, first, last, choice), flags, explicit=explicit, remembered=remembered)
    return plan if settings.world_first_day is None else _living(plan, yesterday=today - timedelta(days=1))


def _world(base: Settings, *, days: int, today: date, now: datetime) -> SyntheticChoice:
    """The world whose first day was set, or that this home had before a file, or a new one that ends with yesterday."""
    if {"first_day", "world_first_day"} & base.model_fields_set:
        return SyntheticChoice(chosen_at=now, first_day=base.world_begins)
    if stored := base.stored_worlds:
        # A world that begins on the default day was made by an earlier release, or for tests; it does not go on.
        return SyntheticChoice(chosen_at=now, first_day=None if stored[-1] == DEFAULT_FIRST_DAY else stored[-1])
    first_day = first_day_of_history(days=days + DAYS_SINCE_TRAINING.days, before=today)
    return SyntheticChoice(chosen_at=now, first_day=first_day)


def _living(plan: Plan, *, yesterday: date) -> Plan:
    """The plan for a world that has lived up to `yesterday`. Raises UsageError before its first day has passed."""
    if plan.first > yesterday:
        raise UsageError(f"the synthetic world begins on {plan.first}: train once that day has passed")
    history_last = min(yesterday, plan.settings.last_day or yesterday)
    if plan.last <= yesterday:
        return replace(plan, history_last=history_last)
    note = (
        f"The remembered world has lived for {(yesterday - plan.first).days + 1} days only, so the model learns from "
        "fewer transactions. For a larger world, train in another home directory: FRAUD_HOME=DIRECTORY"
    )
    return replace(plan, last=history_last, history_last=history_last, notes=(*plan.notes, note))


def _served(present: Settings, *, now: datetime) -> Plan:
    kept = (now - present.history_retention).date() + timedelta(days=1)
    first, last = max(present.first_day, kept), (now - timedelta(days=1)).date()
    if first > last:
        raise UsageError(f"nothing was served before today: the calendar begins on {present.first_day}; train tomorrow")
    return Plan(present, first, last, choice=None, origin=f" ({where_set('learn_from_served')})")


def _without_source(explicit: Settings, *, path: DataLocation | None) -> Settings:
    """Explicit settings without a source; columns and days of a file that they name stay only for that file."""
    other = explicit.data_path is not None and explicit.data_path.resolve() != path
    dropped = {"data_path", "data_url", "synthetic", "learn_from_served", *(_OF_A_FILE if other else ())}
    kept = {name: getattr(explicit, name) for name in explicit.model_fields_set - dropped}
    return Settings.model_construct(**kept)


def _explained(plan: Plan, flags: Flags, *, explicit: Settings, remembered: SourceChoice | None) -> Plan:
    """The plan with words on where its source is from, and on each explicit setting that matters to it."""
    if flags.synthetic or flags.data_path is not None:
        return replace(plan, notes=(*_stays(plan, explicit), *_wins(plan, explicit)))
    explicitly = _explicit_source(explicit)
    if explicitly is not None:
        notes = () if remembered is None or agrees(explicit, remembered) else (f"It wins over {_words(remembered)}.",)
        return replace(plan, origin=f" ({where_set(explicitly)})", notes=(*notes, *_wins(plan, explicit)))
    if remembered is not None:
        alternatives = {"file": "--synthetic for the synthetic world", "synthetic": "--data-path FILE for your own"}
        origin = f" (remembered from {remembered.chosen_at:%Y-%m-%d}; {alternatives[remembered.kind]})"
        return replace(plan, origin=origin, notes=_wins(plan, explicit))
    note = (
        "No source was named before, so this is a first look at the synthetic world, which is remembered. Your own "
        "data: fraud-detect train --data-path FILE"
    )
    return replace(plan, notes=(note, *_wins(plan, explicit)))


def _explicit_source(explicit: Settings) -> str | None:
    """The explicit setting that names a source."""
    return "data_path" if explicit.data_path is not None else "synthetic" if explicit.synthetic else None


def _stays(plan: Plan, explicit: Settings) -> tuple[str, ...]:
    """Explicit settings that other runs keep to, although a flag named another source for this one."""
    named = _explicit_source(explicit)
    other = named is not None and plan.choice is not None and not agrees(explicit, plan.choice)
    names = [*([named] if named and other else []), *(["learn_from_served"] if explicit.learn_from_served else [])]
    return tuple(
        f"{where_set(name)} stays: the UI, the daemon and a plain `fraud-detect train` keep to it until you remove it."
        for name in names
    )


def _wins(plan: Plan, explicit: Settings) -> tuple[str, ...]:
    """Explicit settings that this run uses instead of what the choice of its source says."""
    remembered = {} if plan.choice is None else plan.choice.settings()
    default = Settings.model_fields["label_maturity"].default
    used = {name: getattr(plan.settings, name) for name in ("first_day", "last_day", "label_maturity")}
    return tuple(
        f"{where_set(name)} is used: {value}."
        for name, value in used.items()
        if name in explicit.model_fields_set and value != remembered.get(name, default) and value is not None
    )


def _words(choice: SourceChoice) -> str:
    return "the remembered synthetic world" if choice.kind == "synthetic" else f"the remembered {choice.data_path.name}"


def days_of(transactions: int) -> int:
    """How many days of the synthetic world hold about so many transactions."""
    return max(1, math.ceil(transactions / TRANSACTIONS_PER_DAY))

"""The inspection of a file: which column is which, in a declaration with evidence for each column.

Belongs here: the order of the guesses, and what follows from them together. Must not be here: single guesses, words for
the terminal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.column_labels import LabelGuess, judge_label, label_rank, speaks_of_fraud
from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.column_names import our_name
from fraud_pipeline.ingest.column_profiles import Profile
from fraud_pipeline.ingest.column_times import Times
from fraud_pipeline.ingest.currency_guess import currency_column, one_currency, several_currencies
from fraud_pipeline.ingest.declaration import Declaration, OwnColumn
from fraud_pipeline.ingest.field_guesses import FieldGuess, guess_fields, guess_report_time
from fraud_pipeline.ingest.inspection_findings import all_times, column_of, label_values, problems_of, warnings_of
from fraud_pipeline.ingest.inspection_overrides import Overrides
from fraud_pipeline.ingest.inspection_sample import Sample, sample_of
from fraud_pipeline.ingest.label_leaks import calendar_reason, leak_reason
from fraud_pipeline.ingest.money_reading import MoneyReading
from fraud_pipeline.ingest.own_types import TypeGuess, guess_type
from fraud_pipeline.ingest.time_guesses import TimeGuess, TimeOptions, guess_time, named_time
from fraud_pipeline.ingest.time_spellings import MISSING
from fraud_pipeline.schema.local_time import UTC_OFFSET
from fraud_pipeline.schema.money import MONEY_NAMES
from fraud_pipeline.schema.own_fields import RESERVED_NAMES

Use = Literal["field", "own", "not_used"]
_REPEATED: Final = 0.001
_OTHER_NAME: Final = 9


@dataclass(frozen=True, slots=True)
class ColumnPlace:
    """The one place of a column: a field, an own field, or not used; `evidence` says why."""

    column: str
    use: Use
    name: str
    type: str
    evidence: str


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What a file holds. `times` (microseconds UTC) and `labels` (1, 0, NaN unknown) are those of all rows, shape (n,).

    `problems` stop a training; each names the option that helps.
    """

    path: DataLocation
    declaration: Declaration
    columns: tuple[ColumnPlace, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    times: Times
    labels: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.labels)

    @property
    def frauds(self) -> int:
        """The number of rows that are labelled as fraud."""
        return int((self.labels == 1).sum())

    @property
    def unknown(self) -> int:
        """The number of rows without a label."""
        return int(np.isnan(self.labels).sum())

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """First and last time; None without any."""
        known = self.times[self.times != MISSING]
        if not len(known):
            return None
        return pd.Timestamp(int(known.min()), unit="us", tz="UTC"), pd.Timestamp(int(known.max()), unit="us", tz="UTC")


def inspect(
    path: DataLocation,
    *,
    overrides: Overrides | None = None,
    options: TimeOptions | None = None,
    sample: Sample | None = None,
) -> Inspection:
    """Inspect a file, directory, pattern or table, or another source by its `sample`.

    Raises SourceError for what cannot be read, and for wrong overrides.
    """
    sample, overrides, options = sample or sample_of(path), overrides or Overrides(), options or TimeOptions()
    overrides.check(sample.names)
    profiles = [profile for profile in sample.profiles if profile.name not in overrides.unused]
    label, label_notes = _label(sample, profiles, overrides)
    _check_header(sample, path, has_names=label is not None or overrides.names_something)
    candidates = [profile for profile in profiles if label is None or profile.name != label.name]
    time = _time(candidates, overrides, options)
    used = {*(time.columns if time else ()), *([label.name] if label else [])}
    fields = guess_fields(
        candidates, given=overrides.plain, refused=overrides.refused, used={*used, *overrides.own_columns}
    )
    full = sample.columns([*used, *(guess.name for guess in fields.values() if guess.field == "transaction_id")])
    repeated = _drop_repeated_ids(full, fields, given=overrides.plain)
    sampled_time = None if time is None else time.spelling.times
    left = [
        profile for profile in candidates if profile.name not in {*used, *(guess.name for guess in fields.values())}
    ]
    report, refusals = (None, {}) if "reported_at" in overrides.refused else guess_report_time(left, event=time)
    if "reported_at" in overrides.plain:
        report = FieldGuess("reported_at", overrides.plain["reported_at"], "given by you")
    if report is not None:
        fields["reported_at"] = report
    left = [profile for profile in left if report is None or profile.name != report.name]
    currency = currency_column(left) if "amount" in fields else None
    money = one_currency(currency) if currency and currency.name not in overrides.own_columns else None
    left = [profile for profile in left if money is None or profile.name != money.column]
    sampled = next((profile for profile in profiles if label and profile.name == label.name), None)
    sampled_labels = label_values(sampled, label, rows=len(sample.table))
    guesses = {
        profile.name: _own_guess(
            profile, overrides, refusals, labels=sampled_labels, times=sampled_time, has_label=label is not None
        )
        for profile in left
    }
    places, declaration = _declared(sample, overrides, label, time, fields, guesses, money=money)
    times = all_times(full, time)
    labels = label_values(Profile(label.name, column_of(full, label.name)) if label else None, label, rows=len(full))
    if label is None and report is not None:
        labels = np.asarray(sample.columns([report.name]).column(0).is_valid().to_numpy(), dtype=np.float64)
    notes = [repeated, several_currencies(currency) if currency else ""]
    warnings = (*label_notes, *filter(None, notes), *warnings_of(sample, declaration, time, times, labels))
    problems = problems_of(declaration, times, labels)
    return Inspection(path, declaration, places, warnings, problems, times, labels)


def _label(
    sample: Sample, profiles: Sequence[Profile], overrides: Overrides
) -> tuple[LabelGuess | None, tuple[str, ...]]:
    """The label and warnings about it. Raises SourceError for a column that a person named and that is no label."""
    if "is_fraud" in overrides.refused:
        return None, ()
    given = overrides.columns.get("is_fraud")
    taken = {*overrides.plain.values(), *overrides.time_columns, *overrides.own_columns}
    ranked = [
        (_OTHER_NAME if rank is None else rank, place, profile.name)
        for place, profile in enumerate(profiles)
        if ((rank := label_rank(profile.name)) is not None or speaks_of_fraud(profile))
        and not profile.is_nested
        and profile.name not in taken
    ]
    reasons: list[str] = []
    for name in [given] if given else [name for _, _, name in sorted(ranked)]:
        judged = judge_label(Profile(name, column_of(sample.columns([name]), name)))
        if isinstance(judged, LabelGuess):
            return judged, judged.warnings
        reasons.append(f"'{name}' is no label: {judged}")
    if given:
        raise SourceError(f"is_fraud={given}: {'; '.join(reasons)}. Name another column")
    return None, tuple(reasons)


def _check_header(sample: Sample, path: DataLocation, *, has_names: bool) -> None:
    """Raise SourceError where the first line may be data, because its cells must not be shown as names."""
    if sample.certain or has_names:
        return
    guess = next((header.guess for header in sample.headers if not header.certain), "")
    raise SourceError(f"{path.name}: the file has {len(sample.names)} columns, and {guess}")


def _time(profiles: Sequence[Profile], overrides: Overrides, options: TimeOptions) -> TimeGuess | None:
    if "event_time" in overrides.refused:
        return None
    if overrides.time_columns:
        return named_time(overrides.time_columns, profiles, options=options)
    taken = {*overrides.plain.values(), *overrides.own_columns}
    return guess_time([profile for profile in profiles if profile.name not in taken], options=options)


def _drop_repeated_ids(full: pa.Table, fields: dict[str, FieldGuess], *, given: Mapping[str, str]) -> str:
    """Drop the guess of the transaction id if ids repeat in the whole file; returns the warning."""
    guess = fields.get("transaction_id")
    if guess is None or "transaction_id" in given:
        return ""
    column = full.column(guess.name)
    if pc.count_distinct(column).as_py() >= (1 - _REPEATED) * len(column):
        return ""
    del fields["transaction_id"]
    return f"'{guess.name}' is repeated in the file, so it identifies no transaction"


def _own_guess(
    profile: Profile,
    overrides: Overrides,
    refusals: Mapping[str, str],
    *,
    labels: NDArray[np.float64],
    times: Times | None,
    has_label: bool,
) -> TypeGuess:
    """The type of a column that is no field; an override has precedence over every reason."""
    guess = guess_type(profile)
    if profile.name in overrides.own_columns:
        given = overrides.own_columns[profile.name][1] or guess.type or "category"
        return TypeGuess(given, "given by you")
    reason = refusals.get(profile.name) or (leak_reason(profile, labels) if has_label else "")
    if guess.type is not None and not reason:
        reason = calendar_reason(profile, times)
    return TypeGuess(None, reason) if reason and profile.filled else guess


def _declared(
    sample: Sample,
    overrides: Overrides,
    label: LabelGuess | None,
    time: TimeGuess | None,
    fields: Mapping[str, FieldGuess],
    guesses: Mapping[str, TypeGuess],
    *,
    money: MoneyReading | None,
) -> tuple[tuple[ColumnPlace, ...], Declaration]:
    """The place of each column, and the declaration of the same places."""
    plain = {guess.name: guess for guess in fields.values()}
    taken = {*RESERVED_NAMES, *FEATURE_NAMES, UTC_OFFSET, *overrides.own, *(MONEY_NAMES if money else ())}
    places: list[ColumnPlace] = []
    own: list[OwnColumn] = []
    not_used: dict[str, str] = {}
    for column in sample.names:
        if label and column == label.name:
            places.append(ColumnPlace(column, "field", "is_fraud", "label", label.evidence))
        elif time and column in time.columns:
            places.append(ColumnPlace(column, "field", "event_time", "time", time.spelling.evidence))
        elif money and column == money.column:
            evidence = f"{money.reporting} in all sampled rows"
            places.append(ColumnPlace(column, "field", "currency", "", evidence))
        elif column in plain:
            guess = plain[column]
            places.append(ColumnPlace(column, "field", guess.field, "", guess.evidence))
        else:
            typed = TypeGuess(None, "refused by you") if column in overrides.unused else guesses[column]
            if typed.type is None:
                not_used[column] = typed.evidence
                places.append(ColumnPlace(column, "not_used", "", "", typed.evidence))
                continue
            given = overrides.own_columns.get(column)
            name = given[0] if given else our_name(column, taken=taken)
            taken.add(name)
            own.append(OwnColumn(name=name, type=typed.type, column=column))
            places.append(ColumnPlace(column, "own", name, typed.type, typed.evidence))
    declaration = Declaration(
        fields={field: guess.name for field, guess in fields.items()},
        event_time=time.reading if time else None,
        label=label.reading if label else None,
        money=money,
        own=tuple(own),
        not_used=not_used,
    )
    return tuple(places), declaration

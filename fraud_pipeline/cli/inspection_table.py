"""An inspection as a table that a person confirms, and as JSON.

Belongs here: layout. Must not be here: guesses. Cells of the file are never shown, except the evidence of times and
the values of the label.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fraud_pipeline.cli.planned_split import PlannedPart, in_words
from fraud_pipeline.ingest.inspection import ColumnPlace, Inspection

_WIDTH: Final = 100
_COLUMN, _FIELD, _TYPE = 24, 20, 11
_PERSON: Final = {"field": "Fields", "own": "Own fields", "not_used": "Not used"}


def table_of(
    inspection: Inspection, *, parts: Sequence[PlannedPart], notes: Sequence[str], problems: Sequence[str]
) -> str:
    """The table of columns, then span, rows, frauds, split, warnings with `notes`, and problems."""
    lines: list[str] = []
    for use, title in _PERSON.items():
        places = [place for place in inspection.columns if place.use == use]
        if places:
            lines += ["", f"{title} ({len(places)})"]
            lines += [line for place in places for line in _place(place)]
    lines += ["", *_totals(inspection)]
    if parts:
        lines += ["Planned split", *(_part(part) for part in parts)]
    for title, sentences in (("Please check", [*inspection.warnings, *notes]), ("Problems", problems)):
        if sentences:
            lines += ["", title, *(line for sentence in sentences for line in _wrapped(sentence, "  - ", "    "))]
    return "\n".join(lines).strip("\n")


def json_of(inspection: Inspection, *, parts: Sequence[PlannedPart], problems: Sequence[str]) -> dict[str, Any]:
    """The same for programs."""
    span = inspection.span
    return {
        "path": str(inspection.path),
        "declaration": inspection.declaration.model_dump(mode="json"),
        "columns": [
            {name: getattr(place, name) for name in ("column", "use", "name", "type", "evidence")}
            for place in inspection.columns
        ],
        "rows": inspection.rows,
        "frauds": inspection.frauds,
        "unknown_labels": inspection.unknown,
        "first": span[0].isoformat() if span else None,
        "last": span[1].isoformat() if span else None,
        "split": [
            {
                "part": part.name,
                "start": part.period.start.isoformat(),
                "end": part.period.end.isoformat(),
                "rows": part.rows,
                "frauds": part.frauds,
            }
            for part in parts
        ],
        "warnings": list(inspection.warnings),
        "problems": list(problems),
    }


def _place(place: ColumnPlace) -> Iterator[str]:
    column = _cut(repr(place.column) if place.column != place.column.strip() else place.column, _COLUMN)
    start = f"  {column:<{_COLUMN}}"
    if place.use != "not_used":
        start += f"  {_cut(place.name, _FIELD):<{_FIELD}}  {place.type:<{_TYPE}}"
    yield from _wrapped(place.evidence, f"{start}  ", " " * (len(start) + 2))


def _totals(inspection: Inspection) -> list[str]:
    lines = []
    if inspection.span:
        first, last = inspection.span
        length = in_words((last - first).to_pytimedelta())
        lines.append(f"Span    {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {length}")
    lines.append(
        f"Rows    {inspection.rows:,}" + (f", {inspection.unknown:,} without a label" if inspection.unknown else "")
    )
    labelled = inspection.rows - inspection.unknown
    share = f", {inspection.frauds / labelled:.2%} of the labelled rows" if labelled else ""
    lines.append(f"Frauds  {inspection.frauds:,}{share}")
    return lines


def _part(part: PlannedPart) -> str:
    start, end = f"{part.period.start:%Y-%m-%d %H:%M}", f"{part.period.end:%Y-%m-%d %H:%M}"
    frauds = f"{part.frauds:>8,} fraud{'' if part.frauds == 1 else 's'}"
    return f"  {part.name:<10}{start} to {end}  {part.rows:>11,} rows {frauds}"


def _wrapped(text: str, first: str, further: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, width=_WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False
    ) or [first.rstrip()]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"

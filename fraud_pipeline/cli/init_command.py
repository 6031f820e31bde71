"""The command `fraud-detect init`.

Belongs here: words for a person, writing fraud.toml. Must not be here: guesses (`ingest/inspection.py`).
"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from fraud_pipeline.cli.inspection_table import json_of, table_of
from fraud_pipeline.cli.planned_split import PlannedPart, Waits, planned_split, waits_for
from fraud_pipeline.ingest.declaration import declaration_toml
from fraud_pipeline.ingest.inspection import Inspection, inspect
from fraud_pipeline.ingest.inspection_overrides import parse_overrides
from fraud_pipeline.ingest.time_guesses import TimeOptions
from fraud_pipeline.modeling.dataset import SplitError
from fraud_pipeline.settings import Settings, load_settings

FILE_NAME: Final = "fraud.toml"


@dataclass(frozen=True, slots=True)
class Outlook:
    """An inspection with the split that a training would make; `problems` stop it."""

    inspection: Inspection
    waits: Waits
    parts: tuple[PlannedPart, ...]
    problems: tuple[str, ...]

    def table(self) -> str:
        """The table that a person can say yes to."""
        return "\n".join([table_of(self.inspection, parts=self.parts, problems=self.problems), *self.waits.notes])


def init(arguments: argparse.Namespace) -> int:
    """Inspect a file and write fraud.toml, which says what each column is."""
    options = TimeOptions(
        origin=arguments.time_origin,
        unit=arguments.time_unit or "",
        format=arguments.time_format or "",
        zone=arguments.time_zone or "",
    )
    inspection = inspect(arguments.file, overrides=parse_overrides(arguments.set or []), options=options)
    outlook = outlook_of(inspection, settings=load_settings(), label_delay=arguments.label_delay)
    if arguments.json:
        print(json.dumps(json_of(inspection, parts=outlook.parts, problems=outlook.problems), indent=2))
    else:
        print(f"{arguments.file}\n\n{outlook.table()}\n")
    if outlook.problems:
        print(f"fraud-detect init: {arguments.file} cannot be trained on yet; nothing was written", file=sys.stderr)
        return 1
    output: Path = arguments.output
    text = declaration_toml(inspection.declaration)
    if not _may_write(output, text, yes=arguments.yes):
        return 1
    output.write_text(text)
    if not arguments.json:
        option = "" if output == Path(FILE_NAME) else f" --declaration {shlex.quote(str(output))}"
        print(f"Wrote {output}. Change it where it is wrong, or repeat with --set field=COLUMN or --set field=-")
        print(f"Next: fraud-detect train --data-path {shlex.quote(str(arguments.file))}{option}")
    return 0


def outlook_of(inspection: Inspection, *, settings: Settings, label_delay: timedelta | None) -> Outlook:
    """What a training would make of an inspected file, with these settings and the delay that a person gave."""
    span = inspection.span
    if span is None or inspection.problems:
        waits = Waits(label_delay or settings.label_delay, settings.gap)
        return Outlook(inspection, waits, (), inspection.problems)
    given = label_delay is not None or "label_delay" in settings.model_fields_set
    waits = waits_for(
        (span[1] - span[0]).to_pytimedelta(),
        label_delay=settings.label_delay if label_delay is None else label_delay,
        gap=settings.gap,
        given=given,
    )
    reported = "reported_at" in inspection.declaration.fields
    maturity = settings.label_maturity if reported else waits.label_delay
    try:
        parts = planned_split(inspection, waits=waits, label_maturity=maturity, warm_up=settings.warm_up)
    except SplitError as error:
        remedy = "A shorter delay leaves more rows: --label-delay 1h"
        return Outlook(inspection, waits, (), (f"No split is possible: {error}. {remedy}",))
    return Outlook(inspection, waits, tuple(parts), ())


def _may_write(output: Path, text: str, *, yes: bool) -> bool:
    """Whether fraud.toml may be written: asks a person at a terminal, and never replaces another one unasked."""
    other = output.exists() and output.read_text() != text
    if yes:
        return True
    if sys.stdin.isatty() and sys.stdout.isatty():
        question = f"Replace {output}" if other else f"Write {output}"
        return input(f"{question}? [y/N] ").strip().lower() in ("y", "yes")
    if other:
        print(f"fraud-detect init: {output} exists and differs; --yes replaces it", file=sys.stderr)
    return not other

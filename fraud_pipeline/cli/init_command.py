"""The command `fraud-detect init`.

Belongs here: words for a person, writing fraud.toml. Must not be here: guesses (`ingest/inspection.py`).
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from fraud_pipeline.cli.column_plan import DECLARATION_FILE, inspect_source
from fraud_pipeline.cli.inspection_table import json_of
from fraud_pipeline.cli.outlook import outlook_of
from fraud_pipeline.ingest.declaration import declaration_toml
from fraud_pipeline.ingest.inspection_overrides import parse_overrides
from fraud_pipeline.ingest.time_guesses import TimeOptions
from fraud_pipeline.settings import load_settings


def init(arguments: argparse.Namespace) -> int:
    """Inspect a file and write fraud.toml, which says what each column is."""
    inspection = inspect_source(
        arguments.file,
        url=arguments.data_url or "",
        overrides=parse_overrides(arguments.set or []),
        options=time_options(arguments),
    )
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
        option = "" if output == Path(DECLARATION_FILE) else f" --declaration {shlex.quote(str(output))}"
        print(f"Wrote {output}. Change it where it is wrong, or repeat with --set field=COLUMN or --set field=-")
        url = f" --data-url {shlex.quote(arguments.data_url)}" if arguments.data_url else ""
        print(f"Next: fraud-detect train --data-path {shlex.quote(str(arguments.file))}{url}{option}")
    return 0


def time_options(arguments: argparse.Namespace) -> TimeOptions:
    """The options on the event time, which `train` has as well."""
    return TimeOptions(
        origin=arguments.time_origin,
        unit=arguments.time_unit or "",
        format=arguments.time_format or "",
        zone=arguments.time_zone or "",
    )


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

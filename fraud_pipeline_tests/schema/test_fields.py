"""A limit stands in the table of fields alone: changing it there changes every entrance, schema and text."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from fraud_pipeline.schema.fields import FIELDS, transaction_fields

# Reads cases; of each, changes the field in the table, imports everything anew, and prints what becomes of the value.
_PROGRAM: Final = """
import dataclasses, json, sys
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

OURS = ("fraud_pipeline", "fraud_pipeline_tests", "serving")
SPELLED = {"max_ahead": lambda seconds: timedelta(seconds=seconds), "earliest": datetime.fromisoformat}


def change(field, limits):
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    from fraud_pipeline.schema import fields
    limits = {name: SPELLED.get(name, lambda value: value)(value) for name, value in limits.items()}
    fields.FIELDS = MappingProxyType({**fields.FIELDS, field: dataclasses.replace(fields.FIELDS[field], **limits)})


def what_becomes_of(case):
    if case["limits"]:
        change(case["field"], case["limits"])
    from fraud_pipeline.schema.fields import FIELDS
    from fraud_pipeline.database.tables import TRANSACTIONS as SQL_TABLE
    from fraud_pipeline.ingest.column_mapping import REQUIRED_FIELDS
    from fraud_pipeline.schema.transactions import TRANSACTIONS, TransactionRow
    from fraud_pipeline_tests.support import entrances
    # Good under every limit of the cases.
    good = entrances.full_transaction() | {"category": "food", "channel": "chip", "country": None, "latitude": 40.0}
    by_entrance = entrances.outcomes(Path(sys.argv[1]), good, **{case["field"]: case["value"]})
    reasons = {
        name: "" if isinstance(outcome, TransactionRow) else outcome[1] for name, outcome in by_entrance.items()
    }
    stored_as = FIELDS[case["field"]].stored_as
    column = TRANSACTIONS.columns[stored_as]
    return {
        "reasons": reasons,
        "described": entrances.is_described(good | {case["field"]: case["value"]}),
        "column": repr((column.checks, column.nullable)),
        "sql_nullable": SQL_TABLE.columns[stored_as].nullable,
        "required_column": case["field"] in REQUIRED_FIELDS,
    }


for case in json.load(sys.stdin):
    print(json.dumps(what_becomes_of(case)))
"""


class Case(NamedTuple):
    """A change of a field, and a value that it concerns: its reason before and after, empty where it is accepted."""

    field: str
    limits: dict[str, Any]
    value: Any
    before: str
    after: str
    in_json_schema: bool = True


_LONG: Final = "abc-123456789"
CASES: Final = (
    Case("transaction_id", {"max_length": 10}, _LONG, "", "too_long"),
    Case("event_time", {"max_ahead": 0}, "2026-06-01T12:04:00Z", "", "future_time", in_json_schema=False),
    Case("event_time", {"earliest": "2026-05-20T00:00:00Z"}, "2026-05-19T12:00:00Z", "", "too_early", False),
    Case("customer_id", {"max_length": 10}, _LONG, "", "too_long"),
    Case("merchant_id", {"max_length": 80}, "m" * 70, "too_long", ""),
    Case("amount", {"maximum": 1_000}, 1_000.01, "", "out_of_range"),
    Case("amount", {"minimum": 6}, 5.0, "", "out_of_range"),
    Case("category", {"max_length": 10}, _LONG, "", "too_long"),
    Case("category", {"required": True}, None, "", "missing"),
    Case("channel", {"allowed": {"chip": [], "drone": []}}, "online", "", "unknown_channel"),
    Case("channel", {"allowed": {"chip": [], "online": [], "drone": []}}, "drone", "unknown_channel", ""),
    Case("country", {"pattern": "[A-Z]{3}"}, "DEU", "bad_country", ""),
    Case("country", {"reason": "unknown_land", "remedy": "write a land"}, "DEU", "bad_country", "unknown_land"),
    Case("latitude", {"maximum": 45}, 52.5, "", "out_of_range"),
    Case("longitude", {"minimum": 0}, -0.5, "", "out_of_range"),
)


def becomes(cases: list[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(directory)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4_000:]
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_a_change_in_the_table_changes_every_entrance(tmp_path: Path) -> None:
    changed = [{"field": case.field, "value": case.value, "limits": case.limits} for case in CASES]
    unchanged = [case | {"limits": {}} for case in changed]
    results = becomes([*unchanged, *changed], tmp_path)
    for case, before, after in zip(CASES, results[: len(CASES)], results[len(CASES) :], strict=True):
        for result, reason in ((before, case.before), (after, case.after)):
            # An unknown word of an export becomes a missing cell; a program that sends it is refused.
            in_files = "" if FIELDS[case.field].kind in ("choice", "code") else reason
            expected = {name: reason if name in ("HTTP", "Kafka") else in_files for name in result["reasons"]}
            assert result["reasons"] == expected, case
        if case.in_json_schema:
            assert (before["described"], after["described"]) == (case.before == "", case.after == ""), case
        if not case.limits.keys() & {"max_ahead", "reason"}:
            assert before["column"] != after["column"], case
        is_required = case.limits.get("required", FIELDS[case.field].required)
        assert after["required_column"] == is_required != after["sql_nullable"], case


def test_every_field_of_a_transaction_has_a_case() -> None:
    assert {case.field for case in CASES} == {field.name for field in transaction_fields()}


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_every_field_is_described_in_a_phrase_and_has_an_example(field: Any) -> None:
    assert field.description
    assert not field.description.endswith(".")
    assert field.example != ""
    assert (field.reason == "") == (field.kind not in {"choice", "code", "currency"} and field.name != "event_time")

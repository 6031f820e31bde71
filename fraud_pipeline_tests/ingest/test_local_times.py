"""The local clock of a transaction: declared for a file, and the same row over HTTP and Kafka."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.declaration import DeclarationError, declaration_toml, read_declaration
from fraud_pipeline.ingest.inspection import inspect
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.time_guesses import TimeOptions
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import transaction_message
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline_tests.support.entrances import GOOD, MICROSECONDS, NOW
from serving.dashboard.formatting import clock
from serving.errors import RequestError
from serving.http.openapi import describe
from serving.http.requests import RequestParser
from serving.stream.messages import MessageReader

WINTER, SUMMER = "2026-01-31 23:30:00", "2026-04-30 23:30:00"


def accepted(directory: Path, columns: dict[str, Any], reading: str, *, parquet: bool = False) -> pd.DataFrame:
    path = directory / f"bank.{'parquet' if parquet else 'csv'}"
    frame = pd.DataFrame(columns).assign(amount=1.0)
    frame.to_parquet(path) if parquet else frame.to_csv(path, index=False)
    declaration = read_declaration(f'version = 1\n\n[fields]\namount = "amount"\nevent_time = {reading}\n')
    assert read_declaration(declaration_toml(declaration)) == declaration
    source = FileSource(path, declaration=declaration)
    raw = source.transactions(start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp("2026-07-01", tz="UTC"))
    rows = validate(raw, now=pd.Timestamp(NOW), own_fields=declaration.own_fields).accepted
    assert (OFFSET_FIELD in declaration.own_fields) == declaration.local_time
    return rows


def clocks(rows: pd.DataFrame) -> list[tuple[str, float | None]]:
    """The instant and the offset of each row."""
    offsets = [None if pd.isna(offset) else offset for offset in rows[UTC_OFFSET]]
    return list(zip(rows["event_time"].dt.strftime("%m-%d %H:%M"), offsets, strict=True))


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    ("columns", "reading", "expected"),
    [
        # One zone: an hour less of UTC in summer.
        ({"t": [WINTER, SUMMER]}, 'zone = "Europe/Berlin"', [("01-31 22:30", 60), ("04-30 21:30", 120)]),
        ({"t": [f"{WINTER}Z", f"{SUMMER}Z"]}, 'zone = "Europe/Berlin"', [("01-31 23:30", 60), ("04-30 23:30", 120)]),
        # The offset of each time itself; Z says nothing, +00:00 is London.
        (
            {"t": [f"{WINTER}+01:00", f"{WINTER}Z", f"{WINTER}+00:00", f"{WINTER}-05:00"]},
            'zone = "offset"',
            [("01-31 22:30", 60), ("01-31 23:30", None), ("01-31 23:30", 0), ("02-01 04:30", -300)],
        ),
        ({"t": [WINTER, SUMMER]}, 'zone = "offset"', [("01-31 23:30", None), ("04-30 23:30", None)]),
        ({"t": [f"{WINTER} Asia/Kathmandu"] * 2}, 'zone = "offset"', [("01-31 17:45", 345)] * 2),
        # The zone or offset of each row; an empty one is UTC. With `zone`, times are of that zone, whatever the clock.
        (
            {"t": [WINTER, SUMMER, WINTER, WINTER], "tz": ["Europe/Berlin", "-0500", None, "Z"]},
            'zone_column = "tz"',
            [("01-31 22:30", 60), ("01-31 23:30", None), ("01-31 23:30", None), ("05-01 04:30", -300)],
        ),
        (
            {"t": [WINTER, SUMMER], "tz": [None, "UTC"]},
            'zone_column = "tz", zone = "Europe/Berlin"',
            [("01-31 22:30", 60), ("04-30 21:30", 0)],
        ),
        (
            {"t": [WINTER, SUMMER], "tz": ["Europe/Berlin", None]},
            'zone_column = "tz", zone = "UTC"',
            [("01-31 23:30", 60), ("04-30 23:30", 0)],
        ),
        (
            {"t": [f"{WINTER}Z", f"{SUMMER}Z"], "tz": ["Europe/Berlin", "+05:45"]},
            'zone_column = "tz"',
            [("01-31 23:30", 60), ("04-30 23:30", 345)],
        ),
        ({"t": [1_769_902_200]}, 'unit = "s", zone = "Europe/Berlin"', [("01-31 23:30", 60)]),
        ({"t": [1_769_902_200], "tz": ["Europe/Berlin"]}, 'unit = "s", zone_column = "tz"', [("01-31 23:30", 60)]),
        (
            {"t": ["31.01.2026 23:30"], "tz": ["Europe/Berlin"]},
            'format = "%d.%m.%Y %H:%M", zone_column = "tz"',
            [("01-31 22:30", 60)],
        ),
    ],
)
def test_the_offset_of_a_file_s_row(
    tmp_path: Path,
    columns: dict[str, Any],
    reading: str,
    expected: list[tuple[str, float | None]],
    parquet: bool,  # noqa: FBT001
) -> None:
    rows = accepted(tmp_path, columns, f'{{columns = ["t"], {reading}}}', parquet=parquet)
    assert sorted(clocks(rows), key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("zone", "reading", "expected"),
    [
        (None, 'zone = "Europe/Berlin"', ("01-31 22:30", 60)),
        ("Europe/Berlin", 'zone = "offset"', ("01-31 22:30", 60)),
        ("UTC", 'zone = "offset"', ("01-31 23:30", None)),
        (None, 'zone_column = "tz"', ("01-31 22:30", 60)),
        ("UTC", 'zone_column = "tz"', ("01-31 23:30", 60)),
    ],
)
def test_times_of_the_file_s_own_type(
    tmp_path: Path, zone: str | None, reading: str, expected: tuple[str, float | None]
) -> None:
    columns = {"t": pd.to_datetime([WINTER]).tz_localize(zone), "tz": ["Europe/Berlin"]}
    assert clocks(accepted(tmp_path, columns, f'{{columns = ["t"], {reading}}}', parquet=True)) == [expected]


def test_a_file_without_zones_has_the_rows_and_the_hash_of_earlier_releases(tmp_path: Path) -> None:
    rows = accepted(tmp_path, {"t": [f"{WINTER}+01:00"]}, '"t"')
    assert UTC_OFFSET not in rows
    plain = read_declaration('version = 1\n[fields]\nevent_time = "t"\namount = "a"\n')
    assert (plain.id, plain.fixed_id) == ("b34534cd6847739a", "03ece11896f5856e")
    zoned = read_declaration('version = 1\n[fields]\nevent_time = {columns = ["t"], zone = "Europe/Berlin"}\n')
    assert zoned.fixed_id == "d7bf40909396d4a4"
    assert zoned.id != "1be015e1d2f0f4c4", "its days have to be read again, for their offsets"


@pytest.mark.parametrize(
    ("reading", "problem"),
    [
        ('zone = "offset", format = "%Y"', "remove format, or zone"),
        ('zone = "offset", unit = "s"', "remove unit, or zone"),
        ('zone = "offset", zone_column = "tz"', "remove zone_column, or zone"),
        ('zone_column = "t"', "needs a column of its own"),
    ],
)
def test_what_does_not_go_together_is_refused(reading: str, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        read_declaration(f'version = 1\n[fields]\nevent_time = {{columns = ["t"], {reading}}}\n')


def test_a_cell_that_is_no_zone_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    columns = {"t": [WINTER, WINTER], "tz": ["Europe/Berlin", "CEST!"]}
    with pytest.raises(SourceError, match=r"'CEST!' in 'tz', which is no known zone: write one such as"):
        accepted(tmp_path, columns, '{columns = ["t"], zone_column = "tz"}')


def test_the_name_of_the_stored_offset_is_taken() -> None:
    with pytest.raises(DeclarationError, match="local clock is stored by this name: rename"):
        read_declaration(
            f'version = 1\n[fields]\nevent_time = "t"\n[own_fields.{UTC_OFFSET}]\ntype = "number"\ncolumn = "x"\n'
        )


def test_init_declares_the_offsets_that_times_carry(tmp_path: Path) -> None:
    path, rows = tmp_path / "bank.csv", 400
    times = pd.date_range("2026-01-01", periods=rows, freq="3h", tz="UTC")
    frame = pd.DataFrame({"amount": range(rows), "customer": "c", "fraud": [n % 10 == 0 for n in range(rows)]})
    frame.assign(time=times.tz_convert("Europe/Berlin").map(datetime.isoformat)).to_csv(path, index=False)
    zoned = inspect(path).declaration
    frame.assign(time=times.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv(path, index=False)
    plain = inspect(path).declaration
    frame.assign(time=times.strftime("%d/%m/%Y %H:%M")).to_csv(path, index=False)
    with pytest.raises(SourceError, match="give a zone, such as --time-zone Europe/Berlin"):
        inspect(path, options=TimeOptions(zone="offset"))
    assert zoned.event_time is not None
    assert zoned.event_time.zone == "offset"
    assert (zoned.local_time, plain.local_time) == (True, False)


def test_requests_and_messages_keep_the_offset_of_their_time() -> None:
    declared = {OFFSET_FIELD.name: OFFSET_FIELD}
    parser = RequestParser("EUR", 1, lambda: declared)
    reader = MessageReader(currency="EUR", declared=lambda: declared)
    for text, own_fields in (
        ("2026-06-01T12:00:00+02:00", '{"utc_offset_minutes":120}'),
        ("2026-06-01T10:00:00+00:00", '{"utc_offset_minutes":0}'),
        ("2026-06-01T10:00:00Z", None),
        ("2026-06-01T10:00:00-00:00", None),
    ):
        document = GOOD | {"event_time": text, "currency": "EUR"}
        row = parser.transaction(json.dumps(document).encode(), now=MICROSECONDS)
        (batched,) = parser.batch(json.dumps({"transactions": [document]}).encode(), now=MICROSECONDS)
        message = reader.transaction_message(json.dumps({"schema": 1, **document}).encode(), [], now=MICROSECONDS)
        assert row == batched == message
        assert (row.event_time, row.own_fields) == (MICROSECONDS - 2 * 3_600_000_000, own_fields)
        undeclared = RequestParser("EUR", 1).transaction(json.dumps(document).encode(), now=MICROSECONDS)
        assert undeclared == row._replace(own_fields=None)
    zoned = row._replace(own_fields='{"age":3,"utc_offset_minutes":-330}')
    sent = transaction_message(zoned, currency="EUR")
    assert json.loads(sent.value or b"")["event_time"] == "2026-06-01T04:30:00-05:30"
    assert reader.transaction_message(sent.value, sent.headers, now=MICROSECONDS) == zoned


def test_a_file_gives_the_row_that_a_request_gives(tmp_path: Path) -> None:
    columns = {"transaction_id": ["good"], "t": ["2026-06-01T12:00:00+02:00"]}
    (stored,) = accepted(tmp_path, columns, '{columns = ["t"], zone = "offset"}')[UTC_OFFSET]
    assert stored == 120


def test_an_own_field_may_not_say_the_offset_of_the_time_and_openapi_does_not_ask_for_it() -> None:
    declared = {OFFSET_FIELD.name: OFFSET_FIELD, "age": OwnField(name="age", type="number")}
    document = GOOD | {"currency": "EUR", "own_fields": {UTC_OFFSET: 60}}
    with pytest.raises(RequestError) as refusal:
        RequestParser("EUR", 1, lambda: declared).transaction(json.dumps(document).encode(), now=MICROSECONDS)
    assert [(field.path, field.problem) for field in refusal.value.fields] == [
        (f"own_fields.{UTC_OFFSET}", "name_taken")
    ]
    schemas = describe(currency="EUR", max_batch=1, now=NOW, declared=declared.values())["components"]["schemas"]
    properties = schemas["TransactionIn"]["properties"]
    assert list(properties["own_fields"]["properties"]) == ["age"]
    assert "local clock" in properties["event_time"]["description"]


def test_the_dashboard_shows_the_local_clock() -> None:
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    assert clock(moment, {UTC_OFFSET: 60}) == "2026-02-01 00:30:00 UTC+0100"
    assert clock(moment, {}) == "2026-01-31 23:30:00 UTC"

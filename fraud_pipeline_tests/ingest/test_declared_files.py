"""A file that is read by its declaration: times, labels, own columns, and fields that no column gives."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_pipeline.ingest.declaration import read_declaration
from fraud_pipeline.ingest.sources import FileSource, SourceError
from fraud_pipeline.ingest.validation import ValidationResult, validate
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.own_fields import (
    OwnField,
    OwnValueError,
    own_columns,
    own_fields_json,
    read_own_value,
    transactions_schema,
)

NOW = pd.Timestamp("2026-03-01", tz="UTC")
START, END = pd.Timestamp("1990-01-01", tz="UTC"), NOW


def source(directory: Path, columns: Mapping[str, Any], toml: str, *, parquet: bool = False) -> FileSource:
    """A file of these columns with this declaration."""
    path = directory / ("bank.parquet" if parquet else "bank.csv")
    frame = pd.DataFrame(columns)
    if parquet:
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return FileSource(path, declaration=read_declaration(toml))


def accepted(file: FileSource) -> ValidationResult:
    assert file.declaration is not None
    raw = file.transactions(start=START, end=END)
    result = validate(raw, now=NOW, own_fields=file.declaration.own_fields)
    transactions_schema(file.declaration.own_fields).validate(result.accepted)
    return result


TIMES = [datetime(2026, 1, 31, 23, 5, 7, tzinfo=UTC), datetime(2026, 2, 1, 0, 0, 0, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("cells", "reading"),
    [
        (["31/01/2026 23:05:07", "01/02/2026 00:00:00"], '{columns = ["t"], format = "%d/%m/%Y %H:%M:%S"}'),
        (["01/31/2026 23:05:07", "02/01/2026 00:00:00"], '{columns = ["t"], format = "%m/%d/%Y %H:%M:%S"}'),
        (["2026-01-31 18:05:07-0500", "2026-01-31 19:00:00-0500"], '{columns = ["t"], format = "%Y-%m-%d %H:%M:%S%z"}'),
        (["2026-02-01 00:05:07", "2026-02-01 01:00:00"], '{columns = ["t"], zone = "Europe/Berlin"}'),
        (
            ["01.02.2026 00:05:07", "01.02.2026 01:00:00"],
            '{columns = ["t"], format = "%d.%m.%Y %H:%M:%S", zone = "Europe/Berlin"}',
        ),
        ([1769900707, 1769904000], '{columns = ["t"], unit = "s"}'),
        (["1769900707.0", "1769904000"], '{columns = ["t"], unit = "s"}'),
        ([1769900707000, 1769904000000], '{columns = ["t"], unit = "ms"}'),
        ([1769900707000000, 1769904000000000], '{columns = ["t"], unit = "us"}'),
        ([1769900707000000000, 1769904000000000000], '{columns = ["t"], unit = "ns"}'),
        ([83107, 86400], '{columns = ["t"], unit = "s", origin = 2026-01-31T00:00:00Z}'),
        ([30.08527777777778, 31], '{columns = ["t"], unit = "hours", origin = 2026-01-30T17:00:00Z}'),
        (["2026-01-31T23:05:07Z", "2026-02-01T00:00:00Z"], '"t"'),
    ],
)
@pytest.mark.parametrize("parquet", [False, True])
def test_times_of_many_kinds(tmp_path: Path, cells: list[Any], reading: str, parquet: bool) -> None:  # noqa: FBT001
    file = source(
        tmp_path,
        {"t": cells, "c": ["a", "b"]},
        f'[fields]\nevent_time = {reading}\ncustomer_id = "c"\n',
        parquet=parquet,
    )
    times = file.transactions(start=START, end=END)["event_time"]
    assert [time.to_pydatetime().replace(microsecond=0) for time in times.dt.round("s")] == TIMES


@pytest.mark.parametrize("parquet", [False, True])
def test_a_date_and_a_time_of_day_are_one_time(tmp_path: Path, parquet: bool) -> None:  # noqa: FBT001
    days = pd.to_datetime(["2026-01-31", "2026-02-01"])
    columns = {"day": days if parquet else days.strftime("%Y-%m-%d"), "clock": ["23:05:07", "00:00:00"]}
    file = source(tmp_path, columns, '[fields]\nevent_time = {columns = ["day", "clock"]}\n', parquet=parquet)
    assert file.transactions(start=START, end=END)["event_time"].tolist() == TIMES


def test_an_hour_that_the_clock_shows_twice_loses_no_row(tmp_path: Path) -> None:
    cells = ["2025-10-26 02:30:00", "2026-03-29 02:30:00"]
    file = source(
        tmp_path, {"t": cells, "x": [1, 2]}, '[fields]\nevent_time = {columns = ["t"], zone = "Europe/Berlin"}\n'
    )
    times = file.transactions(start=START, end=pd.Timestamp("2027-01-01", tz="UTC"))["event_time"]
    assert times.iloc[0] == pd.Timestamp("2025-10-26 00:30", tz="UTC")


def test_an_unknown_zone_and_a_wrong_format_are_errors_with_a_remedy(tmp_path: Path) -> None:
    columns = {"t": ["2026-01-31 00:00:00"], "x": [1]}
    for reading, problem in (
        ('zone = "Europe/Nowhere"', "no known zone"),
        ('format = "%d/%m/%Y"', "no times of the format"),
    ):
        file = source(tmp_path, columns, f'[fields]\nevent_time = {{columns = ["t"], {reading}}}\n')
        with pytest.raises(SourceError, match=problem):
            _ = file.first_day


MINIMAL = '[fields]\nevent_time = "t"\nis_fraud = {column = "y", fraud = ["Bad", "1"], legitimate = ["good", "0"]}\n'


def test_labels_follow_the_spellings_and_others_are_unknown(tmp_path: Path) -> None:
    labels = ["bad", "GOOD ", "1.0", "0", "", "disputed"]
    columns = {"t": [f"2026-01-0{n}T00:00:00Z" for n in range(1, 7)], "y": labels}
    file = source(tmp_path, columns, MINIMAL)
    reports = file.reports(start=START, end=END)
    assert reports["transaction_id"].tolist() == ["row-1", "row-3"]
    assert accepted(file).unknown_labels["transaction_id"].tolist() == ["row-5", "row-6"]
    assert file.notes["is_fraud: neither fraud nor legitimate, so unknown"] == 1
    assert file.notes["is_fraud: unknown, so in no training and no test"] == 2


def test_a_column_that_only_marks_frauds_leaves_no_label_unknown(tmp_path: Path) -> None:
    columns = {"t": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"], "y": ["bad", ""]}
    file = source(tmp_path, columns, MINIMAL)
    assert accepted(file).unknown_labels.empty
    assert len(file.reports(start=START, end=END)) == 1


def test_a_label_that_becomes_known_changes_its_day_alone(tmp_path: Path) -> None:
    columns = {"t": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"], "y": ["bad", "", "good"]}
    before = source(tmp_path, columns, MINIMAL).day_versions(start=START, end=END)
    after = source(tmp_path, columns | {"y": ["bad", "good", "good"]}, MINIMAL).day_versions(start=START, end=END)
    # Without any unknown label the column that marks them is gone, and that is another schema.
    assert {day for day in before if before[day].transactions != after[day].transactions} >= {date(2026, 1, 2)}


def test_fields_that_no_column_gives_are_made_up_and_said_so(tmp_path: Path) -> None:
    columns = {"t": ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"], "y": ["bad", "good"], "rest": [1, 2]}
    file = source(tmp_path, columns, MINIMAL)
    rows = accepted(file).accepted
    assert rows["transaction_id"].tolist() == ["row-2", "row-1"]
    assert rows["customer_id"].tolist() == rows["transaction_id"].tolist()
    assert rows["merchant_id"].tolist() == [NO_MERCHANT] * 2
    assert rows["amount_cents"].tolist() == [0, 0]
    for field in ("transaction_id", "customer_id", "merchant_id", "amount"):
        assert any(note.startswith(f"{field}: no column") for note in file.notes)
    assert any(note.endswith("not used: rest") for note in file.notes)


def test_without_a_time_the_order_of_the_rows_is_their_time(tmp_path: Path) -> None:
    n = 500
    columns = {"y": ["1", *["0"] * (n - 1)], "v": range(n)}
    file = source(tmp_path, columns, MINIMAL.replace('event_time = "t"\n', ""))
    rows = file.transactions(start=START, end=END)
    assert rows["transaction_id"].tolist() == [f"row-{number}" for number in range(1, n + 1)]
    assert rows["event_time"].is_monotonic_increasing
    assert timedelta(days=100) < rows["event_time"].iloc[-1] - rows["event_time"].iloc[0] <= timedelta(days=120)


OWN = MINIMAL + "".join(
    f'[own_fields.{name}]\ntype = "{name.removeprefix("my_")}"\ncolumn = "{name}"\n'
    for name in (
        "my_number",
        "my_boolean",
        "my_time",
        "my_category",
        "my_ip",
        "my_email",
        "my_country",
        "my_money",
        "my_identifier",
        "my_text",
    )
)
GOOD_CELLS = {
    "my_number": "1.5",
    "my_boolean": "yes",
    "my_time": "2026-01-01T10:00:00Z",
    "my_category": "a b",
    "my_ip": "192.0.2.1",
    "my_email": "a@b.example",
    "my_country": "de",
    "my_money": "12.50",
    "my_identifier": "007",
    "my_text": "any text",
}
BAD_CELLS = {
    "my_number": "many",
    "my_boolean": "perhaps",
    "my_time": "soon",
    "my_category": "x" * 1_025,
    "my_ip": "300.1.1.1",
    "my_email": "nobody",
    "my_country": "Germany",
    "my_money": "free",
    "my_identifier": "4.51E+15",
    "my_text": "caf\ufffd",
}


def test_own_columns_are_typed_and_a_bad_cell_is_missing_and_counted(tmp_path: Path) -> None:
    n = 60
    columns: dict[str, list[str]] = {"t": ["2026-01-01T00:00:00Z"] * n, "y": ["bad", *["good"] * (n - 1)]}
    for name, good in GOOD_CELLS.items():
        columns[name] = [good] * n
        columns[name][1], columns[name][2] = BAD_CELLS[name], ""
    file = source(tmp_path, columns, OWN)
    result = accepted(file)
    assert len(result.accepted) == n
    assert result.rejected.empty
    first = result.accepted.iloc[0]
    assert first["my_number"] == 1.5
    assert first["my_money"] == 12.5
    assert first["my_boolean"] is np.True_ or first["my_boolean"] is True
    assert first["my_time"] == pd.Timestamp("2026-01-01 10:00", tz="UTC")
    assert first["my_country"] == "DE"
    assert first["my_identifier"] == "007"
    own = list(GOOD_CELLS)
    assert result.accepted.loc[1:2, own].isna().all(axis=None)
    assert result.accepted.drop(index=[1, 2])[own].notna().all(axis=None)
    assert result.emptied == {name: 1 for name in own if name != "my_time"}
    assert file.notes["my_time: unreadable times, so missing"] == 1


VALUES = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(["192.0.2.1", "::1", "2001:DB8::1", "a@b", "DE", "d", "none", " x ", "17.0", "'a", "x" * 1_025]),
)


@given(
    values=st.lists(VALUES, min_size=1, max_size=6),
    kind=st.sampled_from(["identifier", "category", "text", "ip", "email"]),
)
def test_a_text_of_a_file_and_of_a_request_is_one_value(values: list[str | None], kind: Any) -> None:
    """What a request stores as JSON, and what a file stores as a cell, are equal in the table."""
    field = OwnField(name="own", type=kind)
    texts = []
    for value in values:
        try:
            read = read_own_value(field, value)
        except OwnValueError:
            read = None
        texts.append(own_fields_json({} if read is None else {"own": read}))
    raw = pd.DataFrame(
        {
            "transaction_id": [f"t{number}" for number in range(len(values))],
            "event_time": NOW - pd.Timedelta(days=1),
            "customer_id": "c",
            "merchant_id": "m",
            "amount": 1.0,
            "own": pd.Series(values, dtype=object),
        }
    )
    of_file = validate(raw, now=NOW, own_fields=[field]).accepted["own"].tolist()
    of_requests = own_columns(texts, [field])["own"].tolist()
    assert [None if pd.isna(value) else value for value in of_file] == of_requests


@given(values=st.lists(st.none() | st.floats() | st.integers(-(2**70), 2**70), min_size=1, max_size=6))
def test_a_number_of_a_file_and_of_a_request_is_one_value(values: list[float | None]) -> None:
    field = OwnField(name="own", type="number")
    raw = pd.DataFrame(
        {"transaction_id": [f"t{n}" for n in range(len(values))], "own": pd.Series(values, dtype=object)}
    )
    raw = raw.assign(event_time=NOW - pd.Timedelta(days=1), customer_id="c", merchant_id="m", amount=1.0)
    of_file = validate(raw, now=NOW, own_fields=[field]).accepted["own"].to_numpy()
    for value, stored in zip(values, of_file, strict=True):
        try:
            read = None if value is None or math.isnan(value) else read_own_value(field, value)
        except OwnValueError:
            read = None
        expected = read if isinstance(read, float) else math.nan
        assert np.float64(expected).tobytes() == np.float64(stored).tobytes() or (
            math.isnan(stored) and np.isnan(expected)
        )


def test_a_changed_declaration_changes_every_day(tmp_path: Path) -> None:
    columns = {"t": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"], "y": ["bad", "good"], "v": ["1", "2"]}
    own = '[own_fields.v]\ntype = "number"\ncolumn = "v"\n'
    versions = [
        source(tmp_path, columns, MINIMAL + words).day_versions(start=START, end=END)
        for words in ("", own, own.replace("number", "category"), own + 'description = "words change nothing"\n')
    ]
    for day in versions[0]:
        assert len({of[day].transactions for of in versions}) == 3
        assert versions[1][day] == versions[3][day]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(hours=st.lists(st.integers(0, 24 * 6), min_size=2, max_size=12, unique=True), changed=st.integers(0, 11))
def test_a_changed_row_changes_its_day_alone(tmp_path: Path, hours: list[int], changed: int) -> None:
    changed %= len(hours)
    times = [pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(hours=hour) for hour in hours]
    columns = {"id": [f"t{hour}" for hour in hours], "t": times, "v": ["1"] * len(hours)}
    toml = '[fields]\ntransaction_id = "id"\nevent_time = "t"\n[own_fields.v]\ntype = "number"\ncolumn = "v"\n'
    before = source(tmp_path, columns, toml).day_versions(start=START, end=END)
    columns["v"] = ["2" if number == changed else "1" for number in range(len(hours))]
    after = source(tmp_path, columns, toml).day_versions(start=START, end=END)
    assert before.keys() == after.keys()
    assert [day for day in before if before[day] != after[day]] == [times[changed].date()]


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = source(tmp_path, {"t": ["2026-01-01T00:00:00Z"], "z": ["1"]}, MINIMAL)
    with pytest.raises(SourceError, match=r"no such column: y.*columns: t, z"):
        _ = file.first_day

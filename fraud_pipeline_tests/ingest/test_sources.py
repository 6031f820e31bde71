"""A file of transactions is read correctly, or refused with a helpful message."""

import gzip
import os
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_pipeline.ingest.column_mapping import COLUMN_FIELDS
from fraud_pipeline.ingest.sources import FileSource, SourceError, parse_columns
from fraud_pipeline.ingest.validation import TooManyRejectedRowsError, check_rejected_share, validate
from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TRANSACTIONS

START, END = pd.Timestamp("2018-04-01", tz="UTC"), pd.Timestamp("2018-05-01", tz="UTC")
HEADER = "transaction_id,event_time,customer_id,merchant_id,amount"
LINE = "t1,2018-04-02T10:00:00Z,c1,m1,12.34"


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """Ten days in the layout of the Fraud Detection Handbook's simulator: integer ids, naive times, a label."""
    n = 1000
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(n),
            "TX_DATETIME": pd.date_range("2018-04-01 00:00:31", periods=n, freq="860s").astype("datetime64[us]"),
            "CUSTOMER_ID": rng.integers(0, 50, n).astype("int32"),
            "TERMINAL_ID": rng.integers(0, 90, n).astype("int32"),
            "TX_AMOUNT": rng.integers(1, 20_000, n) / 100,
            "TX_FRAUD": (np.arange(n) % 50 == 0).astype("int8"),
        }
    )
    path = tmp_path / "handbook.parquet"
    frame.to_parquet(path, index=False)
    return path


def write(directory: Path, *lines: str, name: str = "data.csv") -> Path:
    path = directory / name
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path, *, columns: dict[str, str] | None = None) -> pd.DataFrame:
    return FileSource(path, columns=columns).transactions(start=START, end=END)


def with_column(directory: Path, name: str, *values: object) -> Path:
    """A Parquet file of good rows, one per value, in which one column holds `values`."""
    n = len(values)
    # pyarrow drops the offset of Timestamps in a plain list once pandera is imported; a Series keeps it.
    column = pd.Series(values) if isinstance(values[0], pd.Timestamp) else list(values)
    columns: dict[str, object] = {
        "transaction_id": [f"t{number}" for number in range(n)],
        "event_time": [datetime(2018, 4, 2, number, tzinfo=UTC) for number in range(n)],
        "customer_id": ["c"] * n,
        "merchant_id": ["m"] * n,
        "amount": [1.0] * n,
        name: column,
    }
    pq.write_table(pa.table(columns), directory / "data.parquet")
    return directory / "data.parquet"


# --- What a good file gives


def test_the_handbook_layout_needs_no_mapping(handbook: Path) -> None:
    source = FileSource(handbook, label_delay=timedelta(days=2))
    raw = source.transactions(start=START, end=END)
    assert (source.first_day, source.last_day) == (date(2018, 4, 1), date(2018, 4, 10))
    assert list(raw) == ["transaction_id", "event_time", "customer_id", "merchant_id", "amount", "file_row"]
    assert raw["transaction_id"].tolist() == [str(number) for number in range(1000)]
    assert raw["event_time"].iloc[0] == pd.Timestamp("2018-04-01 00:00:31", tz="UTC")
    result = validate(raw, now=END)
    TRANSACTIONS.validate(result.accepted)
    assert len(result.accepted) == 1000
    reports = source.reports(start=START, end=END)
    FRAUD_REPORTS.validate(reports)
    assert reports["transaction_id"].tolist() == [str(number) for number in range(0, 1000, 50)]
    assert (reports["reported_at"] - reports["event_time"]).unique().tolist() == [pd.Timedelta(days=2)]
    assert not source.has_report_times


def test_spans_are_half_open_and_cover_every_row_once(handbook: Path) -> None:
    source = FileSource(handbook)
    days = pd.date_range("2018-03-30", "2018-04-20", freq="D", tz="UTC").as_unit("us")
    spans = list(pairwise(days))
    for read_span in (source.transactions, source.reports):
        parts = [read_span(start=start, end=end) for start, end in spans]
        whole = read_span(start=days[0], end=days[-1])
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_dtype=False)
    boundary = source.transactions(start=START, end=END)["event_time"].iloc[7]
    first = source.transactions(start=START, end=boundary)
    rest = source.transactions(start=boundary, end=END)
    assert (len(first), len(rest)) == (7, 993)


def test_ids_of_a_csv_keep_their_leading_zeros(tmp_path: Path) -> None:
    row = read(write(tmp_path, HEADER, "007,2018-04-02 10:00:00,0012,00,12.30")).iloc[0]
    assert row[["transaction_id", "customer_id", "merchant_id"]].tolist() == ["007", "0012", "00"]
    assert row["amount"] == 12.3
    assert row["event_time"] == pd.Timestamp("2018-04-02 10:00", tz="UTC")


def test_whole_numbers_that_pandas_stored_as_floats_are_ids(tmp_path: Path) -> None:
    read_ids = read(with_column(tmp_path, "merchant_id", 4.0, None, 2703186189652095.0))["merchant_id"]
    assert read_ids.tolist() == ["4", None, "2703186189652095"]


def test_public_names_of_another_data_set_are_known(tmp_path: Path) -> None:
    header = (
        ",trans_date_trans_time,cc_num,merchant,category,amt,lat,long,trans_num,unix_time,merch_lat,merch_long,is_fraud"
    )
    line = '0,2018-04-02 00:00:18,2703186189652095,"fraud_Rippin, Kub",misc_net,4.97,36.0,-81.1,0b24,13,36.01,-82.04,1'
    path = write(tmp_path, header, line)
    row = read(path).iloc[0]
    assert row["merchant_id"] == "fraud_Rippin, Kub"
    assert (row["latitude"], row["longitude"]) == (36.01, -82.04)
    assert len(FileSource(path).reports(start=START, end=END)) == 1


def test_no_name_is_a_synonym_of_two_fields() -> None:
    names = [name for field in COLUMN_FIELDS for name in (field, *FIELDS[field].synonyms)]
    assert len(names) == len(set(names))


def test_an_explicit_mapping_wins(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},Net", f"{LINE},99.5")
    assert read(path, columns={"amount": "Net"})["amount"].tolist() == [99.5]


def test_a_compressed_csv_with_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(f"\ufeff{HEADER}\r\n{LINE}\r\n".encode()))
    assert read(path)["transaction_id"].tolist() == ["t1"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("POS", "chip"),
        ("swipe", "chip"),
        ("NFC", "contactless"),
        ("Card-Not-Present", "online"),
        ("e-commerce", "online"),
        (" cash ", "atm"),
        ("wire", "transfer"),
        ("pigeon", "pigeon"),
        (None, None),
    ],
)
def test_known_channels_are_converted_and_unknown_ones_are_left_to_validation(
    tmp_path: Path, given: str | None, expected: str | None
) -> None:
    assert read(with_column(tmp_path, "channel", given, "chip"))["channel"].tolist() == [expected, "chip"]


def test_countries_are_capitals_and_namibia_is_not_missing(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},country", f"{LINE},na", LINE.replace("t1", "t2") + ",")
    assert read(path)["country"].tolist() == ["NA", None]


def test_a_new_version_of_the_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, LINE)
    source = FileSource(path)
    before = source.transactions(start=START, end=END)
    write(tmp_path, HEADER, LINE.replace("12.34", "56.78"))
    os.utime(path, ns=(1, 1))
    assert before["amount"].tolist() == [12.34]
    assert FileSource(path).transactions(start=START, end=END)["amount"].tolist() == [56.78]


# --- Times


@pytest.mark.parametrize(
    "values",
    [
        ["2018-04-02 10:00:00", "2018-04-02T10:00:00.000000"],
        ["2018-04-02T10:00:00Z", "2018-04-02T10:00:00Z"],
        ["2018-04-02T12:00:00+02:00", "2018-04-02T05:00:00-05:00"],
        ["2018-04-02 12:00:00+0200", " 2018-04-02T10:00:00.000Z "],
        [datetime(2018, 4, 2, 10), datetime(2018, 4, 2, 10)],  # noqa: DTZ001 - a time without timezone is UTC
        [pd.Timestamp("2018-04-02 12:00", tz="Europe/Berlin")] * 2,
    ],
)
def test_times_of_one_kind_become_utc(tmp_path: Path, values: list[object]) -> None:
    times = read(with_column(tmp_path, "event_time", *values))["event_time"]
    assert str(times.dtype) == "datetime64[us, UTC]"
    assert times.tolist() == [pd.Timestamp("2018-04-02 10:00", tz="UTC")] * 2


def test_rows_without_a_usable_time_come_with_the_first_day_and_are_rejected(tmp_path: Path) -> None:
    """No row is lost or repeated, and none extends the calendar to 1970 or 2199."""
    values = ["2018-04-03 10:00:00", "soon", None, "1970-01-01 00:00:00", "2199-01-01 00:00:00", "2018-04-05 10:00:00"]
    source = FileSource(with_column(tmp_path, "event_time", *values))
    assert (source.first_day, source.last_day) == (date(2018, 4, 3), date(2018, 4, 5))
    day = pd.Timedelta(days=1)
    days = [START + number * day for number in range(30)]
    counts = [len(source.transactions(start=start, end=start + day)) for start in days]
    assert (counts[2], counts[4], sum(counts)) == (5, 1, 6)
    result = validate(source.transactions(start=days[2], end=days[3]), now=days[3], fallback_time=days[2])
    assert result.accepted["transaction_id"].tolist() == ["t0"]
    assert result.summary() == {"time_missing_or_unreadable": 2, "too_early": 1, "future_time": 1}
    assert set(result.rejected["event_time"]) == {days[2]}


# --- Labels


@pytest.mark.parametrize(
    "labels",
    [
        [1, 0, None],
        [1.0, 0.0, None],
        [True, False, None],
        ["1", "0", ""],
        ["TRUE", "False", None],
        ["Fraud", "legit", " "],
        ["yes", "no", None],
    ],
)
def test_labels_in_any_usual_spelling(tmp_path: Path, labels: list[object]) -> None:
    reports = FileSource(with_column(tmp_path, "is_fraud", *labels)).reports(start=START, end=END)
    FRAUD_REPORTS.validate(reports)
    assert reports["transaction_id"].tolist() == ["t0"]
    assert reports["is_fraud"].tolist() == [True]
    assert reports["reported_at"].tolist() == [pd.Timestamp("2018-04-09", tz="UTC")]


def test_an_unreadable_label_is_an_error_because_it_would_change_the_truth(tmp_path: Path) -> None:
    path = with_column(tmp_path, "is_fraud", "1", "perhaps", "2")
    with pytest.raises(
        SourceError, match=r"'is_fraud' \(is_fraud\) has 2 labels that are neither yes .* nor no"
    ) as error:
        FileSource(path).reports(start=START, end=END)
    assert "perhaps" not in str(error.value)


def test_report_times_in_the_file_are_used(tmp_path: Path) -> None:
    reported = [datetime(2018, 4, 20, tzinfo=UTC), None, datetime(2018, 4, 10, tzinfo=UTC)]
    source = FileSource(with_column(tmp_path, "reported_at", *reported))
    assert source.has_report_times
    reports = source.reports(start=START, end=END)
    FRAUD_REPORTS.validate(reports)
    assert reports["transaction_id"].tolist() == ["t2", "t0"]
    assert reports["reported_at"].dt.day.tolist() == [10, 20]
    assert len(source.reports(start=START, end=pd.Timestamp("2018-04-20", tz="UTC"))) == 1


def test_a_report_time_without_a_fraud_label_is_no_fraud(tmp_path: Path) -> None:
    path = with_column(tmp_path, "reported_at", *[datetime(2018, 4, 9, tzinfo=UTC)] * 3)
    table = pq.read_table(path)
    pq.write_table(table.append_column("is_fraud", pa.array([True, False, None])), path)
    assert FileSource(path).reports(start=START, end=END)["transaction_id"].tolist() == ["t0"]


def test_a_file_without_labels_has_no_reports(tmp_path: Path) -> None:
    reports = FileSource(write(tmp_path, HEADER, LINE)).reports(start=START, end=END)
    FRAUD_REPORTS.validate(reports)
    assert reports.empty


def test_rejected_rows_have_no_report(tmp_path: Path) -> None:
    path = write(
        tmp_path, f"{HEADER},is_fraud", f"{LINE},1", f"{LINE.replace('c1', '')},1", f"{LINE.replace('2018', '')},1"
    )
    assert len(FileSource(path).reports(start=START, end=END)) == 1


# --- Files that cannot be used as they are


def test_ten_percent_bad_rows_are_read_and_stopped_by_validation(tmp_path: Path) -> None:
    lines = [f"t{n},2018-04-02 10:00:00,c,m,{'n/k' if n % 10 == 0 else '1.50'}" for n in range(100)]
    raw = read(write(tmp_path, HEADER, *lines))
    assert len(raw) == 100
    result = validate(raw, now=END)
    assert (len(result.accepted), result.summary()) == (90, {"wrong_type": 10})
    with pytest.raises(TooManyRejectedRowsError, match="10 of 100 rows were rejected"):
        check_rejected_share(result, max_share=0.05)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.csv: no such file; check the data path"):
        read(tmp_path / "nothing.csv")


@pytest.mark.parametrize("name", ["data.csv", "data.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=rf"{name}: the file is empty \(0 bytes\)"):
        read(tmp_path / name)


def test_a_header_without_rows(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a header and no rows"):
        read(write(tmp_path, HEADER))


@pytest.mark.parametrize("share", [0.0005, 0.5, 0.99])
def test_a_truncated_parquet_file(handbook: Path, share: float) -> None:
    content = handbook.read_bytes()
    handbook.write_bytes(content[: max(4, int(len(content) * share))])
    with pytest.raises(SourceError, match="no complete Parquet file, perhaps cut off while copying"):
        read(handbook)


def test_a_parquet_file_with_damaged_pages(handbook: Path) -> None:
    content = bytearray(handbook.read_bytes())
    content[4:2000] = bytes(1996)
    handbook.write_bytes(content)
    with pytest.raises(SourceError, match="no complete Parquet file"):
        read(handbook)


def test_a_file_that_is_not_parquet_despite_its_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no complete Parquet file"):
        read(write(tmp_path, HEADER, LINE, name="data.parquet"))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("hint", ["", "sep=%s\n"])
def test_a_csv_with_another_delimiter(tmp_path: Path, delimiter: str, hint: str) -> None:
    lines = [line.replace(",", delimiter) for line in (HEADER, LINE)]
    row = read(write(tmp_path, hint.replace("%s", delimiter) + lines[0], lines[1])).iloc[0]
    assert (row["transaction_id"], row["amount"], row["file_row"]) == ("t1", 12.34, 3 if hint else 2)


@pytest.mark.parametrize("line", ["t2,2018-04-02 10:0", "t2,2018-04-02 10:00:00,c,m,1,234.50"])
def test_a_csv_with_lines_of_another_length(tmp_path: Path, line: str) -> None:
    with pytest.raises(SourceError, match=r"not that of the header's columns: 1\. .*cut off") as error:
        read(write(tmp_path, HEADER, LINE, line))
    assert "t2" not in str(error.value)


def test_a_csv_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(f"{HEADER}\n{LINE.replace('m1', 'Café')}\n".encode("latin-1"))
    assert read(path)["merchant_id"].tolist() == ["Café"]


def test_a_csv_whose_other_encoding_shows_only_behind_the_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    lines = [LINE.replace("t1", f"t{number}") for number in range(4_000)]
    content = "\n".join([HEADER, *lines, LINE.replace("t1", "last").replace("m1", "Café")])
    path.write_bytes(content.encode("latin-1"))
    assert len(content) > 1 << 17
    assert read(path)["merchant_id"].tolist()[-1] == "Café"


def test_a_csv_of_two_encodings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    utf8 = f"{HEADER}\n{LINE.replace('m1', 'Café')}\n".encode()
    path.write_bytes(utf8 + LINE.replace("t1", "t2").replace("m1", "Café").encode("latin-1"))
    with pytest.raises(SourceError, match="not UTF-8 text"):
        read(path)


def test_a_required_field_without_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, "id,event_time,customer_id,shop,amount", LINE)
    with pytest.raises(SourceError) as error:
        read(path)
    assert "no column found for transaction_id, merchant_id" in str(error.value)
    assert "The file's columns: id, event_time, customer_id, shop, amount." in str(error.value)
    example = (
        "transaction_id=YOUR_COLUMN,event_time=event_time,customer_id=customer_id,merchant_id=YOUR_COLUMN,amount=amount"
    )
    assert f'--columns "{example}"' in str(error.value)
    assert len(read(path, columns={"transaction_id": "id", "merchant_id": "shop"})) == 1


def test_two_columns_that_fit_one_field(tmp_path: Path) -> None:
    path = write(tmp_path, "transaction_id,event_time,cc_num,user_id,merchant_id,amount", LINE.replace("c1", "c1,u1"))
    with pytest.raises(
        SourceError, match=r"'customer_id' could be any of the columns cc_num, user_id: say which"
    ) as error:
        read(path)
    assert "customer_id=cc_num" in str(error.value)
    assert read(path, columns={"customer_id": "user_id"})["customer_id"].tolist() == ["u1"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"amount": "Betrag"}, r"no such column for amount=Betrag\. The file's columns: transaction_id, "),
        ({"price": "amount"}, r"unknown field price\. Required: transaction_id, .* optional: is_fraud, reported_at"),
        ({"customer_id": "merchant_id", "merchant_id": "merchant_id"}, "one column is given for two fields"),
        (
            {"event_time": "merchant_id", "merchant_id": "event_time"},
            r"'merchant_id' \(event_time\) holds no readable times; write them as 2026-01-31T13:45",
        ),
        (
            {"amount": "customer_id", "customer_id": "amount"},
            r"'customer_id' \(amount\) holds no plain numbers such as 12\.34",
        ),
    ],
)
def test_a_wrong_mapping(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(write(tmp_path, HEADER, LINE), columns=columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"event_time": "CUSTOMER_ID", "customer_id": "TX_FRAUD"},
            r"\(event_time\) holds int32, not times; write epoch",
        ),
        ({"amount": "TX_DATETIME", "event_time": "TX_DATETIME"}, "one column is given for two fields"),
        (
            {"customer_id": "TX_AMOUNT", "amount": "CUSTOMER_ID"},
            r"'TX_AMOUNT' \(customer_id\) holds double, which",
        ),
        ({"is_fraud": "TX_AMOUNT", "amount": "TX_FRAUD"}, r"'TX_AMOUNT' \(is_fraud\) has \d+ labels that are neither"),
    ],
)
def test_a_wrong_mapping_of_typed_columns(handbook: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(handbook, columns=columns)


def test_a_customer_column_mapped_to_the_transaction_id_shows_as_duplicates(handbook: Path) -> None:
    raw = read(handbook, columns={"transaction_id": "CUSTOMER_ID", "customer_id": "TRANSACTION_ID"})
    with pytest.raises(TooManyRejectedRowsError, match=r"duplicate_id - .*is the right column mapped"):
        check_rejected_share(validate(raw, now=END), max_share=0.05)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than one column named amount: rename one"):
        read(write(tmp_path, f"{HEADER},amount", f"{LINE},1"))


def test_times_with_and_without_offset_in_one_column(tmp_path: Path) -> None:
    values = ["2018-04-02T10:00:00Z", "2018-04-02 10:00:00", "2018-04-02T10:00:00+02:00", None]
    with pytest.raises(SourceError, match=r"mixes 2 times with a UTC offset and 1 without one: write all of them with"):
        read(with_column(tmp_path, "event_time", *values))


def test_epoch_numbers_are_refused_because_their_unit_is_a_guess(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds int64, not times; write epoch numbers as timestamps"):
        read(with_column(tmp_path, "event_time", 1_522_663_200, 1_522_663_201))


def test_times_that_are_all_in_the_future_or_long_ago(tmp_path: Path) -> None:
    values = [datetime(1971, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC), None]
    with pytest.raises(
        SourceError, match=r"no row has a usable time in 'event_time' .*before 1990-01-01, in the future"
    ):
        read(with_column(tmp_path, "event_time", *values))


# --- The mapping on the command line


def test_a_column_mapping_in_words() -> None:
    assert parse_columns("transaction_id=TX_ID, event_time = When it was ") == {
        "transaction_id": "TX_ID",
        "event_time": "When it was",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transaction_id", r"'transaction_id' is not of the form field=FILE_COLUMN\. Example: --columns"),
        ("amount=", "not of the form"),
        ("amount=A,amount=B", "'amount' is given twice"),
        ("TX_ID=transaction_id", r"unknown field TX_ID\. .* The field stands left of '='"),
    ],
)
def test_a_mapping_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        parse_columns(text)

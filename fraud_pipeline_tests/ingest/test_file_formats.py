"""Files of exports are read or refused, and no message shows a cell."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_pipeline.ingest.sources import FileSource, SourceError
from fraud_pipeline.ingest.validation import TooManyRejectedRowsError, check_rejected_share, validate

START, END = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-02-01", tz="UTC")
HEADER = "transaction_id,event_time,customer_id,merchant_id,amount"
ROWS = [f"t{n},2026-01-{n + 1:02d}T10:00:00Z,c{n % 3},m,{n + 1}.50" for n in range(20)]
CSV = "\n".join([HEADER, *ROWS]) + "\n"
FRAME = pd.read_csv(io.StringIO(CSV), dtype=str)


def raw(path: Path, **columns: str) -> pd.DataFrame:
    return FileSource(path, columns=columns or None).transactions(start=START, end=END)


def written(directory: Path, content: bytes | str, name: str = "data.csv") -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("__MACOSX/._data.csv", b"x")
        archive.writestr("data.csv", content)
    return target.getvalue()


def compressed(codec: str) -> Callable[[bytes], bytes]:
    return lambda content: pa.Codec(codec).compress(content, asbytes=True)


# --- What is read


@pytest.mark.parametrize("name", ["data.csv", "data.bin"])
@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zipped, compressed("zstd"), compressed("lz4")]
)
def test_a_compressed_file_is_known_by_its_content(tmp_path: Path, pack: Callable[[bytes], bytes], name: str) -> None:
    assert len(raw(written(tmp_path, pack(CSV.encode()), name))) == 20


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_line_ends_and_encodings(tmp_path: Path, ends: str, encoding: str) -> None:
    text = CSV.replace(",m,", ",Café,").replace("\n", ends)
    assert raw(written(tmp_path, text.encode(encoding)))["merchant_id"].tolist() == ["Café"] * 20


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    text = CSV.replace(".50", "#50").replace(",", ";").replace("#", ",")
    assert raw(written(tmp_path, text))["amount"].tolist() == [n + 1.5 for n in range(20)]


def test_repeated_headers_of_concatenated_files_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join([HEADER, *ROWS[:5], HEADER, *ROWS[5:]]))
    assert raw(path)["file_row"].tolist() == [*range(2, 7), *range(8, 23)]
    assert FileSource(path).notes == {"repeated header lines left out": 1}


def test_a_second_header_in_another_order_is_refused(tmp_path: Path) -> None:
    other = "transaction_id,event_time,merchant_id,customer_id,amount"
    with pytest.raises(SourceError, match="row 7 looks like a second header with another order of columns"):
        raw(written(tmp_path, "\n".join([HEADER, *ROWS[:5], other, *ROWS[5:]])))


@pytest.mark.parametrize("kind", ["csv", "parquet", "csv.gz"])
@pytest.mark.parametrize("given", ["", "*", "*/part-*"])
def test_directories_patterns_and_hive_layouts(tmp_path: Path, kind: str, given: str) -> None:
    for channel, part in FRAME.groupby(FRAME.index % 2):
        folder = tmp_path / "tx" / f"channel={'chip' if channel else '__HIVE_DEFAULT_PARTITION__'}"
        folder.mkdir(parents=True)
        columns = part if channel else part[part.columns[::-1]]  # the order of columns may differ
        if kind == "parquet":
            columns.to_parquet(folder / "part-0.snappy.parquet", index=False)
        else:
            columns.to_csv(folder / f"part-0.{kind}", index=False)
        (folder / "_SUCCESS").touch()
        (folder / ".part-0.crc").write_bytes(b"crc")
    rows = raw(tmp_path / "tx" / given).sort_values("transaction_id")
    assert sorted(rows["transaction_id"]) == sorted(FRAME["transaction_id"])
    assert rows["channel"].isna().sum() == 10
    assert set(rows["channel"].dropna()) == {"chip"}
    assert rows["file_part"].str.contains("part-0").all()


def test_parts_of_other_columns_or_types_are_named(tmp_path: Path) -> None:
    written(tmp_path, CSV, "a.csv")
    written(tmp_path, CSV.replace("customer_id", "user_id"), "b.csv")
    with pytest.raises(SourceError, match=r"b\.csv has other columns than a\.csv; they differ in customer_id"):
        raw(tmp_path)
    (tmp_path / "b.csv").unlink()
    FRAME.assign(event_time=pd.to_datetime(FRAME["event_time"])).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"'event_time' holds timestamp.* in c\.parquet and string in a\.csv"):
        raw(tmp_path)


def test_ids_are_the_same_in_parts_with_and_without_gaps(tmp_path: Path) -> None:
    """A gap makes pandas write floats: 17.0 in one part is 17 in the other."""
    FRAME.assign(customer_id=17).to_parquet(tmp_path / "a.parquet")
    FRAME.assign(customer_id=[17.0] * 19 + [float("nan")], transaction_id="x" + FRAME["transaction_id"]).to_parquet(
        tmp_path / "b.parquet"
    )
    assert set(raw(tmp_path)["customer_id"].dropna()) == {"17"}


def test_a_new_version_of_one_part_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, CSV, "a.csv")
    written(tmp_path, HEADER + "\nz,2026-01-05T10:00:00Z,c,m,1\n", "b.csv")
    before = raw(tmp_path).set_index("transaction_id")["amount"]
    written(tmp_path, HEADER + "\nz,2026-01-05T10:00:00Z,c,m,2\n", "b.csv")
    after = raw(tmp_path).set_index("transaction_id")["amount"]
    assert (before["z"], after["z"]) == (1.0, 2.0)
    assert after.drop("z").equals(before.drop("z"))


@pytest.mark.parametrize("path", ["ftp://bucket/tx.parquet", "file:///b/tx", "https://x.y/tx.csv", "hdfs://a/b"])
def test_other_urls_are_refused_in_one_sentence(path: str) -> None:
    with pytest.raises(ValueError, match=r"is a URL, and only files of this machine are read"):
        raw(Path(path))


@pytest.mark.parametrize(("name", "table_format"), [("metadata", "Iceberg"), (".hoodie", "Hudi")])
def test_a_table_of_another_format_is_no_directory_of_parts(tmp_path: Path, name: str, table_format: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=f"{table_format} table, whose files are not all of its present content"):
        raw(tmp_path)


# --- Ids that lost something


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["4.51E+15"] * 20, r"'customer_id' \(customer_id\): 20 of 20 values: the id was written as a rounded number"),
        ([f"{n}.25" for n in range(20)], "a number with decimals: map the right column"),
        ([str(4_512_340_000_000_000 + n * 7_919) for n in range(20)], None),
        ([f"{451234000000007 + n}0" for n in range(20)], "all 20 ids of more than 15 digits end in zeros"),
        (["0123", "123"] * 10, "1 of 1 ids that begin with zeros also occur without them"),
        ([4.5e18 + n for n in range(20)], "20 of 20 values: the id was written as a rounded number"),
        ([n + 0.25 for n in range(20)], "holds double, which is no text and no whole number"),
    ],
)
def test_a_column_of_ids_that_lost_digits_is_refused(tmp_path: Path, ids: list[object], message: str | None) -> None:
    path = tmp_path / "data.parquet"
    FRAME.assign(customer_id=pd.Series(ids)).to_parquet(path)
    if message is None:
        assert raw(path)["customer_id"].nunique() == 20
    else:
        with pytest.raises(SourceError, match=message):
            raw(path)


def test_decimals_of_a_database_are_whole_numbers(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(FRAME).drop_columns("customer_id")
    ids = (
        pa.array([45_123_400_000_079_190 + n for n in range(20)]).cast(pa.decimal128(38, 0)).cast(pa.decimal128(38, 3))
    )
    pq.write_table(table.append_column("customer_id", ids), tmp_path / "data.parquet")
    assert raw(tmp_path / "data.parquet")["customer_id"].iloc[0] == "45123400000079190"


def test_few_damaged_ids_reject_their_rows_by_name(tmp_path: Path) -> None:
    result = validate(raw(written(tmp_path, CSV.replace(",c1,m,5.50", ",4.51E+15,m,5.50"))), now=END)
    assert result.rejected[["field", "reason", "place"]].to_numpy().tolist() == [
        ["customer_id", "lost_digits", "row 6"]
    ]


# --- One bad cell never changes how others are read


def test_one_bad_cell_of_each_column_rejects_its_row_alone(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[3] = rows[3].replace("2026-01-04T10:00:00Z", "unknown")
    rows[7] = rows[7].replace("8.50", "n/k")
    rows[9] = rows[9].replace("Z", "")
    folder = tmp_path / "parts"
    folder.mkdir()
    written(folder, "\n".join([HEADER, *rows]), "a.csv")
    written(folder, CSV.replace("\nt", "\nu"), "b.csv")
    rejected = validate(raw(folder), now=END, fallback_time=START).rejected
    assert sorted(rejected[["field", "reason", "place"]].to_numpy().tolist()) == [
        ["amount", "wrong_type", "row 9 of a.csv"],
        ["event_time", "time_missing_or_unreadable", "row 11 of a.csv"],
        ["event_time", "time_missing_or_unreadable", "row 5 of a.csv"],
    ]


def test_the_common_cause_of_many_rejected_amounts_is_named(tmp_path: Path) -> None:
    amount = "5.125"
    lines = [
        line.replace(".50", ".00") if n % 3 else line.rpartition(",")[0] + "," + amount for n, line in enumerate(ROWS)
    ]
    result = validate(raw(written(tmp_path, "\n".join([HEADER, *lines]))), now=END)
    with pytest.raises(TooManyRejectedRowsError, match="have three decimals") as error:
        check_rejected_share(result, max_share=0.05)
    assert "(the first: row 2)" in str(error.value)


# --- No cell is ever shown

SECRETS = (
    "4111111111111111",
    "Erika",
    "Mustermann",
    "DE89370400440532013000",
    "170 1234567",
    "anna@example",
    "1741.99",
)
_ROW = "4111111111111111,Erika Mustermann,DE89370400440532013000,+49 170 1234567,anna@example.com,1741.99"
_TEXTS = {
    "headerless.csv": f"{_ROW}\n{_ROW}\n",
    "one-line.csv": _ROW,
    "names.csv": "Erika,Mustermann,online\nErika,Mustermann,chip\n",
    "names-above-numbers.csv": "Erika,Mustermann\n1741.99,17.5\n",
    "one-column.csv": "Erika Mustermann\n4111111111111111\n",
    "semicolons.csv": _ROW.replace(",", ";"),
    "tabs.tsv": _ROW.replace(",", "\t"),
    "lines.jsonl": '{"card": "4111111111111111", "holder": "Erika Mustermann", "amount": 1741.99}\n' * 2,
    "list.json": '[{"card":"4111111111111111","holder":"Erika Mustermann"},{"card":"4111111111111111"}]',
    "rows.xml": '<rows><row card="4111111111111111" holder="Erika, Mustermann"/></rows>',
    "dump.sql": "INSERT INTO tx VALUES ('4111111111111111','Erika','Mustermann',1741.99);",
    "fixed.txt": "4111111111111111  Erika Mustermann  1741.99 20260301, EUR",
    "quotes.csv": f'{HEADER}\n"t1,2026-01-05,4111111111111111,Erika Mustermann,1741.99',
    "long-lines.csv": f"{HEADER}\n{_ROW}\n",
    "mixed.csv": CSV + "t99,anna@example.com,4111111111111111,Erika Mustermann,1741.99x\n",
    "all-bad.csv": f"{HEADER}\n" + "t1,Erika,4111111111111111,Mustermann,anna@example.com\n" * 3,
    "labels.csv": f"{HEADER},is_fraud\nt1,2026-01-05,4111111111111111,m,1741.99,Erika\n",
    "two-headers.csv": CSV + "transaction_id,Erika,Mustermann,4111111111111111,1741.99\n",
}
_BINARY = {f"{name}.gz": gzip.compress(text.encode()) for name, text in _TEXTS.items()} | {
    "latin.csv": f"{HEADER}\nt1,2026-01-05,4111111111111111,Erika Mustermann Café,1741.99\n".encode()
    + "t2,2026-01-05,4111111111111111,Erika Müstermann,1741.99\n".encode("latin-1"),
    "utf16.csv": _ROW.encode("utf-16"),
    "binary.csv": b"\x00\x01" + _ROW.encode() + b"\x00",
    "cut.parquet": b"PAR1" + _ROW.encode(),
}


def floats_as_ids(directory: Path) -> Path:
    FRAME.assign(customer_id=[1741.99] * 20).to_parquet(directory / "floats.parquet")
    return directory / "floats.parquet"


@pytest.mark.parametrize("name", [*_TEXTS, *_BINARY, "floats.parquet"])
def test_no_message_and_no_chained_error_holds_a_cell(tmp_path: Path, name: str) -> None:
    content = _TEXTS.get(name) or _BINARY.get(name)
    path = written(tmp_path, content, name) if content else floats_as_ids(tmp_path)
    with pytest.raises(ValueError, match=r".") as caught:
        check_rejected_share(validate(raw(path), now=END), max_share=0.01)
    shown: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:  # as Dagster's log shows them
        shown.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not [secret for secret in SECRETS if secret in "\n".join(shown)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["headerless.csv", "lines.jsonl", "mixed.csv", "all-bad.csv"])
def test_the_command_shows_and_logs_no_cell(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, _TEXTS[name], name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FRAUD_")}
    command = [sys.executable, "-m", "fraud_pipeline.cli.main", "train", "--data-path", str(path), "--n-trials", "1"]
    result = subprocess.run(
        command, env=environment | {"FRAUD_HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    logs = [file.read_bytes() for file in (tmp_path / "home" / "dagster").rglob("*") if file.is_file()]
    shown = (result.stdout + result.stderr).encode() + b"".join(logs)
    assert not [secret for secret in SECRETS if secret.encode() in shown]


def test_column_names_are_shown_only_when_they_are_certain(tmp_path: Path) -> None:
    text = CSV.replace(HEADER, "Beleg,Wann,Kunde,Laden,Betrag")
    with pytest.raises(SourceError, match="The file's columns: Beleg, Wann, Kunde, Laden, Betrag"):
        raw(written(tmp_path, text))

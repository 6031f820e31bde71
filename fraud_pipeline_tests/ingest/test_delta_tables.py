"""A Delta table is a source: its present version, all of it, and nothing else."""

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from fraud_pipeline.ingest.inspection import inspect
from fraud_pipeline.ingest.sources import FileSource, SourceError
from fraud_pipeline_tests.support.bank_files import day_rows

START, END = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-02-01", tz="UTC")


def rows_of(path: Path) -> pd.DataFrame:
    """All rows of a source, by id; where a row stood is not a part of it."""
    frame = FileSource(path).transactions(start=START, end=END).drop(columns=["file_row", "file_part"], errors="ignore")
    return frame.sort_values("transaction_id", ignore_index=True)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three days, a file each."""
    for day in (1, 2, 3):
        write_deltalake(tmp_path / "bank", day_rows(day), mode="append")
    return tmp_path / "bank"


def test_rows_are_those_of_the_same_rows_as_parquet(table: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.concat_tables([day_rows(day) for day in (1, 2, 3)]), plain)
    pd.testing.assert_frame_equal(rows_of(table), rows_of(plain))
    assert inspect(table).declaration == inspect(plain).declaration
    reports = FileSource(table, label_delay=timedelta(days=2)).reports(start=START, end=END)
    assert len(reports) == 3
    pd.testing.assert_frame_equal(
        reports, FileSource(plain, label_delay=timedelta(days=2)).reports(start=START, end=END)
    )


def test_only_rows_of_the_present_version_count(table: Path) -> None:
    DeltaTable(table).delete("transaction_id = 't2-4'")
    assert len(rows_of(table)) == 3 * 20 - 1
    write_deltalake(table, day_rows(5), mode="overwrite")
    assert FileSource(table).first_day == date(2026, 1, 5)
    assert len(list(table.glob("*.parquet"))) > 1, "files of former versions are still there"


def test_another_version_changes_the_versions_of_its_days_only(table: Path) -> None:
    before = FileSource(table).day_versions(start=START, end=END)
    late = day_rows(2).slice(0, 1).set_column(0, "transaction_id", pa.array(["late"]))
    write_deltalake(table, late, mode="append")
    after = FileSource(table).day_versions(start=START, end=END)
    changed = [day for day in after if after[day].transactions != before[day].transactions]
    assert changed == [date(2026, 1, 2)]
    DeltaTable(table).optimize.compact()
    assert FileSource(table).day_versions(start=START, end=END) == after, "compaction changes no row"


def test_partition_columns_and_columns_that_came_later_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    first = day_rows(1)
    write_deltalake(path, first.append_column("channel", pa.array(["online"] * len(first))), partition_by=["channel"])
    second = day_rows(2).append_column("channel", pa.array(["chip"] * 19 + [None]))
    second = second.append_column("country", pa.array(["DE"] * 20))
    write_deltalake(path, second, mode="append", schema_mode="merge")
    rows = rows_of(path).set_index("transaction_id")
    assert rows["channel"].value_counts(dropna=False).to_dict() == {"online": 20, "chip": 19, None: 1}
    assert rows["country"].isna().tolist() == [True] * 20 + [False] * 20
    assert rows["amount"].notna().all()


def test_a_table_without_rows_says_so(table: Path) -> None:
    DeltaTable(table).delete()
    with pytest.raises(SourceError, match="has no rows in its present version: write some"):
        FileSource(table).day_versions(start=START, end=END)


def test_files_that_are_not_their_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    write_deltalake(path, day_rows(1), configuration={"delta.enableDeletionVectors": "true"})
    with pytest.raises(SourceError, match="uses deletionVectors, so .*: rewrite it without"):
        rows_of(path)


def test_a_damaged_log_says_so(table: Path) -> None:
    for log in (table / "_delta_log").glob("*.json"):
        log.write_text("{")
    with pytest.raises(SourceError, match="log of this Delta table cannot be read"):
        rows_of(table)


@pytest.mark.parametrize("name", ["", "*", "bank/*.parquet", "*/*"])
def test_a_table_among_other_files_is_refused(table: Path, name: str) -> None:
    """Its directory holds files of former versions."""
    pq.write_table(day_rows(9), table.parent / "other.parquet")
    with pytest.raises(SourceError, match="bank: this is a Delta Lake table, .* name it and nothing else"):
        rows_of(table.parent / name)

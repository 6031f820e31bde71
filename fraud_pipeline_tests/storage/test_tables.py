"""Tables survive round trips, re-runs and kills: a day is there complete, or not there."""

import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.schema.transactions import TIME_DTYPE, TRANSACTIONS, empty
from fraud_pipeline.storage.delta_log import snapshot, vacuum
from fraud_pipeline.storage.tables import MissingDaysError, TableStore

FIRST = date(2026, 3, 1)


def days(n: int) -> list[date]:
    return [FIRST + timedelta(days=offset) for offset in range(n)]


def rows(*hours: float) -> pd.DataFrame:
    start = pd.Timestamp(FIRST, tz="UTC")
    return pd.DataFrame(
        {
            "transaction_id": [f"t{number}" for number in range(len(hours))],
            "event_time": pd.Series([start + pd.Timedelta(hours=hour) for hour in hours], dtype=TIME_DTYPE),
            "category": pd.Series([None if number % 2 else "food" for number in range(len(hours))], dtype=object),
            "score": np.arange(len(hours), dtype=np.float32),
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path)


def test_rows_come_back_as_they_were(store: TableStore) -> None:
    frame = rows(0, 1, 23.99, 24, 71.5)
    store.write_days("events", frame, time_column="event_time", days=days(3))
    pd.testing.assert_frame_equal(store.read("events", FIRST, days(3)[-1]), frame)
    assert store.read("events", FIRST, FIRST)["transaction_id"].tolist() == ["t0", "t1", "t2"]


def test_columns_that_were_asked_for_come_alone(store: TableStore) -> None:
    store.write_days("events", rows(1, 25), time_column="event_time", days=days(2))
    read = store.read("events", FIRST, days(2)[-1], columns=["category"])
    pd.testing.assert_frame_equal(read, rows(1, 25)[["category"]])


def test_rows_of_any_order_land_on_their_utc_day_in_their_order(store: TableStore) -> None:
    store.write_days("events", rows(30, 2, 26, 1), time_column="event_time", days=days(2))
    assert store.read("events", FIRST, days(2)[-1])["transaction_id"].tolist() == ["t1", "t3", "t0", "t2"]


def test_an_empty_day_is_there_and_a_day_never_written_is_not(store: TableStore) -> None:
    store.write_days("events", rows(1), time_column="event_time", days=days(2))
    assert store.days("events") == days(2)
    assert store.days("never") == []
    with pytest.raises(MissingDaysError, match=r"'events' lacks 2 .*2026-03-03, 2026-03-04.*materialize"):
        store.read("events", FIRST, days(4)[-1])
    assert len(store.read("events", FIRST, days(4)[-1], allow_missing=True)) == 1


def test_dtypes_hold_when_every_day_is_empty(store: TableStore) -> None:
    store.write_days("events", rows(1).iloc[:0], time_column="event_time", days=days(2))
    pd.testing.assert_series_equal(store.read("events", FIRST, days(2)[-1]).dtypes, rows(1).dtypes)


def test_empty_days_of_another_type_do_not_change_the_others(store: TableStore) -> None:
    store.write_days("events", pd.DataFrame(columns=["event_time", "score"]), time_column="event_time", days=days(1))
    store.write_days("events", rows(25), time_column="event_time", days=days(2)[1:])
    pd.testing.assert_frame_equal(store.read("events", FIRST, days(2)[-1]), rows(25))


def test_no_day_at_all_gives_the_empty_table_of_the_schema(store: TableStore) -> None:
    read = store.read("transactions", FIRST, FIRST, schema=TRANSACTIONS, allow_missing=True)
    pd.testing.assert_frame_equal(read, empty(TRANSACTIONS))
    with pytest.raises(MissingDaysError, match="2026-03-01"):
        store.read("transactions", FIRST, FIRST, allow_missing=True)


def test_writing_again_replaces_only_the_days_written(store: TableStore) -> None:
    store.write_days("events", rows(1, 25, 49), time_column="event_time", days=days(3))
    store.write_days("events", rows(26, 27), time_column="event_time", days=[days(2)[1]])
    hours = store.read("events", FIRST, days(3)[-1])["event_time"].dt.hour.tolist()
    assert hours == [1, 2, 3, 1]


@pytest.mark.parametrize(
    "bad_time", [pd.NaT, pd.Timestamp("2026-02-28 23:59:59", tz="UTC"), pd.Timestamp("2026-03-03", tz="UTC")]
)
def test_a_row_without_a_place_is_refused_or_misplaced(store: TableStore, bad_time: pd.Timestamp) -> None:
    frame = rows(1, 25)
    frame.loc[0, "event_time"] = bad_time
    with pytest.raises(ValueError, match=r"1 of 2 rows have a missing 'event_time' or one outside the 2 days"):
        store.write_days("raw", frame, time_column="event_time", days=days(2))
    assert store.days("raw") == []
    store.write_days("raw", frame, time_column="event_time", days=days(2), misplaced_day=days(2)[1])
    assert len(store.read("raw", FIRST, FIRST)) == 0
    pd.testing.assert_frame_equal(store.read("raw", days(2)[1], days(2)[1]), frame)


def test_a_time_column_must_be_aware(store: TableStore) -> None:
    frame = rows(1).assign(event_time="2026-03-01")
    with pytest.raises(TypeError, match="'event_time' has dtype object, not a time with a timezone"):
        store.write_days("events", frame, time_column="event_time", days=days(1))


def test_object_columns_are_text(store: TableStore) -> None:
    """Raw tables hold what sources gave; the type of a cell may differ by row and by day."""
    loose = rows(1, 2, 3, 4).assign(amount=pd.Series([12, "x\ud800", None, 2.5], dtype=object))
    store.write_days("raw", loose, time_column="event_time", days=days(1))
    store.write_days("raw", rows(25).assign(amount=12.5), time_column="event_time", days=days(2)[1:])
    assert store.read("raw", FIRST, FIRST)["amount"].tolist() == ["12", "x\\ud800", None, "2.5"]
    assert store.read("raw", FIRST, days(2)[-1])["amount"].tolist() == ["12", "x\\ud800", None, "2.5", "12.5"]


def test_a_column_that_some_days_lack_is_missing_there(store: TableStore) -> None:
    store.write_days("raw", rows(1), time_column="event_time", days=days(1))
    store.write_days("raw", rows(25).assign(country="DE"), time_column="event_time", days=days(2)[1:])
    assert store.read("raw", FIRST, days(2)[-1])["country"].tolist() == [None, "DE"]


def test_times_far_away_come_back(store: TableStore) -> None:
    far = pd.Series(np.array(["20000-01-01", "NaT"], "datetime64[us]")).dt.tz_localize("UTC")
    store.write_days("raw", rows(1, 2).assign(expires=far), time_column="event_time", days=days(1))
    assert store.read("raw", FIRST, FIRST)["expires"].equals(far)


def test_whole_tables_come_back_and_have_a_fingerprint_of_their_content(store: TableStore) -> None:
    frame = rows(1, 30).assign(part=pd.Categorical(["train", "test"]))
    store.write("set", frame)
    pd.testing.assert_frame_equal(store.read_whole("set"), frame)
    first = store.fingerprint_whole("set")
    store.write("set", frame)
    assert store.fingerprint_whole("set") == first
    store.write("set", frame.assign(score=np.float32(9)))
    assert store.fingerprint_whole("set") != first
    assert len(first) == 64
    with pytest.raises(FileNotFoundError, match="'other' was never written: materialize"):
        store.read_whole("other")


class TestVersions:
    """A day's version changes exactly when its rows do."""

    def test_equal_rows_have_one_version_however_they_were_written(self, store: TableStore, tmp_path: Path) -> None:
        frame = rows(1, 2, 25, 26)
        store.write_days("events", frame, time_column="event_time", days=days(2))
        before = store.versions("events", FIRST, days(3)[-1])
        assert list(before) == days(2)
        # Each day alone, at another time, and as another writer lays out a file.
        for day in days(2):
            alone = store.read("events", day, day)
            store.write_days("events", alone, time_column="event_time", days=[day], notes={day: "written again"})
        assert store.versions("events", FIRST, days(2)[-1]) == before
        written_elsewhere = TableStore(tmp_path / "elsewhere")
        write_as_earlier_releases(written_elsewhere, store, row_group_size=1, compression="none", use_dictionary=False)
        assert written_elsewhere.versions("events", FIRST, days(2)[-1]) == before

    @given(
        column=st.sampled_from(["transaction_id", "category", "score", "event_time"]),
        row=st.integers(0, 3),
        other=st.integers(1, 3),
    )
    def test_another_value_or_another_order_is_another_version(self, column: str, row: int, other: int) -> None:
        frame = rows(1, 2, 3, 4)
        changed = frame.copy()
        values = {"transaction_id": "t", "category": "", "score": np.nan, "event_time": frame["event_time"][0]}
        changed.loc[row, column] = values[column] if (column, row) != ("event_time", 0) else frame["event_time"][1]
        moved = frame.iloc[np.roll(np.arange(4), other)]
        with tempfile.TemporaryDirectory() as directory:
            store = TableStore(Path(directory))
            versions = set()
            for version in (frame, changed, moved):
                store.write_days("events", version, time_column="event_time", days=days(1))
                versions.add(store.version("events", FIRST))
        assert len(versions) == 3

    def test_text_does_not_flow_from_one_row_into_the_next(self, store: TableStore) -> None:
        versions = set()
        for texts in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None]):
            frame = rows(1, 2).assign(category=pd.Series(texts, dtype=object))
            store.write_days("events", frame, time_column="event_time", days=days(1))
            versions.add(store.version("events", FIRST))
        assert len(versions) == 4

    def test_empty_days_are_equal_and_a_day_never_written_has_no_version(self, store: TableStore) -> None:
        store.write_days("events", rows(1).iloc[:0], time_column="event_time", days=days(2))
        assert len(set(store.versions("events", FIRST, days(2)[-1]).values())) == 1
        with pytest.raises(MissingDaysError, match="2026-03-03"):
            store.version("events", days(3)[-1])

    def test_a_note_is_replaced_with_its_rows(self, store: TableStore) -> None:
        store.write_days("events", rows(1, 25), time_column="event_time", days=days(2), notes={FIRST: "first"})
        assert [store.note("events", day) for day in days(2)] == ["first", None]
        store.write_days("events", rows(1), time_column="event_time", days=days(1))
        assert store.note("events", FIRST) is None


def test_a_failed_write_leaves_the_old_table_and_no_leftover(store: TableStore, tmp_path: Path) -> None:
    store.write("set", rows(1))
    with pytest.raises(ValueError, match="outside"):
        store.write_days("set", rows(999), time_column="event_time", days=days(1))
    assert len(store.read_whole("set")) == 1
    assert [path.name for path in tmp_path.rglob(".*")] == []


WRITER = """
import sys
from datetime import date, timedelta
from pathlib import Path
import numpy as np, pandas as pd
from fraud_pipeline.storage.tables import TableStore

days = [date(2026, 3, 1) + timedelta(days=n) for n in range(5)]
n = 50_000
times = pd.Series(pd.date_range("2026-03-01", periods=n, freq="8s", tz="UTC")).astype("datetime64[us, UTC]")
store = TableStore(Path(sys.argv[1]))
for version in range(10_000):
    frame = pd.DataFrame({"event_time": times, "version": version, "noise": np.random.default_rng(version).random(n)})
    store.write_days("events", frame, time_column="event_time", days=days)
    store.write("whole", frame)
    print(version, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_complete_files_only(store: TableStore, tmp_path: Path) -> None:
    delays = [0.003, 0.011, 0.02, 0.033, 0.05]
    for delay in delays:
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # one round is complete; the kill falls into a later one
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        read = store.read("events", FIRST, days(5)[-1])
        assert len(read) == 50_000
        by_day = read.groupby(read["event_time"].dt.date)["version"].nunique()
        assert by_day.tolist() == [1] * 5
        assert store.read_whole("whole")["version"].unique().size == 1


def test_what_a_killed_writer_left_is_no_row_and_is_removed(store: TableStore, tmp_path: Path) -> None:
    store.write_days("events", rows(1), time_column="event_time", days=days(1))
    leftover = tmp_path / "events" / "table_day=2026-03-01" / "half.parquet"
    leftover.write_bytes(b"PAR1 half a file")
    assert len(store.read("events", FIRST, FIRST)) == 1
    vacuum(tmp_path / "events", keep=timedelta(0))
    assert not leftover.exists()
    assert len(store.read("events", FIRST, FIRST)) == 1


def test_files_of_replaced_versions_do_not_pile_up(tmp_path: Path) -> None:
    store = TableStore(tmp_path, keep_versions=timedelta(0))
    for _ in range(30):
        store.write_days("events", rows(1, 25), time_column="event_time", days=days(2))
    assert len(list((tmp_path / "events").rglob("*.parquet"))) < 20
    assert len(store.read("events", FIRST, days(2)[-1])) == 2


def test_replaced_rows_can_be_removed_at_once(store: TableStore, tmp_path: Path) -> None:
    store.write_days("events", rows(1, 25), time_column="event_time", days=days(2))
    store.write_days("events", rows(2), time_column="event_time", days=days(1))
    assert store.remove_replaced("events") == 1
    assert len(list((tmp_path / "events").rglob("*.parquet"))) == 2
    assert len(store.read("events", FIRST, days(2)[-1])) == 2
    assert store.remove_replaced("never") == 0


class TestOtherTools:
    """A table is a Delta table that others read without this package."""

    def test_polars_and_duckdb_read_the_present_rows(self, store: TableStore, tmp_path: Path) -> None:
        store.write_days("events", rows(1, 25, 26), time_column="event_time", days=days(3))
        store.write_days("events", rows(30).assign(country="DE"), time_column="event_time", days=[days(2)[1]])
        expected = [("t0", FIRST), ("t0", days(2)[1])]
        read = pl.read_delta(str(tmp_path / "events")).sort("table_day")
        assert list(zip(read["transaction_id"], read["table_day"], strict=True)) == expected
        assert read["country"].to_list() == [None, "DE"]
        files = DeltaTable(str(tmp_path / "events")).file_uris()
        query = "SELECT transaction_id, table_day FROM read_parquet(?, hive_partitioning=true) ORDER BY 2"
        assert duckdb.execute(query, [files]).fetchall() == expected

    def test_an_earlier_version_of_a_whole_table_is_kept(self, store: TableStore) -> None:
        for number in range(3):
            store.write("set", rows(1).assign(score=float(number)))
        assert store.table_version("set") == 2
        assert [store.read_whole("set", version=version)["score"].item() for version in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="version 9 is not kept: versions are numbered up to 2"):
            store.read_whole("set", version=9)


class TestEarlierReleases:
    """Plain files of earlier releases become Delta tables as they are."""

    def test_their_days_and_whole_tables_are_taken_over(self, store: TableStore, tmp_path: Path) -> None:
        store.write_days("events", rows(1, 25), time_column="event_time", days=days(3), notes={FIRST: "first"})
        store.write("set", rows(1))
        before = TableStore(tmp_path / "before")
        write_as_earlier_releases(before, store)
        assert before.days("events") == days(3)
        assert before.note("events", FIRST) == "first"
        pd.testing.assert_frame_equal(before.read("events", FIRST, days(3)[-1]), rows(1, 25))
        pd.testing.assert_frame_equal(before.read_whole("set"), rows(1))
        assert before.fingerprint_whole("set") == store.fingerprint_whole("set")
        before.write_days("events", rows(2), time_column="event_time", days=days(1))
        assert len(before.read("events", FIRST, days(3)[-1])) == 2
        assert list((tmp_path / "before").glob("*.parquet")) == []
        assert list((tmp_path / "before" / "events").glob("*.parquet")) == []

    def test_two_processes_may_take_them_over_at_once(self, store: TableStore, tmp_path: Path) -> None:
        store.write_days("events", rows(1, 25), time_column="event_time", days=days(2))
        before = TableStore(tmp_path / "before")
        write_as_earlier_releases(before, store)
        with ThreadPoolExecutor(4) as pool:
            stored = list(pool.map(lambda _: TableStore(before.root).days("events"), range(4)))
        assert stored == [days(2)] * 4


def write_as_earlier_releases(to: TableStore, store: TableStore, **layout: Any) -> None:
    """Write the tables of a store as plain files; with a `layout`, without what our writer puts in their footers."""
    assert isinstance(to.root, Path)
    for name in ("events", "set"):
        present = snapshot(store.root / name)  # type: ignore[operator]  # a path in these tests
        if present is None:
            continue
        for day, file in present.files.items():
            path = to.root / name / f"{day}.parquet" if day else to.root / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            written = pq.ParquetFile(store.root / name / file).read()  # type: ignore[operator]
            if layout:
                written = written.replace_schema_metadata(None)
                pq.write_table(written, path, **layout)
            else:
                path.write_bytes((store.root / name / file).read_bytes())  # type: ignore[operator]


def test_two_writers_at_once_do_not_remove_each_others_work(tmp_path: Path) -> None:
    """A file being written is locked, so another writer's tidying leaves it alone."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(8):
            assert writer.stdout.readline().strip().isdigit(), writer.communicate()[1].decode()
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert len(TableStore(tmp_path).read("events", FIRST, days(5)[-1])) == 50_000

"""Tables in an object store are those of this machine, on a real S3 server."""

from dataclasses import replace
from datetime import date
from threading import Barrier, Thread

import pandas as pd
import pytest

from fraud_pipeline.host.data_location import DataUrl, data_location
from fraud_pipeline.schema.transactions import TIME_DTYPE
from fraud_pipeline.storage.delta_log import ConcurrentWriteError
from fraud_pipeline.storage.object_store import ObjectStoreError
from fraud_pipeline.storage.table_files import directories_below
from fraud_pipeline.storage.tables import TableStore

pytestmark = [pytest.mark.slow, pytest.mark.servers]

DAYS = [date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]


def day_rows(*days: date, note: str = "") -> pd.DataFrame:
    times = pd.Series([pd.Timestamp(day, tz="UTC") for day in days], dtype=TIME_DTYPE)
    return pd.DataFrame({"event_time": times, "note": pd.Series([note] * len(days), dtype=object)})


@pytest.fixture
def store(bucket: str) -> TableStore:
    return TableStore(data_location(f"{bucket}/tables"))


def test_rows_days_notes_and_versions_are_those_of_a_local_table(
    store: TableStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    local = TableStore(tmp_path_factory.mktemp("local"))
    for tables in (store, local):
        tables.write_days("events", day_rows(*DAYS[:2]), time_column="event_time", days=DAYS, notes={DAYS[0]: "first"})
        tables.write("set", day_rows(*DAYS))
        tables.write_days("events", day_rows(DAYS[1], note="again"), time_column="event_time", days=DAYS[1:2])
    assert store.days("events") == DAYS
    assert store.note("events", DAYS[0]) == "first"
    assert store.versions("events", DAYS[0], DAYS[2]) == local.versions("events", DAYS[0], DAYS[2])
    assert store.fingerprint_whole("set") == local.fingerprint_whole("set")
    pd.testing.assert_frame_equal(store.read("events", DAYS[0], DAYS[2]), local.read("events", DAYS[0], DAYS[2]))
    pd.testing.assert_frame_equal(store.read_whole("set"), local.read_whole("set"))


def test_two_writers_of_other_days_lose_nothing(store: TableStore) -> None:
    store.write_days("events", day_rows(), time_column="event_time", days=DAYS[:1])
    together = Barrier(2)

    def write(day: date) -> None:
        together.wait()
        store.write_days("events", day_rows(day), time_column="event_time", days=[day])

    writers = [Thread(target=write, args=(day,)) for day in DAYS[1:]]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store.read("events", DAYS[0], DAYS[2])) == 2


def test_rows_that_depend_on_stored_ones_are_refused_after_a_change(store: TableStore) -> None:
    with store.locked("events") as held:
        held.write_days("events", day_rows(DAYS[0]), time_column="event_time", days=DAYS[:1])
    with store.locked("events") as held:
        store.write_days("events", day_rows(DAYS[1]), time_column="event_time", days=DAYS[1:2])
        with pytest.raises(ConcurrentWriteError, match="another run changed this table.*run it again"):
            held.write_days("events", day_rows(DAYS[2]), time_column="event_time", days=DAYS[2:])
    assert store.days("events") == DAYS[:2]


def test_the_tables_of_every_source_are_found(store: TableStore) -> None:
    store.write("set", day_rows(DAYS[0]))
    assert isinstance(store.root, DataUrl)
    above = replace(store.root, key="")
    assert directories_below(above) == [store.root]
    assert directories_below(replace(store.root, key="nothing")) == []


def test_a_bucket_that_is_not_there_is_named(store: TableStore) -> None:
    assert isinstance(store.root, DataUrl)
    elsewhere = replace(store, root=replace(store.root, bucket="nobody-has-this"))
    with pytest.raises(ObjectStoreError, match="there is no bucket named nobody-has-this"):
        elsewhere.write_days("events", day_rows(DAYS[0]), time_column="event_time", days=DAYS[:1])

"""Materializations of many days are written together, and Dagster sees them as if they had come one by one."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fraud_pipeline.defs.calendar import RANGE_END_TAG, RANGE_START_TAG
from fraud_pipeline.defs.event_batches import _OF_ASSETS, BATCH_VARIABLE, write_in_batches

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-01-11", timezone="UTC")
FIRST, LAST = "2026-01-02", "2026-01-08"


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def days() -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(metadata={"dagster/row_count": 7}, data_version=dg.DataVersion("v7"))


def seen(directory: Path, monkeypatch: pytest.MonkeyPatch, *, batch_size: int) -> tuple[list[Any], set[str], int]:
    """What Dagster knows after a run of a week: its events, the days that are there, and transactions of the log."""
    directory.mkdir()
    monkeypatch.setenv(BATCH_VARIABLE, str(batch_size))
    tags = {RANGE_START_TAG: FIRST, RANGE_END_TAG: LAST}
    with dg.DagsterInstance.local_temp(str(directory)) as instance:
        if batch_size:
            write_in_batches(instance)
        single: list[Any] = []
        store_event = instance.event_log_storage.store_event

        def counted(event: Any) -> None:
            single.append(event)
            store_event(event)

        monkeypatch.setattr(instance.event_log_storage, "store_event", counted)
        heard: list[Any] = []
        job = dg.Definitions(assets=[days], jobs=[dg.define_asset_job("job", [days])]).resolve_job_def("job")
        instance.add_event_listener("6f5f3e4e-0000-4000-8000-000000000000", heard.append)
        assert job.execute_in_process(
            instance=instance, tags=tags, run_id="6f5f3e4e-0000-4000-8000-000000000000"
        ).success
        records = instance.fetch_materializations(days.key, limit=100, ascending=True).records
        of_run = instance.all_logs(
            "6f5f3e4e-0000-4000-8000-000000000000", of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        assert [entry.dagster_event.partition for entry in of_run if entry.dagster_event] == [
            r.partition_key for r in records
        ]
        latest = instance.get_latest_materialization_event(days.key)
        assert latest is not None
        assert latest.asset_materialization is not None
        assert sum(entry.dagster_event_type is dg.DagsterEventType.ASSET_MATERIALIZATION for entry in heard) == len(
            records
        )
        materialized = instance.get_materialized_partitions(days.key)
        events = [
            (r.partition_key, r.asset_materialization.metadata, r.asset_materialization.tags)
            for r in records
            if r.asset_materialization
        ]
        kinds = [event.dagster_event_type for event in single]
        return events, materialized, sum(kind in _OF_ASSETS for kind in kinds)


def test_a_week_in_one_write_is_a_week_in_seven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = seen(tmp_path / "single", monkeypatch, batch_size=0)
    together = seen(tmp_path / "batch", monkeypatch, batch_size=5)
    assert len(together[0]) == len(together[1]) == 7
    assert together[:2] == one_by_one[:2]
    assert one_by_one[2] >= 7
    assert together[2] == 0

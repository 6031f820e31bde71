"""A database of decisions records the source of its history and refuses other sources."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.database import Database, StoredDecision, scoring_batch
from fraud_pipeline.database.history import read_transactions
from fraud_pipeline.database.history_source import (
    HistorySource,
    OtherSourceError,
    claim_history,
    read_history_source,
)
from fraud_pipeline.database.source import DatabaseSource
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.reports import deployment_in
from fraud_pipeline_tests.support.small_world import Tables

# Warnings of MLflow and its dependencies about themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SYNTHETIC = HistorySource("synthetic-7-0.5", "synthetic world")
BANK = HistorySource("file-a", "file bank.csv")
OTHER_BANK = HistorySource("file-b", "file other.csv")
SERVED = HistorySource("served", "served transactions")
START, END = pd.Timestamp("2025-01-01", tz="UTC"), pd.Timestamp("2027-01-01", tz="UTC")


def serve_one(database: Database) -> None:
    nothing = np.zeros(len(FEATURE_NAMES), np.float32).tobytes()
    with scoring_batch(database) as batch:
        batch.add_decisions(
            [StoredDecision("t-1", 1, "allow", None, "rules", "rules", "", "[]", None, None, nothing, 1, 1, 1)]
        )


class TestClaim:
    @pytest.mark.parametrize("source", [SYNTHETIC, BANK, SERVED])
    def test_an_empty_database_accepts_any_source_and_the_same_one_again(
        self, database: Database, source: HistorySource
    ) -> None:
        assert read_history_source(database) is None
        for _ in range(2):
            claim_history(database, source)
        assert read_history_source(database) == source

    @pytest.mark.parametrize(
        ("stored", "new"),
        [(SYNTHETIC, BANK), (BANK, SYNTHETIC), (BANK, OTHER_BANK), (SYNTHETIC, SERVED), (SERVED, SYNTHETIC)],
    )
    def test_another_source_is_refused_with_a_remedy_unless_a_person_says_so(
        self, database: Database, stored: HistorySource, new: HistorySource
    ) -> None:
        claim_history(database, stored)
        with pytest.raises(OtherSourceError, match=r"FRAUD_DATABASE_URL.*train --accept-other-source") as refusal:
            claim_history(database, new)
        assert stored.source in str(refusal.value)
        assert new.source in str(refusal.value)
        assert read_history_source(database) == stored
        claim_history(database, new, accept_other=True)
        assert read_history_source(database) == new

    @pytest.mark.parametrize("order", [(BANK, SERVED), (SERVED, BANK)])
    def test_served_rows_are_combined_with_the_bank_s_own_file(
        self, database: Database, order: tuple[HistorySource, HistorySource]
    ) -> None:
        for source in order:
            claim_history(database, source)
        assert read_history_source(database) == BANK

    def test_the_synthetic_world_is_not_combined_with_served_transactions(self, database: Database) -> None:
        serve_one(database)
        with pytest.raises(OtherSourceError, match="holds decisions on transactions that were served"):
            claim_history(database, SYNTHETIC)
        assert read_history_source(database) is None
        claim_history(database, BANK)
        claim_history(database, SERVED)

    def test_served_days_are_not_read_from_a_database_with_synthetic_history(self, database_url: str) -> None:
        database = Database(database_url)
        database.upgrade()
        claim_history(database, SYNTHETIC)
        database.close()
        now = pd.Timestamp.now(tz="UTC").floor("D")
        days = {"start": now - pd.Timedelta(days=2), "end": now}
        retention = timedelta(days=30)
        with pytest.raises(OtherSourceError, match="FRAUD_SYNTHETIC=true"):
            DatabaseSource(database_url, retention=retention).transactions(**days)
        assert DatabaseSource(database_url, retention=retention, source=SYNTHETIC).transactions(**days).empty


class TestOnlineHistory:
    """The asset, on one database that is shared by the settings of two sources."""

    def load(self, settings: Settings, instance: dg.DagsterInstance, *, accept: bool = False) -> bool:
        job = build_defs(settings).resolve_job_def("online_history_job")
        config = {"ops": {"online_history": {"config": {"accept_other_source": accept}}}}
        return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False).success

    @pytest.mark.slow
    def test_another_source_s_days_do_not_reach_a_database_unless_a_person_says_so(
        self, tmp_path: Path, tables: Tables, trained: TrainedModel, database_url: str
    ) -> None:
        shared: dict[str, Any] = {"database_url": database_url, "history_retention": timedelta(days=10_000)}
        bank, world = (
            deployment_in(tmp_path / name, tables, trained.model, **shared, **source).settings
            for name, source in (("bank", {"data_path": tmp_path / "bank.csv"}), ("world", {"synthetic": True}))
        )
        with closing(Database(database_url)) as database, dg.DagsterInstance.ephemeral() as instance:
            database.upgrade()
            assert self.load(bank, instance)
            before = read_transactions(database, start=START, end=END)
            assert not self.load(world, instance)
            pd.testing.assert_frame_equal(read_transactions(database, start=START, end=END), before)
            assert self.load(world, instance, accept=True)

    def test_without_a_source_merchants_days_are_made_from_served_rows(self, tmp_path: Path, database_url: str) -> None:
        settings = Settings(home=tmp_path, database_url=database_url)
        with closing(Database(database_url)) as database, dg.DagsterInstance.ephemeral() as instance:
            database.upgrade()
            assert self.load(settings, instance)
            assert read_history_source(database) is None

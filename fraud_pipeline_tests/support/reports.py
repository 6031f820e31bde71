"""Daily reports of a champion over the small world.

Belongs here: a home directory with the small world's tables, its reports, the ticks of its automation, figures of
made-up models. Must not be here: assertions about reports.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
from mlflow.tracking import MlflowClient

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import read_performance
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.modeling.evaluation import Evaluation, Interval, evaluate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.policy.decisions import CostModel, Policy
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.registries import prepare_registry
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables

LAST_DAY: Final = date(2026, 2, 9)
NOTHING_SERVED: Final = pd.DataFrame({"transaction_id": [], "decision": [], "probability": []}, dtype=object)
TRAINING_ASSETS: Final = {"training_set", "fraud_model", "evaluation", "registered_model", "online_history", "champion"}


@dataclass(frozen=True)
class Deployment:
    """A home whose tables hold the small world."""

    settings: Settings
    model: FraudModel

    @property
    def registry(self) -> Registry:
        resource: Any = build_resources(self.settings)["registry"]
        registry: Registry = resource.registry()
        return registry

    def promote(self, evaluation: Evaluation | None) -> None:
        """Make the model champion; `evaluation` is stored with its training run."""
        client = MlflowClient(tracking_uri=self.settings.tracking_uri)
        run = client.create_run(self.registry.ensure_experiment("training")).info.run_id
        if evaluation:
            client.log_dict(run, evaluation.to_dict(), "evaluation.json")
        self.model.save(self.settings.home / "model")
        version = self.registry.register(self.settings.home / "model", run_id=run, tags={}).version
        self.registry.install_champion(
            version, action="promote", reasons=["better"], directory=self.settings.champion_directory
        )

    def report(
        self,
        first: date,
        last: date | None = None,
        *,
        asset: str = "performance_report",
        instance: dg.DagsterInstance | None = None,
    ) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
        """Metadata of a run over these days, and the check that the alarm hangs on."""
        metadata, checks = self.checked(first, last, asset=asset, instance=instance)
        return metadata, checks["no_drift" if asset == "drift_report" else "no_degradation"]

    def checked(
        self,
        first: date,
        last: date | None = None,
        *,
        asset: str,
        instance: dg.DagsterInstance | None = None,
    ) -> tuple[dict[str, Any], dict[str, dg.AssetCheckEvaluation]]:
        """Metadata and all checks of a run over these days."""
        definitions = build_defs(self.settings)
        tags = {
            "dagster/asset_partition_range_start": first.isoformat(),
            "dagster/asset_partition_range_end": (last or first).isoformat(),
        }
        job = definitions.resolve_implicit_global_asset_job_def()
        run = job.execute_in_process(instance=instance, tags=tags, asset_selection=[dg.AssetKey(asset)])
        (event,) = run.asset_materializations_for_node(asset)[:1]
        checks = {check.check_name: check for check in run.get_asset_check_evaluations()}
        return {name: value.value for name, value in event.metadata.items()}, checks

    def stored(self) -> pd.DataFrame:
        with closing(Database(self.settings.database)) as database:
            start = pd.Timestamp(self.settings.first_day, tz="UTC")
            return read_performance(database, start=start, end=start + pd.Timedelta(days=400))


def deployment_in(
    home: Path, tables: Tables, model: FraudModel, *, evaluated_to: str = "2026-01-19T23:59:59+00:00", **changes: Any
) -> Deployment:
    """A home with the tables of the small world, and a model that is not registered yet.

    The small world's matured days end with the model's test part. To leave a week to judge, the model records an
    earlier end of its test part.
    """
    model = replace(model, lineage={**model.lineage, "evaluated_to": evaluated_to})
    named = {"synthetic": "data_path" not in changes, **changes}
    settings = Settings(home=home, label_maturity=LABEL_MATURITY, first_day=date(2026, 1, 1), **named)
    prepare_registry(settings)
    store = TableStore(settings.tables_directory)
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(40)]
    tables.write(store, settings, days=days)
    return Deployment(settings=settings, model=model)


def write_units_fault(deployment: Deployment, tables: Tables) -> None:
    """The last day, with amounts of a third of its transactions 100 times too high."""
    store = TableStore(deployment.settings.tables_directory)
    rows = tables.features[tables.features["event_time"].dt.date == LAST_DAY].reset_index(drop=True)
    rows.loc[np.arange(len(rows)) % 3 == 0, "amount"] *= 100
    store.write_days("features", rows, time_column="event_time", days=[LAST_DAY])


class AutomationTicks:
    """The ticks of the daemon, one at a time."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        self._cursor: Any = None

    def next(self) -> set[str]:
        """The assets that one tick requests."""
        result = dg.evaluate_automation_conditions(self._definitions, instance=self._instance, cursor=self._cursor)
        self._cursor = result.cursor
        keys = self._definitions.resolve_asset_graph().get_all_asset_keys()
        return {key.to_user_string() for key in keys if result.get_num_requested(key)}


def evaluation_of_skill(rows: int = 6_000, *, seed: int, skill: float = 1.0) -> Evaluation:
    """A model that knows each row's chance of fraud; with less skill it mixes up rows, with calibration kept."""
    generator = np.random.default_rng(seed)
    chance = generator.beta(0.05, 2, rows)
    labels = (generator.random(rows) < chance).astype(np.float64)
    mixed = generator.random(rows) > skill
    probability = chance.copy()
    probability[mixed] = generator.permutation(chance[mixed])
    return evaluate(
        probability,
        labels,
        amounts_cents=np.full(rows, 100_00, np.int64),
        customers=np.arange(rows) // 2,
        days=np.arange(rows, dtype=np.int64) * 28 // rows,
        policy=Policy(0.1, 0.5),
        costs=CostModel(),
        alert_budget_per_day=20,
        replicates=100,
    )


def near_perfect_evaluation() -> Evaluation:
    """Figures that no champion keeps up live."""
    evaluation = evaluation_of_skill(seed=1)
    return replace(evaluation, metrics=dict.fromkeys(evaluation.metrics, Interval(0.99, 0.98, 1.0)))

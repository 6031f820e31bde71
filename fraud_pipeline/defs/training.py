"""From features to a registered challenger: the linear chain that one MLflow run follows.

Belongs here: loading, one call, writing, showing. Must not be here: how to train (`training.py`), promotion
(`promotion.py`).
"""

import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
from dagster_mlflow import end_mlflow_on_run_finished
from tqdm import tqdm

from fraud_pipeline.database.performance import blocked_ids
from fraud_pipeline.defs.catalog import HIDDEN_ROWS, UNKNOWN, conversion, own_fields
from fraud_pipeline.defs.features import feature_config, window_of
from fraud_pipeline.defs.metadata import image, volume_plot
from fraud_pipeline.defs.resources import DatabaseResource, HeldWorkspace, RegistryResource, TablesResource
from fraud_pipeline.features.own_inputs import not_inputs
from fraud_pipeline.ingest.day_state import check_features
from fraud_pipeline.modeling.comparison import compare
from fraud_pipeline.modeling.dataset import censored_labels
from fraud_pipeline.modeling.model_card import model_card
from fraud_pipeline.modeling.personal_key import key_id
from fraud_pipeline.modeling.training import (
    PolicySettings,
    TuningSettings,
    build_training_set,
    evaluate_model,
    part,
    train_model,
)
from fraud_pipeline.policy.decisions import CostModel
from fraud_pipeline.promotion.registry import RUN_TAG
from fraud_pipeline.promotion.training_run import TrainingRun
from fraud_pipeline.reporting import model_charts
from fraud_pipeline.reporting.chart_style import to_png
from fraud_pipeline.schema.transactions import UNKNOWN_LABELS
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

logger = logging.getLogger(__name__)

# dagster-mlflow builds its methods from mlflow's at run time, so there is no type to name.
MlflowRun = dg.ResourceParam[Any]


class TuningConfig(dg.Config):
    """What can be changed for one run in the launchpad; empty means the deployment's setting."""

    n_trials: int | None = None
    seed: int | None = None


class DaysConfig(dg.Config):
    """The days that one run learns from, as ISO dates; empty means every day that has features."""

    first_day: str = ""
    last_day: str = ""

    def within(self, first: date, last: date) -> tuple[date, date]:
        """The days asked for, of those from `first` to `last`."""
        asked_first = date.fromisoformat(self.first_day) if self.first_day else first
        asked_last = date.fromisoformat(self.last_day) if self.last_day else last
        return max(first, asked_first), min(last, asked_last)


def policy_settings(settings: Settings) -> PolicySettings:
    """What this deployment wants of decisions."""
    return PolicySettings(
        costs=CostModel(
            review_cost_cents=settings.review_cost_cents,
            review_friction_cents=settings.review_friction_cents,
            false_block_cost_cents=settings.false_block_cost_cents,
            zero_amount_fraud_cost_cents=settings.zero_amount_fraud_cost_cents,
        ),
        precision_floor=settings.precision_floor,
        alert_budget_per_day=settings.alert_budget_per_day,
        decides_by=settings.decide_by,
    )


def training_assets(
    settings: Settings,
) -> list[dg.AssetsDefinition]:
    """The assets of the `training` group."""
    shared: dict[str, Any] = {"group_name": "training", "owners": [settings.owner], "pool": "training"}
    policy = policy_settings(settings)

    @dg.asset(
        **shared,
        kinds={"python", "parquet"},
        deps=["features", "transactions", "fraud_reports"],
        description="Matured feature rows, labelled by what was known, in time order: train, tune, calibrate, test.",
    )
    def training_set(
        config: DaysConfig,
        tables: TablesResource,
        database: DatabaseResource,
        workspace: HeldWorkspace,  # noqa: ARG001 - held, so that no other training reads a new training set half-way
    ) -> dg.MaterializeResult:
        store = tables.store()
        first, last = _days_to_learn_from(store, config, settings=settings)
        as_of = pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1)
        transactions = store.read("transactions", first, last)
        reports = store.read("fraud_reports", first, last)
        features = store.read("features", first, last)
        blocked = _blocked(database, since=first, settings=settings)
        hidden = censored_labels(features, reports, blocked, as_of=as_of)
        unknown = store.read(UNKNOWN, first, last, schema=UNKNOWN_LABELS, allow_missing=True)
        unlabelled = censored_labels(features, reports, set(unknown["transaction_id"]), as_of=as_of) & ~hidden
        rows, split = build_training_set(
            features[~(hidden | unlabelled)].reset_index(drop=True),
            transactions,
            reports,
            as_of=as_of,
            label_maturity=settings.label_maturity,
            gap=settings.gap,
            warm_up=settings.warm_up,
            own_fields=own_fields(settings),
        )
        store.write("training_set", rows)
        store.write(HIDDEN_ROWS, features[hidden].reset_index(drop=True))
        parts = rows.groupby("part", sort=False)["label"].agg(rows="size", frauds="sum")
        parts["from"] = [split.periods[name].start.date() for name in parts.index]
        parts["to"] = [split.periods[name].end.date() for name in parts.index]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(store.fingerprint_whole("training_set")),
            metadata={
                "dagster/row_count": len(rows),
                "frauds": int(rows["label"].sum()),
                "as_of": as_of.isoformat(),
                "table_version": store.table_version("training_set"),
                "read_table_versions": {name: store.table_version(name) for name in _READ_TABLES},
                "parts": dg.MetadataValue.md(parts.reset_index().to_markdown(index=False)),
                "left_out": {
                    "immature": split.immature_rows,
                    "immature_known_frauds": split.immature_known_frauds,
                    "warm_up": split.warm_up_rows,
                    "gap": split.gap_rows,
                    "blocked_and_never_reported": int(hidden.sum()),
                    "label_unknown_to_the_source": int(unlabelled.sum()),
                },
                "volume": volume_plot(rows, frauds=rows.loc[rows["label"] == 1, "event_time"]),
            },
        )

    @dg.asset(
        **shared,
        kinds={"xgboost", "optuna", "mlflow"},
        deps=[training_set],
        hooks={end_mlflow_on_run_finished},
        description="XGBoost tuned by Optuna on average precision, calibrated; decisions of least expected cost.",
    )
    def fraud_model(
        context: dg.AssetExecutionContext,
        config: TuningConfig,
        tables: TablesResource,
        workspace: HeldWorkspace,
        mlflow: MlflowRun,
    ) -> dg.MaterializeResult:
        rows, data = tables.store().read_whole("training_set"), tables.store().fingerprint_whole("training_set")
        n_trials = config.n_trials or settings.n_trials
        with tqdm(total=n_trials, desc="tuning", unit="trial", disable=None) as bar:

            def on_trial(number: int, best: float) -> None:
                bar.update()
                context.log.info("trial %d of %d: best average precision so far %.3f", number, n_trials, best)

            trained = train_model(
                rows,
                tuning=TuningSettings(
                    n_trials=n_trials,
                    seed=settings.seed if config.seed is None else config.seed,
                    timeout=settings.tuning_timeout,
                    workers=settings.tuning_workers,
                    journal=settings.study_directory / f"{data[:16]}.journal",
                ),
                policy=policy,
                feature_config=replace(feature_config(settings), conversion=conversion(settings)),
                own_fields=own_fields(settings),
                personal_key=key_id(settings.personal_key_file, own_fields(settings)),
                lineage={
                    "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "data_sha256": data,
                    "source": settings.source_name,
                    "source_id": settings.source_id,
                    "mlflow_run_id": mlflow.active_run().info.run_id,
                    "dagster_run_id": context.run_id,
                },
                on_trial=on_trial,
            )
        digest = workspace.save_models(trained.model, plain=trained.plain)
        trials = trained.tuning.trials
        finished = trials["value"].where(trials["state"] == "COMPLETE").to_numpy(np.float64)
        importance = {str(name): share for name, share in trained.model.importance().items()}
        pictures = {
            "tuning_history": to_png(model_charts.tuning_history(finished)),
            "cost_by_threshold": to_png(model_charts.cost_by_threshold(trained.policy_report, trained.model.policy)),
            "feature_importance": to_png(model_charts.feature_importance(importance, unit="share of total gain")),
        }
        _run(mlflow).log_training(trained, plots=pictures)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest),
            metadata={
                "sha256": digest,
                "trials": len(trials),
                "trees": trained.tuning.rounds,
                "own_inputs": list(trained.model.feature_config.own_inputs.names),
                "fields_not_used": not_inputs(trained.model.feature_config.own_inputs),
                "tuning_average_precision": trained.tuning.average_precision,
                "review_threshold": _threshold(trained.model.policy.review_threshold),
                "block_threshold": _threshold(trained.model.policy.block_threshold),
                "policy": str(trained.model.policy),
                "blocks": str(trained.policy_report.blocks),
                **{name: image(png, title=name.replace("_", " ")) for name, png in pictures.items()},
                "mlflow_run_id": mlflow.active_run().info.run_id,
            },
        )

    @dg.asset(
        **shared,
        kinds={"python", "mlflow"},
        deps=[fraud_model],
        hooks={end_mlflow_on_run_finished},
        description="The model on the newest matured days, which nothing was fitted on: metrics with intervals.",
    )
    def evaluation(tables: TablesResource, workspace: HeldWorkspace, mlflow: MlflowRun) -> dg.MaterializeResult:
        store = tables.store()
        trained_on = store.fingerprint_whole("training_set")
        model, rows = workspace.candidate_of(trained_on), part(store.read_whole("training_set"), "test")
        figures = evaluate_model(model, rows, policy=policy)
        plain = workspace.plain_of(trained_on)
        scores, labels = model.predict(rows), rows["label"].to_numpy(np.float64)
        compared = compare(scores, plain.predict(rows), labels, customers=rows["customer_id"].to_numpy())
        record = workspace.save_evaluation(
            figures,
            training_set_sha256=trained_on,
            beside_plain={**compared.to_dict(), "columns": list(plain.features)},
        )
        drawn = {
            "precision_recall": to_png(
                model_charts.precision_recall(scores, labels, precision_floor=settings.precision_floor)
            ),
            "calibration": to_png(model_charts.calibration(scores, labels)),
            "score_distribution": to_png(model_charts.score_distribution(scores, labels, model.policy)),
        }
        card = model_card(model, figures)
        _run(mlflow).log_evaluation(figures, record=record, model_card=card, plots=drawn)
        return dg.MaterializeResult(
            metadata={
                **{name: metric.value for name, metric in figures.metrics.items() if np.isfinite(metric.value)},
                "plain_average_precision": compared.plain.value,
                "gain_over_plain": str(compared.gain),
                "table": dg.MetadataValue.md(figures.to_markdown()),
                "model_card": dg.MetadataValue.md(card),
                **{name: image(png, title=name.replace("_", " ")) for name, png in drawn.items()},
            }
        )

    @dg.asset(
        **shared,
        kinds={"mlflow"},
        deps=[evaluation],
        hooks={end_mlflow_on_run_finished},
        description="The model as a version in the MLflow registry, with the alias `challenger`.",
    )
    def registered_model(
        context: dg.AssetExecutionContext, tables: TablesResource, workspace: HeldWorkspace, registry: RegistryResource
    ) -> dg.MaterializeResult:
        lineage, figures = workspace.evaluated_candidate(tables.store().fingerprint_whole("training_set"))
        run_id = str(lineage["mlflow_run_id"])
        version = registry.registry().register(
            workspace.candidate,
            run_id=run_id,
            evaluation=figures,
            plain=workspace.plain,
            tags={
                "average_precision": f"{figures.metrics['average_precision'].value:.4f}",
                RUN_TAG: context.run_id,
            },
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version.sha256),
            metadata={
                "version": version.version,
                "sha256": version.sha256,
                "mlflow_run_id": run_id,
                "source": version.source,
            },
        )

    return [training_set, fraud_model, evaluation, registered_model]


_READ_TABLES: Final = ("features", "transactions", "fraud_reports")


def _days_to_learn_from(store: TableStore, config: DaysConfig, *, settings: Settings) -> tuple[date, date]:
    """The first and the last day. Raises StaleFeaturesError for features with holes or made from other rows."""
    days_there = [day for day in store.days("features") if day >= settings.first_day]
    if not days_there:
        raise dg.Failure("there are no features yet; materialize features first")
    first, last = config.within(days_there[0], days_there[-1])
    check_features(store, window=window_of(settings), first=first, last=last)
    return first, last


def _blocked(database: DatabaseResource, *, since: date, settings: Settings) -> list[str]:
    """The transactions whose label our blocks hide; that of a file or of the synthetic world knows nothing of them."""
    if not settings.learn_from_served:
        return []
    with database.opened() as online:
        return blocked_ids(online, since=pd.Timestamp(since, tz="UTC"))


def _threshold(value: float) -> float | str:
    return float(value) if np.isfinite(value) else "never"


def _run(mlflow: Any) -> TrainingRun:
    return TrainingRun(mlflow.tracking_client, mlflow.active_run().info.run_id)

"""Promotion: the challenger is judged against the champion and, if the gate agrees, takes its place.

Belongs here: loading both, one call, acting on the verdict. Must not be here: the judgement (`promotion/gate.py`).
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
from dagster_mlflow import end_mlflow_on_run_finished
from numpy.typing import NDArray
from pydantic import Field

from fraud_pipeline.database.history import read_reports
from fraud_pipeline.database.performance import shadow_rows
from fraud_pipeline.database.retention import remove_settled_shadow_rows
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import DatabaseResource, HeldWorkspace, RegistryResource, TablesResource
from fraud_pipeline.defs.training import HIDDEN_ROWS
from fraud_pipeline.modeling.model_directory import IncompatibleModelError, read_manifest
from fraud_pipeline.modeling.training import days, part, segments
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.promotion.gate import GateRules, LiveRows, Source, Sources, gate_verdict, live_rows
from fraud_pipeline.promotion.model_exporter import export_challenger
from fraud_pipeline.promotion.registry import RegisteredModel, Registry, RegistryError
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

logger = logging.getLogger(__name__)
Scores = NDArray[np.float64] | None


class GateConfig(dg.Config):
    """What can be changed for one run in the launchpad."""

    accept_other_source: bool = Field(
        default=False, description="The challenger may have learned from another source than the champion."
    )


def promotion_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The last asset of the `training` group."""

    @dg.asset(
        group_name="training",
        owners=[settings.owner],
        pool="training",
        kinds={"mlflow"},
        # A model is not promoted while serving sees other features than training.
        deps=["registered_model", "online_history"],
        hooks={end_mlflow_on_run_finished},
        output_required=False,
        check_specs=[
            dg.AssetCheckSpec(
                "gate",
                asset="champion",
                blocking=True,
                description="May the challenger replace the champion? Both are judged on the same matured rows: those "
                "that it scored in shadow where they are enough, else the test part.",
            )
        ],
        description="The model that decides about customers: alias `champion`, exported to a directory for serving.",
    )
    def champion(
        config: GateConfig,
        tables: TablesResource,
        registry: RegistryResource,
        database: DatabaseResource,
        workspace: HeldWorkspace,  # noqa: ARG001 - held, so that no training changes the test part meanwhile
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        models = registry.registry()
        challenger, current = models.with_alias("challenger"), models.with_alias("champion")
        if challenger is None:
            raise dg.Failure("there is no challenger to judge; materialize registered_model first")
        scores: Scores
        champion_scores: Scores
        live = _live_rows(database, current, challenger, settings=settings)
        incompatibility, champion_incomparable = None, None
        weights, hidden = None, None
        if live is not None:
            rows, basis = live.rows, str(live)
            weights, hidden = rows["weight"].to_numpy(np.float64), live.hidden["challenger_decision"].to_numpy(object)
            scores, champion_scores = (
                rows[name].to_numpy(np.float64) for name in ("challenger_probability", "champion_probability")
            )
        else:
            rows = part(tables.store().read_whole("training_set"), "test")
            basis = f"{len(rows):,} rows of the test part: too few frauds were scored in shadow and have matured"
            scores, incompatibility = _scores(models, challenger, tables.store(), rows, settings=settings)
            if current:
                champion_scores, champion_incomparable = _scores(
                    models, current, tables.store(), rows, settings=settings
                )
            else:
                champion_scores = None
            if incompatibility is None:
                hidden = _on_hidden_rows(models, challenger, tables.store(), beside=rows, settings=settings)
                basis += f"; {len(hidden):,} more were blocked and never reported" if len(hidden) else ""
        verdict = gate_verdict(
            np.zeros(len(rows)) if scores is None else scores,
            champion_scores,
            rows["label"].to_numpy(np.float64),
            amounts_cents=rows["amount_cents"].to_numpy(np.int64),
            customers=rows["customer_id"].to_numpy(),
            days=days(rows),
            alert_budget_per_day=settings.alert_budget_per_day,
            rules=GateRules(),
            segments=segments(rows),
            incompatibility=incompatibility,
            champion_incomparable=champion_incomparable,
            sources=_sources(models, current, challenger, other_accepted=config.accept_other_source),
            row_weights=weights,
            hidden=hidden,
        )
        reasons = [f"{reason.check}: {reason.detail}" for reason in verdict.reasons] + [f"basis: {basis}"]
        told: dict[str, Any] = {
            "verdict": verdict.decision,
            "basis": basis,
            "blocked_and_never_reported": 0 if hidden is None else len(hidden),
            "reasons": dg.MetadataValue.md(verdict.to_markdown()),
        }
        if verdict.decision == "promote":
            models.install_champion(
                challenger.version, action="promote", reasons=reasons, directory=settings.champion_directory
            )
            _settle(models, database, settings=settings)
            yield dg.MaterializeResult(
                metadata={
                    **told,
                    "version": challenger.version,
                    "previous_version": current.version if current else 0,
                    "directory": dg.MetadataValue.path(str(settings.champion_directory)),
                    "history": _history_table(models),
                },
                check_results=[dg.AssetCheckResult(passed=True, check_name="gate", metadata=told)],
            )
            return
        models.decide(challenger.version, action=verdict.decision, reasons=reasons)
        _settle(models, database, settings=settings)
        # A model kept in shadow is a normal day; one that is rejected needs somebody to look.
        severity = dg.AssetCheckSeverity.WARN if verdict.decision == "shadow_only" else dg.AssetCheckSeverity.ERROR
        yield dg.AssetCheckResult(passed=False, check_name="gate", severity=severity, metadata=told)

    return [champion]


def _live_rows(
    database: DatabaseResource, current: RegisteredModel | None, challenger: RegisteredModel, *, settings: Settings
) -> LiveRows | None:
    """What the challenger scored in shadow of this champion, if that is enough to judge."""
    if current is None:
        return None
    now = pd.Timestamp.now(tz="UTC")
    with database.opened() as online:
        shadowed = shadow_rows(online, champion=str(current.version), challenger=str(challenger.version))
        reports = read_reports(online, start=now - settings.history_retention, end=now)
    return live_rows(shadowed, reports, as_of=now, label_maturity=settings.label_maturity, rules=GateRules())


def _settle(models: Registry, database: DatabaseResource, *, settings: Settings) -> None:
    """A challenger that waits is exported for runs that score; of others nothing stays that it scored."""
    with database.opened() as online:
        remove_settled_shadow_rows(online, judged=models.judged_pair())
    export_challenger(models, settings, tell=logger.info)


def _sources(
    models: Registry, current: RegisteredModel | None, challenger: RegisteredModel, *, other_accepted: bool
) -> Sources | None:
    if current is None:
        return None
    return Sources(
        champion=Source.of(_lineage(models, current)),
        challenger=Source.of(_lineage(models, challenger)),
        other_accepted=other_accepted,
    )


def _lineage(models: Registry, model: RegisteredModel) -> Mapping[str, Any]:
    """What a version says of its making, also one that this code cannot rebuild; nothing if its files are damaged."""
    try:
        lineage: Mapping[str, Any] = read_manifest(models.download(model))["lineage"]
    except (IncompatibleModelError, RegistryError) as error:
        logger.warning("version %d does not say where its data came from: %s", model.version, error)
        return {}
    return lineage


def _on_hidden_rows(
    models: Registry, challenger: RegisteredModel, store: TableStore, *, beside: pd.DataFrame, settings: Settings
) -> NDArray[np.object_]:
    """What the challenger decides on rows of the time of these that were blocked and never reported."""
    try:
        rows = store.read_whole(HIDDEN_ROWS)
    except FileNotFoundError:  # a training set of an earlier release
        return np.empty(0, object)
    rows = rows[rows["event_time"].between(beside["event_time"].min(), beside["event_time"].max())]
    model = models.load(challenger)
    return decide(model.predict(features_for(model, store, rows, settings=settings)), model.policy)


def _scores(
    models: Registry, registered: RegisteredModel, store: TableStore, rows: pd.DataFrame, *, settings: Settings
) -> tuple[Scores, str | None]:
    """Probabilities of the rows, or why this code cannot compute them."""
    try:
        model = models.load(registered)
    except (IncompatibleModelError, RegistryError) as error:
        logger.warning("version %d cannot be scored: %s", registered.version, error)
        return None, f"Version {registered.version} cannot be rebuilt: {error}."
    return model.predict(features_for(model, store, rows, settings=settings)), None


def _history_table(models: Registry) -> dg.MetadataValue:
    rows = [
        f"| {entry.decided_at:%Y-%m-%d %H:%M} | {entry.action} | {entry.version} | {entry.champion or '-'} |"
        for entry in reversed(models.history()[-20:])
    ]
    return dg.MetadataValue.md(
        "\n".join(["| when (UTC) | action | version | champion after |", "|---|---|---|---|", *rows])
    )

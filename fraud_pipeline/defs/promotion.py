"""Promotion: the challenger is judged against the champion and, if the gate agrees, takes its place.

Belongs here: loading both, one call, acting on the verdict. Must not be here: the judgement (`gate.py`).
"""

import logging
from collections.abc import Iterator

import dagster as dg
import numpy as np
import pandas as pd
from dagster_mlflow import end_mlflow_on_run_finished

from fraud_pipeline.defs.resources import RegistryResource, TablesResource
from fraud_pipeline.gate import GateRules, gate_verdict
from fraud_pipeline.model import IncompatibleModelError
from fraud_pipeline.registry import RegisteredModel, Registry
from fraud_pipeline.settings import Settings
from fraud_pipeline.training import days, part, segments

logger = logging.getLogger(__name__)


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
                description="May the challenger replace the champion? Both are judged on the same newest matured days.",
            )
        ],
        description="The model that decides about customers: alias `champion`, exported to a directory for serving.",
    )
    def champion(
        tables: TablesResource, registry: RegistryResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        models = registry.registry()
        challenger, current = models.with_alias("challenger"), models.with_alias("champion")
        if challenger is None:
            raise dg.Failure("there is no challenger to judge; materialize registered_model first")
        rows = part(tables.store().read_whole("training_set"), "test")
        scores, incompatibility = _scores(models, challenger, rows)
        champion_scores, _ = _scores(models, current, rows) if current else (None, None)
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
        )
        reasons = [f"{reason.check}: {reason.detail}" for reason in verdict.reasons]
        told = {"verdict": verdict.decision, "reasons": dg.MetadataValue.md(verdict.to_markdown())}
        if verdict.decision == "promote":
            models.install_champion(
                challenger.version, action="promote", reasons=reasons, directory=settings.champion_directory
            )
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
        # A model kept in shadow is a normal day; one that is rejected needs somebody to look.
        severity = dg.AssetCheckSeverity.WARN if verdict.decision == "shadow_only" else dg.AssetCheckSeverity.ERROR
        yield dg.AssetCheckResult(passed=False, check_name="gate", severity=severity, metadata=told)

    return [champion]


def _scores(models: Registry, model: RegisteredModel, rows: pd.DataFrame) -> tuple[np.ndarray | None, str | None]:
    """Probabilities of the rows, or why this code cannot compute them."""
    try:
        return models.load(model).predict(rows), None
    except IncompatibleModelError as error:
        logger.warning("version %d cannot be scored: %s", model.version, error)
        return None, f"Version {model.version} cannot be rebuilt: {error}."


def _history_table(models: Registry) -> dg.MetadataValue:
    rows = [
        f"| {entry.decided_at:%Y-%m-%d %H:%M} | {entry.action} | {entry.version} | {entry.champion or '-'} |"
        for entry in reversed(models.history()[-20:])
    ]
    return dg.MetadataValue.md(
        "\n".join(["| when (UTC) | action | version | champion after |", "|---|---|---|---|", *rows])
    )

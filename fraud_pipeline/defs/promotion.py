"""Promotion: the challenger is judged against the champion and, if the gate agrees, takes its place.

Belongs here: loading both, one call, acting on the verdict. Must not be here: the judgement (`promotion/gate.py`).
"""

import logging
from collections.abc import Iterator
from typing import Any, Final

import dagster as dg
import pandas as pd
from dagster_mlflow import end_mlflow_on_run_finished
from pydantic import Field

from fraud_pipeline.database.history import read_reports
from fraud_pipeline.database.performance import shadow_rows
from fraud_pipeline.database.retention import remove_settled_shadow_rows
from fraud_pipeline.defs.catalog import HIDDEN_ROWS
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import DatabaseResource, HeldWorkspace, RegistryResource, TablesResource
from fraud_pipeline.defs.training import policy_settings
from fraud_pipeline.features.definitions import features_schema
from fraud_pipeline.modeling.training import part
from fraud_pipeline.promotion.judgement import Contender, Judgement, judge_by_test_part, judge_live
from fraud_pipeline.promotion.live_rows import LiveRows, live_rows
from fraud_pipeline.promotion.model_exporter import export_challenger
from fraud_pipeline.promotion.registry import RegisteredModel, Registry
from fraud_pipeline.promotion.verdict import GateRules
from fraud_pipeline.schema.transactions import empty
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

logger = logging.getLogger(__name__)

GATE: Final = "gate"
"""The check that judges a challenger."""


class GateConfig(dg.Config):
    """Configuration of one run in the launchpad."""

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
                GATE,
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
        models, store = registry.registry(), tables.store()
        challenger, current = models.with_alias("challenger"), models.with_alias("champion")
        if challenger is None:
            raise dg.Failure("there is no challenger to judge; materialize registered_model first")
        live = _live_rows(database, current, challenger, settings=settings)
        new, old = Contender.load(models, challenger), Contender.load(models, current) if current else None
        terms: dict[str, Any] = {
            "costs": policy_settings(settings).costs,
            "alert_budget_per_day": settings.alert_budget_per_day,
            "accept_other_source": config.accept_other_source,
        }
        if live is not None and old is not None:
            judgement = judge_live(new, old, live, **terms)
        else:
            judgement = judge_by_test_part(
                new,
                old,
                part(store.read_whole("training_set"), "test"),
                hidden_rows=_hidden_rows(store),
                features_for=lambda model, rows: features_for(model, store, rows, settings=settings),
                **terms,
            )
        decision = judgement.verdict.decision
        if decision == "promote":
            models.install_champion(
                challenger.version, action=decision, reasons=judgement.reasons, directory=settings.champion_directory
            )
        else:
            models.decide(challenger.version, action=decision, reasons=judgement.reasons)
        _settle(models, database, settings=settings)
        metadata = _shown(judgement)
        if decision == "promote":
            yield dg.MaterializeResult(
                metadata={
                    **metadata,
                    "version": challenger.version,
                    "previous_version": current.version if current else 0,
                    "directory": dg.MetadataValue.path(str(settings.champion_directory)),
                    "history": _history_table(models),
                },
                data_version=dg.DataVersion(challenger.sha256),
                check_results=[dg.AssetCheckResult(passed=True, check_name=GATE, metadata=metadata)],
            )
            return
        # A model kept in shadow is a normal result; a rejected one needs a person's attention.
        severity = dg.AssetCheckSeverity.WARN if decision == "shadow_only" else dg.AssetCheckSeverity.ERROR
        yield dg.AssetCheckResult(passed=False, check_name=GATE, severity=severity, metadata=metadata)

    return [champion]


def _live_rows(
    database: DatabaseResource, current: RegisteredModel | None, challenger: RegisteredModel, *, settings: Settings
) -> LiveRows | None:
    """Shadow scores of the challenger beside this champion; None if they are too few to judge."""
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
    export_challenger(models, settings, on_progress=logger.info)


def _hidden_rows(store: TableStore) -> pd.DataFrame:
    """Feature rows that were blocked and never reported; empty for a training set of an earlier release."""
    try:
        return store.read_whole(HIDDEN_ROWS)
    except FileNotFoundError:
        return empty(features_schema())


def _shown(judgement: Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.verdict.decision,
        "finding": judgement.verdict.finding,
        "basis": judgement.basis,
        "blocked_and_never_reported": judgement.blocked_and_never_reported,
        "reasons": dg.MetadataValue.md(judgement.verdict.to_markdown()),
    }


def _history_table(models: Registry) -> dg.MetadataValue:
    rows = [
        f"| {entry.decided_at:%Y-%m-%d %H:%M} | {entry.action} | {entry.version} | {entry.champion or '-'} |"
        for entry in reversed(models.history()[-20:])
    ]
    return dg.MetadataValue.md(
        "\n".join(["| when (UTC) | action | version | champion after |", "|---|---|---|---|", *rows])
    )

"""Assets that other programs write: topics, decisions, alerts and the model registry, at the edges of the lineage.

Belongs here: their names, places and inputs. Must not be here: anything that is materialized here.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from fraud_pipeline.messaging.topics import KafkaSettings
from fraud_pipeline.settings import Settings

TRANSACTIONS_TOPIC = "transactions_topic"
REPORTS_TOPIC = "fraud_reports_topic"


def external_assets(settings: Settings, kafka: KafkaSettings) -> list[dg.AssetSpec]:
    """The assets that the service, the consumer and other programs write."""

    def topic(key: str, name: str, description: str, deps: Sequence[str] = ()) -> dg.AssetSpec:
        return dg.AssetSpec(
            key, deps=deps, kinds={"kafka"}, metadata={"topic": name}, description=description, **_shared(settings)
        )

    return [
        topic(
            TRANSACTIONS_TOPIC,
            kafka.transactions_topic,
            "Transactions as they happen, written by the bank. A sensor observes its end offsets and the lag.",
        ),
        topic(
            REPORTS_TOPIC,
            kafka.reports_topic,
            "Fraud reports as they arrive, written by the bank. A report must find its transaction.",
        ),
        dg.AssetSpec(
            "decisions",
            deps=["champion", "online_history", "scored_transactions"],
            kinds={"sql"},
            description="Every decision with its features, reasons and model version, written by the HTTP service, the "
            "consumer and runs over the stream. Exactly one per transaction.",
            **_shared(settings),
        ),
        dg.AssetSpec(
            "alerts",
            deps=["decisions"],
            kinds={"sql"},
            description="Reviews and blocks that an analyst resolves in the dashboard.",
            **_shared(settings),
        ),
        topic(
            "decisions_topic",
            kafka.decisions_topic,
            "Decisions for other systems, written by the consumer and runs over the stream.",
            deps=["decisions"],
        ),
        topic(
            "dead_letter_topic",
            kafka.dead_letter_topic,
            "Records that cannot be scored, with the reason, written by the consumer and runs over the stream.",
            deps=["scored_transactions"],
        ),
        dg.AssetSpec(
            "model_registry",
            deps=["registered_model", "champion"],
            kinds={"mlflow"},
            metadata={"dagster/uri": f"models:/{settings.model_name}"},
            description="All versions of the model in MLflow, their aliases, and the history of promotions. "
            "`fraud-detect mlflow` opens it.",
            **_shared(settings),
        ),
    ]


def _shared(settings: Settings) -> dict[str, Any]:
    return {"group_name": "serving", "owners": [settings.owner]}

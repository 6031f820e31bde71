"""The service's metrics as Prometheus reads them.

Belongs here: values of an exposition, and one event of each kind. Must not be here: expected values.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.scoring.decision_record import Conflict, DecidedBy, Mode, ScoringResult
from fraud_pipeline.scoring.reasons import Reason
from serving.runtime.prometheus_metrics import Metrics

SOME_ID: Final = "id-that-nobody-may-see"
Samples = Mapping[tuple[str, frozenset[str]], float]


def scoring_result(
    decision: Decision = "allow",
    *,
    by: DecidedBy = "model",
    mode: Mode = "full",
    probability: float | None = 0.02,
    replayed: bool = False,
) -> ScoringResult:
    return ScoringResult(
        transaction_id=SOME_ID,
        decision=decision,
        probability=probability,
        reasons=(Reason("rule.x", SOME_ID),),
        decided_by=by,
        mode=mode,
        missing=(),
        model_version="7",
        decided_at=0,
        replayed=replayed,
    )


def samples_by_name(text: str) -> Samples:
    """Values by name of the sample and values of its labels."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric_value(metrics: Metrics, name: str, *labels: str) -> float:
    return samples_by_name(metrics.exposition()[0].decode())[name, frozenset(labels)]


def record_every_event(metrics: Metrics) -> None:
    metrics.decided(
        [
            scoring_result("block"),
            scoring_result("review", mode="rules", by="rules", probability=None),
            Conflict(SOME_ID),
        ]
    )
    metrics.refused("rate_limited")
    metrics.stage("model", 0.003)
    metrics.breaker_changed("history", "open")
    metrics.limiter_failed()
    metrics.model_loaded("7", created_at=1_702_000_000, trained_to=1_700_000_000)
    metrics.model_refused()
    metrics.reported("drift", red=True)
    metrics.reported("performance", red=False)
    metrics.shadowed(np.array(["allow"], object), np.array(["block"], object))

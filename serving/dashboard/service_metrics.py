"""What the running service says about itself at /metrics.

Belongs here: asking, and reading histograms as Prometheus does. Must not be here: what is counted
(`serving/metrics.py`).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from fraud_pipeline.settings import Settings
from serving.keys import KeyFileError
from serving.security import issue_token_for

Buckets = Mapping[float, float]
"""Upper bound -> how many were at most that large."""

_STAGES: Final = "fraud_stage_duration_seconds"
_PATIENCE: Final = 2.0


class ServiceAwayError(RuntimeError):
    """The service cannot be asked; the message says why and what to check."""


def read_stage_times(settings: Settings) -> dict[str, Buckets]:
    """How long each stage took since the service started, in seconds. Raises ServiceAwayError."""
    try:
        token = issue_token_for(settings, subject="dashboard", scopes={"metrics"}, lifetime=timedelta(minutes=1))
        answer = httpx.get(
            f"{settings.service_url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=_PATIENCE
        )
        answer.raise_for_status()
    except (httpx.HTTPError, KeyFileError) as error:
        raise ServiceAwayError(
            f"no answer from {settings.service_url} ({type(error).__name__}): start it with `fraud-detect serve`, "
            "or set FRAUD_SERVICE_URL"
        ) from error
    stages: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == f"{_STAGES}_bucket":
                stages.setdefault(sample.labels["stage"], {})[float(sample.labels["le"])] = sample.value
    return dict(stages)


def since(now: Buckets, then: Buckets | None) -> Buckets:
    """What came in between; everything, when the service was started again in between."""
    if then is None or any(now[bound] < then.get(bound, 0) for bound in now):
        return now
    return {bound: count - then.get(bound, 0) for bound, count in now.items()}


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value below which this share lies, linear within a bucket; None of nothing.

    Source: Prometheus, `histogram_quantile`.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] == 0:
        return None
    rank = share * buckets[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank and buckets[bound] > below:
            # Nothing is known of how large the largest are.
            return low if bound == float("inf") else low + (bound - low) * (rank - below) / (buckets[bound] - below)
        low, below = bound, buckets[bound]
    return low

"""Metrics of the running service, read from /metrics.

Belongs here: the request, and reading histograms as Prometheus does. Must not be here: what is counted
(`serving/runtime/prometheus_metrics.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from fraud_pipeline.settings import Settings
from serving.auth.keys import KeyFileError
from serving.auth.tokens import issue_token_for

Buckets = Mapping[float, float]
"""Upper bound -> how many were at most that large."""

MINUTE: Final = 60.0
_ABOUT_A_MINUTE: Final = 54.0
_STAGES: Final = "fraud_stage_duration_seconds"
_PATIENCE: Final = 2.0


class ServiceAwayError(RuntimeError):
    """The service did not answer; the message says why and what to check."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Times of each stage since the service started, read at `at`, in seconds of a monotonic clock."""

    at: float
    stages: Mapping[str, Buckets]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Times of each stage in the last `seconds`; None means since the service started."""

    stages: Mapping[str, Buckets]
    seconds: float | None

    @property
    def period(self) -> str:
        """The period in words."""
        if self.seconds is None:
            return "since the service started"
        return "last minute" if self.seconds >= _ABOUT_A_MINUTE else f"last {self.seconds:.0f} s"


def keep_samples(samples: Sequence[Sample], newest: Sample) -> tuple[Sample, ...]:
    """The samples of the last minute and the newest one, in order of time.

    Smaller counts come from a restarted or another service; the samples before them are dropped.
    """
    if samples and _started_again(newest.stages, samples[-1].stages):
        return (newest,)
    return (*(sample for sample in samples if newest.at - sample.at <= MINUTE), newest)


def stage_times(samples: Sequence[Sample]) -> StageTimes:
    """The counts between the first and the last of these samples; a single sample counts from zero."""
    first, last = samples[0], samples[-1]
    if len(samples) == 1:
        return StageTimes(last.stages, seconds=None)
    between = {stage: since(counts, first.stages.get(stage, {})) for stage, counts in last.stages.items()}
    return StageTimes(between, seconds=last.at - first.at)


def read_stage_times(settings: Settings) -> dict[str, Buckets]:
    """Times of each stage since the service started, in seconds, summed over all workers.

    Raises ServiceAwayError.
    """
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


def since(now: Buckets, then: Buckets) -> Buckets:
    """The difference of the two counts."""
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


def _started_again(now: Mapping[str, Buckets], then: Mapping[str, Buckets]) -> bool:
    return any(
        now.get(stage, {}).get(bound, 0) < count for stage, counts in then.items() for bound, count in counts.items()
    )

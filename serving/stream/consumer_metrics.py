"""Prometheus metrics of a consumer.

Belongs here: names and kinds of metrics of the stream. Must not be here: metrics of decisions, which every entrance
has (`serving/runtime/prometheus_metrics.py`), anything that acts on them. Ids are never labels.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.stream.consumer import Away
from serving.stream.handler import BatchResult
from serving.stream.records import Partition

Outcome = Literal["decided", "replayed", "dead_letter", "report"]

_BATCH_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """An observer of the stream that keeps metrics."""

    registry: CollectorRegistry
    records: Counter
    batch_seconds: Histogram
    behind: Gauge
    away: Gauge

    @classmethod
    def build(cls, registry: CollectorRegistry | None = None) -> "StreamMetrics":
        """Metrics in this registry, or in one of their own."""
        registry = registry or CollectorRegistry()
        records = Counter("fraud_stream_records", "records by what became of them", ["outcome"], registry=registry)
        for outcome in get_args(Outcome):
            # Start at 0: a counter that first appears with 1 has no increase that an alert could see.
            records.labels(outcome)
        return cls(
            registry=registry,
            records=records,
            batch_seconds=Histogram(
                "fraud_stream_batch_seconds",
                "from the poll to the commit of one batch",
                buckets=_BATCH_SECONDS,
                registry=registry,
            ),
            behind=Gauge(
                "fraud_stream_lag_records",
                "records that were sent and not decided on, of the partitions of this process",
                ["topic", "partition"],
                registry=registry,
            ),
            away=Gauge("fraud_stream_waiting", "1: is away and waited for", ["away"], registry=registry),
        )

    @property
    def decided(self) -> int:
        """Transactions that this process decided on."""
        return int(self.registry.get_sample_value("fraud_stream_records_total", {"outcome": "decided"}) or 0)

    def handled(self, handled: BatchResult, *, seconds: float) -> None:
        counts: dict[Outcome, int] = {
            "decided": handled.decided,
            "replayed": handled.replayed,
            "dead_letter": handled.dead_letters,
            "report": handled.reports,
        }
        for outcome, count in counts.items():
            self.records.labels(outcome).inc(count)
        self.batch_seconds.observe(seconds)

    def lag(self, partition: Partition, records: int | None) -> None:
        labels = (partition.topic, str(partition.partition))
        if records is not None:
            self.behind.labels(*labels).set(records)
        else:
            # Two owners of one partition would double its lag in the sum.
            self.behind.remove(*labels)

    def waiting(self, away: Away | None) -> None:
        self.away.clear()
        if away is not None:
            self.away.labels(away).set(1)

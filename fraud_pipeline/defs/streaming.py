"""The stream in Dagster: an observed topic, runs that score ranges of it, and alerts that are posted.

Belongs here: when a run is launched, its configuration and its metadata. Must not be here: which ranges
(`serving/stream/ranges.py`), scoring, posting.

The sensor plans and the run scores. The sensor reads the positions from the database each time, so a lost cursor loses
nothing. The fence makes a run and a consumer on one partition harmless. Runs take seconds to start; the long-lived
consumer takes milliseconds, and while one is alive the sensor only observes.
"""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import dagster as dg

from fraud_pipeline.alerts.backoff import pause_after
from fraud_pipeline.alerts.outbox import post_new_alerts
from fraud_pipeline.alerts.webhook import WebhookAwayError
from fraud_pipeline.database import (
    DatabaseUnavailableError,
    DatabaseUnsuitableError,
    FencedError,
    Position,
    open_database,
    scoring_batch,
)
from fraud_pipeline.defs.calendar import sensor_status, time_limit
from fraud_pipeline.defs.external import REPORTS_TOPIC, TRANSACTIONS_TOPIC
from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings
from fraud_pipeline.scoring.errors import NotStoredError
from fraud_pipeline.settings import Settings
from serving.stream.handler import BatchResult
from serving.stream.known_record import EveryRecordFailsError
from serving.stream.ranges import OffsetRange, RangeError, lag, plan, range_scorer
from serving.stream.records import Partition
from serving.stream.topic_inspection import OffsetBounds, extents, live_members

SCORED_ASSET: Final = "scored_transactions"
STREAM_JOB: Final = "scored_transactions_job"
STARTS_TAG: Final = "fraud/starts"
MOST_RECORDS: Final = 20_000
"""Of one run: some ten seconds of work, so that a run that dies costs little."""
LONGEST_RUN: Final = timedelta(minutes=10)
_AWAY: Final = (
    *(RangeError, BrokerUnavailableError, NotStoredError, DatabaseUnavailableError, DatabaseUnsuitableError),
    EveryRecordFailsError,
)
_UNFINISHED: Final = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


class RangeConfig(dg.Config):
    """The records [start, end) of a partition."""

    topic: str
    partition: int
    start: int
    end: int


class RangesConfig(dg.Config):
    """The ranges of one run; empty means all present records, up to the size of one run."""

    ranges: list[RangeConfig] = []  # noqa: RUF012 - pydantic copies it


def build_stream_job() -> Any:
    """The job that the sensor launches."""
    return dg.define_asset_job(
        STREAM_JOB,
        selection=dg.AssetSelection.assets(SCORED_ASSET),
        tags=time_limit(LONGEST_RUN),
        description="Score ranges of the stream; a range that was scored before changes nothing.",
    )


def streaming_assets(settings: Settings, kafka: KafkaSettings) -> list[dg.AssetsDefinition]:
    """The asset that scores ranges of the stream."""

    @dg.asset(
        group_name="serving",
        owners=[settings.owner],
        kinds={"python", "kafka", "sql"},
        pool=SCORED_ASSET,
        deps=[TRANSACTIONS_TOPIC, REPORTS_TOPIC],
        # By hand there may be nothing to do, and that is no failure.
        output_required=False,
        description="Ranges of the stream, decided on through the same function as the long-lived consumer's.",
    )
    def scored_transactions(
        context: dg.AssetExecutionContext, config: RangesConfig
    ) -> Iterator[dg.MaterializeResult[Any]]:
        given = tuple(
            OffsetRange(Partition(item.topic, item.partition), item.start, item.end) for item in config.ranges
        )
        try:
            ranges = given or _planned_by_hand(context, settings, kafka)
            if ranges:
                yield dg.MaterializeResult(metadata=_score(context, settings, kafka, ranges))
        except FencedError as error:
            raise dg.Failure(f"{error}; nothing is lost", allow_retries=False) from error
        except _AWAY as error:
            raise dg.Failure(f"{error}; nothing is lost: the range is scored again") from error

    return [scored_transactions]


def build_stream_sensors(settings: Settings, kafka: KafkaSettings, *, job: Any) -> list[dg.SensorDefinition]:
    """The sensors: one is on by default where a broker is set, the other where a webhook is set."""
    has_broker = "bootstrap_servers" in kafka.model_fields_set

    @dg.sensor(
        name="transactions_sensor",
        job=job,
        minimum_interval_seconds=5,
        default_status=sensor_status(running=settings.schedules_enabled and has_broker),
        description="Launches runs over bounded ranges of the stream, unless a live consumer scores it already.",
    )
    def transactions_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            bounds = extents(kafka, _topics(kafka))
            readers = live_members(kafka, kafka.group)
            positions = _positions(settings, kafka)
        except (BrokerUnavailableError, DatabaseUnavailableError, DatabaseUnsuitableError) as error:
            return dg.SkipReason(str(error))
        cursor = {f"{at.topic}:{at.partition}": positions[at].next_offset for at in sorted(positions)}
        before = json.loads(context.cursor or "{}")
        behind = lag(bounds, positions)
        observed = [_observation(bounds, positions, readers=readers)] if behind or cursor != before else []
        ranges = plan(bounds, positions, most=MOST_RECORDS)
        reason = _reason_to_wait(context.instance, bounds, positions, kafka=kafka, readers=readers, ranges=ranges)
        if reason:
            return dg.SensorResult(skip_reason=reason, cursor=json.dumps(cursor), asset_events=observed)
        planned = cursor | {f"{range_.at.topic}:{range_.at.partition}": range_.end for range_ in ranges}
        return dg.SensorResult(
            run_requests=[_request(context.instance, ranges)], cursor=json.dumps(planned), asset_events=observed
        )

    @dg.sensor(
        name="alert_webhook",
        minimum_interval_seconds=10,
        default_status=sensor_status(running=settings.schedules_enabled and bool(settings.alert_webhook_url)),
        description="Posts new alerts to FRAUD_ALERT_WEBHOOK_URL: at least once, a customer's in their order.",
    )
    def alert_webhook(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not settings.alert_webhook_url:
            return dg.SkipReason("there is no webhook: set FRAUD_ALERT_WEBHOOK_URL")
        failures, since = json.loads(context.cursor or "[0, 0]")
        if time.time() < since + pause_after(failures).total_seconds():
            return dg.SkipReason(f"the webhook was away {failures} times in a row and is left alone for a while")
        try:
            with open_database(settings.database, statement_timeout=settings.statement_timeout) as database:
                posted = post_new_alerts(database, settings.alert_webhook_url)
        except (WebhookAwayError, DatabaseUnavailableError, DatabaseUnsuitableError) as error:
            context.update_cursor(json.dumps([failures + 1, time.time()]))
            return dg.SkipReason(str(error))
        context.update_cursor("[0, 0]")
        return dg.SkipReason(str(posted))

    return [transactions_sensor, alert_webhook]


def _reason_to_wait(
    instance: dg.DagsterInstance,
    bounds: Mapping[Partition, OffsetBounds],
    positions: Mapping[Partition, Position],
    *,
    kafka: KafkaSettings,
    readers: int,
    ranges: tuple[OffsetRange, ...],
) -> str | None:
    """The reason why no run is launched now; None if one is."""
    if not bounds:
        return "the topic does not exist yet: its first sender creates it, such as `fraud-detect produce`"
    if readers:
        return f"{readers} live consumers of group {kafka.group} score the stream: only observing"
    recreated = [
        str(at.partition)
        for at, of_partition in bounds.items()
        if at in positions and positions[at].next_offset > of_partition.end
    ]
    if recreated:
        return (
            f"partitions {', '.join(recreated)} end before their stored positions: start `fraud-detect consume` once, "
            "which reads a recreated topic from its beginning"
        )
    if not ranges:
        return "everything is decided and published"
    return _reason_not_yet(instance, ranges)


def _reason_not_yet(instance: dg.DagsterInstance, ranges: tuple[OffsetRange, ...]) -> str | None:
    """The reason why these ranges must wait: one run at a time, and a pause after failed runs."""
    unfinished = instance.get_runs(dg.RunsFilter(job_name=STREAM_JOB, statuses=_UNFINISHED), limit=1)
    if unfinished:
        return f"run {unfinished[0].run_id} is still at work: the next range begins where it ends"
    failed = instance.get_run_records(_same_start(ranges), limit=10)
    if failed and time.time() < (failed[0].end_time or 0) + pause_after(len(failed)).total_seconds():
        return f"{len(failed)} runs got no further than this, the last one was {failed[0].dagster_run.run_id}: waiting"
    return None


def _request(instance: dg.DagsterInstance, ranges: tuple[OffsetRange, ...]) -> dg.RunRequest:
    config = RangesConfig(
        ranges=[
            RangeConfig(topic=range_.at.topic, partition=range_.at.partition, start=range_.start, end=range_.end)
            for range_ in ranges
        ]
    )
    # A key is good for one run only, and a run that failed must not be the last one of its range.
    attempt = instance.get_runs_count(_same_start(ranges))
    return dg.RunRequest(
        run_key=f"{','.join(map(str, ranges))} attempt {attempt + 1}",
        run_config=dg.RunConfig(ops={SCORED_ASSET: config}),
        tags={STARTS_TAG: _starts(ranges)},
    )


def _same_start(ranges: tuple[OffsetRange, ...]) -> dg.RunsFilter:
    """Runs that began where these ranges begin: a failed one's range, however far the topic has grown since."""
    return dg.RunsFilter(job_name=STREAM_JOB, tags={STARTS_TAG: _starts(ranges)})


def _starts(ranges: tuple[OffsetRange, ...]) -> str:
    return ",".join(f"{range_.at.topic}:{range_.at.partition}:{range_.start}" for range_ in ranges)


def _planned_by_hand(
    context: dg.AssetExecutionContext, settings: Settings, kafka: KafkaSettings
) -> tuple[OffsetRange, ...]:
    if "bootstrap_servers" not in kafka.model_fields_set:
        context.log.warning("there is no broker: set FRAUD_KAFKA_BOOTSTRAP_SERVERS to score a stream")
        return ()
    if readers := live_members(kafka, kafka.group):
        context.log.warning("%d live consumers of group %s score the stream already", readers, kafka.group)
        return ()
    return plan(extents(kafka, _topics(kafka)), _positions(settings, kafka), most=MOST_RECORDS)


def _score(
    context: dg.AssetExecutionContext, settings: Settings, kafka: KafkaSettings, ranges: tuple[OffsetRange, ...]
) -> dict[str, Any]:
    """Score the ranges; returns the counts as metadata."""
    started, totals = time.monotonic(), dict.fromkeys(("decided", "replayed", "dead_letters", "reports"), 0)

    def add_counts(handled: BatchResult) -> None:
        for name in totals:
            totals[name] += getattr(handled, name)

    with range_scorer(kafka, settings) as scorer:
        for range_ in ranges:
            scorer.score(range_, on_batch=add_counts)
            context.log.info("%s is scored; so far %s", range_, totals)
    if scorer.capped:
        context.log.warning("too many blocks in a minute: %d became reviews (BlocksDemoted)", scorer.capped)
    return {
        "dagster/row_count": totals["decided"],
        **totals,
        "blocks_demoted": scorer.capped,
        "ranges": dg.MetadataValue.md("\n".join(f"- {range_}" for range_ in ranges)),
        "seconds": time.monotonic() - started,
    }


def _observation(
    bounds: Mapping[Partition, OffsetBounds], positions: Mapping[Partition, Position], *, readers: int
) -> dg.AssetObservation:
    ends = {f"{at.topic}:{at.partition}": of_partition.end for at, of_partition in bounds.items()}
    return dg.AssetObservation(
        TRANSACTIONS_TOPIC,
        metadata={
            "lag": lag(bounds, positions),
            "end_offsets": dg.MetadataValue.json(ends),
            "live_consumers": readers,
        },
    )


def _topics(kafka: KafkaSettings) -> tuple[str, str]:
    # In this order: a report must find its transaction.
    return kafka.transactions_topic, kafka.reports_topic


def _positions(settings: Settings, kafka: KafkaSettings) -> dict[Partition, Position]:
    with (
        open_database(settings.database, statement_timeout=settings.statement_timeout) as database,
        scoring_batch(database, read_only=True) as batch,
    ):
        return {
            Partition(topic, partition): position
            for topic in _topics(kafka)
            for partition, position in batch.positions.all(topic).items()
        }

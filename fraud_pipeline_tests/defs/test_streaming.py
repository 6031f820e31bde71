"""Dagster on the stream: real ticks and runs against a real broker, and a real daemon that does both by itself."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from fraud_pipeline.alerts import backoff
from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.source import DatabaseSource
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs import streaming
from fraud_pipeline.defs.external import TRANSACTIONS_TOPIC
from fraud_pipeline.defs.instance import RANGE_END_TAG, WORKSPACE_FILE, prepare_dagster_home
from fraud_pipeline.defs.streaming import SCORED_ASSET, STREAM_JOB
from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    ensure_topics,
    open_consumer,
    report_message,
    transaction_message,
)
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.schema.transactions import DAY, FRAUD_REPORTS, HOUR, SECOND, TransactionRow, empty, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.open_alerts import open_alerts
from fraud_pipeline_tests.support.streams import SESSION, decided, everything, send, standing, transactions
from fraud_pipeline_tests.support.waiting import until
from fraud_pipeline_tests.support.webhooks import Webhook

MOST = 16


@dataclass(slots=True)
class Deployment:
    """One home with its Dagster instance, and the stream it scores."""

    settings: Settings
    kafka: KafkaSettings
    instance: dg.DagsterInstance
    database: Database
    cursor: str | None = None

    @property
    def definitions(self) -> dg.Definitions:
        return build_defs(self.settings, kafka=self.kafka)

    def tick(self, sensor: str = "transactions_sensor") -> Any:
        """One evaluation, as the daemon does it."""
        definition = self.definitions.resolve_sensor_def(sensor)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = definition.evaluate_tick(context)
        self.cursor = result.cursor
        return result

    def run(self, request: dg.RunRequest, **changes: Any) -> dg.ExecuteInProcessResult:
        """The run that a tick requested."""
        arguments: dict[str, Any] = {
            "run_config": request.run_config,
            "tags": request.tags,
            "raise_on_error": False,
        } | changes
        return self.definitions.resolve_job_def(STREAM_JOB).execute_in_process(instance=self.instance, **arguments)

    def send(self, count: int, **changes: Any) -> list[TransactionRow]:
        rows = transactions(count, **{"customers": 20, "end": now_microseconds() - SECOND} | changes)
        topic = self.kafka.transactions_topic
        send(self.kafka, topic, (transaction_message(row, currency="EUR") for row in rows))
        return rows

    def decided(self) -> list[str]:
        return sorted(decided(self.database))


@contextmanager
def deployment_in(home: Path, kafka: KafkaSettings, **changes: Any) -> Iterator[Deployment]:
    settings = Settings(home=home, first_day=date(2026, 1, 1), **changes)
    with closing(Database(settings.database)) as database, dg.DagsterInstance.local_temp(str(home)) as instance:
        database.upgrade()
        yield Deployment(settings, kafka, instance, database)


@pytest.fixture
def deployment(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A stream with topics and a consumer group of its own, and small runs."""
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    monkeypatch.setattr(streaming, "MOST_RECORDS", MOST)
    with deployment_in(tmp_path, kafka) as deployment_:
        yield deployment_


def test_sensors_run_by_themselves_only_where_there_is_something_to_talk_to(tmp_path: Path) -> None:
    settings, nothing = Settings(home=tmp_path), KafkaSettings()
    somewhere = KafkaSettings(bootstrap_servers="127.0.0.1:9092")

    def running(name: str, settings: Settings, kafka: KafkaSettings) -> bool:
        sensor = build_defs(settings, kafka=kafka).resolve_sensor_def(name)
        return sensor.default_status is dg.DefaultSensorStatus.RUNNING

    assert not running("transactions_sensor", settings, nothing)
    assert running("transactions_sensor", settings, somewhere)
    assert not running("alert_webhook", settings, somewhere)
    posting = settings.model_copy(update={"alert_webhook_url": "http://127.0.0.1:1"})
    assert running("alert_webhook", posting, nothing)
    quiet = posting.model_copy(update={"schedules_enabled": False})
    assert not running("transactions_sensor", quiet, somewhere)
    assert not running("alert_webhook", quiet, somewhere)


class TestTicksAndRuns:
    def test_a_backlog_is_scored_once_in_bounded_runs(self, deployment: Deployment) -> None:
        rows, sizes, lags = deployment.send(60), [], []
        while (tick := deployment.tick()).run_requests:
            (request,) = tick.run_requests
            ranges = request.run_config["ops"][SCORED_ASSET]["config"]["ranges"]
            sizes.append(sum(range_["end"] - range_["start"] for range_ in ranges))
            lags += [event.metadata["lag"].value for event in tick.asset_events]
            assert deployment.run(request).success
        assert tick.skip_message == "everything is decided and published"
        assert max(sizes) <= MOST
        assert sum(sizes) == 60
        assert lags == [60 - sum(sizes[:done]) for done in range(len(sizes))]
        assert deployment.decided() == sorted(row.transaction_id for row in rows)
        assert len(everything(deployment.kafka, deployment.kafka.decisions_topic)) == 60

    def test_a_quiet_stream_is_observed_once(self, deployment: Deployment) -> None:
        deployment.send(3)
        (request,) = deployment.tick().run_requests
        assert deployment.run(request).success
        deployment.tick()
        assert deployment.tick().asset_events == []

    def test_the_cursor_says_where_each_partition_goes_on_and_losing_it_loses_nothing(
        self, deployment: Deployment
    ) -> None:
        deployment.send(60)
        first = deployment.tick()
        assert deployment.run(first.run_requests[0]).success
        expected = {
            f"{deployment.kafka.transactions_topic}:{partition}": position.next_offset
            for partition, position in standing(deployment.database, deployment.kafka.transactions_topic).items()
        }
        assert json.loads(first.cursor) == expected
        second = deployment.tick()
        deployment.cursor = None
        assert deployment.tick().run_requests == second.run_requests
        assert first.run_requests[0].run_key != second.run_requests[0].run_key

    def test_the_run_key_names_the_ranges(self, deployment: Deployment) -> None:
        topic = deployment.kafka.transactions_topic
        rows = transactions(3, customers=2, end=now_microseconds() - SECOND)
        send(deployment.kafka, topic, (transaction_message(row, currency="EUR") for row in rows), partition=2)
        (request,) = deployment.tick().run_requests
        assert request.run_key == f"{topic}:2:0-3 attempt 1"

    def test_a_run_that_is_executed_again_changes_nothing(self, deployment: Deployment) -> None:
        deployment.send(10)
        (request,) = deployment.tick().run_requests
        assert deployment.run(request).success
        before = decided(deployment.database)
        again = deployment.run(request)
        (shown,) = again.asset_materializations_for_node(SCORED_ASSET)
        assert (shown.metadata["decided"].value, shown.metadata["replayed"].value) == (0, 10)
        assert decided(deployment.database) == before

    def test_reports_of_the_stream_follow_their_transactions(self, deployment: Deployment) -> None:
        rows = deployment.send(3)
        send(deployment.kafka, deployment.kafka.reports_topic, [report_message(rows[0].transaction_id, is_fraud=True)])
        (request,) = deployment.tick().run_requests
        (shown,) = deployment.run(request).asset_materializations_for_node(SCORED_ASSET)
        assert (shown.metadata["reports"].value, shown.metadata["dead_letters"].value) == (1, 0)

    def test_one_run_at_a_time(self, deployment: Deployment) -> None:
        deployment.send(5)
        job = deployment.definitions.resolve_job_def(STREAM_JOB)
        at_work = deployment.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert f"run {at_work.run_id} is still at work" in deployment.tick().skip_message

    def test_a_failed_range_is_left_alone_for_a_while_and_then_tried_again_under_another_key(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployment.send(5)
        (request,) = deployment.tick().run_requests
        beyond = {"topic": deployment.kafka.transactions_topic, "partition": 0, "start": 900, "end": 901}
        failed = deployment.run(request, run_config={"ops": {SCORED_ASSET: {"config": {"ranges": [beyond]}}}})
        assert not failed.success
        # More records do not make another range of it: it still begins at the same place.
        deployment.send(5, prefix="later")
        assert "1 runs got no further" in deployment.tick().skip_message
        monkeypatch.setattr(backoff, "FIRST_PAUSE", timedelta(0))
        (again,) = deployment.tick().run_requests
        assert again.run_key.endswith("attempt 2")
        assert deployment.run(again).success

    def test_while_a_consumer_lives_the_stream_is_only_observed(self, deployment: Deployment) -> None:
        deployment.send(5)
        group = deployment.kafka.group
        with closing(open_consumer(deployment.kafka, group_id=group, **SESSION)) as consumer:
            consumer.subscribe([deployment.kafka.transactions_topic])
            until(lambda: consumer.poll(timeout_ms=200) or consumer.assignment())
            tick = deployment.tick()
            assert tick.run_requests == []
            assert tick.skip_message == f"1 live consumers of group {group} score the stream: only observing"
            (observed,) = tick.asset_events
            assert observed.asset_key == dg.AssetKey(TRANSACTIONS_TOPIC)
            assert (observed.metadata["lag"].value, observed.metadata["live_consumers"].value) == (5, 1)
        assert len(deployment.tick().run_requests) == 1

    def test_a_broker_that_is_away_and_a_topic_that_is_not_there_are_told(self, deployment: Deployment) -> None:
        reachable = deployment.kafka
        deployment.kafka = reachable.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
        assert "no Kafka broker can be reached: 127.0.0.1:1" in deployment.tick().skip_message
        nothing = {"transactions_topic": "never-made", "reports_topic": "never-made-either"}
        deployment.kafka = reachable.model_copy(update=nothing)
        assert "does not exist yet" in deployment.tick().skip_message


class TestByHand:
    def test_without_ranges_a_run_scores_what_there_is_up_to_its_size(self, deployment: Deployment) -> None:
        deployment.send(60)
        job = deployment.definitions.resolve_job_def(STREAM_JOB)
        assert job.execute_in_process(instance=deployment.instance).success
        assert 0 < len(deployment.decided()) <= MOST

    def test_a_run_keeps_the_cap_of_all_and_says_what_it_cost(
        self, deployment: Deployment, trained: TrainedModel, tmp_path: Path
    ) -> None:
        """A model gone wrong has used the cap up elsewhere."""
        everything = Policy(review_threshold=0.0, block_threshold=0.0)
        replace(trained.model, policy=everything).save(tmp_path / "wrong")
        publish(tmp_path / "wrong", link=deployment.settings.champion_directory)
        deployment.settings = deployment.settings.model_copy(update={"max_blocks_per_minute": 3})
        at = now_microseconds() // HOUR * HOUR - HOUR
        with scoring_batch(deployment.database) as batch:
            assert batch.blocks.take([at, at], most=3) == [True, True]
        rows = [row._replace(event_time=at + n * SECOND) for n, row in enumerate(transactions(4, customers=4, end=at))]
        messages = (transaction_message(row, currency="EUR") for row in rows)
        send(deployment.kafka, deployment.kafka.transactions_topic, messages)
        job = deployment.definitions.resolve_job_def(STREAM_JOB)
        run = job.execute_in_process(instance=deployment.instance)
        (made,) = run.asset_materializations_for_node(SCORED_ASSET)
        assert made.metadata["blocks_demoted"].value == 3
        lines = [event.message for event in deployment.instance.all_logs(run.run_id) if not event.is_dagster_event]
        assert "too many blocks in a minute: 3 became reviews (BlocksDemoted)" in lines

    def test_without_a_broker_there_is_nothing_to_do_and_nothing_is_claimed(self, tmp_path: Path) -> None:
        with deployment_in(tmp_path, KafkaSettings()) as deployment_:
            result = deployment_.definitions.resolve_job_def(STREAM_JOB).execute_in_process(
                instance=deployment_.instance
            )
        assert result.success
        assert result.asset_materializations_for_node(SCORED_ASSET) == []

    def test_a_range_that_cannot_be_scored_says_why(self, deployment: Deployment) -> None:
        beyond = {"topic": deployment.kafka.transactions_topic, "partition": 0, "start": 7, "end": 9}
        job = deployment.definitions.resolve_job_def(STREAM_JOB)
        with pytest.raises(dg.Failure, match="leaves out records from 0 on"):
            job.execute_in_process(
                instance=deployment.instance,
                run_config={"ops": {SCORED_ASSET: {"config": {"ranges": [beyond]}}}},
            )

    def test_a_database_that_refuses_fails_the_run_with_the_cause_and_the_range_is_scored_again(
        self, deployment: Deployment
    ) -> None:
        deployment.send(5)
        (request,) = deployment.tick().run_requests
        rename = "ALTER TABLE decisions RENAME COLUMN {} TO {}"
        with deployment.database.transaction() as connection:
            connection.exec_driver_sql(rename.format("reasons", "reasons_new"))
        with pytest.raises(dg.Failure, match="no column named reasons.*fraud-detect migrate.*is scored again"):
            deployment.run(request, raise_on_error=True)
        with deployment.database.transaction() as connection:
            connection.exec_driver_sql(rename.format("reasons_new", "reasons"))
        assert deployment.decided() == []
        assert deployment.run(request).success
        assert len(deployment.decided()) == 5


class TestAlertWebhook:
    def test_new_alerts_are_posted_and_a_webhook_that_is_away_is_left_alone_for_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        webhook = Webhook()
        try:
            with deployment_in(tmp_path, KafkaSettings(), alert_webhook_url=webhook.url) as deployment_:
                ids = open_alerts(deployment_.database, 3)
                webhook.refuse = {2: 503}
                assert "answered 503" in deployment_.tick("alert_webhook").skip_message
                webhook.refuse = {}
                assert "left alone" in deployment_.tick("alert_webhook").skip_message
                monkeypatch.setattr(backoff, "FIRST_PAUSE", timedelta(0))
                held = "1 held back until the webhook takes them"
                assert deployment_.tick("alert_webhook").skip_message == f"1 alerts posted, {held}"
                assert deployment_.tick("alert_webhook").skip_message == f"0 alerts posted, {held}"
                assert webhook.ids == [ids[0], ids[2]]
        finally:
            webhook.server.shutdown()
            webhook.server.server_close()

    def test_without_a_webhook_the_tick_says_how_to_name_one(self, tmp_path: Path) -> None:
        with deployment_in(tmp_path, KafkaSettings()) as deployment_:
            assert "FRAUD_ALERT_WEBHOOK_URL" in deployment_.tick("alert_webhook").skip_message


class TestTheLoopCloses:
    def test_what_was_served_yesterday_is_a_day_to_learn_from(self, deployment: Deployment) -> None:
        midnight = now_microseconds() // DAY * DAY
        rows = deployment.send(4, end=midnight - 6 * HOUR)
        assert deployment.run(deployment.tick().run_requests[0]).success
        with scoring_batch(deployment.database) as batch:
            batch.add_report(rows[0].transaction_id, reported_at=midnight - HOUR, is_fraud=True)
            batch.add_report(rows[1].transaction_id, reported_at=midnight - HOUR, is_fraud=False)
        # The file of the first training ended long ago.
        deployment.settings = deployment.settings.model_copy(
            update={"learn_from_served": True, "last_day": date(2026, 1, 2)}
        )
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
        job = deployment.definitions.resolve_job_def("ingest_job")
        names = ("raw_transactions", "transactions", "rejected_transactions", "fraud_reports")
        result = job.execute_in_process(
            instance=deployment.instance,
            partition_key=yesterday.isoformat(),
            asset_selection=[dg.AssetKey(name) for name in names],
        )
        assert result.success
        store = TableStore(deployment.settings.tables_directory)
        learned = store.read("transactions", yesterday, yesterday)
        assert sorted(learned["transaction_id"]) == sorted(row.transaction_id for row in rows)
        cents = dict(zip(learned["transaction_id"], learned["amount_cents"], strict=True))
        assert cents == {row.transaction_id: row.amount_cents for row in rows}
        reports = store.read("fraud_reports", yesterday, yesterday)
        labels = dict(zip(reports["transaction_id"], reports["is_fraud"], strict=True))
        assert labels == {rows[0].transaction_id: True, rows[1].transaction_id: False}

    def test_the_calendar_goes_on_after_the_end_of_the_file(self, tmp_path: Path) -> None:
        today = pd.Timestamp.now(tz="UTC").floor("D")
        first, last = (today - pd.Timedelta(days=10)).date(), (today - pd.Timedelta(days=9)).date()
        rows = [f"t{day},{day}T12:00:00Z,c,m,10.00" for day in (first, last)]
        header = "transaction_id,event_time,customer_id,merchant_id,amount"
        (tmp_path / "mine.csv").write_text("\n".join([header, *rows, ""]))
        file = Settings(home=tmp_path, data_path=tmp_path / "mine.csv", first_day=first, last_day=last)

        def last_day_asked_for(settings: Settings) -> str:
            definitions = build_defs(settings)
            with dg.build_schedule_context(
                scheduled_execution_time=today + pd.Timedelta(minutes=90),
                repository_def=definitions.get_repository_def(),
            ) as context:
                tick = definitions.resolve_schedule_def("daily_ingest").evaluate_tick(context)
            assert tick.run_requests, tick.skip_message
            return max(request.tags[RANGE_END_TAG] for request in tick.run_requests)

        assert last_day_asked_for(file) == last.isoformat()
        served = file.model_copy(update={"learn_from_served": True})
        with closing(Database(served.database)) as database:
            database.upgrade()
            known = FileSource(tmp_path / "mine.csv").transactions(start=today - pd.Timedelta(days=10), end=today)
            accepted = validate(known, now=today).accepted
            load_history(database, transactions=accepted, reports=empty(FRAUD_REPORTS))
        assert last_day_asked_for(served) == (today - pd.Timedelta(days=1)).date().isoformat()

    def test_days_that_left_the_database_are_refused_and_not_taken_for_empty(self, tmp_path: Path) -> None:
        source = DatabaseSource(f"sqlite:///{tmp_path / 'served.db'}", retention=timedelta(days=180))
        now = pd.Timestamp.now(tz="UTC").floor("D")
        assert source.transactions(start=now - pd.Timedelta(days=178), end=now).empty
        for read in (source.transactions, source.reports):
            with pytest.raises(SourceError, match="no longer in the database"):
                read(start=now - pd.Timedelta(days=180), end=now)


@pytest.mark.slow
def test_a_daemon_scores_the_stream_by_itself(broker: Broker, tmp_path: Path) -> None:
    """From the topic to decisions, with nothing but `dagster-daemon run` and settings in the environment."""
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    with deployment_in(tmp_path, kafka) as deployment_:
        rows = deployment_.send(40)
        home = prepare_dagster_home(deployment_.settings)
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(home),
            "FRAUD_HOME": str(deployment_.settings.home),
            "PYTHONWARNINGS": "ignore",
            **{
                f"FRAUD_KAFKA_{name.upper()}": str(getattr(kafka, name))
                for name in ("bootstrap_servers", "transactions_topic", "decisions_topic", "reports_topic")
            },
            "FRAUD_KAFKA_DEAD_LETTER_TOPIC": kafka.dead_letter_topic,
        }
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(WORKSPACE_FILE)]
        with (tmp_path / "daemon.log").open("w") as log:
            daemon = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                until(lambda: len(deployment_.decided()) == len(rows))
                # The daemon continues: a later run scores later records.
                later = deployment_.send(7, prefix="later")
                until(lambda: len(deployment_.decided()) == len(rows) + len(later))
            except AssertionError:
                pytest.fail((tmp_path / "daemon.log").read_text()[-5_000:])
            finally:
                os.killpg(daemon.pid, signal.SIGINT)
                kill = threading.Timer(30, os.killpg, (daemon.pid, signal.SIGKILL))
                kill.start()
                daemon.wait()
                kill.cancel()
        assert deployment_.decided() == sorted(row.transaction_id for row in (*rows, *later))

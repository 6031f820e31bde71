"""The producer with a real broker: acknowledged transactions can be read, each one once."""

import threading
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition

from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    KafkaSettings,
    ensure_topics,
    message,
    open_consumer,
    open_producer,
)
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.stream.messages import BadMessage, MessageReader
from serving.stream.producer import MAX_IN_FLIGHT, Deliveries, ProduceReport, pause_before, produce

PARTITIONS = 4
AT_ONCE = 1_000_000.0


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    return topics_of_our_own(broker, partitions=PARTITIONS)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def records_of(kafka: KafkaSettings, topic: str) -> list[Any]:
    """All records of a topic, read until no more arrive."""
    with closing(open_consumer(kafka, consumer_timeout_ms=1_500, fetch_max_wait_ms=10)) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        return list(consumer)


def rows_of(records: list[Any]) -> list[TransactionRow]:
    """The transactions of the records, each as the scorer would get it."""
    reader = MessageReader(currency="EUR")
    read = [reader.transaction_message(record.value, record.headers, now=microseconds_now()) for record in records]
    assert not [bad for bad in read if isinstance(bad, BadMessage)]
    return [row for row in read if isinstance(row, TransactionRow)]


def microseconds_now() -> int:
    return time.time_ns() // 1_000


class TestSynthetic:
    def test_what_was_acknowledged_can_be_read_once_and_happened_now(
        self, settings: Settings, kafka: KafkaSettings
    ) -> None:
        before = microseconds_now()
        report = produce(settings, kafka, rate=2_000, count=300, on_progress=lambda _: None)
        rows = rows_of(records_of(kafka, kafka.transactions_topic))
        assert (report.sent, report.acknowledged, report.failed) == (300, 300, 0)
        assert len({row.transaction_id for row in rows}) == len(rows) == 300
        assert all(before <= row.event_time <= microseconds_now() for row in rows)

    def test_a_customer_keeps_to_one_partition_and_customers_to_all(
        self, settings: Settings, kafka: KafkaSettings
    ) -> None:
        produce(settings, kafka, rate=AT_ONCE, count=3_000, on_progress=lambda _: None)
        records = records_of(kafka, kafka.transactions_topic)
        places: dict[bytes, set[int]] = defaultdict(set)
        for record in records:
            places[record.key].add(record.partition)
        assert all(
            row.customer_id.encode() == record.key for row, record in zip(rows_of(records), records, strict=True)
        )
        assert max(Counter(record.key for record in records).values()) > 1
        assert all(len(partitions) == 1 for partitions in places.values())
        assert set.union(*places.values()) == set(range(PARTITIONS))

    def test_two_runs_share_customers_and_no_ids(self, settings: Settings, kafka: KafkaSettings) -> None:
        for _ in range(2):
            produce(settings, kafka, rate=AT_ONCE, count=20, topic=kafka.reports_topic, on_progress=lambda _: None)
        rows = rows_of(records_of(kafka, kafka.reports_topic))
        assert len({row.transaction_id for row in rows}) == 40
        assert len({row.merchant_id for row in rows}) < 40


class TestFile:
    def test_valid_rows_are_sent_in_their_order_and_invalid_ones_are_reported(
        self, settings: Settings, kafka: KafkaSettings, tmp_path: Path
    ) -> None:
        path = tmp_path / "bank.csv"
        lines = [f"old-{n},2026-01-{n:02d}T10:00:00Z,c-1,m-{n},{n}.5,,,," for n in range(1, 21)]
        lines.append("bad,2026-01-05T10:00:00Z,c-1,m-1,1000000000000,,,,")
        header = "transaction_id,event_time,customer_id,merchant_id,amount,category,country,latitude,longitude"
        path.write_text("\n".join([header, *reversed(lines)]))
        reported: list[str] = []
        report = produce(settings, kafka, rate=AT_ONCE, data_path=path, on_progress=reported.append)
        rows = rows_of(records_of(kafka, kafka.transactions_topic))
        assert report.acknowledged == 20
        assert [(row.merchant_id, row.amount_cents, row.category, row.latitude) for row in rows] == [
            (f"m-{n}", n * 100 + 50, None, None) for n in range(1, 21)
        ]
        assert [row.event_time for row in rows] == sorted(row.event_time for row in rows)
        assert reported[0] == "bank.csv: 1 invalid rows are not sent (out_of_range 1)"

    def test_a_count_ends_it_sooner(self, settings: Settings, kafka: KafkaSettings, tmp_path: Path) -> None:
        path = tmp_path / "bank.csv"
        lines = [f"t-{n},2026-01-05T10:00:{n:02d}Z,c-{n},m-1,1.00" for n in range(30)]
        path.write_text("\n".join(["transaction_id,event_time,customer_id,merchant_id,amount", *lines]))
        assert produce(settings, kafka, rate=AT_ONCE, count=7, data_path=path, on_progress=lambda _: None).sent == 7

    def test_a_file_without_a_valid_row_is_refused(
        self, settings: Settings, kafka: KafkaSettings, tmp_path: Path
    ) -> None:
        path = tmp_path / "bank.csv"
        path.write_text(
            "transaction_id,event_time,customer_id,merchant_id,amount\nt-1,2026-01-05T10:00:00Z,c,m,1000000000000\n"
        )
        with pytest.raises(ValueError, match="bank.csv has no valid row"):
            produce(settings, kafka, rate=1, data_path=path, on_progress=lambda _: None)


class TestTrouble:
    def test_no_broker_is_said_before_anything_is_sent(self, settings: Settings) -> None:
        nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        with pytest.raises(BrokerUnavailableError, match="127.0.0.1:1 .*FRAUD_KAFKA_BOOTSTRAP_SERVERS"):
            produce(settings, nobody, rate=1, on_progress=lambda _: None)

    @pytest.mark.parametrize(("rate", "count"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
    def test_numbers_that_mean_nothing_are_refused(
        self, settings: Settings, kafka: KafkaSettings, rate: float, count: int
    ) -> None:
        with pytest.raises(ValueError, match="above 0"):
            produce(settings, kafka, rate=rate, count=count, on_progress=lambda _: None)

    def test_a_broker_away_for_a_while_costs_nothing(self, broker: Broker, kafka: KafkaSettings) -> None:
        ensure_topics(kafka)
        deliveries = Deliveries(patience=60)
        total = MAX_IN_FLIGHT + 500
        with closing(open_producer(kafka)) as client:
            client.partitions_for(kafka.transactions_topic)

            def send_all() -> None:
                for number in range(total):
                    deliveries.send(client, kafka.transactions_topic, message("c-1", {"number": number}))

            sender = threading.Thread(target=send_all)
            with broker.away():
                sender.start()
                while deliveries.sent < MAX_IN_FLIGHT and sender.is_alive():
                    time.sleep(0.05)
                sender.join(timeout=1.0)
                waiting = (deliveries.sent, deliveries.acknowledged)
            sender.join()
            client.flush()
        assert waiting == (MAX_IN_FLIGHT, 0)
        assert (deliveries.sent, deliveries.acknowledged, sum(deliveries.errors.values())) == (total, total, 0)
        values = [record.value for record in records_of(kafka, kafka.transactions_topic)]
        assert values == [message("c-1", {"number": number}).value for number in range(total)]

    def test_a_broker_that_hangs_ends_it_with_a_report(
        self, broker: Broker, settings: Settings, kafka: KafkaSettings
    ) -> None:
        """The library waits without a limit for a broker that takes connections and answers nothing."""
        if broker.process is None:
            pytest.skip(f"{broker.name} is not ours to stop")
        ensure_topics(kafka)
        lines: list[str] = []
        reports: list[ProduceReport] = []

        def run() -> None:
            reports.append(produce(settings, kafka, rate=2_000, on_progress=lines.append, patience=2))

        sender = threading.Thread(target=run)
        sender.start()
        with closing(open_consumer(kafka)) as consumer:
            consumer.assign([TopicPartition(kafka.transactions_topic, partition) for partition in range(PARTITIONS)])
            next(consumer)
        with broker.away():
            sender.join(timeout=LIMIT_SECONDS)
            (report,) = reports
        for left in [thread for thread in threading.enumerate() if type(thread).__name__ == "Sender"]:
            left.join(timeout=LIMIT_SECONDS)
            assert not left.is_alive()
        assert report.acknowledged > 0
        assert (report.failed, report.errors) == (MAX_IN_FLIGHT, {"unanswered": MAX_IN_FLIGHT})
        assert lines[-1] == "1,000 messages have been unanswered for 2 s: look after the brokers"

    def test_a_message_that_cannot_be_sent_at_all_counts_too(self, kafka: KafkaSettings) -> None:
        ensure_topics(kafka)
        deliveries = Deliveries(patience=60)
        with closing(open_producer(kafka, max_request_size=50)) as client:
            deliveries.send(client, kafka.transactions_topic, message("c-1", {"number": 1}))
        assert (deliveries.sent, deliveries.acknowledged) == (1, 0)
        assert deliveries.errors == {"MessageSizeTooLargeError": 1}

    def test_the_summary_is_one_line(self) -> None:
        report = ProduceReport("transactions", 1_200, 1_000, 10.0, {"KafkaTimeoutError": 200})
        assert str(report) == "transactions: 1,000 acknowledged, 200 failed (KafkaTimeoutError 200), 100.0 a second"
        assert report.failed == 200


class TestSchedule:
    @given(
        rate=st.floats(0.1, 10_000),
        stalls=st.lists(st.floats(0, 5), min_size=1, max_size=50),
    )
    def test_delays_do_not_add_up(self, rate: float, stalls: list[float]) -> None:
        """Message k is never early, and late only by its own stall and by stalls that are not yet made up for."""
        clock = 0.0
        lateness = 0.0
        for position, stall in enumerate(stalls):
            clock += pause_before(position, rate=rate, elapsed=clock)
            assert clock >= position / rate - 1e-9
            assert clock <= position / rate + lateness + 1e-6
            clock += stall
            lateness = max(0.0, clock - (position + 1) / rate)

    def test_undisturbed_messages_are_equally_far_apart(self) -> None:
        due = [pause_before(position, rate=100, elapsed=0) for position in range(5)]
        assert due == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])

"""Alerts as analysts work on them, and as a webhook hears of them, on both kinds of database."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.alerts.backoff import LONGEST_PAUSE, pause_after
from fraud_pipeline.alerts.outbox import (
    BUDGET,
    Posted,
    post_new_alerts,
)
from fraud_pipeline.alerts.queue import AlertError, add_note, history, listed, resolve, take, take_next
from fraud_pipeline.alerts.webhook import WebhookAwayError
from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.alerts import AnalystVerdict
from fraud_pipeline.database.tables import ALERTS, FRAUD_REPORTS
from fraud_pipeline_tests.support.open_alerts import CUSTOMERS, open_alerts
from fraud_pipeline_tests.support.webhooks import Webhook

OPENED = 20_000 * 86_400.0


def reports(database: Database) -> list[tuple[str, bool]]:
    with database.transaction() as connection:
        rows = connection.execute(sa.select(FRAUD_REPORTS.c.transaction_id, FRAUD_REPORTS.c.is_fraud)).all()
    return [(row[0], row[1]) for row in rows]


class TestReview:
    def test_the_oldest_open_alert_comes_first_and_is_then_in_review(self, database: Database) -> None:
        ids = open_alerts(database, 2)
        taken = take_next(database, who="ann")
        assert taken is not None
        assert (taken.transaction_id, taken.status, taken.assignee) == (ids[0], "in_review", "ann")
        assert [alert.transaction_id for alert in listed(database, status="open")] == ids[1:]
        assert [alert.transaction_id for alert in listed(database)] == ids

    def test_without_an_open_alert_there_is_no_next(self, database: Database) -> None:
        open_alerts(database, 1)
        take_next(database, who="ann")
        assert take_next(database, who="ben") is None

    def test_analysts_at_the_same_moment_never_get_the_same_alert(self, database: Database) -> None:
        ids, got = open_alerts(database, 40), defaultdict(list)
        together = threading.Barrier(4)

        def work(who: str) -> None:
            together.wait()
            while (taken := take_next(database, who=who)) is not None:
                got[who].append(taken.transaction_id)

        threads = [threading.Thread(target=work, args=(f"analyst {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(id_ for ids_of_one in got.values() for id_ in ids_of_one) == sorted(ids)

    def test_an_alert_that_another_is_taking_is_passed_over(self, empty_postgres_url: str) -> None:
        """The one that is held is neither waited for nor given twice."""
        database = Database(empty_postgres_url, statement_timeout=timedelta(seconds=2))
        database.upgrade()
        ids = open_alerts(database, 2)
        with database.transaction() as connection:
            held = sa.select(ALERTS.c.number).where(ALERTS.c.transaction_id == ids[0]).with_for_update()
            connection.execute(held)
            taken = take_next(database, who="ann")
        assert taken is not None
        assert taken.transaction_id == ids[1]
        database.close()

    @pytest.mark.parametrize(
        ("verdict", "expected"), [("confirmed_fraud", [True]), ("legitimate", [False]), ("duplicate", [])]
    )
    def test_a_verdict_is_a_report_unless_it_is_a_duplicate(
        self, database: Database, verdict: AnalystVerdict, expected: list[bool]
    ) -> None:
        (id_,) = open_alerts(database, 1)
        take_next(database, who="ann")
        resolved = resolve(database, id_, who="ann", verdict=verdict, note="called the customer")
        assert resolved.status == verdict
        assert resolved.resolved_at is not None
        assert reports(database) == [(id_, is_fraud) for is_fraud in expected]
        assert resolve(database, id_, who="ann", verdict=verdict) == resolved
        assert reports(database) == [(id_, is_fraud) for is_fraud in expected]

    def test_a_verdict_counts_when_history_has_forgotten_the_transaction(self, database: Database) -> None:
        with scoring_batch(database) as batch:
            batch.add_alerts(ids=["t-old"], customers=["c"], decisions=["block"], created_at=0)
        take_next(database, who="ann")
        assert resolve(database, "t-old", who="ann", verdict="confirmed_fraud").status == "confirmed_fraud"
        assert reports(database) == []

    def test_who_did_what_stays_on_record(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        taken = take_next(database, who="ann")
        assert taken is not None
        noted = add_note(database, id_, who="ben", note="same merchant as yesterday")
        take(database, id_, who="ben", version=noted.version)
        resolve(database, id_, who="ben", verdict="legitimate", note="a holiday")
        assert [(event.who, event.what, event.note) for event in history(database, id_)] == [
            ("ann", "taken", ""),
            ("ben", "noted", "same merchant as yesterday"),
            ("ben", "taken", ""),
            ("ben", "legitimate", "a holiday"),
        ]
        assert listed(database)[0].version == 4

    @pytest.mark.parametrize("note", ["with a\x00null", "half a \ud83d surrogate"])
    def test_a_note_that_not_every_database_can_keep_is_refused_by_all(self, database: Database, note: str) -> None:
        open_alerts(database, 1)
        with pytest.raises(AlertError, match="a character that cannot be stored: leave it out"):
            take_next(database, who="ann", note=note)
        assert listed(database)[0].status == "open"

    def test_what_cannot_be_done_says_why(self, database: Database) -> None:
        ids = open_alerts(database, 2)
        with pytest.raises(AlertError, match="no alert"):
            resolve(database, "t-nobody", who="ann", verdict="legitimate")
        with pytest.raises(AlertError, match="take it first"):
            resolve(database, ids[0], who="ann", verdict="legitimate")
        take_next(database, who="ann")
        with pytest.raises(AlertError, match="in review by ann"):
            resolve(database, ids[0], who="ben", verdict="legitimate")
        with pytest.raises(AlertError, match="has changed"):
            take(database, ids[0], who="ben", version=0)
        resolve(database, ids[0], who="ann", verdict="legitimate")
        with pytest.raises(AlertError, match="resolved already, as legitimate by ann"):
            resolve(database, ids[0], who="ann", verdict="confirmed_fraud")
        with pytest.raises(AlertError, match="resolved already"):
            take(database, ids[0], who="ben", version=2)
        assert reports(database) == [(ids[0], False)]

    def test_of_two_who_take_over_the_same_alert_one_is_told(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        take(database, id_, who="ann", version=0)
        with pytest.raises(AlertError, match="list the alerts again"):
            take(database, id_, who="ben", version=0)


@dataclass
class Clock:
    """Seconds since 1970, as a test sets them."""

    now: float = OPENED + 86_400

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    running = Webhook()
    yield running
    running.server.shutdown()
    running.server.server_close()


class TestOutbox:
    def test_new_alerts_are_posted_once_in_order_and_in_bounded_calls(
        self, database: Database, webhook: Webhook
    ) -> None:
        ids = open_alerts(database, 3)
        assert post_new_alerts(database, webhook.url, limit=2) == Posted(alerts=2, held=0, waiting=False)
        ids += open_alerts(database, 3, first=3)
        assert post_new_alerts(database, webhook.url) == Posted(alerts=4, held=0, waiting=False)
        assert post_new_alerts(database, webhook.url) == Posted(alerts=0, held=0, waiting=False)
        assert webhook.ids == ids

    def test_ids_only(self, database: Database, webhook: Webhook) -> None:
        (id_,) = open_alerts(database, 1)
        post_new_alerts(database, webhook.url)
        (posted,) = webhook.received
        assert posted == {
            "text": f"alert 1: review of transaction {id_}",
            "alert": 1,
            "transaction_id": id_,
            "customer_id": "c-0",
            "decision": "review",
            "created_at": "2024-10-04T00:00:00+00:00",
        }

    @pytest.mark.parametrize("status", [400, 404, 302])
    def test_a_refused_alert_holds_back_its_customer_only_and_is_tried_again(
        self, database: Database, webhook: Webhook, caplog: pytest.LogCaptureFixture, status: int
    ) -> None:
        ids = open_alerts(database, 3 * CUSTOMERS)
        held = [ids[1], ids[1 + CUSTOMERS], ids[1 + 2 * CUSTOMERS]]
        webhook.refuse = {2: status}
        clock = Clock()
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=18, held=1, waiting=False)
        assert webhook.ids == [id_ for id_ in ids if id_ not in held]
        assert f"alert 2 waits, and later ones of its customer: the alert webhook answered {status}" in caplog.text
        assert "c-1" not in caplog.text
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=0, held=1, waiting=False)
        clock.now += LONGEST_PAUSE.total_seconds()
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=0, held=1, waiting=False)
        assert (webhook.requests[2], webhook.requests.total()) == (2, 20)
        webhook.refuse, clock.now = {}, clock.now + LONGEST_PAUSE.total_seconds()
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=1, held=0, waiting=False)
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=2, held=0, waiting=False)
        assert webhook.ids[-3:] == held

    def test_however_many_are_refused_the_others_are_posted(self, database: Database, webhook: Webhook) -> None:
        ids = open_alerts(database, CUSTOMERS)
        webhook.refuse = dict.fromkeys(range(1, CUSTOMERS), 400)
        clock = Clock()
        for _ in range(CUSTOMERS):
            posted = post_new_alerts(database, webhook.url, limit=2, clock=clock)
            clock.now += LONGEST_PAUSE.total_seconds()
        assert webhook.ids == ids[-1:]
        assert posted.held == CUSTOMERS - 1

    @pytest.mark.parametrize("status", [429, 500])
    def test_a_webhook_that_takes_nothing_is_asked_once_and_next_time_for_others_first(
        self, database: Database, webhook: Webhook, status: int
    ) -> None:
        ids = open_alerts(database, 3)
        webhook.refuse = {1: status}
        clock = Clock()
        with pytest.raises(WebhookAwayError, match=str(status)):
            post_new_alerts(database, webhook.url, clock=clock)
        assert webhook.requests.total() == 1
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=2, held=1, waiting=False)
        webhook.refuse, clock.now = {}, clock.now + LONGEST_PAUSE.total_seconds()
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=1, held=0, waiting=False)
        assert webhook.ids == [*ids[1:], ids[0]]

    def test_a_young_alert_is_tried_again_soon(self, database: Database, webhook: Webhook) -> None:
        open_alerts(database, 1)
        webhook.refuse = {1: 400}
        for tries, after in enumerate([0, 10, 20, 40, 80, 160, 320, 640, 1_240, 1_840, 2_440, 3_040]):
            for early, requests in ((1, tries), (0, tries + 1)):
                if after >= early:
                    assert post_new_alerts(database, webhook.url, clock=Clock(OPENED + after - early)).held == 1
                    assert webhook.requests.total() == requests

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1/a-secret-path", "no url a-secret-path"])
    def test_a_webhook_that_is_away_is_told_without_its_secret(self, database: Database, url: str) -> None:
        open_alerts(database, 1)
        with pytest.raises(WebhookAwayError) as raised:
            post_new_alerts(database, url)
        assert "a-secret-path" not in str(raised.value)

    def test_a_call_ends_before_the_daemon_gives_it_up(self, database: Database, webhook: Webhook) -> None:
        ids = open_alerts(database, 3)
        clock = Clock()
        slow = iter([0.0, 0.0, 0.0, BUDGET.total_seconds() + 1])

        def passing() -> float:
            clock.now += next(slow, 0.0)
            return clock.now

        assert post_new_alerts(database, webhook.url, clock=passing) == Posted(alerts=1, held=0, waiting=True)
        assert post_new_alerts(database, webhook.url, clock=clock) == Posted(alerts=2, held=0, waiting=False)
        assert webhook.ids == ids


def test_alerts_of_the_release_before_are_kept_in_order(database_url: str) -> None:
    database = Database(database_url)
    database.upgrade("0002")
    with database.transaction() as connection:
        for id_, at in (("t-b", 1), ("t-a", 2)):
            values = f"('{id_}', 'c', {at}, 'review', 'open')"
            connection.execute(sa.text(f"INSERT INTO alerts VALUES {values}"))  # noqa: S608 - ours
    database.upgrade()
    assert [(alert.transaction_id, alert.number, alert.version) for alert in listed(database)] == [
        ("t-b", 1, 0),
        ("t-a", 2, 0),
    ]
    database.downgrade("0002")
    with database.transaction() as connection:
        rows = connection.execute(sa.text("SELECT * FROM alerts ORDER BY created_at")).all()
    assert [tuple(row) for row in rows] == [("t-b", "c", 1, "review", "open"), ("t-a", "c", 2, "review", "open")]
    database.close()


@given(failures=st.integers(0, 10_000))
def test_the_pause_grows_and_has_an_end(failures: int) -> None:
    assert pause_after(failures) <= pause_after(failures + 1) <= LONGEST_PAUSE
    assert (pause_after(failures) == timedelta(0)) == (failures == 0)

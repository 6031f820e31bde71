"""The analyst's desk: the order and pages of the queue, bulk verdicts, undo, snooze, assign, release, export."""

import csv
import io

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.alerts.export import COLUMNS, as_csv
from fraud_pipeline.alerts.queue import (
    AlertError,
    assign,
    history,
    listed,
    release,
    resolve,
    resolve_all,
    snooze,
    take,
    take_next,
    undo,
)
from fraud_pipeline.alerts.urgency import DOUBLING, expected_loss_cents, queue_order
from fraud_pipeline.database import Batch, Database, scoring_batch
from fraud_pipeline.database.alert_queue import (
    AlertFilter,
    QueueRow,
    QueueState,
    count_queue,
    read_alert,
    read_alert_of,
    read_assignees,
    read_queue,
    read_whole_queue,
)
from fraud_pipeline.database.alerts import Alerts, AnalystVerdict
from fraud_pipeline.database.tables import ALERTS
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow, now_microseconds
from fraud_pipeline_tests.support.open_alerts import open_alerts

LOSSES = st.integers(0, 10**12)
MOMENTS = st.integers(15_000 * DAY, 25_000 * DAY)


def chosen(state: QueueState = "open", **limits: object) -> AlertFilter:
    return AlertFilter(state=state, now=now_microseconds(), **limits)  # type: ignore[arg-type]  # a test's own values


def open_worth(database: Database, losses: list[int], *, created_at: int = 20_000 * DAY) -> list[str]:
    """An alert for each expected loss (cents), all at one moment; their ids in that order."""
    ids = [f"t-{number}" for number in range(len(losses))]
    rows = [
        TransactionRow(id_, created_at, f"c-{number % 3}", f"m-{number % 2}", 2 * loss)
        for number, (id_, loss) in enumerate(zip(ids, losses, strict=True))
    ]
    with scoring_batch(database) as batch:
        batch.remember(rows)
        batch.add_alerts(
            ids=ids,
            customers=[row.customer_id for row in rows],
            decisions=["review"] * len(ids),
            created_at=created_at,
            merchant_id=[row.merchant_id for row in rows],
            amount_cents=[row.amount_cents for row in rows],
            probability=[0.5] * len(ids),
            expected_loss_cents=losses,
            queue_order=[queue_order(created_at, loss) for loss in losses],
        )
    return ids


def ids_of(rows: list[QueueRow]) -> list[str]:
    return [row.alert.transaction_id for row in rows]


def labels(database: Database, transaction_id: str) -> list[bool]:
    with database.transaction(read_only=True) as connection:
        return [is_fraud for _, is_fraud in Alerts(connection).labels(transaction_id)]


class TestUrgency:
    @given(LOSSES, LOSSES, MOMENTS)
    def test_of_two_alerts_of_one_moment_the_more_valuable_comes_first(self, one: int, other: int, at: int) -> None:
        small, large = sorted((one, other))
        assert queue_order(at, large) <= queue_order(at, small)

    @given(LOSSES, LOSSES, MOMENTS)
    def test_no_alert_waits_longer_than_its_doublings(self, small: int, large: int, at: int) -> None:
        """After as many weeks as the loss doubles, nothing that comes in passes it."""
        weeks = max(large, 1).bit_length()
        assert queue_order(at, small) <= queue_order(at + weeks * DOUBLING, large)

    @given(st.integers(-(10**12), 10**12), st.none() | st.floats(0, 1))
    def test_the_expected_loss_is_never_larger_than_the_amount(self, amount: int, probability: float | None) -> None:
        loss = expected_loss_cents(amount, probability)
        assert 0 <= loss <= abs(amount)
        assert loss == abs(amount) if probability is None else abs(loss - probability * abs(amount)) <= 0.5


class TestQueue:
    def test_it_is_sorted_by_expected_loss_and_taken_in_that_order(self, database: Database) -> None:
        open_worth(database, [100, 90_000, 5_000])
        assert ids_of(read_queue(database, chosen(), limit=9)) == ["t-1", "t-2", "t-0"]
        taken = take_next(database, who="ann")
        assert taken is not None
        assert (taken.transaction_id, taken.expected_loss_cents) == ("t-1", 90_000)

    def test_pages_hold_each_alert_once_whatever_is_resolved_in_between(self, database: Database) -> None:
        losses = [7, 7, 7, 50, 50, 3, 1_000, 3, 0, 0, 12]
        open_worth(database, losses)
        whole = ids_of(read_queue(database, chosen(), limit=99))
        pages, after = [], None
        while page := read_queue(database, chosen(), limit=3, after=after):
            pages += ids_of(page)
            after = page[-1].alert
            resolve_all(database, [ids_of(page)[0]], who="ben", verdict="duplicate")
        assert pages == whole
        assert len(set(whole)) == len(losses)

    def test_a_filter_narrows_page_count_and_export_alike(self, database: Database) -> None:
        open_worth(database, [100, 200, 300, 400, 500, 600])
        for limits, expected in (
            ({"customer_id": "c-0"}, {"t-0", "t-3"}),
            ({"merchant_id": "m-1"}, {"t-1", "t-3", "t-5"}),
            ({"min_amount_cents": 900}, {"t-4", "t-5"}),
            ({"min_probability": 0.6}, set()),
            ({"decision": "block"}, set()),
            ({"created_before": 20_000 * DAY}, set()),
            ({"customer_id": "c-0", "merchant_id": "m-1"}, {"t-3"}),
        ):
            narrowed = chosen(**limits)
            assert set(ids_of(read_queue(database, narrowed, limit=9))) == expected
            assert count_queue(database, narrowed, up_to=99) == len(expected)
            assert set(ids_of(list(read_whole_queue(database, narrowed)))) == expected
        assert count_queue(database, chosen(), up_to=4) == 4

    def test_resolved_alerts_are_paged_newest_first(self, database: Database) -> None:
        ids = open_worth(database, [1, 2, 3])
        resolve_all(database, ids, who="ann", verdict="legitimate")
        first = read_queue(database, chosen("resolved"), limit=2)
        assert ids_of(first) == ["t-2", "t-1"]
        assert ids_of(read_queue(database, chosen("resolved"), limit=2, after=first[-1].alert)) == ["t-0"]

    def test_any_alert_is_found_by_its_number_and_its_transaction(self, database: Database) -> None:
        open_worth(database, [1] * 60)
        last = read_alert_of(database, "t-59")
        assert last is not None
        assert read_alert(database, last.number) == last
        assert read_alert(database, 61) is None

    def test_the_export_is_a_table_that_no_spreadsheet_runs(self, database: Database) -> None:
        open_worth(database, [123])
        with database.transaction() as connection:
            connection.execute(sa.update(ALERTS).values(customer_id='=HYPERLINK("x")'))
        (row,) = csv.DictReader(io.StringIO(as_csv(read_whole_queue(database, chosen()))))
        assert tuple(row) == COLUMNS
        assert row["customer"] == '\'=HYPERLINK("x")'
        assert (row["amount"], row["expected_loss"], row["score"]) == ("2.46", "1.23", "0.500000")
        assert row["opened"] == "2024-10-04T00:00:00+00:00"


class TestBulk:
    def test_open_alerts_are_resolved_and_those_of_others_are_named(self, database: Database) -> None:
        ids = open_alerts(database, 4)
        take(database, ids[1], who="ben", version=0)
        take(database, ids[2], who="ann", version=0)
        result = resolve_all(
            database, ids, who="ann", verdict="confirmed_fraud", kind="account_takeover", note="one attack"
        )
        assert set(result.resolved) == {ids[0], ids[2], ids[3]}
        assert result.refusals == ("alert 2 is in review by ben: take it over first",)
        assert [(alert.status, alert.fraud_kind) for alert in listed(database)] == [
            ("confirmed_fraud", "account_takeover"),
            ("in_review", None),
            ("confirmed_fraud", "account_takeover"),
            ("confirmed_fraud", "account_takeover"),
        ]
        assert labels(database, ids[0]) == [True]
        assert labels(database, ids[1]) == []
        assert [event.what for event in history(database, ids[0])] == ["taken", "account_takeover"]

    def test_a_kind_belongs_to_a_fraud(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        with pytest.raises(AlertError, match="leave it out of legitimate"):
            resolve_all(database, [id_], who="ann", verdict="legitimate", kind="friendly_fraud")


class TestUndo:
    @pytest.mark.parametrize("verdict", ["confirmed_fraud", "legitimate", "duplicate"])
    @pytest.mark.parametrize("before", [None, True, False])
    def test_the_label_is_as_it_was_and_the_alert_in_review(
        self, database: Database, verdict: AnalystVerdict, *, before: bool | None
    ) -> None:
        (id_,) = open_alerts(database, 1)
        if before is not None:
            with scoring_batch(database) as batch:
                batch.add_report(id_, reported_at=now_microseconds() - HOUR, is_fraud=before)
        resolve_all(database, [id_], who="ann", verdict=verdict)
        reopened = undo(database, id_, who="ann")
        assert (reopened.status, reopened.assignee, reopened.resolved_at) == ("in_review", "ann", None)
        # A withdrawal and no report at all say the same: not known to be fraud.
        assert (labels(database, id_) or [False])[-1] == bool(before)
        assert resolve(database, id_, who="ann", verdict="legitimate").status == "legitimate"

    def test_a_label_that_came_since_stays(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        resolve_all(database, [id_], who="ann", verdict="legitimate")
        with database.transaction() as connection:
            Batch(connection).add_report(id_, reported_at=now_microseconds() + 2_000, is_fraud=True)
        undo(database, id_, who="ann")
        assert labels(database, id_)[-1]

    def test_only_ones_own_fresh_verdict_is_taken_back(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        with pytest.raises(AlertError, match="not resolved"):
            undo(database, id_, who="ann")
        resolve_all(database, [id_], who="ann", verdict="legitimate")
        with pytest.raises(AlertError, match="resolved by ann"):
            undo(database, id_, who="ben")
        with database.transaction() as connection:
            connection.execute(sa.update(ALERTS).values(resolved_at=now_microseconds() - DAY - 1))
        with pytest.raises(AlertError, match="more than a day ago"):
            undo(database, id_, who="ann")


class TestHands:
    def test_a_snoozed_alert_is_hidden_until_its_time_and_keeps_its_place(self, database: Database) -> None:
        ids = open_worth(database, [500, 100])
        snooze(database, ids[0], who="ann", until=now_microseconds() + HOUR, note="calls back")
        assert ids_of(read_queue(database, chosen(), limit=9)) == [ids[1]]
        assert ids_of(read_queue(database, chosen("snoozed"), limit=9)) == [ids[0]]
        later = AlertFilter(state="open", now=now_microseconds() + 2 * HOUR)
        assert ids_of(read_queue(database, later, limit=9)) == ids
        taken = take_next(database, who="ben")
        assert taken is not None
        assert taken.transaction_id == ids[1]
        assert take_next(database, who="ben") is None
        assert history(database, ids[0])[0].note.endswith("UTC calls back")

    def test_a_verdict_or_a_taker_wakes_it(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        asleep = snooze(database, id_, who="ann", until=now_microseconds() + HOUR)
        assert take(database, id_, who="ben", version=asleep.version).snoozed_until is None
        with pytest.raises(AlertError, match="in review by ben"):
            snooze(database, id_, who="ann", until=now_microseconds() + HOUR)
        with pytest.raises(AlertError, match="in the future"):
            snooze(database, id_, who="ben", until=now_microseconds())

    def test_a_released_alert_is_the_next_again(self, database: Database) -> None:
        ids = open_worth(database, [500, 100])
        take_next(database, who="ann")
        with pytest.raises(AlertError, match="in review by ann"):
            release(database, ids[0], who="ben")
        assert release(database, ids[0], who="ann").status == "open"
        taken = take_next(database, who="ben")
        assert taken is not None
        assert taken.transaction_id == ids[0]

    def test_an_alert_goes_to_a_colleague(self, database: Database) -> None:
        (id_,) = open_alerts(database, 1)
        given_away = assign(database, id_, who="ann", assignee="ben ", version=0)
        assert (given_away.status, given_away.assignee) == ("in_review", "ben")
        assert read_assignees(database) == ["ben"]
        with pytest.raises(AlertError, match="list the alerts again"):
            assign(database, id_, who="ann", assignee="cat", version=0)
        with pytest.raises(AlertError, match="give a name"):
            assign(database, id_, who="ann", assignee=" ", version=1)


def test_alerts_of_the_release_before_get_their_place(database_url: str) -> None:
    database = Database(database_url)
    database.upgrade("0019")
    insert = "INSERT INTO alerts (transaction_id, customer_id, created_at, decision, status) VALUES "
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO transactions (transaction_id, event_time, customer_id, merchant_id, amount_cents, "
                "customer_version) VALUES ('t-b', 1, 'c', 'm', 800, 1)"
            )
        )
        connection.execute(sa.text(f"{insert} ('t-a', 'c', {20_000 * DAY}, 'review', 'open')"))
        connection.execute(sa.text(f"{insert} ('t-b', 'c', {20_000 * DAY}, 'review', 'open')"))
    database.upgrade()
    rows = read_queue(database, chosen(), limit=9)
    assert [(row.alert.transaction_id, row.alert.amount_cents, row.alert.queue_order) for row in rows] == [
        ("t-b", 800, queue_order(20_000 * DAY, 800)),
        ("t-a", None, 20_000 * DAY / DOUBLING),
    ]
    database.downgrade("0019")
    database.close()

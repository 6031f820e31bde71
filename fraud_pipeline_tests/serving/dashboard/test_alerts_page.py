"""The alerts page: the queue as a table, the alert in front of the analyst, and what comes after a verdict."""

from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from fraud_pipeline.alerts.queue import assign, history, listed, resolve_all, snooze, take
from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.schema.transactions import DAY, HOUR, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.dashboard_pages import opened, token
from fraud_pipeline_tests.support.open_alerts import open_alerts


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database of the page's home."""
    made = Database(settings.database)
    made.upgrade()
    yield made
    made.close()


def open_page(settings: Settings, **address: str) -> AppTest:
    """The page of an analyst called ann, at an address."""
    app = opened("alerts", with_token=None)
    app.session_state["token"] = token(settings, "feedback")
    for name, value in address.items():
        app.query_params[name] = value
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return run(app)


def worth(database: Database, losses: list[int]) -> list[str]:
    """Alerts with these expected losses in cents; their ids in this order."""
    ids = [f"t-{number}" for number in range(len(losses))]
    with scoring_batch(database) as batch:
        batch.add_alerts(
            ids=ids,
            customers=["c-1"] * len(ids),
            decisions=["review"] * len(ids),
            created_at=now_microseconds() - 2 * DAY,
            amount_cents=[2 * loss for loss in losses],
            probability=[0.5] * len(losses),
            expected_loss_cents=losses,
            queue_order=[-float(loss) for loss in losses],
        )
    return ids


def shown_numbers(app: AppTest) -> list[Any]:
    return list(app.dataframe[0].value["alert"])


def test_the_queue_shows_what_an_analyst_sorts_by(settings: Settings, database: Database) -> None:
    worth(database, [100, 90_000, 5_000])
    table = open_page(settings).dataframe[0].value
    assert list(table["alert"]) == [2, 3, 1]
    first = table.iloc[0]
    assert (first["amount"], first["score"], first["expected loss"]) == (1_800.0, 0.5, 900.0)
    assert (first["customer"], first["age"], first["assignee"]) == ("c-1", "2 d", "")
    assert "reasons" in table


def test_every_alert_is_reached_page_by_page_and_by_its_address(settings: Settings, database: Database) -> None:
    ids = open_alerts(database, 60)
    app = open_page(settings)
    assert shown_numbers(app) == list(range(1, 51))
    press(app, "Next 50")
    assert shown_numbers(app) == list(range(51, 61))
    press(app, "Previous 50")
    assert shown_numbers(app)[0] == 1
    assert app.get("download_button")[0].proto.label == "Export 60 alerts as CSV"
    app = open_page(settings, alert="60")
    assert "Customer c\\-3" in [heading.value for heading in app.subheader]
    press(app, "Take it")
    last = listed(database, limit=60)[59]
    assert (last.assignee, last.transaction_id) == ("ann", ids[59])


def test_a_filter_narrows_the_table_and_an_empty_one_says_what_to_do(settings: Settings, database: Database) -> None:
    worth(database, [100, 90_000])
    app = open_page(settings)
    app.number_input(key="queue_amount").set_value(1_000.0)
    assert shown_numbers(run(app)) == [2]
    app.text_input(key="queue_customer").set_value("c-nobody")
    run(app)
    assert not app.dataframe
    assert "clear a field" in app.info[0].value


@pytest.mark.parametrize(
    ("state", "expected"), [("Mine", [1]), ("In review (team)", [1, 2]), ("Snoozed", [3]), ("Resolved", [4])]
)
def test_each_state_has_its_alerts(settings: Settings, database: Database, state: str, expected: list[int]) -> None:
    ids = open_alerts(database, 5)
    take(database, ids[0], who="ann", version=0)
    assign(database, ids[1], who="ann", assignee="ben", version=0)
    snooze(database, ids[2], who="ann", until=now_microseconds() + HOUR)
    resolve_all(database, [ids[3]], who="ann", verdict="legitimate")
    app = press(open_page(settings), "Back to the queue")
    assert shown_numbers(app) == [5]
    app.button_group(key="queue_state").set_value(state)
    assert shown_numbers(run(app)) == expected


def test_after_a_verdict_the_next_opens_by_itself_and_undo_brings_back(settings: Settings, database: Database) -> None:
    worth(database, [100, 90_000])
    app = press(open_page(settings), "Take next alert")
    assert app.query_params["alert"] == "2"
    press(app, "Account takeover")
    assert app.query_params["alert"] == "1"
    assert [(alert.status, alert.fraud_kind, alert.assignee) for alert in listed(database)] == [
        ("in_review", None, "ann"),
        ("confirmed_fraud", "account_takeover", "ann"),
    ]
    press(app, "Undo")
    assert app.query_params["alert"] == "2"
    assert [alert.status for alert in listed(database)] == ["in_review", "in_review"]
    assert "Undo" not in [button.label for button in app.button]


def test_without_the_switch_a_verdict_leads_back_to_the_queue(settings: Settings, database: Database) -> None:
    worth(database, [100, 90_000])
    app = press(open_page(settings), "Take next alert")
    app.toggle[0].set_value(False)
    press(run(app), "Legitimate")
    assert "alert" not in app.query_params
    assert shown_numbers(app) == [1]


def test_ticked_rows_are_resolved_together(settings: Settings, database: Database) -> None:
    worth(database, [100, 90_000, 500])
    app = open_page(settings)
    app.session_state["queue_table-2-0"] = {"selection": {"rows": [0, 2], "columns": [], "cells": []}}
    run(app)
    assert "2 alerts selected" in " ".join(element.value for element in app.markdown)
    press(app, "Card lost or stolen")
    assert [alert.fraud_kind for alert in listed(database)] == ["lost_or_stolen", "lost_or_stolen", None]
    press(app, "Undo")
    assert [alert.status for alert in listed(database)] == ["in_review", "in_review", "open"]


def test_a_note_needs_no_verdict(settings: Settings, database: Database) -> None:
    (id_,) = worth(database, [100])
    app = open_page(settings, alert="1")
    next(field for field in app.text_input if field.label == "Note").set_value("called, no answer")
    press(run(app), "Add note")
    assert [(event.what, event.note) for event in history(database, id_)] == [("noted", "called, no answer")]
    assert listed(database)[0].status == "open"
    assert next(field for field in app.text_input if field.label == "Note").value == ""


@pytest.mark.parametrize(("button", "state"), [("Release", "open"), ("1 hour", "in_review")])
def test_released_and_snoozed_alerts_leave_the_desk(
    settings: Settings, database: Database, button: str, state: str
) -> None:
    worth(database, [100])
    app = press(open_page(settings), "Take next alert")
    press(app, button)
    (alert,) = listed(database)
    assert alert.status == state
    assert (alert.snoozed_until is not None) == (button == "1 hour")
    assert "alert" not in app.query_params


def test_a_colleague_s_alert_has_no_verdict_until_it_is_taken_over(settings: Settings, database: Database) -> None:
    (id_,) = worth(database, [100])
    assign(database, id_, who="cat", assignee="ben", version=0)
    app = open_page(settings, alert="1")
    assert "Legitimate" not in [button.label for button in app.button]
    press(app, "Take it over")
    assert "Legitimate" in [button.label for button in app.button]


def test_an_address_of_no_alert_says_so(settings: Settings, database: Database) -> None:
    worth(database, [100])
    app = open_page(settings, alert="77")
    assert "There is no alert 77." in app.warning[0].value
    press(app, "Back to the queue")
    assert shown_numbers(app) == [1]

"""Search, transaction, customer, merchant and overview: what an analyst looks up, and the way between the pages."""

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from fraud_pipeline.alerts.queue import listed, resolve_all
from fraud_pipeline.database import Database
from fraud_pipeline.schema.transactions import HOUR, SECOND
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.dashboard_pages import opened, token
from fraud_pipeline_tests.support.known_payments import payment, report, store


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A customer with 20 payments in DE, an attack of three in NG, and an allowed payment of another customer."""
    made = Database(settings.database)
    made.upgrade()
    store(made, [payment(number, ago=(99 - number) * HOUR, country="DE") for number in range(20)], decision="allow")
    store(
        made,
        [payment(number, ago=(53 - number) * 60 * SECOND, merchant="m-9", country="NG") for number in range(50, 53)],
    )
    store(made, [payment(77, ago=HOUR, customer="c-2", merchant="m-9")], decision="allow")
    yield made
    made.close()


def open_page(settings: Settings, page: str, **address: str) -> AppTest:
    app = opened(page, with_token=None)
    app.session_state["token"] = token(settings, "feedback")
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    return "\n".join(
        element.value for element in [*app.markdown, *app.caption, *app.info, *app.warning, *app.subheader]
    )


@pytest.mark.usefixtures("database")
def test_the_case_shows_what_is_new_and_marks_the_row_in_question(settings: Settings) -> None:
    app = open_page(settings, "alerts", alert="1")
    assert "first time in NG; 20 of 20 before in DE" in texts(app)
    assert "never at m\\-9 before" in texts(app)
    related, timeline = app.dataframe[0].value, app.dataframe[1].value
    assert list(related["alert"]) == [2, 3]
    assert list(related["in common"]) == ["customer, merchant"] * 2
    assert list(timeline["country"][timeline["this"] == "▶"]) == ["NG"]
    assert len(timeline) == 23


def test_one_verdict_closes_the_alert_and_the_ticked_ones(settings: Settings, database: Database) -> None:
    app = open_page(settings, "alerts", alert="1")
    app.session_state["related-1-0"] = {"selection": {"rows": [0, 1], "columns": [], "cells": []}}
    app.run()
    assert "**2 ticked**" in texts(app)
    next(button for button in app.button if button.label == "Account takeover").click().run()
    assert [alert.fraud_kind for alert in listed(database)] == ["account_takeover"] * 3


@pytest.mark.usefixtures("database")
def test_an_allowed_transaction_has_a_page(settings: Settings) -> None:
    app = open_page(settings, "transaction", transaction="t-3")
    assert "No alert was raised for it." in texts(app)
    assert "Customer c\\-1" in texts(app)
    shown = app.dataframe[0].value
    assert list(shown["amount"][shown["this"] == "▶"]) == [10.03]


@pytest.mark.parametrize("page", ["transaction", "customer", "merchant", "search", "overview"])
def test_an_address_of_nothing_offers_the_next_action(settings: Settings, page: str) -> None:
    app = open_page(settings, page)
    assert [*app.info, *app.warning]
    app = open_page(settings, page, transaction="nobody", merchant="nobody")
    assert [*app.info, *app.warning]


def test_all_open_alerts_of_a_customer_are_resolved_together(settings: Settings, database: Database) -> None:
    app = open_page(settings, "customer", transaction="t-3")
    assert {figure.label: figure.value for figure in app.metric}["Alerts"] == "3"
    next(button for button in app.button if button.label == "Card lost or stolen").click().run()
    assert {alert.fraud_kind for alert in listed(database)} == {"lost_or_stolen"}
    assert "Resolve all" not in texts(app)


def test_a_merchant_shows_fraud_open_alerts_and_common_customers(settings: Settings, database: Database) -> None:
    report(database, "t-19")  # at m-1, by the customer who pays at m-9 later
    resolve_all(database, ["t-50"], who="ann", verdict="confirmed_fraud")
    app = open_page(settings, "merchant", merchant="m-9")
    figures = {figure.label: figure.value for figure in app.metric}
    assert (figures["Reported fraud"], figures["Open alerts"]) == ("1", "2")
    assert "0 of 1 customers" in texts(app)
    assert set(app.dataframe[0].value["customer"]) == {"c-1", "c-2"}


def test_the_overview_counts_caught_missed_and_precision(settings: Settings, database: Database) -> None:
    resolve_all(database, ["t-50", "t-51"], who="ann", verdict="confirmed_fraud")
    resolve_all(database, ["t-52"], who="ann", verdict="legitimate")
    report(database, "t-77")
    figures = {figure.label: figure.value for figure in open_page(settings, "overview").metric}
    assert figures["Caught"] == "2 of 3"
    assert (figures["Missed"], figures["Saved"], figures["Lost"]) == ("1", "21.01", "10.77")
    assert (figures["Precision of reviews"], figures["Waiting"]) == ("66.7%", "0")

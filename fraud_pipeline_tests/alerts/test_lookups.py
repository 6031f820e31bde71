"""What an analyst looks up: any transaction, a customer around a payment, what is usual, related alerts, a merchant."""

import json
from typing import Final

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.alerts.queue import resolve_all
from fraud_pipeline.alerts.usual import compare
from fraud_pipeline.database import Database
from fraud_pipeline.database.alert_queue import read_alert_of, read_alerts_of_customer
from fraud_pipeline.database.desk_overview import read_alert_outcomes, read_frauds_by_decision
from fraud_pipeline.database.merchants import read_common_customers, read_frauds
from fraud_pipeline.database.related_alerts import read_related
from fraud_pipeline.database.search import find
from fraud_pipeline.database.timeline import read_before, read_from, read_merchant, read_transaction
from fraud_pipeline.schema.transactions import DAY, HOUR
from fraud_pipeline_tests.support.known_payments import payment, report, store

NOW = pd.Timestamp.now(tz="UTC").floor("us")


EARLIER: Final = pd.DataFrame(
    {
        "event_time": [NOW - pd.Timedelta(days=day) for day in range(1, 51)],
        "amount_cents": [5_000] * 49 + [9_000],
        "merchant_id": ["m-1"] * 50,
        "category": ["grocery"] * 50,
        "channel": ["chip"] * 49 + ["online"],
        "country": ["DE"] * 50,
    }
)
USUAL: Final = {
    "event_time": NOW,
    "amount_cents": 5_000,
    "merchant_id": "m-1",
    "category": "grocery",
    "channel": "chip",
    "country": "DE",
}


class TestTimeline:
    def test_it_is_read_around_a_moment_without_a_gap_and_newest_first(self, database: Database) -> None:
        store(database, [payment(number, ago=(100 - number) * HOUR) for number in range(100)], decision="allow")
        middle = read_transaction(database, "t-50")
        assert middle is not None
        moment = middle.event_time.value // 1_000
        before = read_before(database, "c-1", before=moment, limit=5)
        later = read_from(database, "c-1", start=moment, limit=3)
        assert [*later["transaction_id"], *before["transaction_id"]] == [f"t-{number}" for number in range(52, 44, -1)]
        assert read_before(database, "c-2", before=moment, limit=5).empty

    def test_a_merchant_s_newest_come_with_decision_and_label(self, database: Database) -> None:
        store(database, [payment(1, ago=HOUR), payment(2, ago=0, customer="c-2")])
        store(database, [payment(3, ago=0, merchant="m-2")])
        report(database, "t-1")
        rows = read_merchant(database, "m-1", limit=9)
        assert list(rows["transaction_id"]) == ["t-2", "t-1"]
        assert list(rows["customer_id"]) == ["c-2", "c-1"]
        assert rows["is_fraud"].isna().tolist() == [True, False]


class TestUsual:
    @pytest.mark.parametrize(
        ("changed", "sentence"),
        [
            ({"country": "NG"}, "first time in NG; 50 of 50 before in DE"),
            ({"merchant_id": "m-9"}, "never at m-9 before; 50 of 50 before at m-1"),
            ({"channel": "online"}, "1 of 50 before by online"),
            ({"category": "travel"}, "first time for travel; 50 of 50 before for grocery"),
            ({"amount_cents": 90_000}, "the largest of 51; the largest before was 90.00"),
        ],
    )
    def test_what_is_new_is_said_first(self, changed: dict[str, object], sentence: str) -> None:
        first, *others = compare({**USUAL, **changed}, EARLIER)
        assert (first.text, first.unusual) == (sentence, True)
        assert not any(other.unusual for other in others)

    def test_a_burst_is_named(self) -> None:
        burst = EARLIER.head(5).assign(event_time=NOW - pd.Timedelta(minutes=9))
        assert "5 payments in the hour before" in [fact.text for fact in compare(USUAL, burst)]

    def test_an_attack_does_not_make_itself_usual(self) -> None:
        attack = EARLIER.head(40).assign(event_time=NOW - pd.Timedelta(minutes=9), country="NG", merchant_id="m-9")
        facts = [
            fact.text for fact in compare({**USUAL, "country": "NG"}, pd.concat([attack, EARLIER], ignore_index=True))
        ]
        assert "in NG only in the last 24 hours; 50 of 50 before in DE" in facts

    def test_a_usual_payment_has_nothing_unusual(self) -> None:
        assert not any(fact.unusual for fact in compare(USUAL, EARLIER))

    def test_a_first_payment_is_compared_with_nothing(self) -> None:
        (fact,) = compare(USUAL, EARLIER.head(0))
        assert "first known payment" in fact.text

    @given(st.lists(st.none() | st.sampled_from(["DE", "NG", "FR"]), min_size=1, max_size=9), st.none() | st.just("DE"))
    def test_missing_values_are_never_called_usual_or_new(self, countries: list[str | None], now: str | None) -> None:
        earlier = EARLIER.head(len(countries)).assign(country=pd.Series(countries, dtype=object))
        said = [fact.text for fact in compare({**USUAL, "country": now}, earlier)]
        assert not any("None" in text or "nan" in text for text in said)
        if now is None:
            assert not any("DE" in text or "NG" in text for text in said)


class TestRelated:
    def test_one_attack_comes_together_and_others_do_not(self, database: Database) -> None:
        device = json.dumps({"device": "d-1", "note": "x"})
        rows = [
            payment(1, ago=HOUR, own_fields=device),
            payment(2, ago=HOUR, merchant="m-2"),  # the same customer
            payment(3, ago=HOUR, customer="c-2", merchant="m-3", own_fields=device),
            payment(4, ago=HOUR, customer="c-3"),  # the same merchant
            payment(5, ago=HOUR, customer="c-4", merchant="m-4", own_fields=json.dumps({"note": "x"})),
            payment(6, ago=HOUR, own_fields=device),  # all three
            payment(7, ago=HOUR),
        ]
        store(database, rows)
        resolve_all(database, ["t-7"], who="ann", verdict="legitimate")
        alert = read_alert_of(database, "t-1")
        assert alert is not None
        related = read_related(database, alert, identifiers=["device"])
        assert {item.alert.transaction_id: item.in_common for item in related} == {
            "t-6": ("customer", "device", "merchant"),
            "t-2": ("customer",),
            "t-3": ("device",),
            "t-4": ("merchant",),
        }
        assert related[0].alert.transaction_id == "t-6"
        assert "t-3" not in [item.alert.transaction_id for item in read_related(database, alert, identifiers=[])]

    def test_an_alert_of_last_month_shares_only_the_customer(self, database: Database) -> None:
        store(database, [payment(1, ago=30 * DAY), payment(2, ago=30 * DAY, customer="c-2")])
        store(database, [payment(3, ago=0)])
        alert = read_alert_of(database, "t-3")
        assert alert is not None
        assert [item.alert.transaction_id for item in read_related(database, alert, identifiers=[])] == ["t-1"]
        assert [known.transaction_id for known in read_alerts_of_customer(database, "c-1", limit=9)] == ["t-3", "t-1"]


class TestSearch:
    def test_every_kind_of_id_is_found_whole(self, database: Database) -> None:
        device = json.dumps({"device": "d-%1", "count": 3})
        store(database, [payment(1, ago=2 * HOUR), payment(2, ago=HOUR, own_fields=device)], decision="allow")
        store(database, [payment(3, ago=9 * DAY, customer="c-2", own_fields=device)])
        assert find(database, "t-1", now=NOW).transaction == "t-1"
        assert find(database, "c-1", now=NOW).customer == "t-2"
        assert find(database, "m-1", now=NOW).merchant == "t-2"
        assert find(database, "1", now=NOW).alert == 1
        hits = find(database, "d-%1", now=NOW).own_fields
        assert [(hit.transaction_id, hit.field) for hit in hits] == [("t-2", "device"), ("t-3", "device")]
        for nothing in ("T-1", "t-", "d-", "d-x1", "%", "99999999999999999999", "²", ""):
            assert find(database, nothing, now=NOW).is_empty

    def test_an_allowed_transaction_of_weeks_ago_is_not_searched_by_own_fields(self, database: Database) -> None:
        device = json.dumps({"device": "d-1"})
        store(database, [payment(1, ago=9 * DAY, own_fields=device)], decision="allow")
        assert find(database, "d-1", now=NOW).is_empty


class TestMerchant:
    def test_frauds_count_by_their_newest_report(self, database: Database) -> None:
        store(database, [payment(number, ago=HOUR) for number in range(3)])
        report(database, "t-0")
        report(database, "t-1")
        report(database, "t-1", is_fraud=False)
        frauds = read_frauds(database, "m-1", start=NOW - pd.Timedelta(days=1))
        assert list(frauds["amount_cents"]) == [1_000]
        assert read_frauds(database, "m-2", start=NOW - pd.Timedelta(days=1)).empty

    def test_a_common_customer_paid_here_before_the_fraud_elsewhere(self, database: Database) -> None:
        rows = [
            payment(1, ago=5 * HOUR, customer="before"),
            payment(2, ago=4 * HOUR, customer="before", merchant="m-2"),
            payment(3, ago=5 * HOUR, customer="after", merchant="m-2"),
            payment(4, ago=4 * HOUR, customer="after"),
            payment(5, ago=5 * HOUR, customer="here"),
            payment(6, ago=5 * HOUR, customer="withdrawn", merchant="m-2"),
        ]
        store(database, rows)
        for transaction_id in ("t-2", "t-3", "t-5", "t-6"):
            report(database, transaction_id)
        report(database, "t-6", is_fraud=False)
        common = read_common_customers(database, "m-1", start=NOW - pd.Timedelta(days=1))
        assert (common.defrauded, common.customers) == (2, ("before",))


class TestOverview:
    def test_frauds_are_counted_by_decision_and_alerts_by_outcome(self, database: Database) -> None:
        store(database, [payment(number, ago=HOUR) for number in range(3)])
        store(database, [payment(9, ago=HOUR), payment(10, ago=HOUR)], decision="allow")
        resolve_all(database, ["t-0"], who="ann", verdict="confirmed_fraud")
        resolve_all(database, ["t-1"], who="ann", verdict="legitimate")
        report(database, "t-9")
        frauds = read_frauds_by_decision(database, start=NOW - pd.Timedelta(days=2))
        assert sorted(zip(frauds["decision"], frauds["amount_cents"], strict=True)) == [
            ("allow", 1_009),
            ("review", 1_000),
        ]
        outcomes = read_alert_outcomes(database, start=NOW - pd.Timedelta(days=2))
        assert dict(outcomes.groupby("status")["alerts"].sum()) == {"confirmed_fraud": 1, "legitimate": 1, "open": 1}
        assert read_frauds_by_decision(database, start=NOW + pd.Timedelta(days=1)).empty

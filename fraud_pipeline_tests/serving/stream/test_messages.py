"""What a message may say: a transaction arrives as it was sent, anything else has a reason from a closed set."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.messaging.topics import SCHEMA_HEADER, Message, report_message, transaction_message
from fraud_pipeline.schema.identifiers import Reading, read_identifier
from fraud_pipeline.schema.transactions import CHANNELS, DAY, MAX_AMOUNT_CENTS, SECOND, TransactionRow
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.reasons import Reason
from serving.http.requests import Report
from serving.stream.messages import (
    MAX_VALUE_BYTES,
    MESSAGE_REMEDIES,
    BadMessage,
    MessageReader,
    dead_letter,
    decision_message,
    report_of,
)

READER = MessageReader(currency="EUR")
NOW = 20_000 * DAY
ROW = TransactionRow("t-1", NOW - SECOND, "c-1", "m-1", 1_234, channel="online")
SCORED = ScoringResult(
    "t-1", "review", 0.25, (Reason("new_country", "first time abroad"),), "model", "full", (), "7", NOW
)

names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=64).filter(
    lambda text: read_identifier(text) == Reading(text)
)
positions = st.tuples(st.floats(-90, 90), st.floats(-180, 180)) | st.just((None, None))


@st.composite
def rows(draw: st.DrawFn) -> TransactionRow:
    """Any transaction that may be scored now."""
    latitude, longitude = draw(positions)
    return TransactionRow(
        draw(names),
        draw(st.integers(NOW - 60 * DAY, NOW + 300 * SECOND)),
        draw(names),
        draw(names),
        draw(st.integers(1, MAX_AMOUNT_CENTS)),
        draw(st.none() | names),
        draw(st.none() | st.sampled_from(CHANNELS)),
        draw(st.none() | st.from_regex("[A-Z]{2}", fullmatch=True)),
        latitude,
        longitude,
    )


def value(**changes: Any) -> bytes:
    """A good message with these fields changed; None removes one."""
    fields = json.loads(transaction_message(ROW, currency="EUR").value or b"")
    fields |= changes
    return json.dumps({name: content for name, content in fields.items() if content is not None}).encode()


class TestTransactions:
    @given(row=rows())
    def test_every_transaction_arrives_as_it_was_sent(self, row: TransactionRow) -> None:
        sent = transaction_message(row, currency="EUR")
        assert sent.key == row.customer_id.encode()
        assert READER.transaction_message(sent.value, sent.headers, now=NOW) == row

    def test_the_layout_is_the_body_of_score_with_a_schema(self) -> None:
        sent = transaction_message(ROW, currency="EUR")
        assert json.loads(sent.value or b"") == {
            "schema": 1,
            "transaction_id": "t-1",
            "event_time": datetime.fromtimestamp(ROW.event_time / SECOND, UTC).isoformat().replace("+00:00", "Z"),
            "customer_id": "c-1",
            "merchant_id": "m-1",
            "amount": 12.34,
            "currency": "EUR",
            "channel": "online",
        }
        assert sent.headers == [(SCHEMA_HEADER, b"1")]

    @pytest.mark.parametrize("headers", [[], [("trace", b"4bf9")], [(SCHEMA_HEADER, b"1")]])
    def test_the_schema_header_is_optional_and_others_are_let_be(self, headers: list[tuple[str, bytes]]) -> None:
        assert READER.transaction_message(value(), headers, now=NOW) == ROW

    @pytest.mark.parametrize(
        ("sent", "reason", "path"),
        [
            (None, "no_value", "value"),
            (b"", "not_json", "body"),
            (b"\x00\x00\x00\x00\x01", "not_json", "body"),
            (b"[" * 10_000, "not_json", "body"),
            (b" " * (MAX_VALUE_BYTES + 1), "too_large", "value"),
            (b"[]", "not_an_object", "value"),
            (b"17", "not_an_object", "value"),
            (value(schema=None), "unknown_schema", "schema"),
            (value(schema=2), "unknown_schema", "schema"),
            (value(schema=True), "unknown_schema", "schema"),
            (value(schema="1"), "unknown_schema", "schema"),
            (value().replace(b'"schema": 1', b'"schema": 1, "schema": 1'), "duplicate_key", "schema"),
            (value(customer_id=None), "missing", "customer_id"),
            (value(customer_id="c\x00"), "control_character", "customer_id"),
            (value(amount=10**9), "out_of_range", "amount"),
            (value(amount=0.001), "finer_than_a_cent", "amount"),
            (value(amount=float("nan")), "not_finite", "amount"),
            (value(currency="USD"), "unknown_currency", "currency"),
            (value(event_time="yesterday"), "time_missing_or_unreadable", "event_time"),
            (value(event_time="2124-01-01T00:00:00Z"), "future_time", "event_time"),
            (value(event_time="2020-01-01T00:00:00Z"), "too_old", "event_time"),
            (value(latitude=1.0), "incomplete_position", "longitude"),
            (value(card_number="4111111111111111"), "unknown_field", "card_number"),
        ],
    )
    def test_a_bad_message_has_a_reason_and_a_remedy(self, sent: bytes | None, reason: str, path: str) -> None:
        bad = READER.transaction_message(sent, [], now=NOW)
        assert bad == BadMessage(reason, path)
        assert bad.remedy in MESSAGE_REMEDIES[reason]

    def test_a_header_of_another_schema_is_believed(self) -> None:
        bad = READER.transaction_message(value(), [(SCHEMA_HEADER, b"2")], now=NOW)
        assert bad == BadMessage("unknown_schema", "headers.schema-version")

    @given(sent=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_no_bytes_at_all_raise(self, sent: bytes) -> None:
        assert isinstance(READER.transaction_message(sent, [], now=NOW), BadMessage)

    def test_a_reason_never_repeats_what_was_sent(self) -> None:
        bad = READER.transaction_message(value(customer_id="4111111111111111" * 5, amount="4111"), [], now=NOW)
        assert "4111" not in repr(bad)


class TestReports:
    @pytest.mark.parametrize("is_fraud", [True, False])
    def test_a_report_arrives_as_it_was_sent(self, *, is_fraud: bool) -> None:
        sent = report_message("t-1", is_fraud=is_fraud)
        assert report_of(sent.value, sent.headers) == Report("t-1", is_fraud=is_fraud)

    @pytest.mark.parametrize(
        ("sent", "reason"),
        [
            (None, "no_value"),
            (b'{"schema": 1, "transaction_id": "t-1", "label": "perhaps"}', "unknown_label"),
            (b'{"schema": 1, "label": "fraud"}', "missing"),
            (b'{"transaction_id": "t-1", "label": "fraud"}', "unknown_schema"),
        ],
    )
    def test_a_bad_report_has_a_reason(self, sent: bytes | None, reason: str) -> None:
        bad = report_of(sent, [])
        assert isinstance(bad, BadMessage)
        assert bad.reason == reason


class TestAnswers:
    def test_a_decision_says_what_http_says_under_the_customer_of_the_transaction(self) -> None:
        sent = decision_message(replace(SCORED, request_id="r-1"), customer_id="c-1")
        assert sent.key == b"c-1"
        assert json.loads(sent.value or b"") == {
            "schema": 1,
            "transaction_id": "t-1",
            "decision": "review",
            "probability": 0.25,
            "reasons": [{"code": "new_country", "text": "first time abroad"}],
            "model_version": "7",
            "decided_by": "model",
            "mode": "full",
            "missing": [],
            "decided_at": "2024-10-04T00:00:00Z",
            "request_id": "r-1",
            "unused_fields": [],
            "rule": None,
            "model_decision": None,
            "tags": [],
        }

    def test_a_dead_letter_is_the_message_with_why_and_where(self) -> None:
        put_aside = letter(value=b"abc", headers=[("trace", b"4bf9"), ("none", None)])
        assert (put_aside.key, put_aside.value) == (b"c-1", b"abc")
        assert dict(put_aside.headers) == {
            "trace": b"4bf9",
            "none": b"",
            "dead-letter-reason": b"missing",
            "dead-letter-path": b"amount",
            "dead-letter-topic": b"transactions",
            "dead-letter-partition": b"3",
            "dead-letter-offset": b"17",
            "dead-letter-timestamp": b"1700000000000",
            "dead-letter-size": b"3",
            "dead-letter-sha256": b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }

    @pytest.mark.parametrize(
        "large",
        [
            {"value": b"abc" * 10**6},
            {"key": b"abc" * 10**6},
            {"headers": [("trace", b"abc" * 10**6)]},
            {"headers": [("t", b"")] * 10**5},
        ],
    )
    def test_a_dead_letter_always_fits_and_says_what_it_leaves_out(self, large: dict[str, Any]) -> None:
        sent = {"value": b"abc", **large}
        put_aside = letter(**sent)
        headers = dict(put_aside.headers)
        assert len(put_aside.key or b"") + len(put_aside.value or b"") < 110_000
        assert len(put_aside.headers) < 20
        assert (sent["value"] or b"").startswith(put_aside.value or b"nothing")
        assert headers["dead-letter-truncated"] == b"yes"
        assert headers["dead-letter-size"] == b"%d" % len(sent["value"])
        assert headers["dead-letter-sha256"] == hashlib.sha256(sent["value"]).hexdigest().encode()

    def test_a_dead_letter_of_nothing_can_be_sent(self) -> None:
        assert letter(key=None, value=None).value == b""


def letter(**changes: Any) -> Message:
    sent: dict[str, Any] = {"key": b"c-1", "value": None, "headers": (), **changes}
    at: dict[str, Any] = {"topic": "transactions", "partition": 3, "offset": 17, "timestamp": 1_700_000_000_000}
    return dead_letter(BadMessage("missing", "amount"), **sent, **at)

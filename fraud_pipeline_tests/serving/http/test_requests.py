"""Bodies: what is accepted becomes exactly the row a file would give, what is refused names place and remedy only."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.reasons import REASONS
from fraud_pipeline.schema.transactions import MAX_AMOUNT_CENTS, TransactionRow
from fraud_pipeline_tests.support.spellings import SPELLINGS
from serving.errors import MAX_FIELDS_SHOWN, REMEDIES, RequestError
from serving.http.json_documents import check_content_type
from serving.http.requests import RequestParser, parse_feedback, parse_transaction_id

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_MICROSECONDS: Final = 1_780_315_200_000_000
PARSER: Final = RequestParser(currency="EUR", max_batch=5)
GOOD: Final[dict[str, Any]] = {
    "transaction_id": "t-1",
    "event_time": "2026-06-01T11:59:59.123456Z",
    "customer_id": "c-1",
    "merchant_id": "m-1",
    "amount": 12.34,
    "currency": "EUR",
}
ROW: Final = TransactionRow("t-1", NOW_MICROSECONDS - 876_544, "c-1", "m-1", 1234)


def body(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def parsed(sent: bytes, *, parser: RequestParser = PARSER) -> TransactionRow:
    return parser.transaction(sent, now=NOW_MICROSECONDS)


def refusal(sent: bytes, *, parser: RequestParser = PARSER, batch: bool = False) -> RequestError:
    read = parser.batch if batch else parser.transaction
    with pytest.raises(RequestError) as caught:
        read(sent, now=NOW_MICROSECONDS)
    return caught.value


def problems(sent: bytes, *, parser: RequestParser = PARSER, batch: bool = False) -> list[tuple[str, str]]:
    return [(field.path, field.problem) for field in refusal(sent, parser=parser, batch=batch).fields]


def http_verdict(sent: bytes) -> TransactionRow | set[tuple[str, str]]:
    try:
        return parsed(sent)
    except RequestError as error:
        return {(field.path, field.problem) for field in error.fields}


def test_a_transaction_becomes_a_row_of_cents_and_microseconds() -> None:
    optional: dict[str, Any] = {
        "category": "food",
        "channel": "chip",
        "country": "DE",
        "latitude": 52,
        "longitude": 13.4,
    }
    assert parsed(body()) == ROW
    assert parsed(body(**optional)) == ROW._replace(**optional)
    assert parsed(body(**dict.fromkeys(optional))) == ROW


@pytest.mark.parametrize("merchant", [None, "", " ", "NULL", "-"])
def test_a_transaction_may_have_no_merchant(merchant: str | None) -> None:
    without = {name: value for name, value in GOOD.items() if name != "merchant_id"}
    for sent in (json.dumps(without).encode(), body(merchant_id=merchant)):
        assert parsed(sent) == ROW._replace(merchant_id=NO_MERCHANT)


def test_a_batch_keeps_the_order() -> None:
    ids = ["a", "c", "b"]
    sent = json.dumps({"transactions": [GOOD | {"transaction_id": id_} for id_ in ids]}).encode()
    assert [row.transaction_id for row in PARSER.batch(sent, now=NOW_MICROSECONDS)] == ids


@pytest.mark.parametrize(
    ("text", "seconds_before_now"),
    [
        ("2026-06-01T12:00:00Z", 0),
        ("2026-06-01t12:00:00z", 0),
        ("2026-06-01T12:00:00.000-00:00", 0),
        ("2026-06-01T14:00:00+02:00", 0),
        ("2026-06-01T12:05:00Z", -300),
        ("2026-04-02T12:00:00Z", 60 * 86_400),
    ],
)
def test_times_with_an_offset_are_read_to_the_edges_of_the_window(text: str, seconds_before_now: int) -> None:
    assert parsed(body(event_time=text)).event_time == NOW_MICROSECONDS - seconds_before_now * 1_000_000


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        ({"event_time": "2026-06-01T12:05:00.000001Z"}, "event_time", "future_time"),
        ({"event_time": "2026-04-02T11:59:59.999999Z"}, "event_time", "too_old"),
        ({"event_time": "2026-06-01T12:00:00"}, "event_time", "time_missing_or_unreadable"),
        ({"event_time": "\u0662026-06-01T12:00:00Z"}, "event_time", "time_missing_or_unreadable"),
        ({"event_time": "2026-06-01 12:00:00Z"}, "event_time", "time_missing_or_unreadable"),
        ({"event_time": "2026-13-01T12:00:00Z"}, "event_time", "time_missing_or_unreadable"),
        ({"event_time": "2026-06-01T12:00:00+99:00"}, "event_time", "time_missing_or_unreadable"),
        ({"event_time": "2026-06-01T12:00:00Z" * 9}, "event_time", "time_missing_or_unreadable"),
        ({"event_time": 1_780_315_200}, "event_time", "wrong_type"),
        ({"event_time": None}, "event_time", "missing"),
        ({"amount": -MAX_AMOUNT_CENTS // 100 - 1}, "amount", "out_of_range"),
        ({"amount": MAX_AMOUNT_CENTS // 100 + 1}, "amount", "out_of_range"),
        ({"amount": 10**30}, "amount", "out_of_range"),
        ({"amount": 0.001}, "amount", "finer_than_a_cent"),
        ({"amount": 1e-9}, "amount", "finer_than_a_cent"),
        ({"amount": 12.345}, "amount", "finer_than_a_cent"),
        ({"amount": float("nan")}, "amount", "not_finite"),
        ({"amount": float("-inf")}, "amount", "not_finite"),
        ({"amount": "12.34"}, "amount", "wrong_type"),
        ({"amount": True}, "amount", "wrong_type"),
        ({"amount": {}}, "amount", "wrong_type"),
        ({"amount": None}, "amount", "missing"),
        ({"currency": "USD"}, "currency", "unknown_currency"),
        ({"currency": "eur"}, "currency", "unknown_currency"),
        ({"currency": "E" * 1_000}, "currency", "unknown_currency"),
        ({"currency": ""}, "currency", "missing"),
        ({"currency": 978}, "currency", "wrong_type"),
        ({"customer_id": ""}, "customer_id", "missing"),
        ({"customer_id": " \u2003"}, "customer_id", "missing"),
        ({"customer_id": "c" * 65}, "customer_id", "too_long"),
        ({"customer_id": "c\x00"}, "customer_id", "control_character"),
        ({"customer_id": "\t"}, "customer_id", "missing"),
        ({"customer_id": "\ud800"}, "customer_id", "control_character"),
        ({"customer_id": 17}, "customer_id", "wrong_type"),
        ({"customer_id": "(null)"}, "customer_id", "missing"),
        ({"customer_id": "4.51234E+15"}, "customer_id", "lost_digits"),
        ({"customer_id": "12.50"}, "customer_id", "decimal_id"),
        ({"customer_id": "Caf\ufffd"}, "customer_id", "lost_characters"),
        ({"category": "NULL"}, "category", "blank"),
        ({"category": ""}, "category", "blank"),
        ({"category": " "}, "category", "blank"),
        ({"category": ["food"]}, "category", "wrong_type"),
        ({"channel": "pigeon"}, "channel", "unknown_channel"),
        ({"channel": 1}, "channel", "wrong_type"),
        ({"country": "de"}, "country", "bad_country"),
        ({"country": "DEU"}, "country", "bad_country"),
        ({"latitude": 52.5}, "longitude", "incomplete_position"),
        ({"longitude": 52.5}, "latitude", "incomplete_position"),
        ({"latitude": 90.1, "longitude": 0}, "latitude", "out_of_range"),
        ({"latitude": 0, "longitude": -180.1}, "longitude", "out_of_range"),
        ({"latitude": "0", "longitude": 0}, "latitude", "wrong_type"),
        ({"label": 1}, "label", "unknown_field"),
        ({"4111111111111111": 1}, "(name)", "unknown_field"),
        ({f"x{'y' * number}": 1 for number in range(70)}, "body", "unknown_field"),
    ],
)
def test_a_wrong_field_is_named_with_its_problem(changes: dict[str, Any], path: str, problem: str) -> None:
    assert problems(body(**changes)) == [(path, problem)]


@pytest.mark.parametrize(
    ("sent", "path", "problem"),
    [
        (b'{"amount": 1e400}', "amount", "not_finite"),
        (b'{"amount": %s}' % (b"9" * 5_000), "amount", "not_finite"),
        (b'{"amount": 1, "amount": 2}', "amount", "duplicate_key"),
        (b'{"4111": 1, "4111": 2}', "(name)", "duplicate_key"),
        (b'{"category": {"a": 1, "a": 2}}', "category.a", "duplicate_key"),
        (b"[]", "body", "not_an_object"),
        (b"null", "body", "not_an_object"),
        (b"NaN", "body", "not_an_object"),
    ],
)
def test_what_json_allows_but_we_do_not(sent: bytes, path: str, problem: str) -> None:
    assert (path, problem) in problems(sent)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"amount=5",
        b'{"amount": 5',
        b"{'amount': 5}",
        b'{"amount": 05}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"customer_id": "\xff"}',
        b'{"customer_id": "\xed\xa0\x80"}',
        b'{"customer_id": "\x00"}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.",
    ],
    ids=lambda sent: f"{sent[:12]!r}",
)
def test_what_is_no_json_is_400(sent: bytes) -> None:
    refused = refusal(sent)
    assert (refused.status, [field.path for field in refused.fields]) == (400, ["body"])


def test_all_fields_of_a_body_are_reported_together_and_in_a_batch_with_their_place() -> None:
    assert problems(b"{}") == [(name, "missing") for name in GOOD if name != "merchant_id"]
    wrong = {"transactions": [GOOD, GOOD | {"amount": 10**9, "channel": 5}]}
    assert problems(json.dumps(wrong).encode(), batch=True) == [
        ("transactions[1].amount", "out_of_range"),
        ("transactions[1].channel", "wrong_type"),
    ]
    late = {"transactions": [GOOD, GOOD | {"event_time": "2030-01-01T00:00:00Z", "currency": "USD"}]}
    assert problems(json.dumps(late).encode(), batch=True) == [
        ("transactions[1].event_time", "future_time"),
        ("transactions[1].currency", "unknown_currency"),
    ]
    twice = b'{"transactions": [%s, {"amount": 1, "amount": 2}]}' % body()
    assert problems(twice, batch=True) == [("transactions[1].amount", "duplicate_key")]


def test_a_batch_has_at_least_one_transaction_and_at_most_the_limit() -> None:
    assert problems(b'{"transactions": []}', batch=True) == [("transactions", "too_short")]
    assert problems(b'{"transactions": {}}', batch=True) == [("transactions", "wrong_type")]
    refused = refusal(json.dumps({"transactions": [GOOD] * 6}).encode(), batch=True)
    assert (refused.status, refused.fields[0].path) == (413, "transactions")


def test_many_problems_are_counted_not_listed() -> None:
    refused = refusal(json.dumps({"transactions": [{}] * 5}).encode(), batch=True)
    assert len(refused.fields) == MAX_FIELDS_SHOWN
    assert "5 more problems" in refused.message


def test_a_currency_without_cents_takes_whole_amounts() -> None:
    yen = RequestParser(currency="JPY", max_batch=5)
    assert parsed(body(currency="JPY", amount=500), parser=yen).amount_cents == 50_000
    assert problems(body(currency="JPY", amount=500.5), parser=yen) == [("amount", "finer_than_the_currency")]


_AMOUNTS = st.one_of(
    st.integers(1, MAX_AMOUNT_CENTS).map(lambda cents: cents / 100),
    st.builds(
        lambda price, pieces: price * pieces / 100,
        st.floats(0.01, 1_000).map(lambda x: round(x, 2)),
        st.integers(1, 99),
    ),
    st.tuples(st.integers(1, 10_000), st.integers(1, 99)).map(lambda pair: pair[0] / 100 * pair[1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**12), 10**12),
)
_TEXTS = st.one_of(
    st.text(min_size=1, max_size=70),
    st.text(alphabet="\x00\x1f\x7f\x85\xa0\u1680\u2003\u2028\u200b\u3000 \tx", min_size=1),
    SPELLINGS,
)
_TIMES = st.datetimes(
    (NOW - timedelta(days=61)).replace(tzinfo=None), (NOW + timedelta(minutes=6)).replace(tzinfo=None)
)


@given(
    amount=_AMOUNTS,
    customer_id=_TEXTS,
    event_time=_TIMES,
    country=st.none() | st.text(alphabet="DEé", min_size=1, max_size=3),
    position=st.tuples(*[st.none() | st.floats(-200, 200)] * 2),
)
def test_http_and_files_give_the_same_row_or_the_same_reason(
    amount: float,
    customer_id: str,
    event_time: datetime,
    country: str | None,
    position: tuple[float | None, float | None],
) -> None:
    changes = {
        "amount": amount,
        "customer_id": customer_id,
        "event_time": event_time.isoformat() + "Z",
        "country": country,
        "latitude": position[0],
        "longitude": position[1],
    }
    raw = pd.DataFrame([GOOD | changes | {"event_time": event_time.replace(tzinfo=UTC)}])
    result = validate(raw, now=pd.Timestamp(NOW))
    known_to_files = result.rejected[["field", "reason"]].apply(tuple, axis="columns").tolist()
    verdict = http_verdict(body(**changes))
    if isinstance(verdict, TransactionRow):
        (accepted,) = result.accepted.to_dict("records")
        accepted["event_time"] = accepted["event_time"].value // 1_000
        assert verdict._asdict() == {
            **{str(name): None if pd.isna(value) else value for name, value in accepted.items()},
            "own_fields": None,
        }
    elif verdict - {("event_time", "too_old"), ("country", "bad_country")}:  # files take such a country for missing
        (first,) = known_to_files
        # What compares fields or clocks is judged once every field is of its type.
        assert first in verdict or first[1] in {"future_time", "finer_than_a_cent", "incomplete_position"}
    else:
        # HTTP compares fields and clocks only once each field is good, so that a bad country hides what is found then.
        hidden = {"incomplete_position", "future_time"} if ("country", "bad_country") in verdict else set[str]()
        assert {reason for _, reason in known_to_files} <= hidden


def test_noise_of_float_arithmetic_is_the_cent_that_it_means() -> None:
    """3 * 5.803333333333335 of a spreadsheet; files read it alike."""
    assert parsed(body(amount=17.410000000000004)).amount_cents == 1_741
    assert parsed(body(amount=2.4299999999999997)).amount_cents == 243


@pytest.mark.parametrize("spelling", [" c-1 ", "c-1\t", "\ufeffc-1", "'c-1", '="c-1"', "c\u200b-1", "\uff43-\uff11"])
def test_spellings_of_one_id_are_one_customer_in_a_body_and_in_a_path(spelling: str) -> None:
    assert parsed(body(customer_id=spelling)).customer_id == "c-1"
    assert parse_transaction_id(spelling) == "c-1"


def test_white_space_alone_is_no_id_in_http_as_in_files() -> None:
    white = [chr(code) for code in range(0x11_0000) if chr(code).isspace()]
    raw = pd.DataFrame(
        [GOOD | {"transaction_id": f"t{char!r}", "customer_id": char, "event_time": NOW} for char in white]
    )
    of_files = validate(raw, now=pd.Timestamp(NOW)).rejected
    assert [problems(body(customer_id=char)) for char in white] == [
        [(field, reason)] for field, reason in zip(of_files["field"], of_files["reason"], strict=True)
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(GOOD)), inner),
    )
)
def test_any_json_is_accepted_or_refused_with_a_remedy_and_never_repeated(document: Any) -> None:
    card = "4111-1111-1111-1111"
    for sent in (document, {"transactions": document}, GOOD | {"category": [card, document]}, {card: document}):
        refused = refusal(json.dumps(sent).encode(), batch=isinstance(sent, dict) and "transactions" in sent)
        assert refused.status in {413, 422}
        assert all(field.path and field.remedy for field in refused.fields)
        assert card not in repr((refused.message, refused.fields))


@given(st.binary())
def test_any_bytes_are_refused(sent: bytes) -> None:
    assert refusal(sent).status in {400, 422}
    with pytest.raises(RequestError):
        parse_feedback(sent)


def test_feedback_is_fraud_or_legitimate() -> None:
    assert parse_feedback(b'{"transaction_id": "t-1", "label": "fraud"}').is_fraud
    with pytest.raises(RequestError) as caught:
        parse_feedback(b'{"transaction_id": "t-1", "label": "fraudulent"}')
    assert [(field.path, field.problem) for field in caught.value.fields] == [("label", "unknown_label")]


def test_an_id_of_a_path_is_judged_as_in_a_body() -> None:
    assert parse_transaction_id("t/1 é") == "t/1 é"
    for bad in ("", " ", "x" * 65, "a\x00b"):
        with pytest.raises(RequestError) as caught:
            parse_transaction_id(bad)
        assert caught.value.fields[0].path == "transaction_id"


@pytest.mark.parametrize(
    "good", ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_json_content_types(good: str) -> None:
    check_content_type(good, encoding=None)
    check_content_type(good, encoding="identity")


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        (None, None),
        ("", None),
        ("text/plain", None),
        ("application/vnd.bentoml+pickle", None),
        ("application/octet-stream", None),
        ("application/json; charset=utf-16", None),
        ("application/json5", None),
        ("application/json", "gzip"),
    ],
)
def test_other_content_types_are_415(kind: str | None, encoding: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        check_content_type(kind, encoding=encoding)
    assert caught.value.status == 415


def test_every_reason_of_files_has_a_remedy_here() -> None:
    assert set(REASONS) <= set(REMEDIES)

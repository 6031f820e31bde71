"""Own fields in requests: strict where the champion declares them, kept where it does not, at all entrances alike."""

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.database.own_fields import own_texts, typed
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.own_fields import OwnField, own_columns
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline_tests.support.entrances import GOOD, MICROSECONDS, NOW
from fraud_pipeline_tests.support.own_worlds import VALUES, own_fields
from serving.errors import MAX_FIELDS_SHOWN, REMEDIES, FieldProblem, RequestError
from serving.http.openapi import describe
from serving.http.own_fields import MAX_CHARACTERS, MAX_OTHER_FIELDS
from serving.http.requests import RequestParser
from serving.stream.messages import BadMessage, MessageReader

AGE = OwnField(name="age", type="number")
OPENED = OwnField(name="account_opened", type="time")
DEVICE = OwnField(name="device_id", type="identifier")
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.just("x" * 2_000),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def parser(*declared: OwnField, max_batch: int = 5) -> RequestParser:
    by_name = {field.name: field for field in declared}
    return RequestParser(currency="EUR", max_batch=max_batch, declared=lambda: by_name)


def read(sent: object, *declared: OwnField) -> TransactionRow:
    return parser(*declared).transaction(body(sent), now=MICROSECONDS)


def body(sent: object) -> bytes:
    return json.dumps({**GOOD, "currency": "EUR", "own_fields": sent}).encode()


def refused(sent: object, *declared: OwnField) -> list[FieldProblem]:
    with pytest.raises(RequestError) as caught:
        read(sent, *declared)
    return list(caught.value.fields)


def outcome_of_batch(sent: object, declared: tuple[OwnField, ...]) -> TransactionRow | set[tuple[str, str]]:
    content = json.dumps({"transactions": [{**GOOD, "currency": "EUR", "own_fields": sent}]}).encode()
    try:
        (row,) = parser(*declared).batch(content, now=MICROSECONDS)
    except RequestError as error:
        return {(field.path.removeprefix("transactions[0]."), field.problem) for field in error.fields}
    return row


def outcome_of_http(sent: object, declared: tuple[OwnField, ...]) -> TransactionRow | set[tuple[str, str]]:
    try:
        return read(sent, *declared)
    except RequestError as error:
        return {(field.path, field.problem) for field in error.fields}


def outcome_of_stream(sent: object, declared: tuple[OwnField, ...]) -> TransactionRow | BadMessage:
    by_name = {field.name: field for field in declared}
    value = json.dumps({"schema": 1, **GOOD, "currency": "EUR", "own_fields": sent}).encode()
    return MessageReader(currency="EUR", declared=lambda: by_name).transaction_message(value, [], now=MICROSECONDS)


@st.composite
def declarations_and_values(draw: st.DrawFn) -> tuple[tuple[OwnField, ...], dict[str, Any]]:
    declared = draw(own_fields())
    sent = {field.name: draw(VALUES[field.type] | ANYTHING) for field in declared if draw(st.booleans())}
    return declared, sent | draw(st.dictionaries(st.text(max_size=70), ANYTHING, max_size=2))


@given(declarations_and_values())
def test_http_batch_and_kafka_give_the_same_row_or_the_same_problem(
    drawn: tuple[tuple[OwnField, ...], dict[str, Any]],
) -> None:
    declared, sent = drawn
    single, stream = outcome_of_http(sent, declared), outcome_of_stream(sent, declared)
    assert outcome_of_batch(sent, declared) == single
    if isinstance(single, TransactionRow):
        assert stream == single
    else:
        assert isinstance(stream, BadMessage)
        assert (stream.path, stream.reason) in single
        assert all(problem in REMEDIES for _, problem in single)
        assert stream.remedy


@given(declarations_and_values())
def test_what_was_accepted_has_the_same_values_as_the_table_of_a_served_day(
    drawn: tuple[tuple[OwnField, ...], dict[str, Any]],
) -> None:
    """Request -> database -> raw table -> accepted table -> database -> table."""
    declared, sent = drawn
    row = outcome_of_http(sent, declared)
    if not isinstance(row, TransactionRow):
        return
    raw = pd.DataFrame([GOOD | {"event_time": NOW, "own_fields": row.own_fields}])
    served = validate(typed(raw, declared), now=pd.Timestamp(NOW), own_fields=declared).accepted
    pd.testing.assert_frame_equal(
        served[[field.name for field in declared]],
        own_columns([row.own_fields], declared),
        check_exact=True,
        check_column_type=False,
    )
    again = own_columns(own_texts(served), declared)
    pd.testing.assert_frame_equal(
        again, served[[field.name for field in declared]], check_exact=True, check_column_type=False
    )


def test_the_stored_text_does_not_depend_on_what_is_declared() -> None:
    """So the same transaction equals the stored one after another model became champion."""
    sent = {"age": 31.0, "account_opened": "2026-01-31T13:45:00+01:00", "device_id": " D-1 ", "x": None}
    text = '{"account_opened":"2026-01-31T13:45:00+01:00","age":31,"device_id":" D-1 "}'
    assert read(sent).own_fields == read(sent, AGE, OPENED, DEVICE).own_fields == text
    assert read({"age": 31}).own_fields == '{"age":31}' == read({"age": 3.1e1}).own_fields


@pytest.mark.parametrize("sent", [None, {}, {"age": None}])
def test_no_own_fields_are_the_same_as_none(sent: object) -> None:
    assert read(sent, AGE).own_fields is None


@pytest.mark.parametrize(
    ("sent", "path", "problem"),
    [
        ({"age": "31"}, "own_fields.age", "wrong_type"),
        ({"age": True}, "own_fields.age", "wrong_type"),
        ({"age": float("nan")}, "own_fields.age", "not_finite"),
        ({"age": [31]}, "own_fields.age", "wrong_type"),
        ({"account_opened": "yesterday"}, "own_fields.account_opened", "time_missing_or_unreadable"),
        ({"device_id": "4.51E+15"}, "own_fields.device_id", "lost_digits"),
        ({"other": {"age": 31}}, "own_fields.other", "wrong_type"),
        ({"other": "x" * 1_025}, "own_fields.other", "too_long"),
        ({"other": "a\x00b"}, "own_fields.other", "control_character"),
        ({"other": float("inf")}, "own_fields.other", "not_finite"),
        ({"4111111111111111": [1]}, "own_fields.(name)", "wrong_type"),
        ({"x" * 65: 1}, "own_fields.(name)", "bad_name"),
        ({f"f{n}": 1 for n in range(MAX_OTHER_FIELDS + 1)}, "own_fields", "too_many_own_fields"),
        ({f"f{n}": "x" * 1_000 for n in range(40)}, "own_fields", "own_fields_too_large"),
        ({f"f{n}": 1 for n in range(2_000)}, "own_fields", "unknown_field"),
        ([1], "own_fields", "wrong_type"),
        ("age=31", "own_fields", "wrong_type"),
    ],
)
def test_a_wrong_own_field_is_named_with_its_problem_and_remedy(sent: object, path: str, problem: str) -> None:
    (field,) = refused(sent, AGE, OPENED, DEVICE)
    assert (field.path, field.problem) == (path, problem)
    assert field.remedy


def test_a_repeated_own_field_is_refused() -> None:
    content = body({"age": 31}).replace(b'{"age": 31}', b'{"age": 31, "age": 32}')
    with pytest.raises(RequestError) as caught:
        parser().transaction(content, now=MICROSECONDS)
    assert [(field.path, field.problem) for field in caught.value.fields] == [("own_fields.age", "duplicate_key")]


def test_hundreds_of_declared_fields_are_read_beside_others() -> None:
    declared = [OwnField(name=f"v{number}", type="number") for number in range(434)]
    sent = {field.name: 1.5 for field in declared} | {f"other_{number}": 1 for number in range(MAX_OTHER_FIELDS)}
    row = read(sent, *declared)
    assert row.own_fields is not None
    assert json.loads(row.own_fields) == sent
    assert len(refused(dict.fromkeys(sent, "x"), *declared)) == MAX_FIELDS_SHOWN


def test_no_other_object_may_have_hundreds_of_keys() -> None:
    many = {f"f{number}": 1 for number in range(500)}
    for content in ({**GOOD, "currency": "EUR", **many}, {"transactions": [{**GOOD, **many}]}):
        read_ = parser().batch if "transactions" in content else parser().transaction
        with pytest.raises(RequestError) as caught:
            read_(json.dumps(content).encode(), now=MICROSECONDS)
        assert [field.problem for field in caught.value.fields] == ["unknown_field"]


def test_openapi_describes_what_the_champion_declares_and_the_limits_of_the_rest() -> None:
    document = describe(currency="EUR", max_batch=1, now=NOW, declared=[AGE, OPENED])
    schema = document["components"]["schemas"]["TransactionIn"]["properties"]["own_fields"]
    assert schema["properties"]["age"]["type"] == ["number", "null"]
    assert schema["properties"]["account_opened"]["format"] == "date-time"
    assert schema["additionalProperties"]["maxLength"] == 1_024
    assert schema["maxProperties"] == MAX_OTHER_FIELDS + 2
    assert MAX_CHARACTERS > 1_024

"""Own fields: strict reading, one text for equal values, and the same values from texts and from typed columns."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.schema.own_fields import (
    OWN_TYPES,
    OwnField,
    OwnType,
    OwnValueError,
    own_columns,
    own_fields_json,
    own_remedy,
    own_values,
    read_own_value,
    transactions_schema,
    with_own_columns,
)
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TRANSACTIONS, empty
from fraud_pipeline_tests.support.own_worlds import VALUES, OwnWorld, own_fields, own_worlds

TIME = 1_769_867_100_000_000


def field(type_: OwnType) -> OwnField:
    return OwnField(name="own", type=type_)


class TestDeclaring:
    @pytest.mark.parametrize("name", ["", "Own", "1st", "own field", "o" * 64, "ä"])
    def test_a_name_is_short_and_plain(self, name: str) -> None:
        with pytest.raises(ValueError, match="own field '.*': a name has"):
            OwnField(name=name, type="number")

    @pytest.mark.parametrize("name", ["amount", "amount_cents", "category", "is_fraud", "label", "part", "score"])
    def test_a_name_of_ours_is_taken(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"own field '{name}': the name is taken"):
            OwnField(name=name, type="number")

    def test_an_unknown_type_names_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match="type 'colour' is none of identifier, category"):
            OwnField(name="own", type="colour")  # type: ignore[arg-type]


class TestReading:
    @pytest.mark.parametrize(
        ("type_", "sent", "expected"),
        [
            ("identifier", " 007 ", "007"),
            ("category", "grocery", "grocery"),
            ("number", 31, 31.0),
            ("money", -12.5, -12.5),
            ("boolean", False, False),
            ("time", "2026-01-31T13:45:00Z", TIME),
            ("time", "2026-01-31t14:45:00.000000+01:00", TIME),
            ("time", "2026-01-31", TIME - (13 * 60 + 45) * 60_000_000),
            ("country", "DE", "DE"),
            ("ip", "2001:0DB8::0017", "2001:db8::17"),
            ("email", "a@example.com", "a@example.com"),
            ("text", "two words", "two words"),
            ("category", "n/a", None),
            ("number", None, None),
        ],
    )
    def test_a_value_of_its_type(self, type_: OwnType, sent: object, expected: object) -> None:
        value = read_own_value(field(type_), sent)
        assert (type(value), value) == (type(expected), expected)

    @pytest.mark.parametrize(
        ("type_", "sent", "reason"),
        [
            ("number", "31", "wrong_type"),
            ("number", True, "wrong_type"),
            ("boolean", 1, "wrong_type"),
            ("category", 5_411, "wrong_type"),
            ("text", ["a"], "wrong_type"),
            ("time", 1_769_867_100, "wrong_type"),
            ("number", float("inf"), "not_finite"),
            ("money", 10**400, "not_finite"),
            ("time", "31.01.2026", "time_missing_or_unreadable"),
            ("time", "2026-02-30T00:00:00Z", "time_missing_or_unreadable"),
            ("time", "2026-01-31T13:45:00", "time_missing_or_unreadable"),
            ("country", "Germany", "bad_country"),
            ("ip", "192.0.2.300", "bad_ip"),
            ("email", "nobody", "bad_email"),
            ("identifier", "4.51E+15", "lost_digits"),
            ("category", "a\x00b", "control_character"),
            ("text", "x" * 1_025, "too_long"),
        ],
    )
    def test_anything_else_is_refused_with_a_remedy(self, type_: OwnType, sent: object, reason: str) -> None:
        with pytest.raises(OwnValueError) as error:
            read_own_value(field(type_), sent)
        assert error.value.reason == reason
        assert own_remedy(reason)

    @given(
        type_=st.sampled_from(OWN_TYPES),
        sent=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            st.lists,
            max_leaves=3,
        ),
    )
    def test_whatever_is_accepted_is_stored_and_read_again(self, type_: OwnType, sent: object) -> None:
        value = None
        with suppress(OwnValueError):
            value = read_own_value(field(type_), sent)
        assert value is None or own_values([own_fields_json({"own": value})], [field(type_)]) == {"own": [value]}


class TestText:
    @given(data=st.data(), fields=own_fields())
    def test_equal_values_have_equal_texts(self, data: st.DataObject, fields: tuple[OwnField, ...]) -> None:
        def sent() -> dict[str, Any]:
            values = {f.name: read_own_value(f, data.draw(VALUES[f.type])) for f in data.draw(st.permutations(fields))}
            return {name: value for name, value in values.items() if value is not None}

        first, second = sent(), sent()
        assert (own_fields_json(first) == own_fields_json(second)) == (first == second)

    def test_it_is_sorted_plain_and_without_spaces(self) -> None:
        assert own_fields_json({"b": "ä", "a": 1.0}) == '{"a":1.0,"b":"\\u00e4"}'

    def test_zero_has_one_text(self) -> None:
        zero = read_own_value(field("number"), -0.0)
        assert zero is not None
        assert own_fields_json({"own": zero}) == '{"own":0.0}'


class TestColumns:
    @pytest.mark.slow
    @given(world=own_worlds())
    def test_texts_as_columns_follow_the_schema_and_hold_the_values(self, world: OwnWorld) -> None:
        columns = own_columns(world.texts, world.fields)
        schema = transactions_schema(world.fields)
        assert list(schema.columns) == [*TRANSACTION_COLUMNS, *(own.name for own in world.fields)]
        for own in world.fields:
            schema.columns[own.name].validate(columns)
            stored = [None if pd.isna(value) else value for value in columns[own.name].tolist()]
            read = [int(value.asm8.view(np.int64)) if isinstance(value, pd.Timestamp) else value for value in stored]
            assert read == [json.loads(text or "{}").get(own.name) for text in world.texts]

    def test_without_own_fields_the_schema_is_the_fixed_one(self) -> None:
        assert transactions_schema(()) is TRANSACTIONS
        assert own_columns([None, '{"a":1.0}'], []).shape == (2, 0)

    def test_a_value_stored_before_its_declaration_is_read_as_a_request_is(self) -> None:
        texts = ['{"own":"2026-01-31T13:45:00Z"}', '{"own":17}', '{"own":true}', '{"own":"soon"}', None]
        assert own_values(texts, [field("time")])["own"] == [TIME, 17, None, None, None]
        assert own_values(texts, [field("number")])["own"] == [None, 17.0, None, None, None]

    @pytest.mark.parametrize("type_", OWN_TYPES)
    def test_a_day_without_the_column_reads_as_missing(self, type_: OwnType) -> None:
        rows = with_own_columns(pd.DataFrame({"amount_cents": [1, 2]}, index=[7, 9]), [field(type_)])
        transactions_schema([field(type_)]).columns["own"].validate(rows)
        assert rows["own"].isna().tolist() == [True, True]

    @pytest.mark.parametrize(
        ("type_", "column", "kept"),
        [
            ("number", pd.Series([1, 2]), True),
            ("number", pd.Series(["1", None]), False),
            ("number", pd.Series([True, False]), False),
            ("boolean", pd.Series([True, None], dtype=object), True),
            ("boolean", pd.Series([0.0, 1.0]), False),
            ("category", pd.Series([1.0, 2.0]), False),
            ("time", pd.Series(["2026-01-31", None]), False),
        ],
    )
    def test_a_column_of_another_declaration_is_missing(self, type_: OwnType, column: pd.Series, *, kept: bool) -> None:
        read = with_own_columns(column.to_frame("own"), [field(type_)])
        transactions_schema([field(type_)]).columns["own"].validate(read)
        np.testing.assert_array_equal(read["own"].notna(), column.notna() & kept)

    def test_no_rows_have_the_schema(self) -> None:
        schema = transactions_schema([field(type_) for type_ in ("time",)])
        schema.validate(empty(schema))

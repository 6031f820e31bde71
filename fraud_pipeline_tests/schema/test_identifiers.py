"""Ids: which spellings are one id, which hold nothing, and which are refused because something was lost."""

import re
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.identifiers import NORMALISATIONS, PROBLEMS, Reading, read_identifier, read_identifiers
from fraud_pipeline_tests.support.spellings import SPELLINGS
from serving.http.field_types import request_type

IDENTIFIER = request_type(FIELDS["customer_id"])
OPTIONAL_ID = request_type(FIELDS["merchant_id"])
SHORT_TEXT = request_type(FIELDS["category"])
MAX_ID_LENGTH = FIELDS["customer_id"].max_length
EDGE = " \t\x85\xa0\u2003\u200b\u200d"
TEXTS = SPELLINGS | st.text(max_size=30)


@pytest.mark.parametrize(
    ("spelling", "text", "rules"),
    [
        ("  c1 ", "c1", ("padding",)),
        ("c1".ljust(200), "c1", ("padding",)),
        ("\u00a0c1\u200b\t", "c1", ("padding",)),
        ("\ufeffc1", "c1", ("padding",)),
        ('="0123"', "0123", ("wrapping",)),
        ('=""0123""', "0123", ("wrapping",)),
        ('"0123"', "0123", ("wrapping",)),
        ("'0123", "0123", ("wrapping",)),
        ("'C-17", "C-17", ("wrapping",)),
        ("123.0", "123", ("whole_number",)),
        ("123.00", "123", ("whole_number",)),
        ("123,0", "123", ("whole_number",)),
        ("123.0000000000", "123", ("whole_number",)),
        ("9007199254740991.0", "9007199254740991", ("whole_number",)),
        ("Cafe\u0301", "Caf\u00e9", ("unicode",)),
        ("\u0661\u0662\u0663", "123", ("unicode",)),
        ("\uff23\uff11", "C1", ("unicode",)),
        ("c\u200b1", "c1", ("unicode",)),
        ("Shop\u00a0A", "Shop A", ("unicode",)),
        ("Caf\u00c3\u00a9", "Caf\u00e9", ("mojibake",)),
        (' ="17.0" ', "17", ("padding", "wrapping", "whole_number")),
    ],
)
def test_spellings_of_one_id_are_one_id(spelling: str, text: str, rules: tuple[str, ...]) -> None:
    assert read_identifier(spelling) == Reading(text, rules)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "007",
            "0",
            "00",
            "C1",
            "c1",
            "12e45678",
            "1234e567",
            "+49170123",
            "192.168.1.1",
            "A.",
            "N",
            "NAM",
            "Nilsson",
        ),
        *(
            "'t Hoekje",
            "fraud_Rippin, Kub",
            "a=b",
            "na\u00efve \U0001f600",
            "\u0917\u094d\u200d\u0937",
            "S\u00c3O",
            "-1",
            ":",
        ),
    ],
)
def test_ordinary_ids_stay_as_they_are(text: str) -> None:
    """Letter case and leading zeros belong to an id."""
    assert read_identifier(text) == Reading(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "\t",
            " \t\u200d",
            "\u2003",
            "NULL",
            "null",
            "(null)",
            "<null>",
            "[NULL]",
            "<NA>",
            "NA",
            "#N/A",
            "n/a",
            "nil",
            "None",
        ),
        *("NaN", "NaT", r"\N", "undefined", "-", "--", "?", ".", "#REF!", '"NULL"', " NULL "),
        *("'", '"', '="', "`", "'NULL", "NULL'", '"-', "=?", "\uff0d", "\uff02"),
    ],
)
def test_words_for_nothing_are_no_ids(text: str) -> None:
    assert read_identifier(text) == Reading(None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((text, "lost_digits") for text in ("4.51E+15", "4,51E+15", "4.51e15", "1E+15", "4E15", "4.51234e+015")),
        *((text, "lost_digits") for text in ("4.51 E+15", "4.51D+15", "-4.51E+15", "4.51*10^15", "4.51 x 10^15")),
        *(
            (text, "lost_digits")
            for text in (" 4.51E+15 ", '="4.51E+15"', "'4.51E+15", "=4.51E+15", "\uff14.\uff15E+15")
        ),
        *((text, "lost_digits") for text in ("9007199254740992.0", "45123400000079190.00")),
        *((text, "decimal_id") for text in ("12.5", "12,5", ".5", "123.000", "1,234,567")),
        *((text, "lost_characters") for text in ("Caf\ufffd", "\ufffd")),
        *((text, "control_character") for text in ("c\x00", "c\n", "a\tb", "\x00 ", "\x7f")),
    ],
)
def test_what_was_lost_is_refused_and_never_believed(text: str, problem: str) -> None:
    reading = read_identifier(text)
    assert (reading.problem, reading.text) == (problem, text)
    assert problem in {*PROBLEMS, "control_character"}


def test_a_category_may_be_a_number_with_decimals() -> None:
    assert read_identifier("12.5", exact=False).text == "12.5"
    assert read_identifier("5411.0", exact=False).text == "5411"


@given(TEXTS)
def test_an_id_is_read_once_and_for_all(text: str) -> None:
    reading = read_identifier(text)
    assert set(reading.rules) <= set(NORMALISATIONS)
    if reading.problem is None and reading.text is not None:
        assert read_identifier(reading.text) == Reading(reading.text)


@given(st.lists(st.none() | TEXTS.filter(lambda text: text.isprintable() or not re.search("[\ud800-\udfff]", text))))
def test_a_column_reads_each_of_its_texts_as_one_text_is_read(texts: list[str | None]) -> None:
    check_column(texts)


def test_a_long_column_of_few_texts_is_read_alike() -> None:
    check_column([" c1", "c1", None, "4.51E+15", "17.0", "NULL", "Cafe\u0301", "="] * 1_000)


def check_column(texts: list[str | None]) -> None:
    column = read_identifiers(pa.array(texts, type=pa.string()))
    readings = [Reading(None) if text is None else read_identifier(text) for text in texts]
    assert column.texts.to_pylist() == [reading.text for reading in readings]
    assert column.rules == Counter(rule for reading in readings for rule in reading.rules)
    for row, reading in enumerate(readings):
        assert [name for name, rows in column.problems.items() if rows[row]] == [reading.problem] * bool(
            reading.problem
        )


def described(kind: Any, text: str) -> bool:
    """Whether /openapi.json says that this is an id, or a short text."""
    schema = TypeAdapter(kind).json_schema()
    assert set(schema) == {"type", "pattern"}
    return re.search(schema["pattern"], text) is not None


def accepted(kind: Any, text: str) -> bool:
    try:
        return bool(TypeAdapter(kind).validate_python(text))
    except ValidationError:
        return False


PADDED = st.builds(
    lambda before, text, after: before + text + after,
    st.text(EDGE, max_size=100),
    SPELLINGS | st.text(st.characters(max_codepoint=127), max_size=70),
    st.text(EDGE, max_size=100),
)


@pytest.mark.parametrize("kind", [IDENTIFIER, OPTIONAL_ID, SHORT_TEXT])
@given(text=PADDED.filter(lambda text: not re.search("[\u200b\u00c3\u0661]", text.strip(EDGE))))
@example(text="c\n")
@example(text="'")
@example(text="9" * 16 + ".")
def test_the_description_of_an_id_promises_nothing_that_is_refused(kind: Any, text: str) -> None:
    """What the pattern of /openapi.json allows is read; a caller may rely on it.

    It sees no word or number that only appears once invisible characters, encodings or digits inside are put right.
    """
    assert accepted(kind, text) or not described(kind, text)


@pytest.mark.parametrize("kind", [IDENTIFIER, OPTIONAL_ID, SHORT_TEXT])
@given(text=PADDED.filter(lambda text: not re.search("[\"'`\u200b\u0301]", text.strip(EDGE))))
@example(text="\x850" + "\x85" * 63)
@example(text="c" * MAX_ID_LENGTH)
@example(text="c" * (MAX_ID_LENGTH + 1))
@example(text="4512340000007919.0")
@example(text=" 123.0\u200b\t")
def test_the_description_of_an_id_leaves_out_nothing_that_is_accepted(kind: Any, text: str) -> None:
    """Padding of any length is described. Only damage that is mended, as by quotes, may go beyond the description."""
    assert described(kind, text) or not accepted(kind, text)

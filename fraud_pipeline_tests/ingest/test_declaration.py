"""The declaration of a file: its TOML there and back, and what its errors say."""

import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.ingest.declaration import (
    PLAIN_FIELDS,
    Declaration,
    DeclarationError,
    LabelReading,
    OwnColumn,
    TimeReading,
    declaration_toml,
    read_declaration,
)
from fraud_pipeline.schema.own_fields import OwnField

GOOD = """\
version = 1

[fields]
amount = "amt"
event_time = {columns = ["trans_date", "trans_time"], format = "%d/%m/%Y %H:%M:%S"}
is_fraud = {column = "EVENT_LABEL", fraud = ["fraud"], legitimate = ["legit"]}

[own_fields.device_type]
type = "category"
column = "DeviceType"

[not_used]
zip4 = "one value in all rows"
"""

COLUMNS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
WORDS = st.text(string.ascii_letters + " 0123456789ä", min_size=1, max_size=6)


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    """Any declaration; each of its columns is given to one field."""
    names = draw(st.lists(st.from_regex(r"x_[a-z0-9_]{0,20}", fullmatch=True), unique=True, max_size=4))
    plain = draw(st.lists(st.sampled_from(PLAIN_FIELDS), unique=True, max_size=6))
    plain += [
        name
        for name in ("latitude", "longitude")
        if name not in plain and len({"latitude", "longitude"} & {*plain}) == 1
    ]
    columns = iter(draw(st.lists(COLUMNS, unique=True, min_size=20, max_size=20)))
    reading: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"zone": "Europe/Berlin"},
                {"format": "%d.%m.%Y"},
                {"unit": "ms"},
                {"unit": "days", "origin": datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=2)))},
            ]
        )
    )
    n_columns = 1 if "unit" in reading else draw(st.integers(1, 2))
    words = draw(st.lists(WORDS, unique_by=lambda word: word.strip().lower(), max_size=4))
    fraud = draw(st.integers(0, len(words)))
    return Declaration(
        fields={name: next(columns) for name in plain},
        event_time=draw(
            st.none() | st.just(TimeReading(columns=tuple(next(columns) for _ in range(n_columns)), **reading))
        ),
        label=draw(
            st.none()
            | st.just(LabelReading(column=next(columns), fraud=tuple(words[:fraud]), legitimate=tuple(words[fraud:])))
        ),
        own=tuple(
            OwnColumn(name=name, type=kind, column=next(columns), description=draw(st.just("") | WORDS))
            for name in names
            for kind in [draw(st.sampled_from(["category", "number", "boolean", "time", "ip"]))]
        ),
        not_used={next(columns): draw(WORDS) for _ in range(draw(st.integers(0, 3)))},
    )


@given(declarations())
def test_a_declaration_survives_its_toml(declaration: Declaration) -> None:
    again = read_declaration(declaration_toml(declaration))

    assert again == declaration
    assert again.id == declaration.id
    assert hash(again) == hash(declaration)


def test_reads_what_a_person_writes() -> None:
    declaration = read_declaration(GOOD)

    assert declaration.fields == {"amount": "amt"}
    assert declaration.event_time == TimeReading(columns=("trans_date", "trans_time"), format="%d/%m/%Y %H:%M:%S")
    assert declaration.label == LabelReading(column="EVENT_LABEL", fraud=("fraud",), legitimate=("legit",))
    assert declaration.own_fields == (OwnField(name="device_type", type="category"),)
    assert declaration.columns == ("amt", "trans_date", "trans_time", "EVENT_LABEL", "DeviceType")


def test_the_name_of_a_column_is_enough() -> None:
    declaration = read_declaration('[fields]\nevent_time = "ts"\nis_fraud = "Class"\n')

    assert declaration.event_time == TimeReading(columns=("ts",))
    assert declaration.label == LabelReading(column="Class")


def test_an_origin_without_offset_is_utc() -> None:
    text = '[fields]\nevent_time = {columns = ["step"], unit = "hours", origin = 2026-01-01T00:00:00}\n'
    declaration = read_declaration(text)

    assert declaration.event_time is not None
    assert declaration.event_time.origin == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_id_follows_what_decides_values() -> None:
    first = read_declaration(GOOD)
    reasons = GOOD.replace("one value in all rows", "of no use").replace(
        'column = "DeviceType"', 'column = "DeviceType"\ndescription = "what it is"'
    )

    assert read_declaration(reasons).id == first.id
    for before, after in (
        ('"amt"', '"amount_usd"'),
        ("%d/%m", "%m/%d"),
        ('["fraud"]', '["bad"]'),
        ("category", "text"),
    ):
        assert read_declaration(GOOD.replace(before, after)).id != first.id


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "problem"),
    [
        ("version = 1", "version = ", 1, "", "no TOML"),
        ("version = 1", "version = 2", 1, "version", "should be 1"),
        ("amount =", "amuont =", 4, "fields.amuont", "no such field"),
        ('"amt"', "5", 4, "fields.amount", 'write it in "quotes"'),
        ('amount = "amt"', 'latitude = "lat"', 4, "fields.latitude", "give longitude as well"),
        ('"amt"', '"EVENT_LABEL"', 6, "fields.is_fraud", "given to two fields"),
        ("format =", "fromat =", 5, "fields.event_time.fromat", "no such key"),
        ("format = ", 'unit = "s", format = ', 5, "fields.event_time", "a unit is for one column"),
        ('legitimate = ["legit"]', 'legitimate = ["FRAUD "]', 6, "fields.is_fraud", "cannot mean fraud and legitimate"),
        ('type = "category"', 'type = "categry"', 9, "own_fields.device_type.type", "'category'"),
        ('type = "category"\n', "", 8, "own_fields.device_type.type", "missing"),
        ("device_type", "amount", 8, "own_fields.amount", "amount"),
        ("device_type]", '"Device Type"]', 8, "own_fields.Device Type", "Device Type"),
        ('"DeviceType"', '"EVENT_LABEL"', 10, "own_fields.device_type.column", "is the label"),
        ('column = "DeviceType"', 'column = "zip4"', 13, "not_used.zip4", "used as well"),
        (
            "[own_fields.device_type]",
            '[entities.device]\nkey = "device"\n[own_fields.device_type]',
            8,
            "entities",
            "remove",
        ),
        ("[own_fields.device_type]", "[ownfields.device_type]", 8, "ownfields", "[own_fields.NAME]"),
    ],
)
def test_an_error_says_where_and_what(before: str, after: str, line: int, key: str, problem: str) -> None:
    assert before in GOOD
    with pytest.raises(DeclarationError) as error:
        read_declaration(GOOD.replace(before, after, 1), path="bank/fraud.toml")

    first = str(error.value).splitlines()[0]
    assert first.startswith(f"bank/fraud.toml, line {line}{', ' if key else ''}{key}:")
    assert problem in first


def test_every_problem_is_said_at_once() -> None:
    text = GOOD.replace('"amt"', "5").replace('type = "category"', 'type = "categry"')

    with pytest.raises(DeclarationError, match=r"line 4.*\n.*line 9"):
        read_declaration(text)

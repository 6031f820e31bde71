"""One table of rules: CSV, Parquet, HTTP and the stream accept the same rows or refuse them."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fraud_pipeline.schema.fields import FIELDS, Field, transaction_fields
from fraud_pipeline.schema.identifiers import read_identifier
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline_tests.support.entrances import GOOD, NOW, full_transaction, outcomes, same_reason
from fraud_pipeline_tests.support.spellings import SPELLINGS

_TIMES = st.builds(
    lambda ago, letters, digits, offset: (
        (NOW - timedelta(microseconds=ago)).strftime(f"%Y-%m-%d{letters[0]}%H:%M:%S.%f")[: 20 + digits]
        + (letters[1] if offset is None else offset)
    ),
    st.integers(0, 50 * 86_400_000_000),
    st.sampled_from(["TZ", "tz", "Tz", "tZ"]),
    st.integers(1, 6),
    st.none() | st.sampled_from(["+00:00", "-08:00", "+05:30"]),
)
_LATE_TIMES = st.integers(1, 86_400).map(lambda seconds: (NOW + timedelta(seconds=seconds)).isoformat())
_NO_TIMES = st.sampled_from(["2026-13-01T00:00:00Z", "2026-02-30T12:00:00+00:00", "2026-06-01T12:00:00+99:00"])
_AMOUNTS = st.integers(-(10**7), 10**7).map(lambda cents: cents / 100) | st.builds(
    lambda cents, pieces: cents / 100 * pieces, st.integers(-(10**4), 10**4), st.integers(1, 99)
)
_IDS = SPELLINGS | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=70)


def around(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers within the limits, on them and beyond."""
    width = high - low
    return st.floats(low - width, high + width, allow_subnormal=False) | st.sampled_from([low, high, float("inf")])


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Valid and invalid values of a field that both JSON and a file can represent."""
    match field.kind:
        case "identifier" | "text":
            values: st.SearchStrategy[Any] = _IDS
        case "time":
            values = _TIMES | _LATE_TIMES | _NO_TIMES
        case "amount":
            values = _AMOUNTS | around(field.minimum, field.maximum)
        case "coordinate":
            values = around(field.minimum, field.maximum)
        case "choice":
            values = st.sampled_from(sorted(field.allowed)) | _words("abcdetu_ \x00\u00e9")
        case "code":
            values = st.from_regex(field.pattern, fullmatch=True) | _words("ADEZ0_\x00\u0130\u00c9")
        case kind:
            raise NotImplementedError(kind)
    return values | st.none()


def _words(alphabet: str) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=70).filter(lambda word: word.strip() == word)


def only_files_know(field: Field, value: object) -> bool:
    """Files spell a missing cell as empty text, where JSON has null, and know more spellings of a choice."""
    if not isinstance(value, str):
        return False
    if field.kind == "text":
        reading = read_identifier(value, exact=False)
        return reading.text is None and reading.problem is None
    spellings = {spelling for aliases in field.allowed.values() for spelling in aliases}
    return value in spellings


def is_unknown_word(field: Field, value: object) -> bool:
    """Whether an optional field of a closed set holds none of it."""
    if field.required or field.kind not in ("choice", "code") or not isinstance(value, str):
        return False
    return value not in field.allowed if field.allowed else re.fullmatch(field.pattern, value) is None


def check_entrances(directory: Path, **changes: Any) -> TransactionRow | None:
    """The row that HTTP, the stream, a Parquet file and a CSV agree on; None where all refuse it."""
    rows = {
        name: outcome if isinstance(outcome, TransactionRow) else None
        for name, outcome in outcomes(directory, GOOD, **changes).items()
    }
    assert len(set(rows.values())) == 1, rows
    return rows["HTTP"]


@pytest.mark.parametrize("field", transaction_fields(), ids=lambda field: field.name)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(data=st.data())
def test_every_entrance_gives_the_same_row_or_the_same_reason(
    tmp_path: Path, field: Field, data: st.DataObject
) -> None:
    changes = {field.name: data.draw(values_of(field), label=field.name)}
    if field.together_with:
        other = FIELDS[field.together_with]
        changes[other.name] = data.draw(values_of(other), label=other.name)
    assume(not only_files_know(field, changes[field.name]))
    by_entrance = outcomes(tmp_path, full_transaction(), **changes)
    if is_unknown_word(field, changes[field.name]):
        # One odd word of an export must not lose its row; a program that sends it learns what is wrong.
        for name, outcome in by_entrance.items():
            assert getattr(outcome, field.name, field.reason) == (field.reason if name in ("HTTP", "Kafka") else None)
        return
    assert len({same_reason(outcome) for outcome in by_entrance.values()}) == 1, by_entrance


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(transaction_id=_IDS, customer_id=_IDS, merchant_id=_IDS, event_time=_TIMES, amount=_AMOUNTS)
def test_every_entrance_gives_the_same_row_or_none_does(tmp_path: Path, **changes: Any) -> None:
    check_entrances(tmp_path, **changes)


@pytest.mark.parametrize("spelling", [" c-1 ", "'c-1", '="c-1"', "c-1\u200b", "\u00a0c-1"])
def test_two_spellings_of_an_id_are_one_customer_at_every_entrance(tmp_path: Path, spelling: str) -> None:
    row = check_entrances(tmp_path, transaction_id="t", customer_id=spelling)
    assert row is not None
    assert row.customer_id == "c-1"


@pytest.mark.parametrize("damaged", ["4.51234E+15", "(null)", "12.50", "Caf\ufffd"])
def test_a_damaged_id_is_refused_at_every_entrance(tmp_path: Path, damaged: str) -> None:
    assert check_entrances(tmp_path, transaction_id="t", customer_id=damaged) is None

"""Numbers and times in the formats of exports: recognised for a whole column, or refused."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.ingest.number_spellings import UNREADABLE, AmbiguousNumbersError, read_numbers
from fraud_pipeline.ingest.time_spellings import TimesError, read_times
from fraud_pipeline.schema.amounts import cents_of, whole_cents


def numbers(*texts: str | None) -> list[object]:
    read = read_numbers(pa.array(texts, type=pa.string()), grouped=True)
    return [] if read is None else list(read.values.to_pylist())


def times(*texts: str | None) -> list[str | None]:
    read = read_times(pa.array(texts, type=pa.string())).to_pylist()
    return [time and time.isoformat().replace("+00:00", "Z") for time in read]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1,234.56", "12.30", "1,740"], [1234.56, 12.3, 1740]),
        (["1.234,56", "12,30", "1.740"], [1234.56, 12.3, 1740]),
        (["1 234,56", "12,30"], [1234.56, 12.3]),
        (["1\u00a0234,56", "1\u202f234,5"], [1234.56, 1234.5]),
        (["1'234.56", "1\u2019234.50"], [1234.56, 1234.5]),
        (["1,23,456.78", "12.5"], [123456.78, 12.5]),
        (["1.234.567", "1.740"], [1234567, 1740]),
        (["1.740", "0.450"], [1.74, 0.45]),
        (["1740", "20"], [1740, 20]),
        (["$17.41", "$1,000.00"], [17.41, 1000]),
        (["17,41 \u20ac", "1.000,00 \u20ac"], [17.41, 1000]),
        (["EUR 17.41", "EUR 5.00"], [17.41, 5]),
        (["R$ 1.234,50", "R$ 5,00"], [1234.5, 5]),
        (["(5.00)", "5.00-", "-$6.00", "\u22128.00", "$9.00"], [-5, -5, -6, -8, 9]),
        (["1.5E3", "2.50"], [1500, 2.5]),
        (["17.410000000000004"], [17.410000000000004]),
        (["n/k", "12,5"], ["n/k", "12.5"]),
        ([None, "12,5"], [None, 12.5]),
    ],
)
def test_numbers_are_read_as_the_column_proves_them(texts: list[str | None], values: list[object]) -> None:
    assert numbers(*texts) == values


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1.740", "20", "980"], "1 numbers such as 1.234 or 1,234 and none with one or two decimals"),
        (["1,740", "2,500"], "2 numbers such as"),
        (["12.5", "12,5"], "1 numbers with a decimal point, as in 1,234.56, and 1 with a decimal comma"),
        (["EUR 17.41", "USD 4.00"], "2 different currencies"),
    ],
)
def test_ambiguous_numbers_are_refused_with_the_evidence(texts: list[str], message: str) -> None:
    with pytest.raises(AmbiguousNumbersError, match=message):
        numbers(*texts)


def test_few_cells_of_another_format_become_unreadable_alone() -> None:
    assert numbers(*["12.30"] * 50, "12,30") == ["12.30"] * 50 + [UNREADABLE]
    assert numbers(*["$5.50"] * 50, "EUR 4.00") == ["5.50"] * 50 + [UNREADABLE]
    assert numbers(*["20"] * 50, "1.740") == ["20"] * 50 + [UNREADABLE]


@given(st.lists(st.integers(0, 10**9), min_size=1), st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", ".")]))
def test_every_amount_with_cents_survives_every_dialect(cents: list[int], marks: tuple[str, str]) -> None:
    group, decimal = marks
    texts = [f"{amount / 100:,.2f}".translate(str.maketrans(",.", group + decimal)) for amount in cents]
    assert numbers(*texts) == [amount / 100 for amount in cents]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_one_amount_is_read_like_a_column(amount: float) -> None:
    cents, exact = whole_cents(pa.array([amount]).to_numpy())
    assert cents_of(amount) == (cents[0] if exact[0] else None)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-01-31 13:45:00 UTC", "2026-01-31 13:45:00 GMT", "2026-01-31 13:45:00 Etc/UTC", "2026-01-31t13:45:00z"),
        *("2026-01-31 13:45:00.000000 UTC", "2026-01-31 13:45:00+00", "2026-01-31 13:45:00.0000000 +00:00"),
        *(
            "2026-01-31T13:45:00.000000000Z",
            "2026-01-31 14:45:00 +0100 CET",
            "2026-01-31T14:45:00+01:00[Europe/Berlin]",
        ),
        *("2026-01-31 14:45:00 Europe/Berlin", "2026-01-31 07:45:00 America/Chicago", "2026-01-31 15:45:00 GMT+0200"),
        *("2026/01/31 13:45:00 UTC", "2026-01-31 13:45:00,000Z", "2026-01-31T05:45:00-08:00"),
    ],
)
def test_times_in_many_spellings_are_one_moment(text: str) -> None:
    assert times(text, text, "unknown", None) == ["2026-01-31T13:45:00Z", "2026-01-31T13:45:00Z", None, None]


@pytest.mark.parametrize("digits", range(1, 10))
def test_fractions_of_one_to_nine_digits(digits: int) -> None:
    fraction = "123456789"[:digits]
    expected = f"2026-01-31T13:45:00.{fraction[:6].ljust(6, '0')}Z"
    assert times(f"2026-01-31 13:45:00.{fraction}", "-") == times(f"2026-01-31T13:45:00.{fraction}Z") * 1 + [None]
    assert times(f"2026-01-31T13:45:00.{fraction}z") == [expected]


def test_an_unreadable_cell_does_not_change_other_offsets() -> None:
    assert times("2026-01-31T13:45:00-08:00", "2026-01-31T13:45:00-05:00", "unknown") == [
        "2026-01-31T21:45:00Z",
        "2026-01-31T18:45:00Z",
        None,
    ]


def test_ambiguous_and_nonexistent_local_times_are_unreadable() -> None:
    assert times(
        "2026-10-25 02:30:00 Europe/Berlin", "2026-03-29 02:30:00 Europe/Berlin", "2026-01-31 01:00 Asia/Tokyo"
    )[:2] == [None, None]


def test_abbreviations_of_zones_are_refused_by_name() -> None:
    with pytest.raises(TimesError, match=r"mean another zone in each country: CST \(2 rows\)\. .*America/Chicago"):
        times("2026-01-31 13:45:00 CST", "2026-01-31 13:45:00 CST")


def test_a_few_times_without_offset_among_many_with_one_are_unreadable() -> None:
    assert times(*["2026-01-31T13:45:00Z"] * 40, "2026-01-31 13:45:00")[-1] is None


@pytest.mark.parametrize(
    "text", ["2026-02-30", "2026-01-31T24:00:00Z", "31.01.2026", "01/02/2026", "1769867100", "soon"]
)
def test_text_that_is_no_time_is_unreadable(text: str) -> None:
    with pytest.raises(TimesError, match="no readable times"):
        times(text)

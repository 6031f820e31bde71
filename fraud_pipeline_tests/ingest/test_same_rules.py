"""One rule table: a row is accepted or refused alike by a CSV, a Parquet file, HTTP and the stream, as the same row."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline_tests.support.spellings import SPELLINGS
from serving.errors import RequestError
from serving.http.requests import RequestParser
from serving.stream.messages import MessageReader

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
MICROSECONDS: Final = int(NOW.timestamp() * 1_000_000)
HTTP: Final = RequestParser(currency="EUR", max_batch=1)
STREAM: Final = MessageReader(currency="EUR")
GOOD: Final[dict[str, Any]] = {
    "transaction_id": "good",
    "event_time": "2026-06-01T10:00:00Z",
    "customer_id": "c-1",
    "merchant_id": "m-1",
    "amount": 12.34,
}
N_GOOD: Final = 40
"""Rows beside the one in question: what one cell says must not be the whole column's fault."""

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
_AMOUNTS = st.integers(1, 10**7).map(lambda cents: cents / 100) | st.builds(
    lambda cents, pieces: cents / 100 * pieces, st.integers(1, 10**4), st.integers(1, 99)
)
_IDS = SPELLINGS | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=70)


def of_file(path: Path) -> TransactionRow | None:
    """The row of the transaction in question; None where it is refused."""
    source = FileSource(path)
    raw = source.transactions(start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp(NOW) + pd.Timedelta(days=1))
    result = validate(raw, now=pd.Timestamp(NOW), fallback_time=pd.Timestamp("2026-01-01", tz="UTC"))
    rows = result.accepted[~result.accepted["transaction_id"].str.startswith("good-")]
    assert len(result.accepted) - len(rows) == N_GOOD
    assert len(result.accepted) + len(result.rejected) == N_GOOD + 1
    if rows.empty:
        return None
    (row,) = rows.to_dict("records")
    row["event_time"] = row["event_time"].value // 1_000
    return TransactionRow._make(None if pd.isna(row[name]) else row[name] for name in TransactionRow._fields)


def of_http(sent: dict[str, Any]) -> TransactionRow | None:
    try:
        return HTTP.transaction(json.dumps(sent).encode(), now=MICROSECONDS)
    except RequestError:
        return None


def of_stream(sent: dict[str, Any]) -> TransactionRow | None:
    row = STREAM.transaction_message(json.dumps({"schema": 1, **sent}).encode(), [], now=MICROSECONDS)
    return row if isinstance(row, TransactionRow) else None


def check_entrances(directory: Path, **changes: Any) -> TransactionRow | None:
    """The row that HTTP, the stream, a Parquet file and a CSV agree on; None where all refuse it."""
    sent = GOOD | changes
    expected = of_http({**sent, "currency": "EUR"})
    assert of_stream({**sent, "currency": "EUR"}) == expected
    rows = pd.DataFrame([*(GOOD | {"transaction_id": f"good-{n}"} for n in range(N_GOOD)), sent])
    path = directory / uuid4().hex
    rows.to_parquet(path.with_suffix(".parquet"))
    rows.to_csv(path.with_suffix(".csv"), index=False)
    assert of_file(path.with_suffix(".parquet")) == expected
    assert of_file(path.with_suffix(".csv")) == expected
    return expected


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
def test_an_id_that_lost_something_is_refused_at_every_entrance(tmp_path: Path, damaged: str) -> None:
    assert check_entrances(tmp_path, transaction_id="t", customer_id=damaged) is None

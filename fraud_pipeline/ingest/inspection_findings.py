"""Findings about all rows of a file: times, labels, warnings, and problems that stop a training.

Belongs here: sentences about the whole file. Must not be here: guesses about one column.
"""

from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fraud_pipeline.ingest.column_labels import LabelGuess
from fraud_pipeline.ingest.column_profiles import Profile, plain_count
from fraud_pipeline.ingest.column_times import Times, joined, times_as
from fraud_pipeline.ingest.declaration import Declaration
from fraud_pipeline.ingest.file_content import order_times
from fraud_pipeline.ingest.inspection_sample import Sample
from fraud_pipeline.ingest.number_spellings import WIDESPREAD
from fraud_pipeline.ingest.time_guesses import TimeGuess
from fraud_pipeline.ingest.time_spellings import MISSING

FEWEST_FRAUDS: Final = 20
"""Below this number the four parts of a split cannot all hold frauds that judge anything."""
_AMAZON: Final = frozenset({"EVENT_TIMESTAMP", "EVENT_LABEL"})
_ROWS_PER_CUSTOMER: Final = 1.1


def column_of(table: pa.Table, name: str) -> pa.Array:
    """A column of a table as one array."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def all_times(table: pa.Table, guess: TimeGuess | None) -> Times:
    """The event time of every row in microseconds UTC, shape (n,); their order without a time."""
    if guess is None:
        return order_times(len(table))
    parts = [Profile(name, column_of(table, name)) for name in guess.columns]
    return times_as(parts[0] if len(parts) == 1 else joined(parts), guess.spelling)


def label_values(profile: Profile | None, guess: LabelGuess | None, *, rows: int) -> NDArray[np.float64]:
    """1 for fraud, 0 for legitimate, NaN for unknown; shape (rows,)."""
    if profile is None or guess is None:
        return np.full(rows, np.nan)
    words = pd.Series(profile.text.to_pandas()).str.lower()
    meaning = {**dict.fromkeys(guess.fraud, 1.0), **dict.fromkeys(guess.legitimate, 0.0)}
    values = np.asarray(words.map(meaning), dtype=np.float64)
    return np.nan_to_num(values, nan=0.0) if guess.marks_frauds_only else values


def warnings_of(
    sample: Sample, declaration: Declaration, time: TimeGuess | None, times: Times, labels: NDArray[np.float64]
) -> tuple[str, ...]:
    """Warnings before a training; none of them stops it."""
    warnings: list[str] = []
    if set(sample.names) >= _AMAZON:
        warnings.append("The columns are those of an Amazon Fraud Detector export.")
    if sample.windows_encoding:
        warnings.append("The file is no UTF-8 text; it is read as Windows-1252. Check names with accents.")
    warnings += _missing_fields(declaration)
    if time is not None:
        warnings += time.spelling.warnings
        if time.spelling.all_midnight and not time.spelling.unit:
            warnings.append(
                f"All times of '{' + '.join(time.columns)}' are midnight, so that transactions of one day have no "
                "order. If another column holds the time of day: --set event_time=DATE+TIME"
            )
        unreadable = int((times == MISSING).sum())
        if 0 < unreadable <= WIDESPREAD * len(times):
            warnings.append(f"{plain_count(unreadable, 'row')} without a readable event time will be rejected.")
    warnings += _about_customers(sample, declaration)
    amount = next((each for each in sample.profiles if each.name == declaration.fields.get("amount")), None)
    if amount is not None and _finer_than_cents(amount) > WIDESPREAD:
        warnings.append(f"Amounts in '{amount.name}' have more than two decimals and are rounded to cents.")
    if unknown := int(np.isnan(labels).sum()) if declaration.label else 0:
        warnings.append(f"{plain_count(unknown, 'row')} without a label: history only, in no training or test row.")
    return tuple(warnings)


def _finer_than_cents(amount: Profile) -> float:
    """The share of amounts with more than two decimals."""
    cents = amount.present_numbers * 100
    return float((np.abs(cents - np.round(cents)) > 1e-6 * np.maximum(1, np.abs(cents))).mean()) if len(cents) else 0.0


def _missing_fields(declaration: Declaration) -> list[str]:
    """The consequences of fields without a column."""
    consequences = {
        "transaction_id": "No transaction id: row numbers serve, for training only (--set transaction_id=COLUMN).",
        "customer_id": "No customer: each transaction is its own customer, without history (--set customer_id=COLUMN).",
        "merchant_id": "No merchant: features of merchants are missing (--set merchant_id=COLUMN).",
        "amount": "No amount: it counts as 0 (--set amount=COLUMN).",
    }
    if declaration.event_time is None:
        order = "No time: the order of the rows is taken as time (--set event_time=COLUMN)."
        consequences = {"event_time": order, **consequences}
    return [sentence for field, sentence in consequences.items() if field not in declaration.fields]


def _about_customers(sample: Sample, declaration: Declaration) -> list[str]:
    name = declaration.fields.get("customer_id")
    profile = next((profile for profile in sample.profiles if profile.name == name), None)
    if profile is None or not sample.whole:
        return []
    if profile.filled < _ROWS_PER_CUSTOMER * profile.distinct and profile.distinct > FEWEST_FRAUDS:
        return [f"Nearly every '{name}' has one row, so features of a customer's history will be empty."]
    return []


def problems_of(declaration: Declaration, times: Times, labels: NDArray[np.float64]) -> tuple[str, ...]:
    """Problems that stop a training, each with the option that helps."""
    problems: list[str] = []
    frauds, genuine = int((labels == 1).sum()), int((labels == 0).sum())
    if declaration.label is None and "reported_at" not in declaration.fields:
        problems.append("No column is recognised as the label. Name it: --set is_fraud=COLUMN")
    elif not frauds or not genuine:
        side = "fraud" if not frauds else "legitimate row"
        problems.append(f"No {side} is labelled. If another column is the label: --set is_fraud=COLUMN")
    elif frauds < FEWEST_FRAUDS:
        problems.append(
            f"{plain_count(frauds, 'fraud')} of at least {FEWEST_FRAUDS} that training and test need. Bring a longer "
            "period; if another column is the label: --set is_fraud=COLUMN"
        )
    inputs = [
        own for own in declaration.own if own.type in ("number", "money", "boolean", "category", "country", "time")
    ]
    if "amount" not in declaration.fields and not inputs:
        problems.append("Neither an amount nor another column is left to learn from: --set amount=COLUMN")
    unreadable = int((times == MISSING).sum())
    if declaration.event_time is not None and unreadable > WIDESPREAD * len(times):
        problems.append(
            f"{unreadable:,} of {len(times):,} event times cannot be read. Give their format: --time-format "
            '"%d/%m/%Y %H:%M", or another column: --set event_time=COLUMN'
        )
    return tuple(problems)

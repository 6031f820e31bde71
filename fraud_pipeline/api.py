"""The Python API: read transactions, compute features, score and explain them as the service does.

Belongs here: few functions over frames, for notebooks and scripts. Must not be here: another way to compute, decide
or explain; state. Nothing is stored: no decision, no history.
`from fraud_pipeline import score` loads this module; `import fraud_pipeline` alone loads nothing.
"""

import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_object_dtype
from pandera.errors import SchemaError
from pandera.pandas import DataFrameSchema

from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.features.engineer import History, merchant_days
from fraud_pipeline.host.data_location import data_location
from fraud_pipeline.ingest.column_mapping import parse_columns
from fraud_pipeline.ingest.declaration import read_declaration
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import ValidationResult, validate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.schema.own_fields import OwnField, OwnValueError, own_remedy, read_own_value, with_own_columns
from fraud_pipeline.schema.transactions import (
    FRAUD_REPORTS,
    OPTIONAL_COLUMNS,
    TRANSACTION_COLUMNS,
    TRANSACTIONS,
    empty,
)
from fraud_pipeline.scoring.decide import decide_with_model
from fraud_pipeline.scoring.reason_texts import own_sentence, sentence
from fraud_pipeline.settings import Settings, home_directory

__all__ = [
    "FraudModel",
    "compute_features",
    "explain",
    "load_champion",
    "load_model",
    "read_transactions",
    "score",
]


def load_champion(home: Path | str | None = None) -> FraudModel:
    """The exported champion of a home directory, by default `$FRAUD_HOME` or `.fraud`.

    Raises FileNotFoundError where none is exported, IncompatibleModelError where this release cannot rebuild it.
    """
    directory = Settings(home=home_directory() if home is None else Path(home)).champion_directory
    if not directory.exists():
        raise FileNotFoundError(f"{directory}: no champion is exported here; run `fraud-detect train`")
    return load_model(directory)


def load_model(directory: Path | str) -> FraudModel:
    """The model of a directory. Raises IncompatibleModelError where it cannot be read or rebuilt."""
    return FraudModel.load(Path(directory))


def read_transactions(
    path: Path | str,
    *,
    columns: str = "",
    declaration: Path | str | None = None,
    label_delay: timedelta = timedelta(days=7),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transactions and fraud reports of a file or URL, as `fraud-detect train` reads it.

    `columns` maps our names to the file's (`amount=EUR,...`); obvious names need no mapping. `declaration` is a
    fraud.toml instead, whose own fields follow as typed columns. Frauds without a report
    time count as reported `label_delay` after the transaction. Invalid rows are left out with a warning that counts
    them. Raises SourceError for a file that cannot be used.
    """
    declared = None
    if declaration is not None:
        declared = read_declaration(Path(declaration).read_text(encoding="utf-8"), path=Path(declaration))
    source = FileSource(
        data_location(path),
        columns=parse_columns(columns) if columns else None,
        declaration=declared,
        label_delay=label_delay,
    )
    start = pd.Timestamp(source.first_day, tz="UTC")
    end = pd.Timestamp(source.last_day, tz="UTC") + pd.Timedelta(days=1)
    result = validate(
        source.transactions(start=start, end=end),
        now=pd.Timestamp.now(tz="UTC"),
        own_fields=declared.own_fields if declared else (),
        conversion=declared.conversion if declared else None,
    )
    if len(result.rejected):
        warnings.warn(f"{path}: {_rejected(result)} and left out", stacklevel=2)
    return result.accepted, source.reports(start=start, end=pd.Timestamp("2200-01-01", tz="UTC"))


def compute_features(
    transactions: pd.DataFrame,
    reports: pd.DataFrame | None = None,
    *,
    history: pd.DataFrame | None = None,
    model: FraudModel | None = None,
) -> pd.DataFrame:
    """Features of each transaction in the order of rows: transaction_id, event_time, then float32, NaN missing.

    `transactions` and `history`, earlier ones to look back at, have the columns of `read_transactions`; optional ones
    may be absent, and so may own fields that `model` knows. A row sees only what happened, and only reports that came,
    before it. `model` decides the columns and how they are computed; its own inputs follow as they are in
    `transactions`. Without a model, all features are computed with the default configuration.
    Raises ValueError for invalid or unknown columns.
    """
    config = DEFAULT_FEATURE_CONFIG if model is None else model.feature_config
    frame = _all_features(transactions, reports, history=history, config=config)
    names = FEATURE_NAMES if model is None else model.features
    return frame[["transaction_id", "event_time", *names]]


def score(
    transactions: pd.DataFrame,
    reports: pd.DataFrame | None = None,
    *,
    history: pd.DataFrame | None = None,
    model: FraudModel | None = None,
) -> pd.DataFrame:
    """Probability, decision and reasons of each transaction, in the order of rows; arguments of `compute_features`.

    Columns: transaction_id, event_time, probability, decision (allow, review or block by the model's policy) and
    reasons, a tuple of sentences, empty for allow. `model` is the exported champion by default. The service can turn
    a block into a review, by its limit per minute and its holdout; this function does not.
    """
    model = load_champion() if model is None else model
    frame = _all_features(transactions, reports, history=history, config=model.feature_config)
    values = model.feature_config.model_rows(frame, features=model.feature_config.feature_names)
    decisions, probabilities, reasons = decide_with_model(values, model)
    texts = [tuple(reason.text for reason in row) for row in reasons]
    return frame[["transaction_id", "event_time"]].assign(
        probability=probabilities, decision=decisions, reasons=pd.Series(texts, index=frame.index, dtype=object)
    )


def explain(features: pd.DataFrame, *, model: FraudModel | None = None, top: int = 10) -> pd.DataFrame:
    """The features that moved each score most, strongest first, of rows of `compute_features`.

    Columns: transaction_id, feature, value, contribution (to the log-odds before calibration; positive raises the
    score) and text, a sentence for people. The value of a category is its number in the model. `model` is the exported
    champion by default.
    """
    model = load_champion() if model is None else model
    contributions = model.contributions(features)[list(model.features)].to_numpy()
    values = model.values(features)
    strongest = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :top]
    rows = [
        (id_, model.features[column], values[row, column], contributions[row, column])
        for row, id_ in enumerate(features["transaction_id"])
        for column in strongest[row]
    ]
    frame = pd.DataFrame(rows, columns=["transaction_id", "feature", "value", "contribution"])
    own = {each.name: each for each in model.feature_config.own_inputs.inputs}
    local = model.feature_config.local_time
    texts = [
        own_sentence(own[name], float(value)) if name in own else sentence(name, float(value), local_time=local)
        for _, name, value, _ in rows
    ]
    return frame.assign(text=texts)


def _all_features(
    transactions: pd.DataFrame, reports: pd.DataFrame | None, *, history: pd.DataFrame | None, config: FeatureConfig
) -> pd.DataFrame:
    """Every feature, then the own inputs as they are, with the index of `transactions`."""
    fields, own = config.own_inputs.fields, config.own_inputs.names
    raw = _accepted(transactions, name="transactions", own=fields)
    new = raw[list(TRANSACTION_COLUMNS)]
    past = empty(TRANSACTIONS) if history is None else _accepted(history, name="history", own=fields)
    past = past[list(TRANSACTION_COLUMNS)]
    known = empty(FRAUD_REPORTS) if reports is None else _checked(FRAUD_REPORTS, reports, name="reports")
    events = new if past.empty else pd.concat([past, new], ignore_index=True).drop_duplicates("transaction_id")
    days = merchant_days(events, known, label_maturity=config.label_maturity)
    frame = config.engineer().compute(history=History(past, known, days), new=raw)
    return frame.assign(**raw[list(own)]).set_axis(transactions.index)


def _accepted(frame: pd.DataFrame, *, name: str, own: Sequence[OwnField]) -> pd.DataFrame:
    """Valid transactions in their schema, then their own fields.

    Raises ValueError for columns that nothing reads and for invalid rows.
    """
    declared = [field.name for field in own]
    fixed = _accepted_fixed(frame.drop(columns=declared, errors="ignore"), name=name)
    columns = {field.name: _own_column(frame[field.name], field, name=name) for field in own if field.name in frame}
    return with_own_columns(fixed.assign(**columns), own)


def _own_column(column: pd.Series, field: OwnField, *, name: str) -> pd.Series:
    """The column in its type, texts as a request is read. Raises ValueError for a value of another type."""
    values = column.reset_index(drop=True)
    typed = with_own_columns(values.to_frame(field.name), [field])[field.name]
    if (typed.isna() & values.notna()).any():
        raise ValueError(f"{name}: column {field.name} holds values that are no {field.type}; convert or drop them")
    if not is_object_dtype(typed.dtype):
        return typed
    try:
        texts = {text: read_own_value(field, text) for text in typed.dropna().unique()}
    except OwnValueError as error:
        raise ValueError(f"{name}: {field.name} {error.reason}: {own_remedy(error.reason)}") from error
    return pd.Series([texts.get(text) for text in typed], dtype=object)


def _accepted_fixed(frame: pd.DataFrame, *, name: str) -> pd.DataFrame:
    amount = "amount_cents" if "amount_cents" in frame else "amount"
    expected = [amount if column == "amount_cents" else column for column in TRANSACTION_COLUMNS]
    if unknown := [column for column in frame if column not in expected]:
        raise ValueError(f"{name}: unknown columns {', '.join(map(str, unknown))}; drop them or rename them")
    if amount == "amount":
        result = validate(frame, now=pd.Timestamp.now(tz="UTC"))
        if len(result.rejected):
            raise ValueError(f"{name}: {_rejected(result)}; correct them or leave them out")
        return result.accepted
    absent = [column for column in OPTIONAL_COLUMNS if column not in frame]
    rows = frame.assign(**{column: empty(TRANSACTIONS)[column].reindex(frame.index) for column in absent})
    return _checked(TRANSACTIONS, rows.reindex(columns=TRANSACTION_COLUMNS).reset_index(drop=True), name=name)


def _rejected(result: ValidationResult) -> str:
    counts = (result.rejected["field"] + " " + result.rejected["reason"]).value_counts()
    causes = ", ".join(f"{count:,} {cause}" for cause, count in counts.items())
    return f"{len(result.rejected):,} of {len(result.accepted) + len(result.rejected):,} rows are invalid ({causes})"


def _checked(schema: DataFrameSchema, frame: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """The frame itself. Raises ValueError where it does not follow the schema."""
    try:
        return schema.validate(frame)
    except SchemaError as error:
        raise ValueError(f"{name}: {error}") from error

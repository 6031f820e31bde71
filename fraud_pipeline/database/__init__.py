"""The database of decisions: SQLAlchemy Core over SQLite or PostgreSQL. No other package imports SQLAlchemy.

Belongs here: connections, tables, statements. Must not be here: the meaning of a decision (`scoring/scorer.py`).
"""

import fraud_pipeline.database.rule_tables  # noqa: F401 - all tables are known, whoever asks
from fraud_pipeline.database.batch import Batch, StoredDecision, Versions, scoring_batch
from fraud_pipeline.database.customer_history import HistoryReadError
from fraud_pipeline.database.engine import (
    Database,
    DatabaseOutdatedError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    DatabaseUnsuitableError,
    open_database,
)
from fraud_pipeline.database.pending import PendingReport
from fraud_pipeline.database.positions import FencedError, Position, Positions

__all__ = [
    "Batch",
    "Database",
    "DatabaseOutdatedError",
    "DatabaseRefusedError",
    "DatabaseUnavailableError",
    "DatabaseUnsuitableError",
    "FencedError",
    "HistoryReadError",
    "PendingReport",
    "Position",
    "Positions",
    "StoredDecision",
    "Versions",
    "open_database",
    "scoring_batch",
]

"""Errors of scoring: the history, the model or the storage is away, or the database refuses values.

Belongs here: these errors, and their mapping from errors of the database. Must not be here: reactions to them
(`serving/runtime/resilience.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from fraud_pipeline.database import DatabaseRefusedError, DatabaseUnavailableError

Result = TypeVar("Result")


class HistoryUnavailableError(RuntimeError):
    """History cannot be read now; score without it."""


class ModelUnavailableError(RuntimeError):
    """The model cannot answer now; decide by rules."""


class NotStoredError(RuntimeError):
    """Nothing was stored, so nothing was decided; `retry` is true if an immediate retry may help."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class StorageUnavailableError(NotStoredError):
    """Nothing can be stored now, whatever it is."""


class StorageRefusedError(NotStoredError):
    """The database refused the values of these rows, or of all rows because of a constraint that no row meets."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Errors of the database within the block as NotStoredError."""
    try:
        yield
    except DatabaseUnavailableError as error:
        kind = StorageRefusedError if isinstance(error, DatabaseRefusedError) else StorageUnavailableError
        raise kind(str(error), retry=error.retry) from error


def with_retry(store: Callable[[], Result]) -> Result:
    """The result of a transaction, retried once if the database says that this may help."""
    try:
        return store()
    except NotStoredError as error:
        if not error.retry:
            raise
    return store()

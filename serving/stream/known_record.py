"""A record that is known to be good. If it fails, too, the failing records are not at fault.

Belongs here: running that record through every step of handling, and undoing it. Must not be here: when to run it, and
the waiting (`handler.py`, `consumer.py`), the statements that are tried (`fraud_pipeline/scoring/rehearsal.py`).
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from fraud_pipeline.messaging.topics import report_message, transaction_message
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.errors import StorageRefusedError, StorageUnavailableError
from fraud_pipeline.scoring.micro_batch import NO_REQUEST_IDS, MicroBatch, RequestIdsOfRows
from fraud_pipeline.scoring.rehearsal import UndoneError, go_through, undone
from serving.stream.messages import BadMessage, MessageReader, decision_message, report_of

log = logging.getLogger(__name__)
_NAME: Final = "fraud-detect rehearsal"


class EveryRecordFailsError(RuntimeError):
    """No record can be handled, not even one that is known to be good: the fault is in this release or its settings."""


class ScoresRows(Protocol):
    """The scorer, or the resilient scorer around it."""

    def transaction(
        self, rows: Sequence[TransactionRow], *, request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> AbstractContextManager[MicroBatch]: ...


def check_known_record(scorer: ScoresRows, reader: MessageReader, *, now: int) -> None:
    """Handle a transaction and a report that are known to be good, and undo it; `now` in microseconds.

    Raises StorageUnavailableError when the database refuses them, EveryRecordFailsError when anything else fails.
    """
    try:
        _handle_and_undo(scorer, _read(reader, now=now), now=now)
    except (StorageUnavailableError, EveryRecordFailsError):
        raise
    except StorageRefusedError as error:
        raise StorageUnavailableError(str(error)) from None
    except Exception as error:
        log.exception("a record that is known to be good fails")
        raise EveryRecordFailsError(
            f"every record fails, even one that is known to be good ({type(error).__name__}): see the log, and go back "
            "to the release before"
        ) from None


def _handle_and_undo(scorer: ScoresRows, row: TransactionRow, *, now: int) -> None:
    with undone(), scorer.transaction([row]) as scored:
        for answer in scored.answers:
            if isinstance(answer, ScoringResult):
                decision_message(answer, customer_id=_NAME)
        go_through(scored.batch, now=now)
        raise UndoneError


def _read(reader: MessageReader, *, now: int) -> TransactionRow:
    sent = transaction_message(TransactionRow(_NAME, now, _NAME, _NAME, 100), currency=reader.known_currency)
    report = report_message(_NAME, is_fraud=True)
    row = reader.transaction_message(sent.value, sent.headers, now=now)
    message = report_of(report.value, report.headers)
    if isinstance(row, BadMessage):
        raise EveryRecordFailsError(f"a message that is known to be good is not read ({row.reason})")
    if isinstance(message, BadMessage):
        raise EveryRecordFailsError(f"a report that is known to be good is not read ({message.reason})")
    return row

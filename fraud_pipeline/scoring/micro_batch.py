"""The answers of one micro-batch: what was stored before, what each row is answered, and the alerts that it opens.

Belongs here: rows and their answers within one open transaction. Must not be here: making decisions (`scorer.py`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from fraud_pipeline.alerts.urgency import expected_loss_cents, queue_order
from fraud_pipeline.database import Batch
from fraud_pipeline.schema.money import same_transaction
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult, from_stored

Answer = ScoringResult | Conflict
RequestIdsOfRows = Mapping[str, str]
"""Transaction id -> id of the request that it came with."""
NO_REQUEST_IDS: Final[RequestIdsOfRows] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Answers to rows, in order, and the open transaction that holds them: it takes more statements of the caller."""

    batch: Batch
    answers: list[Answer]


def answers_of(transaction: AbstractContextManager[MicroBatch]) -> list[Answer]:
    """The answers of a transaction without more statements, committed."""
    with transaction as scored:
        return scored.answers


def stored_answers(
    batch: Batch,
    first: Mapping[str, TransactionRow],
    added: Collection[str],
    *,
    as_stored_now: Callable[[TransactionRow], TransactionRow],
) -> dict[str, Answer]:
    """Answers to ids that were decided on before, or that were used for another transaction.

    `as_stored_now` gives the form in which an earlier row would be stored today: a field may have become personal.
    """
    stored = batch.stored([id_ for id_ in first if id_ not in added]) if len(added) < len(first) else {}
    answers: dict[str, Answer] = {}
    for id_, (event, decision) in stored.items():
        sent = first[id_]
        if event is not None and not (same_transaction(event, sent) or same_transaction(as_stored_now(event), sent)):
            answers[id_] = Conflict(id_)
        elif decision is not None:
            answers[id_] = from_stored(decision)
    return answers


def answer_to(row: TransactionRow, answers: Mapping[str, Answer], first: Mapping[str, TransactionRow]) -> Answer:
    """The answer to a row; `first` holds the first row of each id, and later ones repeat it or contradict it."""
    chosen, answer = first[row.transaction_id], answers[row.transaction_id]
    if row is chosen or isinstance(answer, Conflict):
        return answer
    return replace(answer, replayed=True) if same_transaction(row, chosen) else Conflict(row.transaction_id)


def open_alerts(
    batch: Batch, new: Sequence[TransactionRow], scored: Sequence[ScoringResult], decided: Collection[str]
) -> None:
    """Open an alert for each new decision that a person should look at."""
    both = zip(new, scored, strict=True)
    alerts = [(row, result) for row, result in both if result.decision != "allow" and row.transaction_id in decided]
    if alerts:
        losses = [expected_loss_cents(row.amount_cents, result.probability) for row, result in alerts]
        batch.add_alerts(
            ids=[row.transaction_id for row, _ in alerts],
            customers=[row.customer_id for row, _ in alerts],
            decisions=[result.decision for _, result in alerts],
            created_at=alerts[0][1].decided_at,
            merchant_id=[row.merchant_id for row, _ in alerts],
            amount_cents=[row.amount_cents for row, _ in alerts],
            probability=[result.probability for _, result in alerts],
            expected_loss_cents=losses,
            queue_order=[
                queue_order(result.decided_at, loss) for (_, result), loss in zip(alerts, losses, strict=True)
            ],
        )

"""A rehearsal of scoring: runs every statement of scoring on artificial rows with extreme valid values.

Belongs here: the artificial rows, and the calls of all statements. Must not be here: the statements (`database/`), the
reaction to a failed rehearsal.

A database of this release accepts every valid row. If it refuses these rows, the database or this program is at fault,
and every record would fail. If it accepts them, a record that fails is itself at fault. A rehearsal leaves nothing
behind: its transaction is rolled back, and its ids hold a control character, which validation never accepts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import cycle, islice, product
from typing import Final, get_args

import numpy as np

from fraud_pipeline.database import Batch, Database, PendingReport, StoredDecision, scoring_batch
from fraud_pipeline.database.statements import WORTH_COPYING
from fraud_pipeline.features.definitions import LONGEST_WINDOW
from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.transactions import (
    CHANNELS,
    MAX_AMOUNT_CENTS,
    TransactionRow,
)
from fraud_pipeline.scoring.decision_record import DecidedBy, Mode

_NAME: Final = "\x01rehearsal"
_WIDEST: Final = "\U0001f4b3"
"""A character of four bytes in UTF-8."""
_REASONS: Final = f'[["rehearsal", "{_WIDEST * 1_000}"]]'
_OWN_FIELDS: Final = f'{{"rehearsal":"{_WIDEST * 1_000}"}}'
_FEATURES: Final = bytes(4_096)


class UndoneError(Exception):
    """Rolls back the transaction of a successful rehearsal."""


def rehearse(database: Database, *, now: int) -> None:
    """Run every statement of scoring, and roll back; `now` in microseconds since 1970-01-01 UTC.

    Raises DatabaseUnavailableError with the cause.
    """
    with undone(), scoring_batch(database) as batch:
        go_through(batch, now=now)
        raise UndoneError


@contextmanager
def undone() -> Iterator[None]:
    """A block that ends with UndoneError to roll its transaction back."""
    with suppress(UndoneError):
        yield


def go_through(batch: Batch, *, now: int) -> None:
    """Run every statement of scoring; the caller must roll the transaction back."""
    # Few and many rows use different statements on PostgreSQL.
    _score(batch, _rows(2, kind="few", now=now), now=now)
    _score(batch, _rows(WORTH_COPYING, kind="many", now=now), now=now)
    _report(batch, _rows(1, kind="few", now=now)[0], now=now)
    at = (_NAME, 0)
    position = batch.positions.claim(*at, start=0)
    batch.positions.move(*at, before=position, after=position)
    batch.positions.all(_NAME)


def _rows(count: int, *, kind: str, now: int) -> list[TransactionRow]:
    """Alternately the smallest and the largest valid rows."""

    def name(number: int) -> str:
        return f"{_NAME} {kind} {number}"

    def widest(number: int, field: str) -> str:
        return name(number).ljust(FIELDS[field].max_length, _WIDEST)

    rows = []
    for number, channel in zip(range(count), cycle(CHANNELS), strict=False):
        if number % 2:
            texts = ("transaction_id", "customer_id", "merchant_id", "category")
            transaction_id, customer, merchant, category = (widest(number, field) for field in texts)
            ids = (transaction_id, now, customer, merchant, MAX_AMOUNT_CENTS, category)
            rows.append(TransactionRow(*ids, channel, "ZZ", -90.0, 180.0, _OWN_FIELDS))
        else:
            rows.append(TransactionRow(name(number), now - LONGEST_WINDOW, name(number), name(number), 1))
    return rows


def _score(batch: Batch, rows: Sequence[TransactionRow], *, now: int) -> None:
    ids, customers = [row.transaction_id for row in rows], [row.customer_id for row in rows]
    versions, _ = batch.remember(rows)
    batch.stored(ids)
    since, up_to = np.zeros(len(rows), np.int64), np.full(len(rows), now)
    batch.customers.first_events(customers, since=since, up_to=up_to, at_most=1)
    batch.customers.later_events(customers, above=since, up_to=up_to)
    batch.customers.events_of_tiles(customers, starts=since, up_to=up_to, width=now)
    batch.customers.tiles(customers[0], since=0, up_to=batch.customers.version(customers[0]), width=now)
    batch.reports(above_version=versions.reports, up_to_version=versions.reports, since=0)
    batch.merchant_days([row.merchant_id for row in rows], since=0, label_maturity=timedelta(0), up_to_version=0)
    batch.blocks.take([now], most=1)
    batch.holdout_key()
    batch.add_feature_config(_NAME, "{}")
    outcomes = islice(cycle(product(get_args(Decision), get_args(DecidedBy), get_args(Mode))), len(rows))
    batch.add_decisions(
        [
            StoredDecision(
                transaction_id=row.transaction_id,
                decided_at=now,
                decision=decision,
                probability=1.0,
                decided_by=decided_by,
                mode=mode,
                missing="history model merchant_days",
                reasons=_REASONS,
                model_version=_WIDEST,
                model_sha256="0" * 64,
                features=_FEATURES,
                customer_version=versions.customers[row.customer_id],
                reports_version=versions.reports,
                merchant_days_version=0,
                holdout_share=0.0,
                feature_config=_REASONS,
                request_id=_WIDEST,
                unused_fields=_REASONS,
                rule=_WIDEST,
                model_decision=decision,
                rule_matches=_REASONS,
            )
            for row, (decision, decided_by, mode) in zip(rows, outcomes, strict=True)
        ]
    )
    # A rollback does not return the numbers of alerts, so there is only one alert per kind.
    decisions = [decision for decision in get_args(Decision) if decision != "allow"][: len(rows)]
    alerts = {"ids": ids[: len(decisions)], "customers": customers[: len(decisions)]}
    batch.add_alerts(**alerts, decisions=decisions, created_at=now)


def _report(batch: Batch, row: TransactionRow, *, now: int) -> None:
    for is_fraud in (True, False):
        batch.add_report(row.transaction_id, reported_at=now, is_fraud=is_fraud)
    report = PendingReport(_NAME, 0, 0, row.transaction_id, is_fraud=True, reported_at=now, kept_at=now, value=b"")
    batch.pending.keep(report)
    batch.pending.of([row.transaction_id])
    batch.pending.known_by_now()
    batch.pending.kept_before(0)
    batch.pending.forget([report])

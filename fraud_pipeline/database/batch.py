"""One scoring transaction: lock the customers, read history, store events, decisions and alerts.

Belongs here: the statements of that transaction. Must not be here: decisions (`scoring/scorer.py`), the cache between
transactions (`scoring/history_cache.py`), loading and pruning (`history.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from fraud_pipeline.database.block_minutes import BlockMinutes
from fraud_pipeline.database.customer_history import CustomerHistory, HistoryReadError
from fraud_pipeline.database.engine import Database, DatabaseUnavailableError, translated
from fraud_pipeline.database.merchant_days import mark_late_days
from fraud_pipeline.database.pending import PendingReport, PendingReports
from fraud_pipeline.database.positions import Positions
from fraud_pipeline.database.statements import (
    WORTH_COPYING,
    increment_versions,
    increment_versions_and_insert_new,
    insert_new,
    next_version,
    one_of,
)
from fraud_pipeline.database.tables import (
    ALERTS,
    CUSTOMERS,
    DECISIONS,
    FEATURE_CONFIGS,
    FRAUD_REPORTS,
    MEMORY_VERSIONS,
    MERCHANT_DAYS,
    SECRETS,
    SPENT_IDS,
    TRANSACTIONS,
    merchant_days_name,
    whole_microseconds,
)
from fraud_pipeline.schema.transactions import DAY, MILLISECOND, REPORT_COLUMNS, ROW_COLUMNS, TransactionRow

_EVENT = [TRANSACTIONS.c[name] for name in ROW_COLUMNS]
_REPORTS = sa.select(*(FRAUD_REPORTS.c[name] for name in REPORT_COLUMNS)).where(
    FRAUD_REPORTS.c.version > sa.bindparam("above"),
    FRAUD_REPORTS.c.version <= sa.bindparam("up_to"),
    FRAUD_REPORTS.c.reported_at >= sa.bindparam("since"),
)
_MEMORY = sa.select(MEMORY_VERSIONS.c.name, MEMORY_VERSIONS.c.version, MEMORY_VERSIONS.c.as_of)


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The newest version of reports or merchants' days, and the instant (microseconds) that it covers."""

    version: int
    as_of: int


_NOT_MADE: Final = TableVersion(version=0, as_of=0)


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that a transaction sees: `customers` after it, `tables` by name."""

    customers: Mapping[str, int]
    tables: Mapping[str, TableVersion]

    @property
    def reports(self) -> int:
        """The newest version of the reports. Raises DatabaseUnavailableError when its row is lost."""
        if "reports" not in self.tables:
            raise DatabaseUnavailableError("memory_versions has lost its row of reports: restore a backup")
        return self.tables["reports"].version

    def merchant_days(self, label_maturity: timedelta) -> TableVersion:
        """The version of the merchants' days of this label maturity; version 0 when none were made."""
        return self.tables.get(merchant_days_name(label_maturity), _NOT_MADE)


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A row of `decisions`; `features` are the bytes of a float32 row in the order of its feature configuration."""

    transaction_id: str
    decided_at: int
    decision: str
    probability: float | None
    decided_by: str
    mode: str
    missing: str
    reasons: str
    model_version: str | None
    model_sha256: str | None
    features: bytes
    customer_version: int
    reports_version: int
    merchant_days_version: int
    holdout_share: float | None = None
    feature_config: str | None = None
    request_id: str | None = None
    unused_fields: str | None = None
    rule: str | None = None
    model_decision: str | None = None
    rule_matches: str | None = None


@contextmanager
def scoring_batch(database: Database, *, read_only: bool = False) -> Iterator["Batch"]:
    """A transaction for one micro-batch, committed when the block ends without an error."""
    with database.transaction(read_only=read_only) as connection:
        yield Batch(connection)


class Batch:
    """The statements of one open transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self.customers = CustomerHistory(connection)
        self.positions = Positions(connection)
        self.blocks = BlockMinutes(connection)
        self.pending = PendingReports(connection)

    def lock(self, customers: Sequence[str]) -> Versions:
        """Lock these customers until the transaction ends, and increment the version of each."""
        counted, also_select = increment_versions(self._connection, CUSTOMERS, sorted(customers), also_select=_MEMORY)
        return _versions(counted, also_select)

    def remember(self, rows: Sequence[TransactionRow]) -> tuple[Versions, set[str]]:
        """Lock the customers of these events, then store the events; returns the versions and the ids of new events."""
        columns: dict[str, Sequence[Any]] = dict(zip(ROW_COLUMNS, zip(*rows, strict=True), strict=True))
        if self._dialect == "postgresql" and len(rows) < WORTH_COPYING:
            counted, new, also_select = increment_versions_and_insert_new(
                self._connection, CUSTOMERS, TRANSACTIONS, columns, also_select=_MEMORY
            )
            versions, added = _versions(counted, also_select), set(new)
        else:
            versions = self.lock(list(set(columns["customer_id"])))
            columns["customer_version"] = [versions.customers[customer] for customer in columns["customer_id"]]
            added = set(insert_new(self._connection, TRANSACTIONS, columns))
        made_until = {name: table.as_of for name, table in versions.tables.items() if name != "reports"}
        times = (row.event_time for row in rows if row.transaction_id in added)
        mark_late_days(self._connection, times, made_until=made_until)
        return versions, added

    def reports(self, *, above_version: int, up_to_version: int, since: int) -> Sequence[Any]:
        """Reports of these versions with `reported_at` from `since` on, in columns of FRAUD_REPORTS."""
        return self._history(_REPORTS, {"above": above_version, "up_to": up_to_version, "since": since})

    def merchant_days(
        self, merchants: Sequence[str], *, since: int, up_to_version: int, label_maturity: timedelta
    ) -> Sequence[Any]:
        """Days of these merchants from `since` on, as of a version of this label maturity, each day once."""
        parameters = {
            "names": merchants,
            "since": since,
            "up_to": up_to_version,
            "label_maturity": whole_microseconds(label_maturity),
        }
        rows = self._history(_days_of(self._dialect), parameters)
        return list({(row[0], row[1]): row for row in rows}.values())

    def stored(self, ids: Sequence[str]) -> dict[str, tuple[TransactionRow | None, StoredDecision | None]]:
        """The event and the decision of each id that has at least one of them."""
        chosen = {"names": ids}
        events = self._connection.execute(
            sa.select(*_EVENT).where(one_of(self._dialect, TRANSACTIONS.c.transaction_id)), chosen
        )
        decisions = self._connection.execute(
            sa.select(DECISIONS).where(one_of(self._dialect, DECISIONS.c.transaction_id)), chosen
        )
        known = {row[0]: TransactionRow(*row) for row in events}
        decided = {row[0]: StoredDecision(*row) for row in decisions}
        return {id_: (known.get(id_), decided.get(id_)) for id_ in known.keys() | decided.keys()}

    def add_decisions(self, decisions: Sequence[StoredDecision]) -> set[str]:
        """Store decisions of ids that were never decided; returns the ids that were stored.

        The caller has locked the customers and stored the events, so no other transaction decides on the same ids.
        """
        names = StoredDecision.__slots__
        columns = {name: [getattr(row, name) for row in decisions] for name in names}
        return set(insert_new(self._connection, DECISIONS, columns, unless=SPENT_IDS))

    def add_feature_config(self, id_: str, content: str) -> None:
        """Store the content of a feature configuration under its id."""
        insert_new(self._connection, FEATURE_CONFIGS, {"id": [id_], "content": [content]})

    def holdout_key(self) -> str:
        """The secret key of the holdout draw, the same for every process of this database."""
        query = sa.select(SECRETS.c.value).where(SECRETS.c.name == "holdout")
        return str(self._connection.execute(query).scalar_one())

    def add_alerts(
        self, *, ids: list[str], customers: list[str], decisions: list[str], created_at: int, **further: list[Any]
    ) -> None:
        """Open an alert for each decision that a person should look at; `further` are other columns of ALERTS."""
        columns: dict[str, list[Any]] = {
            "transaction_id": ids,
            "customer_id": customers,
            "created_at": [created_at] * len(ids),
            "decision": decisions,
            "status": ["open"] * len(ids),
            "queue_order": [created_at / (7 * DAY)] * len(ids),  # as `alerts/urgency.py` places an unknown loss
            **further,
        }
        insert_new(self._connection, ALERTS, columns)

    def add_report(self, transaction_id: str, *, reported_at: int, is_fraud: bool) -> int | None:
        """Store a fraud report; returns its `reported_at`, or None for an unknown transaction id.

        A report with the same label as the newest one at that time is not stored again, so that a retry counts once. A
        late report keeps its own time. Reports within one millisecond are ordered by arrival, because senders give no
        finer time.
        """
        event = self._connection.execute(
            sa.select(*_EVENT).where(TRANSACTIONS.c.transaction_id == transaction_id)
        ).one_or_none()
        if event is None:
            return None
        version = next_version(self._connection, "reports", as_of=reported_at)
        row = TransactionRow(*event)
        at = max(reported_at, row.event_time)
        newest = self._connection.execute(
            sa.select(FRAUD_REPORTS.c.reported_at, FRAUD_REPORTS.c.is_fraud)
            .where(
                FRAUD_REPORTS.c.transaction_id == transaction_id,
                FRAUD_REPORTS.c.reported_at < (at // MILLISECOND + 1) * MILLISECOND,
            )
            .order_by(FRAUD_REPORTS.c.reported_at.desc())
            .limit(1)
        ).one_or_none()
        if newest is not None and newest.is_fraud == is_fraud:
            return int(newest.reported_at)
        at = max(at, newest.reported_at + 1 if newest is not None else 0)
        report = {
            "transaction_id": transaction_id,
            "reported_at": at,
            "is_fraud": is_fraud,
            "event_time": row.event_time,
            "customer_id": row.customer_id,
            "merchant_id": row.merchant_id,
            "amount_cents": row.amount_cents,
            "version": version,
        }
        insert_new(self._connection, FRAUD_REPORTS, {name: [value] for name, value in report.items()})
        return at

    def add_pending_reports(self, reports: Sequence[PendingReport]) -> None:
        """Store pending reports whose transaction is known by now; the others stay pending."""
        self.pending.forget(
            [
                report
                for report in reports
                if self.add_report(report.transaction_id, reported_at=report.reported_at, is_fraud=report.is_fraud)
                is not None
            ]
        )

    def _history(self, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
        with translated(self._connection.engine.url, HistoryReadError):
            return self._connection.execute(statement, parameters).all()


# Cached, because SQLAlchemy compiles a statement object only once.
@cache
def _days_of(dialect: str) -> sa.Select[Any]:
    days = MERCHANT_DAYS.c
    return (
        sa.select(*(column for column in days if column.name not in ("label_maturity", "version")))
        .where(
            one_of(dialect, days.merchant_id),
            days.label_maturity == sa.bindparam("label_maturity"),
            days.day >= sa.bindparam("since"),
            days.version <= sa.bindparam("up_to"),
        )
        .order_by(days.version)
    )


def _versions(counted: Mapping[str, int], memory: Sequence[Any]) -> Versions:
    tables = {name: TableVersion(version=version, as_of=as_of) for name, version, as_of in memory}
    return Versions(customers=counted, tables=tables)

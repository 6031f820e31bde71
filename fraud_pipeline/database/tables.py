"""The tables of decisions and of the history behind them.

Belongs here: columns and keys. Must not be here: statements (`batch.py`, `history.py`), changes (`migrations/`),
partitions (`months.py`).

History is a set of events keyed by transaction id. Versions record what a decision knew: events carry the version of
their customer at which they became known; reports and merchants' days carry the version of their table. So a decision's
features can be recomputed later bit for bit, whatever arrived since.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from fraud_pipeline.schema.fields import Kind, transaction_fields

METADATA: Final = sa.MetaData()

# Text has no length here: entrances judge lengths, and a limit that changes needs no migration.
_SQL_TYPE_OF_KIND: Final[Mapping[Kind, type[sa.types.TypeEngine[Any]]]] = {
    "time": sa.BigInteger,
    "amount": sa.BigInteger,
    "coordinate": sa.Double,
    "flag": sa.Boolean,
}


def _transaction_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            field.stored_as,
            _SQL_TYPE_OF_KIND.get(field.kind, sa.Text),
            primary_key=field.name == "transaction_id",
            nullable=not field.required,
        )
        for field in transaction_fields()
    ]


TRANSACTIONS: Final = sa.Table(
    "transactions",
    METADATA,
    *_transaction_columns(),
    # Text and not JSONB: both databases compare one spelling, and the same id with other own fields is a conflict.
    sa.Column("own_fields", sa.Text),
    sa.Column("customer_version", sa.BigInteger, nullable=False),
    sa.Index("transactions_of_customer", "customer_id", "event_time"),
    # A process that caches a customer at a version reads the events that became known since.
    sa.Index("transactions_by_version", "customer_id", "customer_version"),
    # Rows arrive nearly in order of time, so a BRIN index is tiny and does not slow inserts.
    sa.Index("transactions_by_time", "event_time", postgresql_using="brin"),
    sa.Index("transactions_of_merchant", "merchant_id", "event_time"),
)

# There is no foreign key to the events, because history expires long before decisions. PostgreSQL needs the time in the
# # key of monthly partitions; the events, and later SPENT_IDS, guarantee that an id is decided once.
DECISIONS: Final = sa.Table(
    "decisions",
    METADATA,
    sa.Column("transaction_id", sa.Text, primary_key=True),
    sa.Column("decided_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("probability", sa.Double),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("missing", sa.Text, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text),
    sa.Column("model_sha256", sa.Text),
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Column("customer_version", sa.BigInteger, nullable=False),
    sa.Column("reports_version", sa.BigInteger, nullable=False),
    sa.Column("merchant_days_version", sa.BigInteger, nullable=False),
    # The share of the holdout draw of a would-be block, whether it was held out or not; empty without a draw.
    sa.Column("holdout_share", sa.Double),
    # The feature configuration: an id of `feature_configs`; empty for decisions of earlier releases.
    sa.Column("feature_config", sa.Text),
    # The id of the request that was answered first, as in the log; empty where the sender of a record gave none.
    sa.Column("request_id", sa.Text),
    # The own fields that this decision did not use, as a JSON list; empty for none.
    sa.Column("unused_fields", sa.Text),
    # The rule of analysts that decided, as name@version, and the decision without rules; empty where none decided.
    sa.Column("rule", sa.Text),
    sa.Column("model_decision", sa.Text),
    # Every rule that was true, as a JSON list of name, version, action and effect; empty for none.
    sa.Column("rule_matches", sa.Text),
    sa.Index("decisions_by_time", "decided_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (decided_at)",
)

# Decided ids whose event has left history.
SPENT_IDS: Final = sa.Table(
    "spent_ids",
    METADATA,
    sa.Column("transaction_id", sa.Text, primary_key=True),
    sa.Column("decided_at", sa.BigInteger, nullable=False),
    sa.Index("spent_ids_by_time", "decided_at", postgresql_using="brin"),
)

# Every feature configuration of a decision, as JSON.
FEATURE_CONFIGS: Final = sa.Table(
    "feature_configs",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)

CUSTOMERS: Final = sa.Table(
    "customers",
    METADATA,
    sa.Column("customer_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)

FRAUD_REPORTS: Final = sa.Table(
    "fraud_reports",
    METADATA,
    sa.Column("transaction_id", sa.Text, primary_key=True),
    sa.Column("reported_at", sa.BigInteger, primary_key=True),
    sa.Column("is_fraud", sa.Boolean, nullable=False),
    sa.Column("event_time", sa.BigInteger, nullable=False),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("merchant_id", sa.Text, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("fraud_reports_by_version", "version"),
    sa.Index("fraud_reports_by_time", "reported_at"),
    sa.Index("fraud_reports_of_merchant", "merchant_id", "event_time"),
)

# The loaded content version of each day of the offline tables; `day` is its midnight in microseconds.
LOADED_DAYS: Final = sa.Table(
    "loaded_days",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("content", sa.Text, nullable=False),
)

# Reports whose transaction is not known yet, by their Kafka record.
PENDING_REPORTS: Final = sa.Table(
    "pending_reports",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("transaction_id", sa.Text, nullable=False),
    sa.Column("is_fraud", sa.Boolean, nullable=False),
    sa.Column("reported_at", sa.BigInteger, nullable=False),
    sa.Column("kept_at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Index("pending_reports_of_transaction", "transaction_id"),
    sa.Index("pending_reports_by_time", "kept_at"),
)

# Increases in the order of inserts; a customer's lock makes that the order of the customer's decisions.
_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# Marks: days of late events that the merchants' days of that name had already covered (see `merchant_days_name`).
LATE_DAYS: Final = sa.Table(
    "late_days",
    METADATA,
    sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("day", sa.BigInteger, nullable=False),
)

# The label maturity (microseconds) decides the cleared columns (matured legitimate transactions), so each one in use
# has # days and versions of its own.
MERCHANT_DAYS: Final = sa.Table(
    "merchant_days",
    METADATA,
    sa.Column("merchant_id", sa.Text, primary_key=True),
    sa.Column("label_maturity", sa.BigInteger, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("transaction_count", sa.BigInteger, nullable=False),
    sa.Column("amount_sum_cents", sa.BigInteger, nullable=False),
    sa.Column("cleared_count", sa.BigInteger, nullable=False),
    sa.Column("last_cleared_time", sa.BigInteger, nullable=False),
    sa.Index("merchant_days_by_day", "day"),
)

# One row for the reports and one for the merchants' days of each label maturity (see `merchant_days_name`); `as_of` is
# the instant that the newest version covers, and `reports_seen` the version of the reports that merchants' days know.
MEMORY_VERSIONS: Final = sa.Table(
    "memory_versions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("as_of", sa.BigInteger, nullable=False),
    sa.Column("reports_seen", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)


def whole_microseconds(span: timedelta) -> int:
    """A duration in whole microseconds, as the tables store it."""
    return span // timedelta(microseconds=1)


def merchant_days_name(label_maturity: timedelta) -> str:
    """The name in `memory_versions` of the merchants' days that were made with this label maturity."""
    return f"merchant_days/{whole_microseconds(label_maturity)}"


# The position of a topic's partition: decided before `next_offset`, published on the topic of decisions before #
# `published_offset`. A new reader increments `epoch`; a late writer of an earlier epoch is refused.
STREAM_POSITIONS: Final = sa.Table(
    "stream_positions",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("published_offset", sa.BigInteger, nullable=False),
)

ALERTS: Final = sa.Table(
    "alerts",
    METADATA,
    sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
    sa.Column("transaction_id", sa.Text, nullable=False, unique=True),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("assignee", sa.Text),
    sa.Column("taken_at", sa.BigInteger),
    sa.Column("resolved_at", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("posted_at", sa.BigInteger),
    # When to retry an alert that the webhook did not accept; empty for all others.
    sa.Column("retry_at", sa.BigInteger),
    # Copies of the transaction and its decision, so that the queue is sorted and filtered without reading either.
    sa.Column("merchant_id", sa.Text),
    sa.Column("amount_cents", sa.BigInteger),
    sa.Column("probability", sa.Double),
    sa.Column("expected_loss_cents", sa.BigInteger),
    # The place in the queue, the smallest first (`alerts/urgency.py`).
    sa.Column("queue_order", sa.Double),
    # The alert is hidden from the queue until then.
    sa.Column("snoozed_until", sa.BigInteger),
    # The kind of a confirmed fraud, where the analyst named one.
    sa.Column("fraud_kind", sa.Text),
    sa.Index("alerts_by_status", "status", "number"),
    sa.Index("alerts_in_queue", "status", "queue_order", "number"),
    sa.Index("alerts_of_customer", "customer_id", "number"),
    sa.Index("alerts_of_merchant", "merchant_id", "number"),
    sa.Index("alerts_by_time", "created_at"),
    sa.Index(
        "alerts_not_posted",
        "number",
        postgresql_where=sa.text("posted_at IS NULL"),
        sqlite_where=sa.text("posted_at IS NULL"),
    ),
    sa.Index(
        "alerts_held",
        "retry_at",
        postgresql_where=sa.text("retry_at IS NOT NULL"),
        sqlite_where=sa.text("retry_at IS NOT NULL"),
    ),
)

# The history of each alert: who did what, and when; rows are only inserted.
ALERT_EVENTS: Final = sa.Table(
    "alert_events",
    METADATA,
    sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
    sa.Column("transaction_id", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Index("alert_events_of_alert", "transaction_id", "number"),
)

# How many transactions of a minute of their own time were to be blocked, by whichever process; `minute` is its
# beginning. Its row is the lock that lets all of them keep one cap.
BLOCK_MINUTES: Final = sa.Table(
    "block_minutes",
    METADATA,
    sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("blocks", sa.BigInteger, nullable=False),
)

# The shift of a feature on a day from a baseline; `day` is its midnight in microseconds.
DRIFT: Final = sa.Table(
    "drift",
    METADATA,
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("feature", sa.Text, primary_key=True),
    sa.Column("baseline", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("size", sa.Double, nullable=False),
    sa.Column("q", sa.Double, nullable=False),
    sa.Column("drifted", sa.Boolean, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
)

# One figure of one day's report; `day` is its midnight in microseconds; an empty segment means all rows.
PERFORMANCE: Final = sa.Table(
    "performance",
    METADATA,
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("segment", sa.Text, primary_key=True),
    sa.Column("group_name", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("value", sa.Double),
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("frauds", sa.BigInteger, nullable=False),
    sa.Column("served", sa.BigInteger, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
)

# One row: identity and description of the source of the loaded history.
HISTORY_SOURCE: Final = sa.Table(
    "history_source",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
)

# Secrets of the database, which no answer reveals.
SECRETS: Final = sa.Table(
    "secrets",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# The verdict of a report on a day, and the report as a page (gzip); `day` is its midnight.
REPORT_VERDICTS: Final = sa.Table(
    "report_verdicts",
    METADATA,
    sa.Column("report", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("judged", sa.Boolean, nullable=False),
    sa.Column("red", sa.Boolean, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("page", sa.LargeBinary),
)

# Decisions of champion and challenger on one transaction, evaluated when its label is known.
SHADOW_DECISIONS: Final = sa.Table(
    "shadow_decisions",
    METADATA,
    sa.Column("transaction_id", sa.Text, primary_key=True),
    sa.Column("challenger", sa.Text, primary_key=True),
    sa.Column("champion", sa.Text, nullable=False),
    sa.Column("decided_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("champion_decision", sa.Text, nullable=False),
    sa.Column("challenger_decision", sa.Text, nullable=False),
    sa.Column("champion_probability", sa.Double, nullable=False),
    sa.Column("challenger_probability", sa.Double, nullable=False),
    sa.Index("shadow_decisions_by_time", "decided_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (decided_at)",
)

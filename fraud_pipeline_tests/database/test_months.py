"""Months of decisions are partitions on PostgreSQL and are dropped as a whole; an id is still decided once."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database, StoredDecision, scoring_batch
from fraud_pipeline.database.months import MONTHLY, open_months
from fraud_pipeline.database.retention import remove_expired
from fraud_pipeline.database.statements import WORTH_COPYING
from fraud_pipeline.database.tables import DECISIONS, SPENT_IDS
from fraud_pipeline.schema.transactions import TransactionRow, microsecond
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.scorer import Scorer

NOW = pd.Timestamp("2030-05-10", tz="UTC")


def row(number: int, *, at: pd.Timestamp = NOW, cents: int = 100) -> TransactionRow:
    return TransactionRow(f"t-{number}", microsecond(at) + number, f"c-{number % 5}", "m-1", cents)


def decided(number: int, *, at: pd.Timestamp) -> StoredDecision:
    return StoredDecision(
        f"t-{number}", microsecond(at), "allow", 0.5, "model", "full", "", "[]", "1", "0" * 64, b"", 1, 1, 1
    )


def decide(database: Database, numbers: range, *, at: pd.Timestamp) -> None:
    with scoring_batch(database) as batch:
        assert len(batch.add_decisions([decided(number, at=at) for number in numbers])) == len(numbers)


def expired_decisions(database: Database, *, before: pd.Timestamp) -> int:
    return remove_expired(database, limits={"decision_retention": before})["decisions"]


def month_tables(database: Database) -> list[str]:
    with database.transaction(read_only=True) as connection:
        names = sa.inspect(connection).get_table_names(schema="public_months")
    return sorted(name for name in names if name.startswith("decisions_2"))


def ids(database: Database, table: sa.Table) -> set[str]:
    with database.transaction(read_only=True) as connection:
        return set(connection.execute(sa.select(table.c.transaction_id)).scalars())


@pytest.fixture
def postgres(empty_postgres_url: str) -> Iterator[Database]:
    made = Database(empty_postgres_url, statement_timeout=timedelta(seconds=20))
    made.upgrade()
    yield made
    made.close()


def test_months_are_opened_ahead_and_dropped_when_all_of_them_is_too_old(postgres: Database) -> None:
    assert open_months(postgres, now=NOW) == 4 * len(MONTHLY)
    assert open_months(postgres, now=NOW) == 0
    assert month_tables(postgres) == [f"decisions_2030_{month:02}" for month in (5, 6, 7, 8)]
    decide(postgres, range(20), at=NOW)
    decide(postgres, range(20, 22), at=NOW + pd.Timedelta(days=60))
    assert expired_decisions(postgres, before=NOW + pd.Timedelta(days=21)) == 0, "its last day is not too old yet"
    assert expired_decisions(postgres, before=NOW + pd.Timedelta(days=22)) == 20
    assert month_tables(postgres) == [f"decisions_2030_{month:02}" for month in (6, 7, 8)]
    assert ids(postgres, DECISIONS) == {"t-20", "t-21"}


def test_rows_outside_of_months_are_deleted_one_by_one(postgres: Database) -> None:
    """Rows from before the upgrade, and rows of a month without a partition."""
    long_ago = pd.Timestamp("2020-01-01", tz="UTC")
    decide(postgres, range(3), at=long_ago)
    decide(postgres, range(3, 5), at=NOW)
    assert open_months(postgres, now=NOW) == (4 + 4) - 1, "the month of decisions that lie elsewhere cannot be opened"
    assert expired_decisions(postgres, before=NOW - pd.Timedelta(days=1)) == 3
    assert expired_decisions(postgres, before=NOW + pd.Timedelta(days=1)) == 2


def test_rows_from_before_the_upgrade_stay(empty_postgres_url: str) -> None:
    database = Database(empty_postgres_url)
    database.upgrade("0014")
    with database.transaction() as connection:
        later = ("request_id", "unused_fields", "rule", "model_decision", "rule_matches")
        columns_of_then = {name: value for name, value in asdict(decided(1, at=NOW)).items() if name not in later}
        connection.execute(sa.insert(DECISIONS), [columns_of_then])
    database.upgrade()
    assert ids(database, DECISIONS) == {"t-1"}
    database.downgrade("0014")
    assert ids(database, DECISIONS) == {"t-1"}
    database.close()


@pytest.mark.parametrize("other_rows", [0, WORTH_COPYING])
def test_an_id_stays_taken_until_its_decision_expires(database: Database, other_rows: int) -> None:
    """Also when its event expired long before, for few rows and for many that are copied."""
    scorer = Scorer(database=database, champion=lambda: None)
    more = [row(number) for number in range(100, 100 + other_rows)]
    (first,) = scorer.score([row(1)])
    assert isinstance(first, ScoringResult)
    remove_expired(database, limits={"history_retention": NOW + pd.Timedelta(days=1)})
    assert ids(database, SPENT_IDS) == {"t-1"}
    assert scorer.score([row(1, cents=7), *more])[0] == Conflict("t-1")
    assert ids(database, DECISIONS) == {"t-1", *(decision.transaction_id for decision in more)}
    end = pd.Timestamp("2100-01-01", tz="UTC")
    remove_expired(database, limits={"history_retention": end, "decision_retention": end})
    assert ids(database, SPENT_IDS) == set()
    (again,) = scorer.score([row(1, cents=7)])
    assert isinstance(again, ScoringResult)

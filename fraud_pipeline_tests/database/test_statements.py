"""SQLite and PostgreSQL: migrations up and down, outages, and the statements of a scoring transaction."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fraud_pipeline.database import Batch, Database, DatabaseOutdatedError, DatabaseUnavailableError, scoring_batch
from fraud_pipeline.database.batch import TableVersion
from fraud_pipeline.database.engine import READ_ONLY
from fraud_pipeline.database.history import (
    load_history,
    read_merchant_days,
    read_reports,
    read_transactions,
)
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.retention import remove_expired
from fraud_pipeline.database.statements import WORTH_COPYING
from fraud_pipeline.database.tables import MEMORY_VERSIONS, METADATA, TRANSACTIONS, merchant_days_name
from fraud_pipeline.features.merchant_days import merchant_days
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow, microsecond, microseconds
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables

NOON = 20_000 * DAY + 12 * HOUR


def row(number: int, *, customer: str = "c-1", merchant: str = "m-1", at: int = NOON) -> TransactionRow:
    return TransactionRow(f"t-{number}", at + number, customer, merchant, 1_000 + number, channel="online")


def instant(microseconds_: int) -> pd.Timestamp:
    return pd.Timestamp(microseconds_, unit="us", tz="UTC")


class TestMigrations:
    def test_up_down_up(self, database_url: str) -> None:
        database = Database(database_url)
        for _ in range(2):
            database.upgrade()
            database.check_revision()
            with database.transaction() as connection:
                assert set(METADATA.tables) <= set(sa.inspect(connection).get_table_names())
            database.downgrade("base")
            with database.transaction() as connection:
                assert not set(METADATA.tables) & set(sa.inspect(connection).get_table_names())
        database.close()

    def test_merchants_days_survive_the_way_to_label_maturities_and_back(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Existing rows were made with the label maturity of the deployment's settings."""
        monkeypatch.setenv("FRAUD_LABEL_MATURITY", "7d")
        database = Database(database_url)
        database.upgrade("0009")
        with database.transaction() as connection:
            connection.execute(sa.text("INSERT INTO merchant_days VALUES ('m-1', 20000, 3, 5, 600, 4, 19000)"))
            connection.execute(
                sa.text("UPDATE memory_versions SET version = 3, as_of = 21000 WHERE name = 'merchant_days'")
            )
        database.upgrade()
        with scoring_batch(database) as batch:
            assert days_now(batch, ["m-1"], label_maturity=timedelta(days=7)) == [("m-1", 20_000, 5, 600, 4, 19_000)]
            assert batch.lock(["nobody"]).merchant_days(timedelta(days=7)) == TableVersion(version=3, as_of=21_000)
            assert days_now(batch, ["m-1"], label_maturity=timedelta(days=21)) == []
        database.downgrade("0009")
        with database.transaction() as connection:
            days = connection.execute(sa.text("SELECT * FROM merchant_days")).all()
            versions = connection.execute(sa.text("SELECT * FROM memory_versions ORDER BY name")).all()
        assert days == [("m-1", 20_000, 3, 5, 600, 4, 19_000)]
        assert versions == [("merchant_days", 3, 21_000), ("reports", 0, 0)]
        database.close()

    def test_rows_survive_the_way_to_own_fields_and_back(self, database_url: str) -> None:
        database = Database(database_url)
        database.upgrade("0018")
        columns = "transaction_id, event_time, customer_id, merchant_id, amount_cents, customer_version"
        with database.transaction() as connection:
            connection.execute(sa.text(f"INSERT INTO transactions ({columns}) VALUES ('t-1', 5, 'c-1', 'm-1', 99, 1)"))  # noqa: S608 - ours
        database.upgrade()
        own = row(2)._replace(own_fields='{"age":31}')
        with scoring_batch(database) as batch:
            batch.remember([own])
            stored = {id_: event for id_, (event, _) in batch.stored(["t-1", "t-2"]).items()}
        assert stored == {"t-1": TransactionRow("t-1", 5, "c-1", "m-1", 99), "t-2": own}
        database.downgrade("0018")
        with database.transaction() as connection:
            rows = connection.execute(sa.text(f"SELECT {columns} FROM transactions ORDER BY transaction_id")).all()  # noqa: S608 - ours
        assert rows[0] == ("t-1", 5, "c-1", "m-1", 99, 1)
        assert len(rows) == 2
        database.close()

    def test_they_make_the_tables_that_statements_expect(self, database: Database) -> None:
        with database.transaction() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []

    def test_processes_that_start_together_wait_for_each_other(self, database_url: str) -> None:
        errors: list[BaseException] = []

        def start() -> None:
            database = Database(database_url, statement_timeout=timedelta(seconds=20))
            try:
                database.upgrade()
            except BaseException as error:  # noqa: BLE001 - reported below
                errors.append(error)
            database.close()

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_a_new_file_waits_for_all_who_open_it_at_once(self, tmp_path: Path) -> None:
        errors: list[BaseException] = []

        def open_(path: Path, together: threading.Barrier) -> None:
            database = Database(f"sqlite:///{path}", statement_timeout=timedelta(seconds=20))
            together.wait()
            try:
                with database.transaction(read_only=True):
                    pass
            except BaseException as error:  # noqa: BLE001 - reported below
                errors.append(error)
            database.close()

        for number in range(50):
            arguments = (tmp_path / f"{number}.db", threading.Barrier(4))
            threads = [threading.Thread(target=open_, args=arguments) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert errors == []

    def test_an_old_database_is_refused_with_the_remedy(self, database_url: str) -> None:
        database = Database(database_url)
        with pytest.raises(DatabaseOutdatedError, match="fraud-detect migrate"):
            database.check_revision()
        database.close()


class TestAway:
    def test_a_server_that_is_not_there(self) -> None:
        database = Database("postgresql://user:secret@127.0.0.1:1/none")
        with pytest.raises(DatabaseUnavailableError) as raised, database.transaction():
            pass
        assert "secret" not in str(raised.value)
        database.close()

    def test_a_slow_statement_is_given_up(self, empty_postgres_url: str) -> None:
        database = Database(empty_postgres_url, statement_timeout=timedelta(milliseconds=50))
        with pytest.raises(DatabaseUnavailableError, match="took too long"), database.transaction() as connection:
            connection.execute(sa.text("SELECT pg_sleep(5)"))
        database.close()

    def test_other_databases_are_refused(self) -> None:
        with pytest.raises(ValueError, match="FRAUD_DATABASE_URL begins with"):
            Database("mysql://127.0.0.1/none")


class TestBatch:
    def test_each_transaction_of_a_customer_gets_the_next_version(self, database: Database) -> None:
        for expected in (1, 2):
            with scoring_batch(database) as batch:
                assert batch.lock(["b", "a"]).customers == {"a": expected, "b": expected}

    def test_a_failed_transaction_leaves_nothing(self, database: Database) -> None:
        with suppress(ZeroDivisionError), scoring_batch(database) as batch:
            batch.remember([row(1)])
            raise ZeroDivisionError
        with scoring_batch(database) as batch:
            assert batch.lock(["c-1"]).customers == {"c-1": 1}
            assert batch.stored(["t-1"]) == {}

    def test_only_new_ids_are_added_and_the_first_content_stays(self, database: Database) -> None:
        with scoring_batch(database) as batch:
            versions, new = batch.remember([row(1), row(2)])
            assert (versions.customers, new) == ({"c-1": 1}, {"t-1", "t-2"})
        with scoring_batch(database) as batch:
            versions, new = batch.remember([row(2)._replace(amount_cents=5), row(3), row(4, customer="c-2")])
            assert (versions.customers, new) == ({"c-1": 2, "c-2": 1}, {"t-3", "t-4"})
            assert batch.stored(["t-2"])["t-2"] == (row(2), None)

    @pytest.mark.parametrize("more", [0, WORTH_COPYING])
    def test_few_and_many_events_are_stored_the_same_way(self, database: Database, more: int) -> None:
        """Each event keeps its customer's version, its empty fields and its accents."""
        full = TransactionRow("t-0", NOON, "ÅB", "m-1", 99, "grocery", "pos", "SE", 59.3, -18.1, '{"kind":"\\u00c5"}')
        rows = [full, *(row(number, customer=f"c-{number % 3}") for number in range(1, 6 + more))]
        with scoring_batch(database) as batch:
            batch.lock(["c-1"])
        with scoring_batch(database) as batch:
            versions, new = batch.remember(rows)
        assert versions.customers == {"ÅB": 1, "c-0": 1, "c-1": 2, "c-2": 1}
        assert new == {event.transaction_id for event in rows}
        with database.transaction() as connection:
            stored = connection.execute(sa.select(TRANSACTIONS)).all()
        assert {TransactionRow(*event[:-1]): event[-1] for event in stored} == {
            event: versions.customers[event.customer_id] for event in rows
        }

    def test_a_customers_events_by_time_by_version_and_by_tile(self, database: Database) -> None:
        """One statement reads each customer as of its own instant and version."""
        before, tile = NOON - DAY, np.array([NOON, NOON - DAY])
        for rows in ([row(1), row(4, at=before), row(3, customer="c-2")], [row(2), row(5, customer="c-2", at=before)]):
            with scoring_batch(database) as batch:
                batch.remember(rows)
        customers, version_1, version_2 = ["c-1", "c-2"], np.array([1, 1]), np.array([2, 2])

        def events(rows: Iterable[Sequence[Any]]) -> set[TransactionRow]:
            return {TransactionRow(*values) for values in rows}

        with scoring_batch(database, read_only=True) as batch:
            read = batch.customers
            first = read.first_events(customers, since=np.array([NOON, 0]), up_to=np.array([1, 2]), at_most=9)
            assert events(first) == {row(1), row(3, customer="c-2"), row(5, customer="c-2", at=before)}
            assert len(read.first_events(customers, since=np.zeros(2, np.int64), up_to=version_2, at_most=1)) == 2
            later = read.later_events(customers, above=np.array([0, 1]), up_to=version_2 - [1, 0])
            assert events(later) == {row(1), row(4, at=before), row(5, customer="c-2", at=before)}
            of_tiles = read.events_of_tiles(["c-1", "c-2"], starts=tile, up_to=version_1, width=HOUR)
            assert events(of_tiles) == {row(1)}
            assert [read.version(customer) for customer in ("c-1", "nobody")] == [2, 0]
            tiles = read.tiles("c-1", since=0, up_to=2, width=HOUR)
            assert sorted(map(tuple, tiles)) == [(before, 1, 1_004), (NOON, 2, 2_003)]
            assert read.tiles("c-1", since=NOON, up_to=1, width=HOUR) == [(NOON, 1, 1_001)]

    def test_a_repeated_report_counts_once_and_a_changed_one_again(self, database: Database) -> None:
        with scoring_batch(database) as batch:
            batch.remember([row(1)])
        times = []
        for at, is_fraud in ((NOON + DAY, True), (NOON + DAY + 5, True), (NOON + DAY, False)):
            with scoring_batch(database) as batch:
                times.append(batch.add_report("t-1", reported_at=at, is_fraud=is_fraud))
        assert times == [NOON + DAY, NOON + DAY, NOON + DAY + 1]
        with scoring_batch(database) as batch:
            assert batch.add_report("t-9", reported_at=NOON, is_fraud=True) is None
            version = batch.lock(["c-1"]).reports
            assert len(batch.reports(above_version=0, up_to_version=version, since=0)) == 2

    def test_a_report_is_never_older_than_its_transaction(self, database: Database) -> None:
        with scoring_batch(database) as batch:
            batch.remember([row(1)])
            assert batch.add_report("t-1", reported_at=NOON - HOUR, is_fraud=True) == NOON + 1


class TestHistory:
    @pytest.mark.parametrize("rows_at_once", [700, 100_000])
    def test_tables_come_back_as_they_were_loaded_and_loading_again_adds_nothing(
        self, database: Database, tables: Tables, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fraud_pipeline.database.history._READ", rows_at_once)
        transactions = tables.transactions.tail(5_000).reset_index(drop=True)
        loaded = load_history(database, transactions=transactions, reports=tables.reports)
        assert (loaded.transactions, loaded.reports) == (5_000, len(tables.reports))
        again = load_history(database, transactions=transactions, reports=tables.reports)
        assert (again.transactions, again.reports) == (0, 0)
        start, end = pd.Timestamp(0, tz="UTC"), tables.as_of + pd.Timedelta(days=400)
        loaded_rows = read_transactions(database, start=start, end=end)
        key = ["event_time", "transaction_id"]
        pd.testing.assert_frame_equal(
            loaded_rows.sort_values(key, ignore_index=True), transactions.sort_values(key, ignore_index=True)
        )
        key = ["reported_at", "transaction_id"]
        pd.testing.assert_frame_equal(
            read_reports(database, start=start, end=end).sort_values(key, ignore_index=True),
            tables.reports.sort_values(key, ignore_index=True),
        )

    def test_merchants_days_are_those_of_the_tables_and_only_changed_ones_are_written_again(
        self, database: Database, tables: Tables
    ) -> None:
        transactions = tables.transactions[tables.transactions["event_time"] < tables.as_of.floor("D")]
        load_history(database, transactions=transactions.tail(8_000), reports=tables.reports)
        lookback = timedelta(days=60)

        def refresh(now: pd.Timestamp) -> int:
            return refresh_merchant_days(database, now=now, lookback=lookback, label_maturity=LABEL_MATURITY)

        def made_up_to() -> list[int]:
            name = merchant_days_name(LABEL_MATURITY)
            with database.transaction(read_only=True) as connection:
                query = sa.select(MEMORY_VERSIONS.c.as_of).where(MEMORY_VERSIONS.c.name == name)
                return list(connection.execute(query).scalars())

        assert made_up_to() == []
        expected = merchant_days(transactions.tail(8_000), tables.reports, label_maturity=LABEL_MATURITY)
        assert refresh(tables.as_of) == len(expected)
        assert made_up_to() == [microsecond(tables.as_of)]
        assert refresh(tables.as_of) == 0
        merchant = str(expected["merchant_id"].iloc[0])
        of_merchant = expected[expected["merchant_id"] == merchant]
        with scoring_batch(database) as batch:
            stored = days_now(batch, [merchant])
        expected = of_merchant.assign(day=microseconds(of_merchant["day"]))
        assert sorted(map(tuple, stored)) == sorted(expected[list(expected.columns)].itertuples(index=False, name=None))

    def test_merchants_days_of_two_label_maturities_are_kept_apart(self, database: Database, tables: Tables) -> None:
        """The label maturity decides the cleared columns, so days of one are never read for another."""
        transactions = tables.transactions[tables.transactions["event_time"] < tables.as_of.floor("D")].tail(2_000)
        load_history(database, transactions=transactions, reports=tables.reports)
        maturities = (timedelta(0), LABEL_MATURITY, timedelta(days=3, microseconds=1))
        merchants = sorted(set(transactions["merchant_id"]))
        for maturity in maturities[:2]:
            refresh_merchant_days(database, now=tables.as_of, lookback=timedelta(days=60), label_maturity=maturity)
        with scoring_batch(database) as batch:
            for maturity in maturities[:2]:
                expected = merchant_days(transactions, tables.reports, label_maturity=maturity)
                expected["day"] = microseconds(expected["day"])
                days = days_now(batch, merchants, label_maturity=maturity)
                assert sorted(map(tuple, days)) == sorted(expected.itertuples(index=False, name=None))
            assert days_now(batch, merchants, label_maturity=maturities[2]) == []
            assert batch.lock(["c-1"]).merchant_days(maturities[2]) == TableVersion(version=0, as_of=0)
        start, end = pd.Timestamp(0, tz="UTC"), tables.as_of
        cleared = [
            int(read_merchant_days(database, start=start, end=end, label_maturity=maturity)["cleared_count"].sum())
            for maturity in maturities
        ]
        assert cleared[0] > cleared[1] > cleared[2] == 0

    def test_pruning_removes_what_no_window_reaches(self, database: Database) -> None:
        with scoring_batch(database) as batch:
            batch.remember([row(1), row(2, at=NOON - 100 * DAY)])
        removed = remove_expired(database, limits={"history_retention": instant(NOON - 50 * DAY)})
        assert removed["transactions"] == 1
        with scoring_batch(database) as batch:
            assert set(batch.stored(["t-1", "t-2"])) == {"t-1"}


class TestOthersHaveTheirTurn:
    """The daily job writes in short transactions, and scorers decide between any two of them."""

    @pytest.fixture(autouse=True)
    def chunks_of_a_hundred(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("history", "merchant_day_refresh"):
            monkeypatch.setattr(f"fraud_pipeline.database.{module}.CHUNK", 100)
        monkeypatch.setattr("fraud_pipeline.database.history._PAUSE", 0.0)

    def test_a_version_of_merchants_days_is_complete_and_only_the_last_one_covers_midnight(
        self, database: Database, tables: Tables
    ) -> None:
        transactions = tables.transactions[tables.transactions["event_time"] < tables.as_of.floor("D")].tail(1_000)
        load_history(database, transactions=transactions, reports=tables.reports)
        expected = merchant_days(transactions, tables.reports, label_maturity=LABEL_MATURITY)
        merchants = sorted(set(expected["merchant_id"]))
        seen: set[tuple[int, int, int]] = set()

        def look(batch: Batch) -> None:
            newest = batch.lock(["c-1"]).merchant_days(LABEL_MATURITY)
            days = batch.merchant_days(merchants, since=0, up_to_version=newest.version, label_maturity=LABEL_MATURITY)
            seen.add((newest.version, len(days), newest.as_of))

        with concurrent_writes(database, look):
            refresh_merchant_days(
                database, now=tables.as_of, lookback=timedelta(days=60), label_maturity=LABEL_MATURITY
            )
        assert seen == {(version, 100 * version, 0) for version in range(-(-len(expected) // 100))}
        with scoring_batch(database) as batch:
            look(batch)
        assert max(seen) == (-(-len(expected) // 100), len(expected), microsecond(tables.as_of.floor("D")))

    def test_an_overtaken_refresh_starts_again(self, database: Database) -> None:
        midnight = pd.Timestamp(NOON, unit="us", tz="UTC").floor("D")

        def refresh(database_: Database) -> None:
            refresh_merchant_days(database_, now=midnight, lookback=timedelta(days=60), label_maturity=LABEL_MATURITY)

        def overtake() -> None:
            with scoring_batch(other) as batch:
                batch.remember([row(2, at=NOON - DAY)])
            refresh(other)

        with scoring_batch(database) as batch:
            batch.remember([row(1, at=NOON - DAY)])
        other = Database(database.engine.url.render_as_string(hide_password=False))
        with before_each_write(database, overtake, times=1):
            refresh(database)
        other.close()
        with scoring_batch(database) as batch:
            (day,) = days_now(batch, ["m-1"])
        assert day[2] == 2

    def test_expired_rows_are_removed_in_chunks(self, database: Database) -> None:
        old = [row(number, customer=f"c-{number}", at=NOON - 100 * DAY) for number in range(450)]
        with scoring_batch(database) as batch:
            batch.remember([row(1_000), *old])
        left: list[int] = []

        def look(batch: Batch) -> None:
            left.append(len(batch.stored([event.transaction_id for event in old])))
            batch.lock(["c-1"])

        with concurrent_writes(database, look):
            removed = remove_expired(database, limits={"history_retention": instant(NOON - 50 * DAY)})
        assert removed["transactions"] == 450
        assert left == [450, 350, 250, 150, 50]


def days_now(batch: Batch, merchants: list[str], *, label_maturity: timedelta = LABEL_MATURITY) -> Sequence[Any]:
    """Merchant days in the newest version of a label maturity."""
    version = batch.lock(["nobody"]).merchant_days(label_maturity).version
    return batch.merchant_days(merchants, since=0, up_to_version=version, label_maturity=label_maturity)


@contextmanager
def before_each_write(database: Database, act: Callable[[], None], *, times: int = 1_000_000) -> Iterator[None]:
    """Call `act` whenever a writing transaction is about to begin."""
    left = iter(range(times))

    def begins(_connection: sa.Connection, options: dict[str, Any]) -> None:
        if not options[READ_ONLY] and next(left, None) is not None:
            act()

    # Called just before it begins; takes the lock on SQLite.
    sa.event.listen(database.engine, "set_connection_execution_options", begins)
    yield
    sa.event.remove(database.engine, "set_connection_execution_options", begins)


@contextmanager
def concurrent_writes(database: Database, act: Callable[[Batch], None]) -> Iterator[None]:
    """Another connection writes whenever a writing transaction is about to begin, without waiting."""
    other = Database(database.engine.url.render_as_string(hide_password=False), statement_timeout=timedelta(seconds=1))

    def write() -> None:
        with scoring_batch(other) as batch:
            act(batch)

    with before_each_write(database, write):
        yield
    other.close()


def test_sqlite_makes_its_directory(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new' / 'fraud.db'}")
    database.upgrade()
    database.close()
    assert (tmp_path / "new" / "fraud.db").exists()

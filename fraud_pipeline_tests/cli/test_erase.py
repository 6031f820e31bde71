"""`fraud-detect erase`: nothing names the customer afterwards, and every count and sum is as before."""

import gzip
import json
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.cli.main import main
from fraud_pipeline.database import Database, PendingReport, scoring_batch, tables
from fraud_pipeline.database.erasure import erase_from_database, transactions_of
from fraud_pipeline.database.performance import ShadowRow, add_shadow_rows
from fraud_pipeline.database.rule_tables import RULE_SNOOZES, VALUE_LIST_ENTRIES
from fraud_pipeline.database.value_lists import NewEntry, add_values, create_list
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG
from fraud_pipeline.ingest.day_state import accept, feature_window, read_stored_days
from fraud_pipeline.ingest.erased_days import erase_from_tables, transactions_in_tables
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.policy.value_lists import list_key
from fraud_pipeline.schema.erasure import PREFIX, erased_ids
from fraud_pipeline.schema.pseudonyms import PersonalKey
from fraud_pipeline.schema.transactions import DAY, TransactionRow, times
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.streams import transactions

CUSTOMER: Final = "c3"
DAYS: Final = 3
FIRST: Final = date(2026, 6, 1)
END: Final = int(pd.Timestamp("2026-06-03T23:00:00Z").value // 1_000)
ERASED: Final = erased_ids(PersonalKey(b"k" * 32))
ROWS: Final = [
    row._replace(event_time=END - (59 - number) * DAY // 21, own_fields='{"device_id":"secret-device"}')
    for number, row in enumerate(transactions(60, customers=5, end=END))
]
OF_CUSTOMER: Final = [row.transaction_id for row in ROWS if row.customer_id == CUSTOMER]


def fill(database: Database) -> None:
    """Decisions, reports, alerts, shadow decisions, a page and a pending report, some of them of the customer."""
    results = [
        result
        for result in Scorer(database=database, champion=lambda: None).score(ROWS, request_ids={"t1": "r-1"})
        if isinstance(result, ScoringResult)
    ]
    first = OF_CUSTOMER[0]
    alerted = [row for number, row in enumerate(ROWS) if number % 3 == 0 or row.transaction_id == first]
    with scoring_batch(database) as batch:
        for row in ROWS[::7]:
            batch.add_report(row.transaction_id, reported_at=END, is_fraud=True)
        batch.add_report(first, reported_at=END, is_fraud=True)
        batch.add_alerts(
            ids=[row.transaction_id for row in alerted],
            customers=[row.customer_id for row in alerted],
            decisions=["review"] * len(alerted),
            created_at=END,
        )
        batch.pending.keep(PendingReport("reports", 0, 1, first, True, END, END, b"{}"))
    add_shadow_rows(
        database, [ShadowRow(result.transaction_id, END, "1", "2", "allow", "block", 0.1, 0.9) for result in results]
    )
    create_list(database, "blocked", match="exact", comment="", who="ana")
    add_values(database, "blocked", [NewEntry(CUSTOMER, "Jane Doe", END)], who="ana")
    with database.transaction() as connection:
        snooze = {"rule": "night", "customer_id": CUSTOMER, "ends_at": END, "who": "ana", "reason": "on a journey"}
        connection.execute(sa.insert(RULE_SNOOZES), [snooze])
        connection.execute(
            sa.insert(tables.ALERT_EVENTS),
            [{"transaction_id": first, "at": END, "who": "ana", "what": "note", "note": "called Jane Doe"}],
        )
        pages = [gzip.compress(f"<p>{name}</p>".encode()) for name in (first, "t-other")]
        for day, page in enumerate(pages):
            values = {"report": "missed", "day": day, "judged": True, "red": False, "summary": "fine", "page": page}
            connection.execute(sa.insert(tables.REPORT_VERDICTS), [values])


def books(database: Database) -> dict[str, Any]:
    """What must stay: counts and money by day, decisions by day and outcome, reports and alerts by outcome."""
    event, decision, report, alert = (
        table.c for table in (tables.TRANSACTIONS, tables.DECISIONS, tables.FRAUD_REPORTS, tables.ALERTS)
    )
    count = sa.func.count()
    day = event.event_time // DAY
    queries = {
        "days": sa.select(day, count, sa.func.sum(event.amount_cents)).group_by(day).order_by(day),
        "merchants": sa.select(event.merchant_id, count, sa.func.sum(event.amount_cents))
        .group_by(event.merchant_id)
        .order_by(event.merchant_id),
        "decisions": sa.select(decision.decision, decision.mode, count)
        .group_by(decision.decision, decision.mode)
        .order_by(decision.decision),
        "reports": sa.select(report.merchant_id, count).group_by(report.merchant_id).order_by(report.merchant_id),
        "alerts": sa.select(alert.status, alert.decision, count).group_by(alert.status, alert.decision),
        "shadow": sa.select(count).select_from(tables.SHADOW_DECISIONS),
    }
    return {name: [tuple(row) for row in database.rows(query)] for name, query in queries.items()}


def everything(database: Database) -> str:
    """All rows of all tables as text; bytes as their characters."""
    return "\n".join(
        " ".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row)
        for table in tables.METADATA.sorted_tables
        for row in database.rows(sa.select(table))
    )


def words(text: str) -> set[str]:
    return set(text.replace('"', " ").replace("/", " ").split())


class TestTheDatabase:
    def test_counts_and_sums_stay_and_nothing_names_the_customer(self, database: Database) -> None:
        fill(database)
        before = books(database)
        done = erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED)
        assert books(database) == before
        assert all(rows.left == 0 for rows in done)
        found = words(everything(database))
        assert not found & {CUSTOMER, *OF_CUSTOMER}
        assert "Jane" not in found
        counts = {rows.place.removeprefix("database, "): (rows.pseudonymised, rows.removed) for rows in done}
        assert counts["transactions"] == counts["decisions"] == counts["shadow_decisions"] == (len(OF_CUSTOMER), 0)
        assert counts["pending_reports"] == counts["customers"] == counts["pages of report_verdicts"] == (0, 1)
        assert counts["alert_events"] == counts["value_list_entries"] == counts["rule_events"] == (1, 0)
        assert counts["rule_snoozes"] == (0, 1)
        (entry,) = database.rows(sa.select(VALUE_LIST_ENTRIES.c.value, VALUE_LIST_ENTRIES.c.key))
        assert entry == (ERASED(CUSTOMER), list_key(CUSTOMER, "exact"))
        erased = database.frame(
            sa.select(tables.TRANSACTIONS).where(tables.TRANSACTIONS.c.customer_id.startswith(PREFIX))
        )
        assert (erased["customer_id"] == erased["transaction_id"]).all()
        assert erased[["own_fields", "country", "latitude", "longitude"]].isna().all(axis=None)
        decisions = database.frame(
            sa.select(tables.DECISIONS).where(tables.DECISIONS.c.transaction_id.startswith(PREFIX))
        )
        assert np.isnan(np.frombuffer(b"".join(decisions["features"]), np.float32)).all()
        assert set(decisions["reasons"]) == {"[]"}

    def test_again_does_nothing_and_others_are_untouched(self, database: Database) -> None:
        fill(database)
        others = sa.select(tables.DECISIONS).where(tables.DECISIONS.c.transaction_id.not_in(OF_CUSTOMER))
        before = database.rows(others)
        erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED)
        after = everything(database)
        done = erase_from_database(database, customer=CUSTOMER, ids=OF_CUSTOMER, erased=ERASED)
        assert [rows.pseudonymised + rows.removed + rows.left for rows in done] == [0] * len(done)
        assert everything(database) == after
        kept = sa.select(tables.DECISIONS).where(~tables.DECISIONS.c.transaction_id.startswith(PREFIX))
        assert database.rows(kept) == before

    def test_a_dry_run_counts_and_changes_nothing(self, database: Database) -> None:
        fill(database)
        before = everything(database)
        done = erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED, dry_run=True)
        assert everything(database) == before
        again = erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED)
        assert [(rows.place, rows.pseudonymised, rows.removed) for rows in done] == [
            (rows.place, rows.pseudonymised, rows.removed) for rows in again
        ]

    def test_a_customer_who_returns_is_a_new_one(self, database: Database) -> None:
        fill(database)
        erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED)
        (result,) = Scorer(database=database, champion=lambda: None).score(
            [TransactionRow("new", END + 1, CUSTOMER, "m1", 100)]
        )
        assert isinstance(result, ScoringResult)
        assert transactions_of(database, CUSTOMER) == {"new"}

    def test_rows_that_came_back_under_their_erased_id_are_not_counted_twice(self, database: Database) -> None:
        fill(database)
        before = books(database)
        with database.transaction() as connection:
            old = OF_CUSTOMER[0]
            erased = {"transaction_id": sa.literal(ERASED(old)), "customer_id": sa.literal(ERASED(old))}
            columns = [erased.get(column.name, column) for column in tables.TRANSACTIONS.c]
            copied = sa.select(*columns).where(tables.TRANSACTIONS.c.transaction_id == old)
            names = [column.name for column in tables.TRANSACTIONS.c]
            connection.execute(sa.insert(tables.TRANSACTIONS).from_select(names, copied))
        erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED)
        assert books(database) == before


def raw_rows() -> pd.DataFrame:
    """Rows of a file: the customer has one that is refused, and an id of another day once more."""
    frame = pd.DataFrame(ROWS)[list(TransactionRow._fields)].drop(columns="own_fields")
    frame = frame.assign(
        event_time=times(frame["event_time"].to_numpy(np.int64)),
        amount=frame.pop("amount_cents") / 100,
        device_id="secret-device",
        file_row=np.arange(len(frame)) + 2,
    )
    refused = frame[frame["transaction_id"] == OF_CUSTOMER[0]].assign(transaction_id="refused", merchant_id="\x00")
    again = frame[frame["transaction_id"] == OF_CUSTOMER[0]]
    again = again.assign(event_time=times(np.array([END])).set_axis(again.index))
    return pd.concat([frame, refused, again], ignore_index=True)


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """Three days as the assets write them."""
    store = TableStore(tmp_path / "home" / "tables" / "bank")
    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    raw = raw_rows()
    notes = {day: f"source {day}" for day in days}
    store.write_days("raw_transactions", raw, time_column="event_time", days=days, notes=notes)
    for day in days:
        end = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
        of_day = store.read("raw_transactions", day, day)
        result, note = accept(store, of_day, days=[day], now=end, fallback_time=end - pd.Timedelta(days=1))
        store.write_days("transactions", result.accepted, time_column="event_time", days=[day], notes=note)
        store.write_days("rejected_transactions", result.rejected, time_column="event_time", days=[day])
        features = result.accepted[["transaction_id", "event_time"]].assign(amount=1.0)
        store.write_days("features", features, time_column="event_time", days=[day])
    accepted = store.read("transactions", days[0], days[-1])
    reports = accepted[["transaction_id", "event_time", "customer_id", "merchant_id", "amount_cents"]].assign(
        reported_at=accepted["event_time"], is_fraud=True
    )
    store.write_days("fraud_reports", reports, time_column="reported_at", days=days, notes=notes)
    store.write("training_set", accepted[["transaction_id", "customer_id", "amount_cents"]])
    return store


def text_of(store: TableStore) -> str:
    whole = [store.read_whole("training_set")]
    names = ("raw_transactions", "transactions", "rejected_transactions", "fraud_reports", "features")
    return "\n".join(frame.to_csv() for frame in [*whole, *(store.read(n, FIRST, FIRST + timedelta(2)) for n in names)])


class TestTheTables:
    def erase(self, store: TableStore, **options: Any) -> list[Any]:
        ids = transactions_in_tables(store, CUSTOMER)
        return erase_from_tables(store, customer=CUSTOMER, ids=ids, erased=ERASED, **options)

    def test_sums_stay_days_stay_ingested_and_nothing_names_the_customer(self, store: TableStore) -> None:
        def sums() -> Any:
            rows = store.read("transactions", FIRST, FIRST + timedelta(days=2))
            by = rows.groupby([rows["event_time"].dt.date, "merchant_id"])["amount_cents"]
            reports = store.read("fraud_reports", FIRST, FIRST + timedelta(days=2))
            return by.agg(["size", "sum"]).to_dict(), len(reports), reports["amount_cents"].sum()

        def in_place() -> Any:
            window = feature_window(DEFAULT_FEATURE_CONFIG, first=FIRST)
            return read_stored_days(store, window=window, first=FIRST, last=FIRST + timedelta(days=2)).ingested

        before, current = sums(), in_place()
        assert len(current) == DAYS
        versions = store.versions("transactions", FIRST, FIRST + timedelta(days=2))
        done = self.erase(store)
        assert sums() == before
        assert in_place() == current
        assert all(rows.left == 0 for rows in done)
        found = set(text_of(store).replace("\n", ",").split(","))
        assert not found & {CUSTOMER, "refused", *OF_CUSTOMER}
        assert store.versions("transactions", FIRST, FIRST + timedelta(days=2)) != versions
        erased = store.read("raw_transactions", FIRST, FIRST + timedelta(days=2))
        erased = erased[erased["customer_id"].str.startswith(PREFIX)]
        assert len(erased) == len(OF_CUSTOMER) + 2
        assert erased[["device_id", "country"]].isna().all(axis=None)
        assert set(erased["file_row"]) == {0}
        counts = {rows.place.removeprefix("tables bank, "): (rows.pseudonymised, rows.removed) for rows in done}
        assert counts["transactions"] == counts["fraud_reports"] == (len(OF_CUSTOMER), 0)
        assert counts["features"] == counts["training_set"] == (0, len(OF_CUSTOMER))
        assert counts["rejected_transactions"] == (2, 0)

    def test_nobody_learns_from_the_erased_also_when_a_day_is_validated_again(self, store: TableStore) -> None:
        self.erase(store)
        marked = set(
            store.read("unknown_labels", FIRST, FIRST + timedelta(days=2), allow_missing=True)["transaction_id"]
        )
        assert marked == set(map(ERASED, OF_CUSTOMER))
        raw = store.read("raw_transactions", FIRST, FIRST + timedelta(days=2))
        result = validate(raw, now=pd.Timestamp("2026-07-01", tz="UTC"))
        assert set(result.unknown_labels["transaction_id"]) == marked

    def test_the_database_and_the_tables_give_one_id(self, store: TableStore) -> None:
        with closing(Database("sqlite://")) as database:
            database.upgrade()
            fill(database)
            erase_from_database(database, customer=CUSTOMER, ids=(), erased=ERASED)
            self.erase(store)
            stored = {row[0] for row in database.rows(sa.select(tables.TRANSACTIONS.c.transaction_id))}
        assert set(store.read("transactions", FIRST, FIRST + timedelta(days=2))["transaction_id"]) == stored

    def test_a_dry_run_and_a_second_run_change_nothing(self, store: TableStore) -> None:
        before = text_of(store)
        counted = self.erase(store, dry_run=True)
        assert text_of(store) == before
        done = self.erase(store)
        assert [(rows.place, rows.pseudonymised, rows.removed) for rows in counted] == [
            (rows.place, rows.pseudonymised, rows.removed) for rows in done
        ]
        after = text_of(store)
        assert sum(rows.pseudonymised + rows.removed for rows in self.erase(store)) == 0
        assert text_of(store) == after


class TestTheCommand:
    @pytest.fixture
    def home(self, tmp_path: Path, store: TableStore, monkeypatch: pytest.MonkeyPatch) -> Path:
        assert isinstance(store.root, Path)
        home = store.root.parents[1]
        monkeypatch.setenv("FRAUD_HOME", str(home))
        monkeypatch.setenv("FRAUD_DATABASE_URL", f"sqlite:///{tmp_path / 'fraud.db'}")
        (home / "reports").mkdir()
        (home / "reports" / "missed.html").write_text(f"<b>{OF_CUSTOMER[0]}</b>")
        (home / "reports" / "drift.html").write_text("<b>other</b>")
        with closing(Database(f"sqlite:///{tmp_path / 'fraud.db'}")) as database:
            database.upgrade()
            fill(database)
        return home

    def test_it_proves_that_nothing_is_left(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["erase", CUSTOMER, "--dry-run", "--json"]) == 0
        planned = json.loads(capsys.readouterr().out)
        assert not (home / "personal.key").exists()
        assert main(["erase", CUSTOMER, "--json"]) == 0
        proof = json.loads(capsys.readouterr().out)
        assert proof["left"] == 0
        for name in ("pseudonymised", "removed"):
            assert [place[name] for place in proof["places"]] == [place[name] for place in planned["places"]]
        assert not (home / "reports" / "missed.html").exists()
        assert (home / "reports" / "drift.html").exists()
        content = b"".join(path.read_bytes() for path in home.parent.glob("fraud.db*"))
        assert b"secret-device" in content  # of the other customers
        assert b"called Jane Doe" not in content
        assert main(["erase", CUSTOMER]) == 0
        text = capsys.readouterr().out
        assert "0 rows were erased, and 0 are left." in text
        assert "Not reached:\n- the memory of running processes" in text

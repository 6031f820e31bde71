"""A query of a bank's own database is a source: the same rows as a file of them, one day at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from fraud_pipeline.cli.main import main
from fraud_pipeline.cli.training_plan import Flags, plan_training
from fraud_pipeline.database.query_source import QuerySource, data_source, query_sample
from fraud_pipeline.host.data_location import database_url as stored_url
from fraud_pipeline.ingest.declaration import read_declaration
from fraud_pipeline.ingest.inspection import inspect
from fraud_pipeline.ingest.source_choice import read_choice, save_choice
from fraud_pipeline.ingest.sources import FileSource, SourceError
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.settings import explicit_settings, load_settings
from fraud_pipeline.storage.content_version import NO_ROWS

START, END = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-08", tz="UTC")
DELAY: Final = timedelta(days=2, hours=3)
QUERY: Final = "SELECT * FROM payments WHERE paid_at >= :start AND paid_at < :end;\n"
DECLARED: Final = """
[fields]
transaction_id = "payment"
event_time = "paid_at"
customer_id = "card"
merchant_id = "shop"
amount = "amount"
is_fraud = {column = "label", fraud = ["fraud"], legitimate = ["good"]}
[own_fields.device]
type = "category"
column = "device"
[own_fields.age]
type = "number"
column = "age"
"""


def payments(days: int = 7) -> pd.DataFrame:
    """Twenty payments a day. The second day knows no label, the third no legitimate one; each other day has frauds."""
    numbers = range(days * 20)
    labels = ["fraud" if number % 5 == 0 else "good" for number in numbers]
    labels[20:40] = [None] * 20  # type: ignore[list-item]
    labels[40:60] = ["fraud", *[None] * 19]  # type: ignore[list-item]
    return pd.DataFrame(
        {
            "payment": [f"p{number:04}" for number in numbers],
            "paid_at": pd.date_range("2026-01-01", periods=days * 20, freq="72min", tz="UTC").as_unit("us"),
            "card": [f"c{number % 7}" for number in numbers],
            "shop": [f"s{number % 3}" for number in numbers],
            "amount": [10.25 + number for number in numbers],
            "device": [("phone", "web", None)[number % 3] for number in numbers],
            "age": [None if number % 5 == 0 else 20 + number % 50 for number in numbers],
            "label": labels,
        }
    )


@dataclass(frozen=True)
class Bank:
    """A bank's database, a query of it, and the same rows as a file."""

    directory: Path
    url: str
    engine: sa.Engine

    def query(self, text: str = QUERY) -> Path:
        path = self.directory / "query.sql"
        path.write_text(text)
        return path

    def source(self, text: str = QUERY, *, declared: str = DECLARED) -> QuerySource:
        source = data_source(self.query(text), url=self.url, declaration=read_declaration(declared), label_delay=DELAY)
        assert isinstance(source, QuerySource)
        return source

    def execute(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    @property
    def file(self) -> Path:
        path = self.directory / "payments.parquet"
        pq.write_table(pa.Table.from_pandas(payments(), preserve_index=False), path)
        return path


@pytest.fixture
def bank(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    url = sa.make_url(database_url)
    if url.password:
        monkeypatch.setenv("FRAUD_DATA_PASSWORD", url.password)
    if url.get_backend_name() == "sqlite":
        engine, times = sa.create_engine(url), payments()["paid_at"].dt.strftime("%Y-%m-%d %H:%M:%S")
    else:
        engine, times = sa.create_engine(url.set(drivername="postgresql+psycopg")), payments()["paid_at"]
    # In no order, as rows of a database are.
    payments().assign(paid_at=times).sample(frac=1, random_state=1).to_sql("payments", engine, index=False)
    without_password = stored_url(url._replace(password=None).render_as_string(hide_password=False))
    yield Bank(tmp_path, without_password, engine)
    engine.dispose()


def file_source(bank: Bank) -> FileSource:
    return FileSource(bank.file, declaration=read_declaration(DECLARED), label_delay=DELAY)


def test_rows_and_reports_are_those_of_a_file(bank: Bank) -> None:
    source, file = bank.source(), file_source(bank)
    assert (
        (source.first_day, source.last_day) == (file.first_day, file.last_day) == (date(2026, 1, 1), date(2026, 1, 7))
    )
    rows = file.transactions(start=START, end=END).drop(columns="file_row")
    pd.testing.assert_frame_equal(source.transactions(start=START, end=END)[list(rows)], rows)
    later = END + timedelta(days=9)
    reports = source.reports(start=START, end=later)
    assert len(reports) == 21
    pd.testing.assert_frame_equal(reports, file.reports(start=START, end=later))


def test_days_one_by_one_are_the_whole(bank: Bank) -> None:
    source, days = bank.source(), pd.date_range(START, END, freq="D")
    whole = source.transactions(start=START, end=END)
    parts = [source.transactions(start=start, end=end) for start, end in pairwise(days)]
    together = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(together[list(whole)], whole, check_dtype=False)
    assert whole["label_unknown"].sum() == 39, "an empty label is unknown on every day, also on one with frauds only"
    versions = source.day_versions(start=START, end=END)
    assert list(versions) == [day.date() for day in days[:-1]]
    for start, end in pairwise(days):
        assert source.day_versions(start=start, end=end) == {start.date(): versions[start.date()]}


def test_a_day_without_rows_is_empty(bank: Bank) -> None:
    bank.execute("DELETE FROM payments WHERE payment BETWEEN 'p0060' AND 'p0079'")
    source, day = bank.source(), pd.Timestamp("2026-01-04", tz="UTC")
    rows = source.transactions(start=day, end=day + timedelta(days=1))
    assert (len(rows), list(rows)) == (0, list(source.transactions(start=START, end=END)))
    assert validate(rows, now=END, own_fields=read_declaration(DECLARED).own_fields).accepted.empty
    versions = source.day_versions(start=START, end=END)
    assert versions[date(2026, 1, 4)].transactions == NO_ROWS
    assert len(source.day_versions(start=day, end=day + timedelta(days=1))) == 1


def test_a_day_reads_its_rows_only(bank: Bank) -> None:
    """A row of another day that cannot be read does not matter."""
    bank.execute("UPDATE payments SET age = NULL, amount = NULL WHERE payment = 'p0139'")
    day = bank.source().transactions(start=START, end=START + timedelta(days=1))
    assert len(day) == 20
    with pytest.raises(SourceError, match="query.sql: 20 of 20 rows .* have another time"):
        bank.source("SELECT * FROM payments WHERE paid_at < :start OR paid_at >= :end").transactions(
            start=START, end=END - timedelta(days=1)
        )


def test_a_change_changes_the_version_of_its_day_only(bank: Bank) -> None:
    before = bank.source().day_versions(start=START, end=END)
    bank.execute("UPDATE payments SET amount = 1 WHERE payment = 'p0071'")
    bank.execute("UPDATE payments SET label = 'fraud' WHERE payment = 'p0011'")
    after = bank.source().day_versions(start=START, end=END)
    changed = {day for day in after if after[day].transactions != before[day].transactions}
    reported = {day for day in after if after[day].reports != before[day].reports}
    assert (changed, reported) == ({date(2026, 1, 4)}, {date(2026, 1, 3)})


def test_reports_with_a_time_of_their_own_come_from_any_day(bank: Bank) -> None:
    bank.execute("ALTER TABLE payments ADD COLUMN reported VARCHAR(30)")
    bank.execute("UPDATE payments SET reported = '2026-01-06T12:00:00Z' WHERE payment = 'p0000'")
    declared = DECLARED.replace("amount = ", 'reported_at = "reported"\namount = ')
    source = bank.source(declared=declared)
    reports = source.reports(start=pd.Timestamp("2026-01-06", tz="UTC"), end=pd.Timestamp("2026-01-07", tz="UTC"))
    assert reports[["transaction_id", "reported_at"]].to_numpy().tolist() == [
        ["p0000", pd.Timestamp("2026-01-06 12:00", tz="UTC")]
    ]
    assert source.has_report_times


def test_an_inspection_understands_the_columns_as_in_a_file(bank: Bank) -> None:
    inspection = inspect(bank.query(), sample=query_sample(bank.query(), url=bank.url))
    file = inspect(bank.file)
    assert {place.column: (place.use, place.name, place.type) for place in inspection.columns} == {
        place.column: (place.use, place.name, place.type) for place in file.columns
    }
    assert (inspection.rows, inspection.frauds, inspection.unknown, inspection.span) == (140, 21, 39, file.span)


def test_init_and_train_remember_query_and_database_without_a_secret(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUD_HOME", str(bank.directory / "home"))
    monkeypatch.setenv("FRAUD_DATA_PASSWORD", "hidden-1")
    monkeypatch.chdir(bank.directory)
    assert main(["init", str(bank.query()), "--data-url", bank.url, "--label-delay", "1h"]) == 0
    assert f"--data-url {bank.url}" in capsys.readouterr().out.replace("'", "")
    flags = Flags(data_path=bank.query(), data_url=bank.url, label_delay=timedelta(hours=1))
    plan = plan_training(flags, explicit=explicit_settings(), remembered=None, now=datetime.now(UTC))
    assert plan.choice is not None
    save_choice(plan.choice, home=bank.directory / "home")
    assert read_choice(bank.directory / "home") == plan.choice
    settings = load_settings()
    assert (settings.data_path, settings.data_url, settings.last_day) == (bank.query(), bank.url, None)
    assert settings.source_name == "query query.sql"
    assert settings.tables_directory == plan.settings.tables_directory
    assert (plan.first, plan.last) == (date(2026, 1, 1), date(2026, 1, 7))
    again = plan_training(Flags(), explicit=explicit_settings(), remembered=plan.choice, now=datetime.now(UTC))
    assert again.settings == plan.settings
    written = [path for path in bank.directory.rglob("*") if path.is_file() and path.suffix in (".json", ".toml")]
    assert written
    assert not any("hidden-1" in path.read_text() for path in written)


def test_rows_pass_validation(bank: Bank) -> None:
    raw = bank.source().transactions(start=START, end=END)
    result = validate(raw, now=END, own_fields=read_declaration(DECLARED).own_fields)
    assert (len(result.accepted), len(result.rejected)) == (140, 0)
    assert result.accepted["device"].isna().sum() == 46


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("SELECT * FROM payments", "the query has no :start and :end"),
            ("SELECT * FROM payments WHERE paid_at >= :start", "the query has no :end"),
            ("DELETE FROM payments WHERE paid_at >= :start AND paid_at < :end", "the file is no query"),
            (QUERY.replace(";", " AND shop = :shop"), "other parameters .:shop.: write their values"),
            (QUERY.replace("payments", "nothing"), "query.sql: .* says: .*nothing.*: check the query"),
            (QUERY.replace("*", "nothing"), "query.sql: .* says: .*nothing.*: check the query"),
            (QUERY.replace("*", "payment, card AS payment"), "two columns named payment: name one by AS"),
            (QUERY.replace("*", "payment, paid_at"), "fraud.toml: no such column: card"),
            (QUERY.replace("< :end", "<= :end"), "1 of 21 rows .* have another time, .*: compare the whole event_time"),
            (QUERY.replace("< :end", "< :end AND 1 = 0"), "the query gives no rows for any time"),
        ],
    )
    def test_a_query_that_cannot_be_used(self, bank: Bank, text: str, problem: str) -> None:
        def read(source: QuerySource) -> pd.DataFrame:
            first = pd.Timestamp(source.first_day, tz="UTC")
            return source.transactions(start=first, end=first + timedelta(days=1))

        with pytest.raises(SourceError, match=problem) as error:
            read(bank.source(text))
        assert "query.sql" in str(error.value)

    def test_a_query_cannot_write(self, bank: Bank) -> None:
        if bank.engine.dialect.name == "postgresql":
            bank.execute("CREATE FUNCTION taken() RETURNS integer LANGUAGE sql AS 'DELETE FROM payments RETURNING 1'")
            with pytest.raises(SourceError, match="read-only|only reads"):
                _ = bank.source(QUERY.replace("*", "taken(), *")).transactions(start=START, end=END)
        assert len(bank.source().transactions(start=START, end=END)) == 140

    def test_no_message_repeats_a_cell(self, bank: Bank) -> None:
        bank.execute("UPDATE payments SET device = 'secret-cell' WHERE payment = 'p0003'")
        declared = DECLARED.replace('type = "category"', 'type = "number"')
        with pytest.raises(SourceError, match="device") as error:
            bank.source(declared=declared).transactions(start=START, end=END)
        assert "secret-cell" not in str(error.value)
        wrong = QUERY.replace("*", "payment, paid_at, CAST(device AS INTEGER)")
        if bank.engine.dialect.name == "postgresql":
            with pytest.raises(SourceError) as refused:
                bank.source(wrong).transactions(start=START, end=END)
            assert "secret-cell" not in str(refused.value)


class TestUrls:
    @pytest.mark.parametrize(
        "url", ["postgresql://bank:hidden@db/bank", "mysql+pymysql://db/bank?password=hidden", "postgresql://b:@db/x"]
    )
    def test_a_password_is_refused_and_not_repeated(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["init", "query.sql", "--data-url", url])
        message = capsys.readouterr().err
        assert "set the environment variable FRAUD_DATA_PASSWORD" in message
        assert "hidden" not in message

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        (tmp_path / "query.sql").write_text(QUERY)
        with pytest.raises(SourceError, match="bank.db: there is no such SQLite file"):
            query_sample(tmp_path / "query.sql", url=f"sqlite:///{tmp_path / 'bank.db'}")
        assert not (tmp_path / "bank.db").exists()

    def test_a_relative_file_is_made_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert stored_url("sqlite:///bank.db") == f"sqlite:///{tmp_path / 'bank.db'}"
        assert stored_url(f"sqlite:///{tmp_path / 'bank.db'}") == f"sqlite:///{tmp_path / 'bank.db'}"

    def test_a_driver_that_is_not_installed_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "query.sql").write_text(QUERY)
        for url in ("mysql+pymysql://db/bank", "nosuch://db/bank"):
            with pytest.raises(SourceError, match="no driver for .* is installed here: install one"):
                query_sample(tmp_path / "query.sql", url=url)

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "query.sql").write_text(QUERY)
        with pytest.raises(SourceError, match="query.sql: the PostgreSQL database at 127.0.0.1:1 does not answer"):
            query_sample(tmp_path / "query.sql", url="postgresql://bank@127.0.0.1:1/bank")

    def test_sql_without_a_database_says_what_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / "query.sql").write_text(QUERY)
        with pytest.raises(SourceError, match="looks like SQL: give the database of a query by --data-url"):
            inspect(tmp_path / "query.sql")

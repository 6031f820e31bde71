"""Every table has a retention or a reason for none, and expired rows are removed and counted."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from fraud_pipeline.database import Database
from fraud_pipeline.database.retention import RULES, Kept, Retention, Unbounded, give_back_space, remove_expired
from fraud_pipeline.database.tables import METADATA
from fraud_pipeline.defs.serving import retention_limits
from fraud_pipeline.schema.transactions import microsecond
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.expired_files import remove_expired_files

NOW = pd.Timestamp("2036-01-01", tz="UTC")


def test_every_table_is_in_the_list_once() -> None:
    """A new table needs a retention, or a reason why it stays small."""
    assert sorted(rule.table.name for rule in RULES) == sorted(METADATA.tables)
    assert all(rule.reason for rule in RULES if isinstance(rule, Unbounded))


def test_every_retention_is_a_setting_and_used() -> None:
    names = set(get_args(Retention))
    assert names <= set(Settings.model_fields)
    assert {rule.retention for rule in RULES if isinstance(rule, Kept)} | {"report_page_retention"} == names
    for name in (*names, "study_retention"):
        assert "retention" in name
        assert name.upper() in Path("docs/how-to/operations.md").read_text(), "the operations page lists every one"


def values(table: sa.Table, number: int, **given: Any) -> dict[str, Any]:
    """A row of any table."""
    made: dict[str, Any] = {}
    for column in table.columns:
        if column.server_default is None:
            match column.type:
                case sa.Boolean():
                    made[column.name] = True
                case sa.LargeBinary():
                    made[column.name] = b"page"
                case sa.Text():
                    made[column.name] = f"{column.name}-{number}"
                case _:
                    made[column.name] = number
    return made | given


@pytest.mark.parametrize("rule", [rule for rule in RULES if isinstance(rule, Kept)], ids=lambda rule: rule.table.name)
def test_only_expired_rows_are_removed(database: Database, tmp_path: Path, rule: Kept) -> None:
    limits = retention_limits(Settings(home=tmp_path), now=NOW)
    limit = microsecond(limits[rule.retention]) - rule.grace
    rows = [values(rule.table, n, **{rule.column.name: limit + n - 7}) for n in range(10)]
    with database.transaction() as connection:
        connection.execute(sa.insert(rule.table), rows)
    removed = remove_expired(database, limits=limits)
    removed.pop("report_pages")
    assert {name: count for name, count in removed.items() if count} == {rule.table.name: 7}
    with database.transaction(read_only=True) as connection:
        left = list(connection.execute(sa.select(rule.column).order_by(rule.column)).scalars())
    assert left == [limit, limit + 1, limit + 2]


class TestSettings:
    def test_decisions_are_kept_at_least_as_long_as_history(self, tmp_path: Path) -> None:
        long = Settings(home=tmp_path, history_retention=timedelta(days=900))
        assert long.kept_decisions == timedelta(days=900)
        assert Settings(home=tmp_path).kept_decisions == timedelta(days=365)
        with pytest.raises(ValidationError, match="FRAUD_DECISION_RETENTION"):
            Settings(home=tmp_path, history_retention=timedelta(days=180), decision_retention=timedelta(days=90))

    def test_history_reaches_as_far_as_features_look(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="FRAUD_HISTORY_RETENTION to 123 days"):
            Settings(home=tmp_path, history_retention=timedelta(days=100), label_maturity=timedelta(days=90))

    @pytest.mark.parametrize("name", [*get_args(Retention), "study_retention"])
    @pytest.mark.parametrize("days", [0, 100_000])
    def test_each_has_a_range(self, tmp_path: Path, name: str, days: int) -> None:
        with pytest.raises(ValidationError, match=name):
            Settings(home=tmp_path, **{name: timedelta(days=days)})  # type: ignore[arg-type]  # the name varies


def test_a_sqlite_file_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "fraud.db"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    rule = next(rule for rule in RULES if rule.table.name == "transactions")
    empty = size(database)
    with database.transaction() as connection:
        connection.execute(sa.insert(rule.table), [values(rule.table, number) for number in range(30_000)])
    full = size(database)
    remove_expired(database, limits={"history_retention": NOW})
    give_back_space(database)
    assert size(database) < empty + (full - empty) / 10
    database.close()


def size(database: Database) -> int:
    """Pages of the file after a checkpoint."""
    with database.transaction(read_only=True) as connection:
        return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())


def test_old_files_are_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "drift-2026-01-01.html", tmp_path / "drift-2026-03-01.html"
    for path, age in ((old, 91), (new, 89)):
        path.write_text("a report")
        written_at = (NOW - pd.Timedelta(days=age)).timestamp()
        os.utime(path, (written_at, written_at))
    assert remove_expired_files(tmp_path, before=NOW - pd.Timedelta(days=90)) == 1
    assert list(tmp_path.iterdir()) == [new]
    assert remove_expired_files(tmp_path / "missing", before=NOW) == 0

"""Files in an object store are read as those of this machine, from a real S3 server."""

import gzip
import socket
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from fraud_pipeline.cli.main import main
from fraud_pipeline.cli.training_plan import Flags, plan_training
from fraud_pipeline.host.data_location import DataUrl, data_location
from fraud_pipeline.ingest.inspection import inspect
from fraud_pipeline.ingest.source_choice import FileChoice, read_choice, save_choice
from fraud_pipeline.ingest.sources import FileSource, SourceError
from fraud_pipeline.settings import explicit_settings, load_settings
from fraud_pipeline_tests.support.bank_files import day_rows
from fraud_pipeline_tests.support.s3 import S3Server

START, END = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-02-01", tz="UTC")
DAYS: Final = (1, 2, 3)


def one_csv(directory: Path) -> str:
    pa.csv.write_csv(pa.concat_tables([day_rows(day) for day in DAYS]), directory / "bank.csv")
    return "bank.csv"


def one_compressed_csv(directory: Path) -> str:
    name = one_csv(directory)
    (directory / "bank.csv.gz").write_bytes(gzip.compress((directory / name).read_bytes()))
    return "bank.csv.gz"


def one_parquet(directory: Path) -> str:
    pq.write_table(pa.concat_tables([day_rows(day) for day in DAYS]), directory / "bank.parquet")
    return "bank.parquet"


def a_directory(directory: Path) -> str:
    (directory / "export" / "more").mkdir(parents=True)
    pa.csv.write_csv(day_rows(1), directory / "export" / "a.csv")
    pa.csv.write_csv(day_rows(2), directory / "export" / "more" / "b.csv")
    pa.csv.write_csv(day_rows(3), directory / "export" / "c.csv")
    (directory / "export" / "_SUCCESS").touch()
    (directory / "export" / ".hidden.csv").write_text("no,data")
    return "export"


def a_pattern(directory: Path) -> str:
    for day in DAYS:
        pa.csv.write_csv(day_rows(day), directory / f"day-{day}.csv")
    pa.csv.write_csv(day_rows(9), directory / "other.csv")
    return "day-?.csv"


def a_deep_pattern(directory: Path) -> str:
    a_directory(directory)
    return "**/more"


def a_hive_layout(directory: Path) -> str:
    for day, channel in zip(DAYS, ("online", "chip", "contactless"), strict=True):
        target = directory / "hive" / f"channel={channel}"
        target.mkdir(parents=True)
        pq.write_table(day_rows(day), target / "part-0.parquet")
    return "hive"


def a_delta_table(directory: Path) -> str:
    for day in DAYS:
        rows = day_rows(day)
        table = rows.append_column("country", pa.array(["DE", "F R"] * (len(rows) // 2)))
        write_deltalake(directory / "delta", table, mode="append", partition_by=["country"])
    DeltaTable(directory / "delta").delete("transaction_id = 't1-3'")
    return "delta"


LAYOUTS: Final = (
    one_csv,
    one_compressed_csv,
    one_parquet,
    a_directory,
    a_pattern,
    a_deep_pattern,
    a_hive_layout,
    a_delta_table,
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_store_gives_what_the_same_files_here_give(
    s3: S3Server, bucket: str, tmp_path: Path, layout: Callable[[Path], str]
) -> None:
    name = layout(tmp_path)
    s3.upload(tmp_path, f"{bucket}/export of 2026")
    here, there = FileSource(tmp_path / name), FileSource(data_location(f"{bucket}/export of 2026/{name}"))
    rows = there.transactions(start=START, end=END)
    assert len(rows) >= 20
    pd.testing.assert_frame_equal(rows, here.transactions(start=START, end=END))
    pd.testing.assert_frame_equal(there.reports(start=START, end=END), here.reports(start=START, end=END))
    assert there.day_versions(start=START, end=END) == here.day_versions(start=START, end=END)
    assert inspect(there.path).columns == inspect(here.path).columns


@pytest.mark.parametrize("layout", [one_csv, one_compressed_csv, one_parquet, a_directory])
def test_a_large_source_is_inspected_by_a_sample(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Callable[[Path], str]
) -> None:
    name = layout(tmp_path)
    s3.upload(tmp_path, bucket)
    monkeypatch.setattr("fraud_pipeline.ingest.inspection_sample.SMALL_BYTES", 100)
    there, here = inspect(data_location(f"{bucket}/{name}")), inspect(tmp_path / name)
    assert (there.declaration, there.rows, there.frauds) == (here.declaration, here.rows, here.frauds)


def test_a_new_object_is_there_for_the_next_source(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    s3.upload(tmp_path / one_csv(tmp_path), f"{bucket}/days/a.csv")
    source = FileSource(data_location(f"{bucket}/days"))
    assert source.last_day == date(2026, 1, 3)
    pa.csv.write_csv(day_rows(7), tmp_path / "b.csv")
    s3.upload(tmp_path / "b.csv", f"{bucket}/days/b.csv")
    assert source.last_day == date(2026, 1, 3), "one source sees one listing"
    assert FileSource(source.path).last_day == date(2026, 1, 7)


def test_init_and_train_take_a_url_and_remember_it(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.concat_tables([day_rows(day) for day in range(1, 29)]), tmp_path / "bank.parquet")
    s3.upload(tmp_path / "bank.parquet", f"{bucket}/bank.parquet")
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    url = f"{bucket}/bank.parquet"
    assert main(["init", url, "--label-delay", "1h"]) == 0
    assert f"Next: fraud-detect train --data-path {url}" in capsys.readouterr().out
    flags = Flags(data_path=data_location(url), label_delay=timedelta(hours=1))
    plan = plan_training(flags, explicit=explicit_settings(), remembered=None, now=datetime.now(UTC))
    assert isinstance(plan.choice, FileChoice)
    save_choice(plan.choice, home=tmp_path / "home")
    assert read_choice(tmp_path / "home") == plan.choice
    settings = load_settings()
    assert settings.data_path == DataUrl("s3", bucket.removeprefix("s3://"), "bank.parquet")
    assert settings.source_id == plan.settings.source_id
    assert settings.tables_directory == plan.settings.tables_directory
    assert settings.source_name == "file bank.parquet"


class TestErrors:
    def test_a_bucket_that_is_not_there(self, bucket: str) -> None:
        for name in ("x.csv", "*.csv", ""):
            with pytest.raises(SourceError, match="there is no bucket named nobody.* check its name"):
                inspect(data_location(f"s3://nobody-{bucket[-8:]}/{name}"))

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("nothing.csv", "the bucket holds no such file or directory; check the data path"),
            ("no-*.csv", "no file has such a name; check the pattern"),
            ("", "the bucket holds no such file or directory"),
            ("marks", "the directory holds no data files"),
        ],
    )
    def test_a_name_that_is_not_there(self, s3: S3Server, bucket: str, tmp_path: Path, name: str, problem: str) -> None:
        (tmp_path / "_SUCCESS").touch()
        if name:
            s3.upload(tmp_path, f"{bucket}/marks")
        with pytest.raises(SourceError, match=f"s3://.*: {problem}"):
            FileSource(data_location(f"{bucket}/{name}")).day_versions(start=START, end=END)

    @pytest.mark.parametrize("layout", [one_csv, a_delta_table])
    def test_a_store_that_is_not_there(
        self, s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Callable[[Path], str]
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(SourceError, match=f"{bucket}/.*: the store cannot be reached: check AWS_ENDPOINT_URL"):
            inspect(data_location(f"{bucket}/{layout(tmp_path)}"))

    def test_credentials_that_are_not_accepted(self, s3: S3Server, bucket: str, tmp_path: Path) -> None:
        s3.upload(tmp_path / one_csv(tmp_path), f"{bucket}/bank.csv")
        with s3.checking_credentials():
            for name in ("bank.csv", "*.csv", "days"):
                with pytest.raises(SourceError, match="does not accept the credentials, .* set AWS_ACCESS_KEY_ID"):
                    inspect(data_location(f"{bucket}/{name}"))

    def test_a_damaged_object_is_named(self, s3: S3Server, bucket: str, tmp_path: Path) -> None:
        (tmp_path / "bank.parquet").write_bytes(b"PAR1 and no more")
        s3.upload(tmp_path / "bank.parquet", f"{bucket}/bank.parquet")
        with pytest.raises(SourceError, match="bank.parquet: the file is no complete Parquet file"):
            inspect(data_location(f"{bucket}/bank.parquet"))


class TestUrls:
    """What a URL may hold is decided before anything is opened."""

    @pytest.mark.parametrize("url", ["s3://key:hidden@bucket/t.csv", "az://container/t.csv?sig=hidden&sv=2"])
    def test_secrets_are_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(ValueError, match="holds credentials or options, .*: remove them") as error:
            data_location(url)
        assert "hidden" not in str(error.value)

    @pytest.mark.parametrize("url", ["s3://", "gs:///", "s3://*/t.csv"])
    def test_a_url_names_one_bucket(self, url: str) -> None:
        with pytest.raises(ValueError, match="begins with the name of one bucket"):
            data_location(url)

    def test_a_url_that_was_a_path_is_a_url_again(self) -> None:
        assert data_location(Path("s3://bucket/day-?.csv")) == DataUrl("s3", "bucket", "day-?.csv")

    def test_azure_needs_an_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
        with pytest.raises(SourceError, match="az://bank: no storage account is named: set AZURE_STORAGE"):
            inspect(data_location("az://bank/t.csv"))

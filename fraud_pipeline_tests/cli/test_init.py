"""`fraud-detect init` as people type it, and `train` with what it wrote."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fraud_pipeline.cli.main import main
from fraud_pipeline.ingest.declaration import read_declaration
from fraud_pipeline_tests.support.bank_files import card_holders, handbook

SECRETS = ("Archer", "Main Street", "fraud_Shop")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file, and a home of its own."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    card_holders().to_csv("export.csv", index=False)
    return tmp_path


def test_it_prints_a_table_and_writes_the_declaration(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "export.csv"]) == 0
    shown = capsys.readouterr().out
    for words in ("Fields (9)", "Own fields", "Not used (2)", "Frauds  ", "Planned split", "Wrote fraud.toml"):
        assert words in shown
    assert "Next: fraud-detect train --data-path export.csv" in shown
    assert max(map(len, shown.splitlines())) <= 100
    declaration = read_declaration((directory / "fraud.toml").read_text())
    assert declaration.fields["amount"] == "amt"


@pytest.mark.usefixtures("directory")
def test_it_shows_no_cell(capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", "export.csv", "--json", "--yes"])
    main(["init", "export.csv"])
    shown = capsys.readouterr().out
    cards = card_holders()["cc_num"].astype(str)
    assert not [secret for secret in (*SECRETS, *cards, *card_holders()["trans_num"]) if secret in shown]


@pytest.mark.usefixtures("directory")
def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "export.csv", "--json", "--set", "gender=-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == len(card_holders())
    assert document["frauds"] == card_holders()["is_fraud"].sum()
    assert [part["part"] for part in document["split"]] == ["train", "tune", "calibrate", "test"]
    assert document["declaration"]["not_used"]["gender"] == "refused by you"


@pytest.mark.usefixtures("directory")
def test_a_changed_declaration_is_replaced_only_when_a_person_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fraud.toml").write_text("version = 1\n")
    assert main(["init", "export.csv"]) == 1
    assert "--yes replaces it" in capsys.readouterr().err
    assert Path("fraud.toml").read_text() == "version = 1\n"
    assert main(["init", "export.csv", "--yes"]) == 0
    assert "amt" in Path("fraud.toml").read_text()


@pytest.mark.parametrize("command", ["init export.csv", "train --data-path export.csv"])
def test_a_file_without_a_label_stops_and_names_the_option(
    directory: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    card_holders().drop(columns=["is_fraud"]).to_csv("export.csv", index=False)
    assert main(command.split()) == 1
    shown = capsys.readouterr()
    assert "--set is_fraud=COLUMN" in shown.out
    assert "cannot be trained on yet" in shown.err
    assert not Path("fraud.toml").exists()
    assert not (directory / "home").exists()


@pytest.mark.usefixtures("directory")
def test_a_short_span_is_said_and_the_delay_fits_it(capsys: pytest.CaptureFixture[str]) -> None:
    frame = handbook()
    start = pd.Timestamp("2024-03-01")
    frame["TX_DATETIME"] = (start + (pd.to_datetime(frame["TX_DATETIME"]) - pd.Timestamp("2024-01-05")) / 10).astype(
        str
    )
    frame.to_csv("export.csv", index=False)
    assert main(["init", "export.csv"]) == 0
    assert "counts as known 1 day after it happened, not 7 days" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("directory")
def test_a_declaration_of_another_file_is_refused_by_column(capsys: pytest.CaptureFixture[str]) -> None:
    handbook().to_csv("other.csv", index=False)
    assert main(["init", "other.csv"]) == 0
    capsys.readouterr()
    assert main(["train", "--data-path", "export.csv"]) == 1
    assert "TX_AMOUNT" in capsys.readouterr().err

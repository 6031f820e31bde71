"""The `fraud-detect` command as people type it."""

import argparse
import json
import os
import platform
import re
import shlex
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from fraud_pipeline.cli import shell_commands
from fraud_pipeline.cli.arguments import duration
from fraud_pipeline.cli.main import main
from fraud_pipeline.cli.parser import build_parser
from fraud_pipeline.cli.training_plan import DEFAULT_TRANSACTIONS, Flags, plan_training
from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.messaging.topics import ensure_topics
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.published_model import published_version
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.schema.transactions import DAY, FRAUD_REPORTS, TransactionRow
from fraud_pipeline.settings import SETTINGS_FILE, Settings, explicit_settings, load_settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.small_world import Tables
from fraud_pipeline_tests.support.streams import send
from serving.stream.messages import BadMessage, dead_letter

# Warnings of MLflow and its dependencies about themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

COLUMNS = "transaction_id=TX ID,event_time=when,customer_id=card,merchant_id=shop,amount=EUR,is_fraud=fraudulent"
COMMANDS = (
    *(
        "init",
        "train",
        "ingest",
        "generate-data",
        "ui",
        "mlflow",
        "prepare-dagster",
        "models",
        "promote",
        "rollback",
        "export-models",
    ),
    *("serve", "dashboard", "token", "rotate-keys", "produce", "consume", "dead-letters", "alerts", "doctor", "backup"),
    *("migrate", "completion", "test", "rules", "lists"),
)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all that need MLflow, which takes seconds to make its first tables."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAUD_HOME", str(shared_home))
    monkeypatch.setenv("DAGSTER_HOME", "")  # put back after a command has set it
    return shared_home


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    return tmp_path / "home"


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command and of each action of a command, by its words."""
    parsers, waiting = {}, [("", build_parser())]
    while waiting:
        words, parser = waiting.pop()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += [(f"{words} {name}".strip(), choice) for name, choice in action.choices.items()]
        if words:
            parsers[words] = parser
    return parsers


class TestHelp:
    def test_of_every_command_it_loads_no_library(self) -> None:
        """Modules of the standard library only, so that help appears at once."""
        program = f"""
import sys
from contextlib import suppress
from fraud_pipeline.cli.main import main
for words in {["", *commands()]!r}:
    with suppress(SystemExit):
        main([*words.split(), "--help"])
print("loaded:", *sorted({{name.split(".")[0] for name in sys.modules}} - sys.stdlib_module_names - {{"__main__"}}))
"""
        process = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
        loaded = process.stdout.splitlines()[-1].split()
        # Files that end in .pth load modules of their own before any program begins.
        plain = subprocess.run(
            [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
        )
        assert set(loaded) - {name.split(".")[0] for name in plain.stdout.split()} == {"loaded:", "fraud_pipeline"}
        assert process.stdout.count("usage: fraud-detect") == len(commands()) + 1

    def test_it_lists_every_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert all(re.search(rf"^    {name}\b", text, re.MULTILINE) for name in COMMANDS)

    @pytest.mark.parametrize("words", commands())
    def test_every_argument_has_a_text_and_every_option_that_takes_a_value_its_default(self, words: str) -> None:
        parser = commands()[words]
        text = " ".join(parser.format_help().split())
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                continue
            assert action.help, f"{words}: {action.dest}"
            if action.option_strings and action.nargs != 0 and not action.required:
                shown = "(default:" if action.default is None else f"(default: {action.default})"
                part = text[text.rindex(action.option_strings[0]) :]
                assert shown in part, f"{words}: {action.option_strings[0]}"

    def test_defaults_of_settings_are_the_settings_own(self) -> None:
        text = " ".join(" ".join(parser.format_help().split()) for parser in commands().values())
        pairs = dict(re.findall(r"default: FRAUD_([A-Z_]+), ([^)]+)\)", text))
        assert set(pairs) == {"LABEL_DELAY", "N_TRIALS", "SEED"}
        for name, shown in pairs.items():
            default = Settings.model_fields[name.lower()].default
            assert default == (duration(shown) if isinstance(default, timedelta) else int(shown))
        assert f"(default: {DEFAULT_TRANSACTIONS})" in text

    @pytest.mark.parametrize("words", [words for words in commands() if " " not in words])
    def test_every_command_has_its_function(self, words: str) -> None:
        run = commands()[words].get_default("run")
        assert callable(run.load())

    def test_the_version_is_the_release_and_the_python(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
        expected = f"fraud-detect {version('fraud-pipeline')} (Python {platform.python_version()})\n"
        assert capsys.readouterr().out == expected

    def test_an_unknown_command_lists_the_known_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["tarin"])
        assert ended.value.code == 2
        error_text = capsys.readouterr().err
        assert all(command in error_text for command in COMMANDS)


class TestShell:
    def completions(self, script: Path, *words: str) -> set[str]:
        """Bash's completions of the last of these words."""
        typed = " ".join(f"'{word}'" for word in words)
        program = (
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
            "_shtab_fraud_detect; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        process = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return {word.strip() for word in process.stdout.splitlines()}

    def test_bash_completes_commands_options_choices_and_paths(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["completion", "bash"]) == 0
        script = tmp_path / "completion.bash"
        script.write_text(capsys.readouterr().out)
        (tmp_path / "mine.csv").touch()
        assert self.completions(script, "fraud-detect", "export") == {"export-models"}
        assert self.completions(script, "fraud-detect", "train", "--data-p") == {"--data-path"}
        assert "confirmed_fraud" in self.completions(script, "fraud-detect", "alerts", "list", "--status", "")
        path = str(tmp_path / "mi")
        assert self.completions(script, "fraud-detect", "train", "--data-path", path) == {str(tmp_path / "mine.csv")}

    def test_zsh_gets_a_script_of_its_own(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["completion", "zsh"]) == 0
        text = capsys.readouterr().out
        assert text.startswith("#compdef fraud-detect\n")
        assert all(f"\n    {name}:'" in text for name in COMMANDS)

    def test_an_installation_without_a_checkout_says_that_it_has_no_tests(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(shell_commands, "ROOT", tmp_path)
        assert main(["test"]) == 1
        assert "an installed package holds no tests; run `fraud-detect test` in a checkout" in capsys.readouterr().err

    def test_a_missing_library_names_the_extras_that_bring_it(self, tmp_path: Path) -> None:
        program = "import sys; sys.modules['mlflow'] = None; from fraud_pipeline.cli.main import main; main(['models'])"
        process = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"FRAUD_HOME": str(tmp_path)},
        )
        assert process.stderr == (
            "fraud-detect: mlflow: not installed; run pip install 'fraud-pipeline[training,serving,dashboard]'\n"
        )


class TestJson:
    def printed(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
        main([*argv, "--json"])
        return json.loads(capsys.readouterr().out)

    def test_the_doctors_findings(self, empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        findings = self.printed(["doctor"], capsys)
        assert {finding["part"] for finding in findings} >= {"settings", "disk", "database", "champion"}
        assert {finding["state"] for finding in findings} <= {"ok", "warn", "fail"}

    def test_alerts(self, empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.printed(["alerts", "list"], capsys) == []
        with closing(Database(load_settings().database)) as database, scoring_batch(database) as batch:
            batch.remember([TransactionRow("t-1", 20_000 * DAY, "c-1", "m-1", 4_242)])
            batch.add_alerts(ids=["t-1"], customers=["c-1"], decisions=["review"], created_at=20_000 * DAY)
        (listed,) = self.printed(["alerts", "list", "--status", "open"], capsys)
        assert (listed["transaction_id"], listed["status"], listed["created_at"]) == ("t-1", "open", 20_000 * DAY)
        (taken,) = self.printed(["alerts", "next", "--who", "ann"], capsys)
        (resolved,) = self.printed(["alerts", "resolve", "t-1", "legitimate", "--who", "ann"], capsys)
        assert [alert["status"] for alert in (taken, resolved)] == ["in_review", "legitimate"]
        assert self.printed(["alerts", "next"], capsys) == []


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["models"], "fraud-detect train"),
        (["alerts", "list"], "fraud-detect serve"),
        (["alerts", "next"], "fraud-detect demo"),
    ],
)
@pytest.mark.usefixtures("empty_home")
def test_an_empty_list_names_the_next_step(command: list[str], remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert remedy in line


class TestDeadLetters:
    def test_are_listed_for_people_and_programs_without_their_content(
        self, broker: Broker, empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kafka = topics_of_our_own(broker)
        ensure_topics(kafka)
        for name, value in kafka.model_dump(exclude_none=True, exclude_unset=True).items():
            monkeypatch.setenv(f"FRAUD_KAFKA_{name.upper()}", str(value))
        place: dict[str, Any] = {"topic": kafka.transactions_topic, "partition": 0, "timestamp": 0}
        letters = [
            dead_letter(BadMessage(reason, "amount"), key=b"c-1", value=b"secret", headers=(), offset=offset, **place)
            for offset, reason in enumerate(("missing", "missing", "wrong_type"))
        ]
        send(kafka, kafka.dead_letter_topic, letters, partition=0)
        assert main(["dead-letters", "--json", "--limit", "2"]) == 0
        listing = json.loads(text := capsys.readouterr().out)
        assert [line.split(" - ")[0] for line in listing["summary"]] == [
            "2 x amount: missing",
            "1 x amount: wrong_type",
        ]
        assert [(letter["source_offset"], letter["reason"]) for letter in listing["newest"]] == [
            (1, "missing"),
            (2, "wrong_type"),
        ]
        assert "secret" not in text
        assert main(["dead-letters", "--reason", "wrong_type"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert lines[1].startswith(f"  {kafka.transactions_topic}/0/2  wrong_type  sha256 ")


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "span"),
        [
            ("7d", timedelta(days=7)),
            ("36h", timedelta(hours=36)),
            ("30min", timedelta(minutes=30)),
            ("1d12h", timedelta(hours=36)),
            ("0d", timedelta(0)),
        ],
    )
    def test_are_a_number_and_a_unit(self, text: str, span: timedelta) -> None:
        assert duration(text) == span

    @pytest.mark.parametrize("text", ["soon", "7", "1.5", "-7d", "nat", ""])
    def test_anything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="write for example 7d or 36h"):
            duration(text)


class TestErrors:
    """A person who made a mistake gets one line that names it, and exit code 1."""

    def error_of(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
        assert main(argv) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    def test_a_missing_file(self, empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.error_of(["train", "--data-path", "nowhere.csv"], capsys)
        assert message.startswith("fraud-detect: ")
        assert "nowhere.csv: no such file" in message
        assert len(message.splitlines()) == 1
        assert not empty_home.exists(), "a mistake is not remembered"

    def test_columns_that_the_file_does_not_have(
        self, empty_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "mine.csv"
        file.write_text("id,when,who,where,how_much\n1,2026-01-01,c,m,5\n")
        message = self.error_of(["train", "--data-path", str(file), "--columns", "amount=cost"], capsys)
        assert "mine.csv" in message
        assert "cost" in message
        assert not empty_home.exists(), "a mistake is not remembered"

    @pytest.mark.parametrize(
        ("argv", "problem"),
        [
            (["--n-trials", "-3"], "argument --n-trials: '-3' is no whole number of 1 or more"),
            (["--n-trials", "many"], "argument --n-trials: 'many' is no whole number of 1 or more"),
            (["--transactions", "0"], "argument --transactions: '0' is no whole number of 1 or more"),
            (["--label-delay", "soon"], "argument --label-delay: 'soon' is no time span; write for example 7d or 36h"),
            (["--columns", "amount"], "argument --columns: column mapping: 'amount' is not of the form"),
            (["--columns", "amonut=PAID"], "argument --columns: column mapping: unknown field amonut"),
            (["--data-path", "x.csv", "--synthetic"], "--synthetic and --data-path name two sources"),
            (["--data-path", "x.csv", "--transactions", "9"], "--transactions is for the synthetic world"),
            (["--synthetic", "--columns", "amount=PAID"], "--columns is for a file"),
            (["--newest"], "unrecognized arguments: --newest"),
        ],
    )
    def test_a_wrong_value_is_one_line_and_status_2_and_nothing_is_kept(
        self, empty_home: Path, argv: list[str], problem: str
    ) -> None:
        command = [sys.executable, "-m", "fraud_pipeline.cli.main", "train", *argv]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert problem in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert not empty_home.exists()

    def test_a_bad_setting(
        self, empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FRAUD_DIFFICULTY", "9")
        message = self.error_of(["generate-data", "--out", str(empty_home)], capsys)
        assert "FRAUD_DIFFICULTY in the environment: Input should be less than or equal to 1" in message
        assert len(message.splitlines()) == 1


class TestToken:
    @pytest.mark.parametrize(("options", "mode"), [([], 0o600), (["--for-group"], 0o640)])
    def test_the_file_of_a_token_is_its_readers_alone_whatever_was_there(
        self, empty_home: Path, tmp_path: Path, options: list[str], mode: int
    ) -> None:
        file = tmp_path / "token"
        file.write_text("of last year")
        file.chmod(0o644)
        assert main(["token", "--subject", "prometheus", "--out", str(file), *options]) == 0
        assert stat.S_IMODE(file.stat().st_mode) == mode
        assert file.read_text().count(".") == 2
        assert {path.name for path in tmp_path.iterdir()} == {"token", empty_home.name}


@pytest.mark.slow
class TestGenerateData:
    def test_it_writes_what_happened_what_was_reported_and_the_truth(
        self, empty_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "data"
        assert main(["generate-data", "--transactions", "10000", "--out", str(out), "--seed", "3"]) == 0
        tables = {name: pd.read_parquet(out / f"{name}.parquet") for name in ("transactions", "reports", "oracle")}
        assert len(tables["transactions"]) == pytest.approx(10_000, rel=0.1)
        assert tables["transactions"]["transaction_id"].tolist() == tables["oracle"]["transaction_id"].tolist()
        FRAUD_REPORTS.validate(tables["reports"])
        output = capsys.readouterr().out
        for name, frame in tables.items():
            assert f"{len(frame):,} rows  {out / name}.parquet" in output
        frauds = tables["reports"].query("is_fraud").groupby("transaction_id")["reported_at"].min()
        reported = tables["transactions"].set_index("transaction_id")["reported_at"].dropna()
        pd.testing.assert_series_equal(reported.sort_index(), frauds.sort_index())

    def test_its_file_can_be_trained_on_by_the_command_that_it_prints(
        self, empty_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["generate-data", "--transactions", "41000", "--out", str(tmp_path / "a bank")]) == 0
        command = shlex.split(capsys.readouterr().out.partition("Train on it: ")[2])
        flags = build_parser().parse_args(command[1:])
        made = plan_training(
            Flags(data_path=flags.data_path), explicit=explicit_settings(), remembered=None, now=datetime.now(UTC)
        )
        assert made.outlook is not None
        assert not made.outlook.problems
        assert made.settings.declaration is not None
        assert made.settings.declaration.fields["reported_at"]

    def test_the_seed_decides(self, empty_home: Path, tmp_path: Path) -> None:
        for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
            main(["generate-data", "--transactions", "833", "--out", str(tmp_path / name), "--seed", seed])
        a, b, c = (pd.read_parquet(tmp_path / name / "transactions.parquet") for name in "abc")
        pd.testing.assert_frame_equal(a, b)
        assert set(a["transaction_id"]).isdisjoint(c["transaction_id"])


@pytest.mark.slow
class TestTrain:
    """A file of a third party, with labels but without report times, to a champion."""

    @pytest.fixture(scope="class")
    def file(self, tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
        frauds = tables.reports.loc[tables.reports["is_fraud"], "transaction_id"]
        rows = tables.transactions
        foreign = pd.DataFrame(
            {
                "TX ID": rows["transaction_id"],
                "when": rows["event_time"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "card": rows["customer_id"],
                "shop": rows["merchant_id"],
                "EUR": rows["amount_cents"] / 100,
                "fraudulent": rows["transaction_id"].isin(frauds).astype(int),
            }
        )
        path = tmp_path_factory.mktemp("bank") / "export #1 of it's bank.csv"
        foreign.to_csv(path, index=False)
        return path

    def test_ends_with_a_summary_and_a_source_that_the_ui_reads(
        self, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FRAUD_GAP", "1d")
        monkeypatch.setenv("FRAUD_WARM_UP", "3d")
        argv = ["train", "--data-path", str(file), "--columns", COLUMNS, "--label-delay", "6d", "--n-trials", "1"]
        code = main(argv)
        output = capsys.readouterr()
        assert (code, output.err) == (0, "")
        for line in (
            "raw_transactions",
            "features",
            "fraud_model",
            "champion",
            "average_precision",
            "Verdict on version 1",
        ):
            assert line in output.out
        assert "Training on the file export #1 of it's bank.csv, 2026-01-01 to 2026-02-09" in output.out
        settings = load_settings()
        assert (settings.data_path, settings.columns) == (file, COLUMNS)
        assert settings.n_trials == Settings.model_fields["n_trials"].default, "a flag is for one run"
        assert not (home / SETTINGS_FILE).exists(), "that file is a person's"
        assert settings.label_delay == settings.label_maturity == timedelta(days=6)
        assert (settings.first_day.isoformat(), str(settings.last_day)) == ("2026-01-01", "2026-02-09")
        metrics = json.loads((home / "models" / "evaluation.json").read_text())["metrics"]
        assert metrics["roc_auc"]["value"] > 0.7

    def test_a_rejected_model_says_why_with_figures_and_ends_with_status_2(
        self,
        empty_home: Path,
        file: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Labels by chance: no model ranks them, and none may become champion."""
        monkeypatch.setenv("FRAUD_GAP", "1d")
        monkeypatch.setenv("FRAUD_WARM_UP", "3d")
        rows = pd.read_csv(file)
        rows["fraudulent"] = (np.random.default_rng(0).random(len(rows)) < 0.03).astype(int)
        rows.to_csv(tmp_path / "by-chance.csv", index=False)
        argv = ["train", "--data-path", str(tmp_path / "by-chance.csv"), "--columns", COLUMNS, "--label-delay", "6d"]
        assert main([*argv, "--n-trials", "2"]) == 2
        printed = capsys.readouterr()
        assert "the gate rejected this model" in printed.err
        assert "Traceback" not in printed.err
        assert "Verdict on version 1: reject; champion is version -." in printed.out
        assert re.search(
            r"floor: Average precision is 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\); with \d\.\d\d% fraud", printed.out
        )
        for line in ("ours", "plain", "difference"):
            assert re.search(
                rf"^  {line} +[+-]?0\.\d{{3}} \([+-]?0\.\d{{3}} to [+-]?0\.\d{{3}}\)", printed.out, re.MULTILINE
            )
        assert not (empty_home / "models" / "champion").exists()

    def test_data_that_cannot_be_learned_from_stop_with_the_cause(
        self, empty_home: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pd.read_csv(file).head(300).to_csv(tmp_path / "one-morning.csv", index=False)
        assert main(["train", "--data-path", str(tmp_path / "one-morning.csv"), "--columns", COLUMNS]) == 1
        error_text = capsys.readouterr().err
        assert load_settings().source_kind == "none", "what cannot be learned from is not remembered"
        assert "Training stopped: training_set: " in error_text
        assert "bring older data" in error_text
        assert "Traceback" not in error_text


class TestVersions:
    @pytest.fixture
    def settings(self, home: Path, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
        """A home whose registry holds two versions under a name of its own."""
        monkeypatch.setenv("FRAUD_MODEL_NAME", f"model_{tmp_path.name}")
        settings = load_settings()
        registry = Registry(
            tracking_uri=settings.tracking_uri,
            model_name=settings.model_name,
            artifact_directory=settings.artifact_directory,
        )
        for threshold in (0.1, 0.2):
            directory = tmp_path / str(threshold)
            replace(trained.model, policy=Policy(threshold, 0.9)).save(directory)
            run = MlflowClient(settings.tracking_uri).create_run(registry.ensure_experiment("training"))
            registry.register(directory, run_id=run.info.run_id, tags={"average_precision": f"0.{threshold}"})
        return settings

    def served(self, settings: Settings) -> float:
        return FraudModel.load(settings.champion_directory).policy.review_threshold

    def test_promote_and_rollback_change_what_is_served(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["promote", "1"]) == 0
        assert main(["promote", "2", "--reason", "the auditor asked"]) == 0
        assert self.served(settings) == 0.2
        assert main(["rollback"]) == 0
        assert self.served(settings) == 0.1
        assert capsys.readouterr().out.splitlines() == [
            "v1 is champion (before: v-)",
            "v2 is champion (before: v1)",
            "v1 is champion again (before: v2)",
        ]

        assert main(["models"]) == 0
        versions, _, history = capsys.readouterr().out.partition("\n\nPromotions, newest first:\n")
        assert [line.split()[0] for line in versions.splitlines()] == ["v2", "v1"]
        assert versions.splitlines()[0].strip().endswith("AP 0.0.2")
        assert versions.splitlines()[1].endswith("AP 0.0.1  champion")
        assert [line.split()[2:4] for line in history.splitlines()] == [
            ["rollback", "v1"],
            ["promote", "v2"],
            ["promote", "v1"],
        ]

    def test_who_is_champion_scores_in_nobodys_shadow(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Runs over ranges take the challenger from this home."""
        monkeypatch.setenv("FRAUD_SHADOW_CHALLENGER", "true")
        assert main(["promote", "1"]) == 0
        exported = published_version(settings.challenger_directory)
        assert exported is not None
        assert exported[0] == 2
        assert main(["promote", "2"]) == 0
        assert not settings.challenger_directory.is_symlink()
        assert main(["rollback"]) == 0
        assert not settings.challenger_directory.is_symlink()

    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (["promote", "9"], "has no version 9; versions are: 1, 2"),
            (["rollback"], "there is no earlier champion to go back to; promote a version by its number instead"),
        ],
    )
    def test_what_cannot_be_done_is_said_in_one_line(
        self, settings: Settings, argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(argv) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert len(error.splitlines()) == 1
        assert settings.model_name in error or argv == ["rollback"]


class TestTest:
    def test_further_arguments_go_to_pytest_from_anywhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["test", "--version"]) == 0
        output = capfd.readouterr()
        assert f"pytest {pytest.__version__}" in output.out + output.err

    def test_other_commands_refuse_what_they_do_not_know(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["models", "--newest"])
        assert ended.value.code == 2
        assert "unrecognized arguments: --newest" in capsys.readouterr().err

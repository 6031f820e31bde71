"""`fraud-detect rules` and `fraud-detect lists` as an analyst types them, over one home directory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fraud_pipeline.cli.main import main
from fraud_pipeline.database import open_database
from fraud_pipeline.database.rules_in_force import NOT_READ, RulesInForce, read_rules
from fraud_pipeline.database.value_lists import values_of
from fraud_pipeline.policy.rule_file import read_rules_file, rules_file
from fraud_pipeline.settings import load_settings

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns its JSON, or the error in one line."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))

    def command(*words: str, status: int = 0) -> Any:
        assert main([*words, "--json"]) == status
        printed = capsys.readouterr()
        return printed.err if status else json.loads(printed.out)

    return command


def in_force(before: RulesInForce = NOT_READ) -> RulesInForce:
    with open_database(load_settings().database) as database:
        return read_rules(database, before)


def test_a_rule_goes_from_draft_to_active_and_every_step_has_an_author(run: Run) -> None:
    assert "did you mean amount?" in run("rules", "check", "amnt > 1", status=1)
    run("rules", "add", "shop", "--action", "block", "--when", "merchant_id = 'm-1'", "--who", "ann", "--reason", "six")
    assert in_force().rules.rules == ()
    run("rules", "activate", "shop", "--who", "bea", "--percent", "50")
    run("rules", "add", "shop", "--action", "review", "--when", "merchant_id = 'm-2'", "--who", "cyn")
    (rule,) = in_force().rules.rules
    assert (rule.label, rule.action, rule.percent) == ("shop@2", "review", 50)
    shown = run("rules", "show", "shop")
    assert [(row["version"], row["author"]) for row in shown["versions"]] == [(2, "cyn"), (1, "ann")]
    assert [(event["who"], event["what"]) for event in run("rules", "history", "shop")] == [
        ("cyn", "saved"),
        ("bea", "active"),
        ("ann", "saved"),
    ]
    for which in (["shop"], ["--when", "probability > 0.5"]):
        assert run("rules", "backtest", *which)["rows"] == 0
    run("rules", "retire", "shop", "--who", "ann")
    assert in_force().rules.rules == ()
    assert "there is no such rule" in run("rules", "activate", "shp", "--who", "ann", status=1)


def test_with_approval_another_person_activates(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_RULE_APPROVAL", "true")
    run("rules", "add", "shop", "--action", "block", "--when", "amount > 1", "--who", "ann")
    assert "another person must activate it" in run("rules", "activate", "shop", "--who", "ann", status=1)
    assert run("rules", "activate", "shop", "--who", "bea")["state"] == "active"


def test_rules_travel_through_a_file_and_a_deleted_one_comes_back(run: Run, tmp_path: Path) -> None:
    text = "country <> 'DE' AND category = 'a \"b\" \\ c'"
    run("rules", "add", "abroad", "--action", "tag", "--when", text, "--description", "über\nzwei", "--who", "ann")
    run("rules", "shadow", "abroad", "--who", "ann")
    file = tmp_path / "rules.toml"
    run("rules", "export", str(file))
    assert run("rules", "import", str(file), "--who", "ann")["changes"] == []
    run("rules", "add", "abroad", "--action", "block", "--when", "amount > 1", "--who", "bea")
    run("rules", "retire", "abroad", "--who", "bea")
    assert run("rules", "import", str(file), "--who", "ann")["changes"] == ["abroad@3 saved", "abroad is shadow"]
    (rule,) = in_force().rules.rules
    assert (rule.expression, rule.description, rule.state) == (text, "über\nzwei", "shadow")
    assert rules_file(read_rules_file(file.read_text(), path="")) == file.read_text()
    file.write_text('[rule.abroad]\naction = "block"\nwhen = "amount > 1"\nstat = "active"\n')
    assert "rules.toml: rule abroad: stat means nothing" in run("rules", "import", str(file), status=1)


def test_a_list_is_filled_by_hand_and_by_csv_and_read_by_what_changed(run: Run, tmp_path: Path) -> None:
    run("lists", "create", "nets", "--match", "cidr", "--who", "ann")
    run("lists", "add", "nets", "203.0.113.7/24", "--comment", "botnet", "--for", "7d", "--who", "ann")
    run("rules", "add", "nets", "--action", "block", "--when", "category IN list('nets')", "--who", "ann")
    run("rules", "activate", "nets", "--who", "ann")
    first = in_force()
    assert first.rules.lists["nets"].keys.shape == (1,)
    file = tmp_path / "nets.csv"
    file.write_text("value,comment,ends_at\n2001:db8::/48,six,\n198.51.100.0/25,four,2026-12-24\nnothing,,\n")
    assert "line 4: nothing: no address or network" in run("lists", "import", "nets", str(file), status=1)
    file.write_text("value,comment,ends_at\n2001:db8::/48,six,\n198.51.100.0/25,four,2026-12-24\n")
    assert run("lists", "import", "nets", str(file), "--who", "ann") == {"added": 2}
    second = in_force(first)
    assert second.rules.rules is first.rules.rules, "rules that did not change are not parsed again"
    assert second.rules.lists["nets"].widths == {"4/24", "4/25", "6/48"}
    assert run("lists", "remove", "nets", "203.0.113.0/24", "--who", "ann") == {"removed": 1}
    third = in_force(second)
    assert third.rules.lists["nets"].keys.shape == (2,)
    assert third.rules.lists["nets"].keys.tolist() == in_force().rules.lists["nets"].keys.tolist()
    assert in_force(third) is third
    run("lists", "export", "nets", str(tmp_path / "out.csv"))
    with open_database(load_settings().database) as database:
        assert [entry.comment for entry in values_of(database, "nets")] == ["four", "six"]
    assert sorted((tmp_path / "out.csv").read_text().splitlines()[1:]) == [
        "198.51.100.0/25,four,2026-12-24T00:00:00+00:00",
        "2001:db8::/48,six,",
    ]
    assert [row["values"] for row in run("lists", "list")] == [2]
    assert "there is no such list" in run("lists", "add", "net", "1.1.1.1", "--who", "ann", status=1)

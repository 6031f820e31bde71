"""The demo's own home directory, its ports, and its words."""

import re
import shlex
import socket
from collections.abc import MutableMapping
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd
import pytest

from fraud_pipeline.cli.demo_home import FIRST_LINE, DemoHomeError, prepare_demo_home
from fraud_pipeline.cli.demo_services import Ports
from fraud_pipeline.cli.demo_tour import tour
from fraud_pipeline.cli.demo_words import ATTACKS, announcement, noticed_payments, outcome
from fraud_pipeline.cli.parser import build_parser
from fraud_pipeline.generator.live import Attack
from fraud_pipeline.generator.story import SCENARIOS
from fraud_pipeline.host.ports import CannotListenError
from fraud_pipeline.ingest.source_choice import SyntheticChoice, save_choice
from fraud_pipeline.settings import load_settings

BEGINS: Final = pd.Timestamp("2026-11-28 10:42:07", tz="UTC")
NOW: Final = BEGINS + pd.Timedelta(seconds=40)


def attack(*, payments: int = 3) -> Attack:
    rows = pd.DataFrame(
        {
            "transaction_id": [f"r-attack-4-{number}" for number in range(1, payments + 1)],
            "event_time": [BEGINS + pd.Timedelta(seconds=10 * number) for number in range(payments)],
            "merchant_id": [f"m-{number % 2}" for number in range(payments)],
            "amount": [10.5] * payments,
        }
    )
    return Attack(number=4, kind="stolen_number", customer_id="c-9", transactions=rows)


def prepare(home: Path, *, environment: MutableMapping[str, str] | None = None) -> None:
    prepare_demo_home(
        home,
        settings={"FRAUD_SERVICE_URL": "http://127.0.0.1:8123"},
        environment={} if environment is None else environment,
    )


class TestHome:
    def test_a_later_start_keeps_the_world_and_takes_new_ports(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "demo"
        prepare(home)
        save_choice(SyntheticChoice(chosen_at=NOW.to_pydatetime(), first_day=date(2026, 6, 25)), home=home)
        (home / "settings.env").write_text(f"{FIRST_LINE}\nFRAUD_SERVICE_URL=http://127.0.0.1:9\n")
        prepare(home)
        monkeypatch.setenv("FRAUD_HOME", str(home))
        settings = load_settings()
        assert (settings.synthetic, settings.world_begins) == (True, date(2026, 6, 25))
        assert settings.service_url == "http://127.0.0.1:8123"

    def test_the_settings_of_another_deployment_do_not_reach_the_demo(self, tmp_path: Path) -> None:
        environment = {"FRAUD_DATABASE_URL": "postgresql://bank", "MLFLOW_TRACKING_URI": "http://bank", "PATH": "/bin"}
        prepare(tmp_path / "demo", environment=environment)
        assert environment == {"PATH": "/bin", "FRAUD_HOME": str(tmp_path / "demo")}

    def test_the_home_of_another_deployment_is_refused_and_stays(self, tmp_path: Path) -> None:
        file = tmp_path / "settings.env"
        file.write_text("FRAUD_CURRENCY=USD\n")
        with pytest.raises(DemoHomeError, match="home of another deployment: name another directory with --home"):
            prepare(tmp_path)
        assert file.read_text() == "FRAUD_CURRENCY=USD\n"

    def test_a_directory_with_other_files_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(DemoHomeError, match="holds other files"):
            prepare(tmp_path)


class TestPorts:
    def test_every_port_in_use_is_named(self) -> None:
        ports = Ports.free()
        ports.check()
        with socket.socket() as dagster, socket.socket() as broker:
            for listening, port in ((dagster, ports.dagster), (broker, ports.broker)):
                listening.bind(("127.0.0.1", port))
                listening.listen()
            with pytest.raises(CannotListenError) as raised:
                ports.check()
        assert f"{ports.dagster} (dagster)" in str(raised.value)
        assert f"{ports.broker} (broker)" in str(raised.value)
        assert "(mlflow)" not in str(raised.value)
        assert "--free-ports" in str(raised.value)


class TestAttacks:
    def test_every_fraud_of_the_world_has_words(self) -> None:
        assert set(ATTACKS) == {scenario.name for scenario in SCENARIOS if scenario.fraud}

    def test_the_announcement_says_when_what_where_and_who(self) -> None:
        assert announcement(attack()) == (
            "10:42:07  attack 4: a stolen card number is used online (3 payments at 2 merchants, 31.50 in all, "
            "over 20 s): customer c-9"
        )

    def test_one_payment_is_no_plural_and_lasts_no_time(self) -> None:
        assert "(1 payment at 1 merchant, 10.50 in all): customer c-9" in announcement(attack(payments=1))

    def test_the_outcome_says_at_which_payment_it_was_noticed(self) -> None:
        decisions = {"r-attack-4-1": "allow", "r-attack-4-2": "review", "r-attack-4-3": "block"}
        assert noticed_payments(attack(), decisions) == [2, 3]
        assert outcome(attack(), decisions, now=NOW) == (
            "10:42:47  attack 4 noticed at payment 2 of 3 (1 sent to review, 1 blocked)"
        )

    def test_a_missed_attack_is_told_too(self) -> None:
        decisions = {f"r-attack-4-{number}": "allow" for number in (1, 2, 3)}
        assert "attack 4 missed: 3 payments looked ordinary to the model" in outcome(attack(), decisions, now=NOW)

    def test_payments_without_a_decision_are_not_called_missed(self) -> None:
        assert "waits: 2 of 3 payments have no decision yet" in outcome(attack(), {"r-attack-4-1": "allow"}, now=NOW)


class TestTour:
    def test_it_has_eight_steps_whose_commands_exist(self) -> None:
        steps = tour(
            home=Path(".fraud/demo"),
            fraud_detect="fraud-detect",
            python="python",
            urls=dict.fromkeys(("dashboard", "dagster", "mlflow", "service"), "http://127.0.0.1:1"),
            database=".fraud/demo/synthetic.db",
            consumer=12,
        )
        assert len(steps) == 8
        commands = [command for step in steps for command in step.commands]
        ours = [match for command in commands for match in re.findall(r"fraud-detect ([^)\n\"]*)", command)]
        assert len(ours) >= 5
        for arguments in ours:
            build_parser().parse_args(shlex.split(arguments))
        assert all("FRAUD_HOME=.fraud/demo fraud-detect" in command for command in commands if "fraud-d" in command)

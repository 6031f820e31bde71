"""The command `fraud-detect demo`: the whole system on this machine, with live traffic and attacks.

Belongs here: the order of the steps, signals, the summary. Must not be here: the services (`demo_services.py`), texts
(`demo_words.py`), which rows are played (`generator/live.py`).
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic_core import to_json

from fraud_pipeline.cli.demo_home import prepare_demo_home
from fraud_pipeline.cli.demo_services import WITH_URL, Ports, broker_service, services
from fraud_pipeline.cli.demo_tour import tour
from fraud_pipeline.cli.demo_training import bring_up_to_date, train_if_needed
from fraud_pipeline.cli.demo_words import addresses, announcement, noticed_payments, outcome
from fraud_pipeline.cli.supervisor import ServiceEndedError, Supervisor
from fraud_pipeline.database import Database
from fraud_pipeline.database.overview import count_alerts, read_decisions, read_traffic
from fraud_pipeline.generator.live import Attack
from fraud_pipeline.messaging.topics import KafkaSettings, load_kafka_settings
from fraud_pipeline.settings import Settings, home_directory, load_settings
from serving.auth.tokens import issue_token_for
from serving.stream.live_traffic import LiveTraffic

DIRECTORY: Final = "demo"
ADDRESSES_FILE: Final = "addresses.json"
"""In the demo's home, while it runs and everything answers: URLs by name, for programs."""
_FIRST_ATTACK: Final = pd.Timedelta(seconds=5)
_DECIDED_AFTER: Final = pd.Timedelta(seconds=2)
_PATIENCE: Final = pd.Timedelta(seconds=60)
"""A consumer that is stopped for the tour decides later; then the outcome is not waited for."""
_TICK_SECONDS: Final = 0.2


@dataclass(slots=True)
class _Watched:
    """The attacks so far, and those whose outcome is not told yet."""

    ended: list[tuple[Attack, int]] = field(default_factory=list)
    open: list[Attack] = field(default_factory=list)


def demo(arguments: argparse.Namespace) -> int:
    """Run everything until Ctrl+C, SIGTERM or the end of --seconds."""
    home = (arguments.home or home_directory() / DIRECTORY).resolve()
    ports = Ports.free() if arguments.free_ports else Ports()
    ports.check()
    # Its warnings about slow moments of a busy machine would stand between the announcements.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    output = sys.stdout
    with redirect_stdout(sys.stderr if arguments.json else sys.stdout), _signals():
        try:
            result = _run(home, ports, arguments=arguments)
        except KeyboardInterrupt:
            _say("Everything is stopped.")
            return 0
        except ServiceEndedError as error:
            print(f"fraud-detect: {error}", file=sys.stderr)
            return 1
    if arguments.json:
        print(to_json(result, indent=2).decode(), file=output)
    return 0


def _run(home: Path, ports: Ports, *, arguments: argparse.Namespace) -> dict[str, Any]:
    begun, run = datetime.now(UTC), f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    prepare_demo_home(home, settings=_settings(ports, run=run), environment=os.environ)
    trained = train_if_needed(
        load_settings(), transactions=arguments.transactions, n_trials=arguments.n_trials, on_progress=_say
    )
    settings = load_settings()  # the training chose the first day of the world
    bring_up_to_date(settings, today=datetime.now(UTC).date(), on_progress=_say)
    kafka, started = load_kafka_settings(), time.monotonic()
    with ExitStack() as stack:
        running = stack.enter_context(Supervisor(home / "logs", os.environ | {"PYTHONUNBUFFERED": "1"}))
        _say(f"Starting broker, service, consumer, dashboard, MLflow and Dagster; their logs are in {home / 'logs'}")
        running.start(broker_service(ports, kafka))
        running.wait_until_ready()
        traffic = stack.enter_context(LiveTraffic.opened(settings, kafka, run=run))
        for service in services(ports):
            running.start(service)
        now = pd.Timestamp.now(tz="UTC")
        sent = traffic.send_today_so_far(now=now)
        running.wait_until_ready()
        seconds, urls = time.monotonic() - started, {name: ports.url(name) for name in WITH_URL}
        stack.enter_context(_written(home / ADDRESSES_FILE, to_json(urls)))
        _say(f"Ready after {seconds:.0f} s. The {sent:,} payments since midnight (UTC) went to the consumer.\n")
        _introduce(settings, kafka, urls, running=running)
        database = stack.enter_context(closing(Database(settings.database)))
        watched = _play(traffic, running, database, seconds=arguments.seconds)
        return {
            "home": str(home),
            "trained": trained,
            "seconds_until_ready": round(seconds, 1),
            "urls": urls,
            "sent": traffic.sent,
            "decisions": int(read_traffic(database, start=pd.Timestamp(begun))["decisions"].sum()),
            "alerts": count_alerts(database),
            "attacks": [_fields(attack, noticed=noticed) for attack, noticed in watched.ended]
            + [_fields(attack, noticed=None) for attack in watched.open],
        }


def _settings(ports: Ports, *, run: str) -> dict[str, str]:
    """The settings of this start. The broker forgets everything, so that each start has topics of its own."""
    topics = {name: field.default for name, field in KafkaSettings.model_fields.items() if name.endswith("_topic")}
    return {
        "FRAUD_KAFKA_BOOTSTRAP_SERVERS": ports.broker_address,
        "FRAUD_SERVICE_URL": ports.url("service"),
        **{f"FRAUD_KAFKA_{name.upper()}": f"{topic}-{run}" for name, topic in topics.items()},
    }


def _introduce(settings: Settings, kafka: KafkaSettings, urls: Mapping[str, str], *, running: Supervisor) -> None:
    """Print addresses, token and tour."""
    token = issue_token_for(settings, subject="demo", scopes={"score", "feedback", "admin"}, lifetime=timedelta(days=1))
    print(*addresses(urls), f"  Kafka broker on {kafka.bootstrap_servers}, topic {kafka.transactions_topic}", sep="\n")
    print(f"\nToken to log in to the dashboard, valid for a day:\n{token}\n")
    print("A tour in eight steps; paste its commands into a second terminal, in this directory.")
    steps = tour(
        home=_displayed(settings.home),
        fraud_detect=str(_displayed(Path(sys.executable).with_name("fraud-detect"))),
        python=str(_displayed(Path(sys.executable))),
        urls=urls,
        database=str(_displayed(Path(settings.database.removeprefix("sqlite:///")))),
        consumer=running.pid("consumer"),
    )
    for number, step in enumerate(steps, start=1):
        print(*step.lines(number), sep="\n")
    print("\nLive traffic (times are UTC). Ctrl+C stops everything.", flush=True)


def _play(traffic: LiveTraffic, running: Supervisor, database: Database, *, seconds: float | None) -> _Watched:
    """Send live traffic until the time is over. Raises ServiceEndedError when a service ends."""
    now = pd.Timestamp.now(tz="UTC")
    traffic.begin(now=now, first_attack=now + _FIRST_ATTACK)
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    watched = _Watched()
    while time.monotonic() < deadline:
        running.check()
        now = pd.Timestamp.now(tz="UTC")
        for attack in traffic.send_due(now=now):
            _say(announcement(attack))
            watched.open.append(attack)
        for attack in [attack for attack in watched.open if attack.ends + _DECIDED_AFTER <= now]:
            decisions = read_decisions(database, attack.transactions["transaction_id"].tolist())
            if len(decisions) < len(attack.transactions) and now < attack.ends + _PATIENCE:
                continue
            _say(outcome(attack, decisions, now=now))
            watched.open.remove(attack)
            watched.ended.append((attack, len(noticed_payments(attack, decisions))))
        time.sleep(_TICK_SECONDS)
    return watched


def _fields(attack: Attack, *, noticed: int | None) -> dict[str, Any]:
    """An attack in the summary; `noticed` is None while it goes on."""
    return {
        "kind": attack.kind,
        "customer_id": attack.customer_id,
        "begins": attack.begins.isoformat(),
        "payments": len(attack.transactions),
        "noticed_payments": noticed,
    }


def _displayed(path: Path) -> Path:
    """A path as short as the working directory allows, for lines that a person pastes."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[None]:
    """A file that is there, and whole, until the block ends."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and the end of the terminal act as Ctrl+C does, so that every block is left in order.

    A second signal shortens the wait for services; further ones are ignored, so that none outlives us.
    """
    arrived: list[int] = []

    def stop(number: int, _frame: object) -> None:
        arrived.append(number)
        if len(arrived) == 1:
            _say("\nStopping everything ...")
        if len(arrived) <= 2:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

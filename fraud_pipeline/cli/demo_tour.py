"""The guided tour of the demo: eight things to do, what to see, and the commands for it.

Belongs here: texts for a person. Must not be here: announcements (`demo_words.py`), what happens (`demo_command.py`).
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Final

LOCK_SECONDS: Final = 30
_WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `commands` are pasted into a second terminal."""

    title: str
    text: str
    commands: Sequence[str] = ()

    def lines(self, number: int) -> list[str]:
        """The step as it is printed."""
        text = fill(f"{self.title}. {self.text}", _WIDTH, initial_indent=f"{number}. ", subsequent_indent="   ")
        return [text, *(f"     {command}" for command in self.commands)]


def tour(
    *, home: Path, fraud_detect: str, python: str, urls: Mapping[str, str], database: str, consumer: int
) -> list[Step]:
    """The steps.

    Args:
        home: the demo's home directory, as a person would write it.
        fraud_detect: the command of this installation.
        python: its interpreter.
        urls: of dashboard, dagster, mlflow and service.
        database: path of the SQLite file.
        consumer: process id of the consumer.

    """
    command = f"FRAUD_HOME={shlex.quote(str(home))} {fraud_detect}"
    lock = (
        "import sqlite3, sys, time; locking = sqlite3.connect(sys.argv[1]); locking.execute('BEGIN IMMEDIATE'); "
        f"time.sleep({LOCK_SECONDS})"
    )
    return [
        Step(
            "See an attack become an alert",
            f"Open {urls['dashboard']} and log in with the token above. Wait for an attack in this terminal, then "
            "press Refresh on the page Alerts: among the newest is the customer of the attack.",
        ),
        Step(
            "Open the alert",
            "Press Take the next. You see the payment, the reasons of the decision, and what else the customer bought.",
        ),
        Step("Resolve it", "Press Fraud or Legitimate. Your verdict is stored as the payment's label."),
        Step(
            "Ask for a decision yourself",
            "This sends a payment over HTTP. The answer has the decision, the probability and the reasons:",
            (_request(command, urls["service"]),),
        ),
        Step(
            "Stop the consumer",
            "Its lag grows on the page Stream, and the HTTP service answers all the same. The second command lets it "
            "go on: it decides on everything that waited, each payment once.",
            (f"kill -STOP {consumer}", f"kill -CONT {consumer}"),
        ),
        Step(
            "Take the database away",
            f"This locks it for {LOCK_SECONDS} seconds. Repeat step 4 meanwhile: the answer is provisional, and it "
            "says who decided and what was missing. The consumer waits, and loses nothing.",
            (f'{python} -c "{lock}" {shlex.quote(database)}',),
        ),
        Step(
            "Look for drift, then retrain",
            "The pages Drift, Performance and Missed fraud judge the last 21 days. A training takes minutes; its run "
            f"is in MLflow ({urls['mlflow']}) and in Dagster ({urls['dagster']}).",
            (f"{command} train",),
        ),
        Step(
            "Change the model, and roll back",
            "The page Models has every version and a button to roll back. The service changes within seconds:",
            (f"{command} models", f"{command} promote 2 --reason tour", f"{command} rollback --reason tour"),
        ),
    ]


def _request(command: str, service: str) -> str:
    body = (
        """{"transaction_id": "tour-'$(date +%s)'", "event_time": "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'", """
        """"customer_id": "tour", "merchant_id": "m-1", "amount": 129.90, "currency": "EUR", "channel": "online"}"""
    )
    token = f'"Authorization: Bearer $({command} token --subject tour)"'
    return f"curl -s {service}/score -H {token} -H 'Content-Type: application/json' -d '{body}'"

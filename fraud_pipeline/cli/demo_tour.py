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
            f"Open {urls['dashboard']} and log in with the token above. Wait until this terminal says that an attack "
            "was noticed. Then choose Traffic and Alerts again: The queue lists its customer.",
        ),
        Step(
            "Open the alert",
            "Click its row in the queue, and press Take it. You see the payment, the reasons of the decision, "
            "and what else the customer bought.",
        ),
        Step("Resolve it", "Press Fraud or Legitimate. Your verdict is stored as the payment's label."),
        Step(
            "Ask for decisions yourself",
            "This sends six payments of one card within seconds, over HTTP. The last answers are review, with reasons:",
            (f"TOKEN=$({command} token --subject tour)", _requests(urls["service"])),
        ),
        Step(
            "Stop the consumer",
            "Its lag grows on the page Stream, and the HTTP service answers all the same. The second command lets it "
            "go on: it decides on everything that waited, each payment once.",
            (f"kill -STOP {consumer}", f"kill -CONT {consumer}"),
        ),
        Step(
            "Take the database away",
            f"This locks it for {LOCK_SECONDS} seconds. Repeat the second line of step 4 meanwhile: the answer is a "
            "provisional decision (decided_by fail_safe), and nothing is stored. The consumer waits and loses nothing.",
            (f'{python} -c "{lock}" {shlex.quote(database)}',),
        ),
        Step(
            "Look for drift, then retrain",
            "The pages Drift, Performance and Missed fraud judge the last 3 days. A training takes minutes; its run "
            f"is in MLflow ({urls['mlflow']}) and in Dagster ({urls['dagster']}).",
            (f"{command} train --n-trials 3",),
        ),
        Step(
            "Change the model, and roll back",
            "The page Models has every version and a button to roll back. The service changes within seconds:",
            (f"{command} models", f"{command} rollback --reason tour", f"{command} promote 2 --reason tour"),
        ),
    ]


def _requests(service: str) -> str:
    body = (
        """{"transaction_id": "tour-'$(date +%s)'", "event_time": "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'", """
        """"customer_id": "tour", "merchant_id": "m-1", "amount": 129.90, "currency": "EUR", "channel": "online"}"""
    )
    headers = '-H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
    return f"for n in 1 2 3 4 5 6; do curl -s {service}/score {headers} -d '{body}'; echo; sleep 1; done"

"""The words of the demo: attacks and how they ended, addresses.

Belongs here: texts for a person. Must not be here: the guided tour (`demo_tour.py`), what happens (`demo_command.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from fraud_pipeline.generator.live import Attack

ATTACKS: Final[Mapping[str, str]] = {
    "card_testing": "a thief tests a stolen card number with small payments, then shops online",
    "stolen_number": "a stolen card number is used online",
    "skimmed_terminal": "a copied card is used in shops far from home",
    "account_takeover": "a thief logs in to an account and moves its money",
    "lost_card": "a lost card is used in shops nearby",
    "payment_scam": "a customer is talked into a transfer",
    "wallet_theft": "a card in a thief's phone is used in shops",
}


def announcement(attack: Attack) -> str:
    """The line when an attack begins: time, what, where, who."""
    rows = attack.transactions
    merchants = rows["merchant_id"].nunique()
    seconds = (attack.ends - attack.begins).total_seconds()
    size = f"{_counted(len(rows), 'payment')} at {_counted(merchants, 'merchant')}, {rows['amount'].sum():,.2f} in all"
    duration = f", over {seconds:.0f} s" if len(rows) > 1 else ""
    what = f"attack {attack.number}: {ATTACKS[attack.kind]}"
    return f"{_clock(attack.begins)}  {what} ({size}{duration}): customer {attack.customer_id}"


def noticed_payments(attack: Attack, decisions: Mapping[str, str]) -> list[int]:
    """The payments of an attack that were not allowed, counted from 1."""
    ids = attack.transactions["transaction_id"]
    return [number for number, id_ in enumerate(ids, start=1) if decisions.get(id_) in ("review", "block")]


def outcome(attack: Attack, decisions: Mapping[str, str], *, now: pd.Timestamp) -> str:
    """The line when all payments of an attack are decided on, also for an attack that nothing noticed."""
    size = len(attack.transactions)
    ids = attack.transactions["transaction_id"]
    undecided = sum(id_ not in decisions for id_ in ids)
    noticed = noticed_payments(attack, decisions)
    if undecided:
        result = f"waits: {undecided} of {_counted(size, 'payment')} have no decision yet"
    elif noticed:
        blocked = sum(decisions[id_] == "block" for id_ in ids)
        how = f"{len(noticed) - blocked} sent to review, {blocked} blocked"
        result = f"noticed at payment {noticed[0]} of {size} ({how})"
    else:
        result = f"missed: {_counted(size, 'payment')} looked ordinary to the model"
    return f"{_clock(now)}  attack {attack.number} {result}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clock(moment: pd.Timestamp) -> str:
    return f"{moment:%H:%M:%S}"


def addresses(urls: Mapping[str, str]) -> Sequence[str]:
    """One line for each service with a page or an API."""
    names = {
        "dashboard": "dashboard (alerts, traffic, drift, models)",
        "dagster": "Dagster (assets, runs, schedules)",
        "mlflow": "MLflow (trainings, models)",
        "service": "HTTP API (POST /score)",
    }
    width = max(map(len, names.values())) + 2
    return [f"  {text:<{width}}{urls[name]}" for name, text in names.items()]

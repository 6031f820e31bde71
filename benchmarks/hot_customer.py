"""Measures how a busy customer id with 300,000 events in 30 days slows down other customers.

    python benchmarks/hot_customer.py [--events N] [--rate N] [--seconds N] [--rounds N]

Two HTTP workers over PostgreSQL answer requests of ordinary customers at a steady rate. Rounds without and with the
busy customer alternate in one run, because a shared machine changes by the minute; figures are medians of the rounds.
The first round with the busy customer contains its first request to each worker and is reported separately. Prints a
line for each round, and as its last line one JSON object.
"""

import sys
from pathlib import Path

# A file in this directory has the name of a module of the standard library, which other packages must find first.
sys.path.append(sys.path.pop(0))
# Servers are started by helpers of the tests, which an installation leaves out.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# isort: split
import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fraud_pipeline.promotion.published_model import publish  # before XGBoost: it decides how its threads wait

# isort: split
import load
import numpy as np
import pandas as pd
from stream import LABEL_MATURITY, build_world, postgresql

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.features.engineer import FeatureEngineer
from fraud_pipeline.messaging.topics import transaction_message
from fraud_pipeline.schema.transactions import DAY, TRANSACTION_COLUMNS, TransactionRow, now_microseconds, times
from fraud_pipeline_tests.support.services import start, stop

CUSTOMERS: Final = 2_000
HOT: Final = "guest"
HOT_RATE: Final = 6.0
"""Requests a second of the busy customer: fifty times its average, as in a peak."""


@dataclass(frozen=True, slots=True)
class Round:
    """The outcomes of ordinary requests and of the busy customer's."""

    ordinary: load.Outcome
    hot: load.Outcome

    def __str__(self) -> str:
        refused = self.ordinary.answered - len(self.ordinary.seconds.get(200, ()))
        line = f"others p50 {self.ordinary.milliseconds(0.5):.1f} p99 {self.ordinary.milliseconds(0.99):.1f} ms"
        line += f", {refused} refused" if refused else ""
        return f"{line}, busy customer p99 {self.hot.milliseconds(0.99):.1f} ms" if self.hot.answered else line


def hot_events(number: int) -> pd.DataFrame:
    """The busy customer's accepted transactions, spread over 30 days that end now."""
    generator = np.random.default_rng(5)
    moments = now_microseconds() - np.sort(generator.integers(1, 30 * DAY, number))[::-1]
    rows = pd.DataFrame(dict.fromkeys(TRANSACTION_COLUMNS), index=range(number)).astype(object)
    return rows.assign(
        transaction_id=[f"hot-{position}" for position in range(number)],
        event_time=times(moments),
        customer_id=HOT,
        merchant_id=[f"hot-m{merchant}" for merchant in generator.integers(0, 30, number)],
        amount_cents=generator.integers(500, 20_000, number),
        latitude=np.nan,
        longitude=np.nan,
    )


def requests(rows: Iterator[TransactionRow], *, token: str) -> Iterator[bytes]:
    """Requests that score these transactions, made when they are sent."""
    for row in rows:
        message = json.loads(transaction_message(row, currency="EUR").value or b"")
        message.pop("schema")
        yield load.prepared("POST", "/score", body=json.dumps(message).encode(), token=token)


def hot_rows() -> Iterator[TransactionRow]:
    """Transactions of the busy customer, with the time at which they are taken."""
    run = now_microseconds()
    position = 0
    while True:
        position += 1
        yield TransactionRow(f"{HOT}-{run}-{position}", now_microseconds(), HOT, f"hot-m{position % 30}", 1_000)


async def measure(
    port: int, usual: Iterator[bytes], hot: Iterator[bytes], arguments: argparse.Namespace
) -> list[tuple[Round, Round]]:
    """Alternate rounds without and with the busy customer."""
    rounds: list[tuple[Round, Round]] = []
    seconds = arguments.seconds
    for _ in range(arguments.rounds + 1):
        client = load.Client(port)
        normal = Round(await load.open_loop(client, usual, rate=arguments.rate, seconds=seconds), load.Outcome())
        print(f"without: {normal}", flush=True)
        ordinary, busy = await asyncio.gather(
            load.open_loop(client, usual, rate=arguments.rate, seconds=seconds),
            load.open_loop(client, hot, rate=HOT_RATE, seconds=seconds),
        )
        beside = Round(ordinary, busy)
        print(f"beside:  {beside}", flush=True)
        rounds.append((normal, beside))
        client.close()
    return rounds


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load both histories, serve, measure."""
    print("building a world and a model ...", flush=True)
    world = build_world(customers=CUSTOMERS)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-hot-")))
        url = stack.enter_context(postgresql())
        world.model.save(home / "model")
        publish(home / "model", link=home / "champion")
        with closing(Database(url, statement_timeout=timedelta(minutes=5))) as database:
            database.upgrade()
            load_history(database, transactions=world.transactions, reports=world.reports)
            load_history(database, transactions=hot_events(arguments.events), reports=world.reports.iloc[:0])
            refresh_merchant_days(
                database,
                now=pd.Timestamp.now(tz="UTC"),
                lookback=FeatureEngineer(label_maturity=LABEL_MATURITY).lookback,
                label_maturity=LABEL_MATURITY,
            )
        server = start(home, FRAUD_DATABASE_URL=url, FRAUD_HTTP_WORKERS="2")
        stack.callback(stop, server)
        port = int(server.url.rsplit(":", 1)[1])
        ordinary = requests(world.rows(), token=server.token)
        hot = requests(hot_rows(), token=server.token)
        rounds = asyncio.run(measure(port, ordinary, hot, arguments))
    first, later = rounds[0], rounds[1:]
    normal = float(np.median([quiet.ordinary.milliseconds(0.99) for quiet, _ in later]))
    beside = float(np.median([busy.ordinary.milliseconds(0.99) for _, busy in later]))
    return {
        "normal_p99_ms": round(normal, 1),
        "beside_hot_p99_ms": round(beside, 1),
        "ratio": round(beside / normal, 2),
        "first_meeting_p99_ms": round(first[1].ordinary.milliseconds(0.99), 1),
        "hot_p99_ms": round(float(np.median([busy.hot.milliseconds(0.99) for _, busy in later])), 1),
        "hot_events": arguments.events,
    }


def main() -> None:
    """Measure and print."""
    described = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    described.add_argument("--events", type=int, default=300_000, help="of the busy customer, in 30 days")
    described.add_argument("--rate", type=float, default=60, help="ordinary requests a second")
    described.add_argument("--seconds", type=float, default=12, help="of a round")
    described.add_argument("--rounds", type=int, default=3, help="pairs of rounds after the first pair")
    print(json.dumps(run(described.parse_args())))


if __name__ == "__main__":
    main()

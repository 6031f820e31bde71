"""What FastAPI would cost in place of our own dispatch: the whole service in one process, with either in its middle.

    python benchmarks/routers.py [--requests N]

Guard, parsing, scoring by rules and a SQLite database are the service's own in both cases. FastAPI gets the same
handlers at the same paths with the same models of the answers, and is mounted where our application stands. It is
spared the parsing of requests, so this is the least that it costs. Requests are sent past the network, in turns: 100
one at a time, for the latency, then 100 at once, for the throughput. Prints one JSON object of medians.
"""

import sys

# benchmarks/http.py is called like a module of the standard library, which others must find first.
sys.path.append(sys.path.pop(0))

# isort: split

import argparse
import asyncio
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette import types as asgi

from fraud_pipeline.settings import Settings
from serving.auth.tokens import issue_token_for
from serving.http.answers import BatchOut, DecisionOut, FeedbackOut, ModelOut
from serving.http.endpoints import Endpoints
from serving.service import Runtime

TURN: Final = 100
COMPANY: Final = 100


class WithFastAPI(Endpoints):
    """The same handlers behind FastAPI's router, which checks their answers against the models and writes the JSON."""

    def application(self) -> asgi.ASGIApp:
        app = FastAPI()

        async def score(request: Request) -> Any:
            return json.loads(bytes((await self.score(request)).body))

        app.post("/score", response_model=DecisionOut)(score)
        app.post("/score_batch", response_model=BatchOut)(self.score_batch)
        app.post("/feedback", response_model=FeedbackOut)(self.feedback)
        app.get("/decisions/{transaction_id:path}", response_model=DecisionOut)(self.decision)
        app.get("/model", response_model=ModelOut)(self.model)
        app.get("/metrics")(self.measurements)
        return app


def bodies() -> Iterator[bytes]:
    """Bodies of /score, each of another customer."""
    for number in count():
        yield json.dumps(
            {
                "transaction_id": f"{time.time_ns()}-{number}",
                "event_time": datetime.now(UTC).isoformat(),
                "customer_id": f"c-{number % 5_000}",
                "merchant_id": f"m-{number % 100}",
                "amount": 19.99,
                "currency": "EUR",
                "category": "electronics",
                "channel": "online",
                "country": "DE",
            }
        ).encode()


async def post(app: asgi.ASGIApp, body: bytes, token: bytes) -> None:
    """One request, which must be answered well."""
    status = 0

    async def receive() -> asgi.Message:
        return {"type": "http.request", "body": body}

    async def send(message: asgi.Message) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [(b"authorization", b"Bearer " + token), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    if status != 200:
        raise SystemExit(f"/score answered {status}")


async def _no_app(*_: object) -> None:
    """Takes the place of BentoML's application and is never called."""


async def measure(apps: dict[str, asgi.ASGIApp], token: bytes, *, requests: int) -> dict[str, float]:
    """Medians by application: milliseconds of a request that is alone, and requests per processor second in company."""
    sent = bodies()
    alone: dict[str, list[float]] = {name: [] for name in apps}
    rates: dict[str, list[float]] = {name: [] for name in apps}
    for turn in range(requests // TURN + 1):
        for name, app in apps.items():
            made = [next(sent) for _ in range(TURN + COMPANY)]
            for body in made[:TURN]:
                started = time.perf_counter()
                await post(app, body, token)
                alone[name].append(1e3 * (time.perf_counter() - started))
            before = time.process_time()
            await asyncio.gather(*(post(app, body, token) for body in made[TURN:]))
            rates[name].append(COMPANY / (time.process_time() - before))
            if not turn:  # the first turn warms up
                alone[name].clear()
                rates[name].clear()
    return {f"{name}_p50_ms": round(statistics.median(alone[name]), 3) for name in apps} | {
        f"{name}_per_cpu_second": round(statistics.median(rates[name])) for name in apps
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2_000, help="of each application")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(home=Path(directory), rate_limit_per_second=1_000_000)
        token = issue_token_for(settings, subject="benchmark", scopes=["score"], lifetime=timedelta(hours=1)).encode()
        runtime = Runtime(settings)
        runtime.start()
        ours = runtime.application(_no_app)
        fields = {field.name: getattr(runtime.endpoints, field.name) for field in dataclasses.fields(Endpoints)}
        runtime.endpoints = WithFastAPI(**fields)
        apps = {"ours": ours, "fastapi": runtime.application(_no_app)}

        async def story() -> dict[str, float]:
            try:
                return await measure(apps, token, requests=arguments.requests)
            finally:
                await runtime.close()

        figures = asyncio.run(story())
    figures["added_p50_ms"] = round(figures["fastapi_p50_ms"] - figures["ours_p50_ms"], 3)
    figures["throughput_lost"] = round(1 - figures["fastapi_per_cpu_second"] / figures["ours_per_cpu_second"], 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

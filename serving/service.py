"""The HTTP service: `bentoml serve serving.service:FraudDetection`, or `fraud-detect serve`.

Belongs here: assembly, start and stop. Must not be here: any rule.

A request passes `http/draining.py` (closes connections at shutdown), `http/request_context.py` (request id),
`http/measured.py` (counts), `http/guard.py` (limits, token, scopes), `http/endpoints.py` (body to row),
`http/batching.py` (micro-batch), `runtime/resilience.py` (mode), `fraud_pipeline/scoring/scorer.py` (one database
transaction) and `http/answers.py` (JSON), in this order.

BentoML runs the workers, the lifespan and the health probes. Requests bypass its routing and middlewares, because these
cost as much as scoring.
"""

import gc
import logging
import sys
from functools import partial
from typing import Any, ClassVar, Final

import bentoml
from starlette import types as asgi

from fraud_pipeline.database import DatabaseUnavailableError, DatabaseUnsuitableError
from fraud_pipeline.database.urls import read_url
from fraud_pipeline.host.logs import configure_logging
from fraud_pipeline.host.tracing import start_tracing
from fraud_pipeline.schema.transactions import TransactionRow, now_microseconds
from fraud_pipeline.scoring.decide import provisional_decisions
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.errors import StorageUnavailableError
from fraud_pipeline.settings import Settings, in_one_line, load_settings
from serving.auth.keys import open_keys
from serving.auth.tokens import TokenVerifier
from serving.http.batching import MicroBatcher
from serving.http.draining import Draining
from serving.http.endpoints import Endpoints
from serving.http.guard import PATHS, guarded
from serving.http.limits import RateLimiter
from serving.http.measured import MeasuredRequests
from serving.http.request_context import RequestContext
from serving.http.requests import RequestParser
from serving.http.routes import Routes
from serving.http.scoring_requests import ScoringRequest, score_requests
from serving.runtime.prometheus_metrics import Metrics
from serving.runtime.scoring_runtime import ScoringRuntime

log: Final = logging.getLogger(__name__)
# `fraud-detect serve` says where the service listens, and the probes say when; BentoML would repeat it for each worker.
logging.getLogger("bentoml").setLevel(logging.WARNING)


def _settings() -> Settings:
    """The settings; a wrong one ends the program with one line, as it ends `fraud-detect serve`."""
    try:
        settings = load_settings()
        read_url(settings.database)
    except ValueError as error:
        raise SystemExit(f"serving.service: {in_one_line(error)}") from None
    return settings


_SETTINGS: Final = _settings()


class Runtime:
    """Everything that one worker process holds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = False
        self._stop_tracing = start_tracing()
        self._metrics = metrics = Metrics()
        self._scoring = scoring = ScoringRuntime(settings, metrics=metrics)
        self._batcher = MicroBatcher[ScoringRequest, ScoringResult | Conflict](
            partial(score_requests, scoring.scorer),
            max_rows=settings.max_micro_batch,
            together=(StorageUnavailableError,),
            on_wait=lambda seconds: metrics.stage("queue", seconds),
        )
        self._rate_limiter = RateLimiter(
            per_second=settings.rate_limit_per_second,
            storage=settings.rate_limit_storage,
            on_storage_failure=metrics.limiter_failed,
        )
        self.endpoints = Endpoints(
            parser=RequestParser(
                currency=settings.currency,
                max_batch=settings.max_batch_transactions,
                declared=scoring.declared_own_fields,
                conversion=scoring.conversion,
                personal=scoring.personal_fields,
            ),
            batcher=self._batcher,
            records=scoring.scorer,
            champion=scoring.champion.current,
            shadow=scoring.shadow_report,
            metrics=metrics.exposition,
        )

    def application(self, bentoml_app: asgi.ASGIApp) -> asgi.ASGIApp:
        """The whole service; BentoML's application gets its lifespan and the open paths."""
        settings, metrics = self._settings, self._metrics
        service = guarded(
            self.endpoints.application(),
            open_app=bentoml_app,
            verifier=TokenVerifier(open_keys(settings), issuer=settings.jwt_issuer, audience=settings.jwt_audience),
            rate_limiter=self._rate_limiter,
            max_body_bytes=settings.max_body_bytes,
            max_in_flight=settings.max_in_flight,
            on_refusal=metrics.refused,
        )
        routes = Routes([path for _, path in PATHS])
        return RequestContext(MeasuredRequests(service, metrics=metrics, routes=routes), routes=routes)

    def start(self) -> None:
        """Once, before the first request."""
        self._scoring.start()
        self.is_ready()
        # Compiles what the first request would otherwise wait for.
        provisional_decisions([TransactionRow("", now_microseconds(), "", "", 1)])
        # A thread waits up to this long for another to give up the interpreter: the event loop must not wait 5 ms.
        sys.setswitchinterval(0.0005)
        # What is loaded by now lives as long as the process: collections need not walk it again.
        gc.collect()
        gc.freeze()

    def is_ready(self) -> bool:
        """False until the database is usable; then true for good, since without it there still is an answer."""
        if not self._ready:
            try:
                self._scoring.database.prepare()
            except (DatabaseUnavailableError, DatabaseUnsuitableError) as error:
                log.warning("not ready: %s", error)
                return False
            self._ready = True
        return self._ready

    async def close(self) -> None:
        """Answer what waits, then give everything back."""
        await self._batcher.close()
        await self._rate_limiter.close()
        self._scoring.close()
        self._stop_tracing()


class GuardedService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML ships no types of it
    """A BentoML service whose requests go to our application; BentoML's own answers only the health probes."""

    def to_asgi(self, is_main: bool = True) -> asgi.ASGIApp:  # noqa: FBT001, FBT002  # BentoML's signature
        configure_logging(_SETTINGS.log_format, _SETTINGS.log_level)
        bentoml_app: asgi.ASGIApp = super().to_asgi(is_main=is_main)
        runtime = self.inner.runtime = Runtime(_SETTINGS)
        draining = self.inner.draining = Draining(runtime.application(bentoml_app))
        return draining


@bentoml.service(
    name="fraud_detection",
    service_class=GuardedService,
    workers=_SETTINGS.http_workers,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class FraudDetection:
    """One worker."""

    runtime: ClassVar[Runtime]
    draining: ClassVar[Draining]

    def __init__(self) -> None:
        self.runtime.start()

    def __is_ready__(self) -> bool:
        return self.runtime.is_ready() and not self.draining.begun

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # as above
    async def drain_at_the_end(self) -> None:
        self.draining.install()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # as above
    async def close(self) -> None:
        await self.runtime.close()

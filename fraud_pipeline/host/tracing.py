"""OpenTelemetry spans, sent to the place that its standard environment variables name.

Belongs here: when tracing is on, and the few calls that the code makes. Must not be here: the content of spans.

Tracing is on where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set and neither
OTEL_SDK_DISABLED nor OTEL_TRACES_EXPORTER=none switches it off; the SDK reads all other variables itself. While it is
off, nothing of OpenTelemetry is imported, and a span is one shared object that does nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Literal

SpanKind = Literal["INTERNAL", "SERVER", "CONSUMER"]
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE_NAME: Final = "fraud-detect"
_NO_SPAN: Final = nullcontext()

_tracer: Any = None


def tracing_is_on() -> bool:
    """Whether `start_tracing` has switched tracing on in this process."""
    return _tracer is not None


def start_tracing(environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Switch tracing on if the environment says so; the returned function sends what remains and switches it off.

    Raises RuntimeError where OpenTelemetry's exporter is not installed.
    """
    global _tracer  # noqa: PLW0603 - tracing is a matter of the process
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or environment.get("OTEL_TRACES_EXPORTER") == "none" or not any(map(environment.get, _ENDPOINTS)):
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - see above
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeError("tracing needs its packages: pip install 'fraud-pipeline[serving]'") from error
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over this name.
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": _SERVICE_NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer(__name__)

    def stop() -> None:
        global _tracer  # noqa: PLW0603
        _tracer = None
        provider.shutdown()

    return stop


def span(
    name: str, *, kind: SpanKind = "INTERNAL", parent: Any = None, links: Iterable[Any] = ()
) -> AbstractContextManager[Any]:
    """A span around a block; the block gets the span, or None while tracing is off.

    `parent` and `links` are results of `current_span` or `remote_span`, or None; without a parent it is the span that
    surrounds the block. Errors are recorded by their type only, since their texts may hold values.
    """
    return _NO_SPAN if _tracer is None else _recorded(name, kind=kind, parent=parent, links=links)


@contextmanager
def _recorded(name: str, *, kind: SpanKind, parent: Any, links: Iterable[Any]) -> Iterator[Any]:
    from opentelemetry import trace  # noqa: PLC0415 - loaded by now

    with _tracer.start_as_current_span(
        name,
        context=None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent)),
        kind=trace.SpanKind[kind],
        links=[trace.Link(link) for link in links if link is not None],
        record_exception=False,
        set_status_on_exception=False,
    ) as started:
        try:
            yield started
        except BaseException as error:
            started.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def current_span() -> Any:
    """The context of the present span, for `span` in another thread; None while tracing is off."""
    if _tracer is None:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - loaded by now

    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def remote_span(traceparent: bytes | None) -> Any:
    """The context of another process's span, from a traceparent header; None without one or while off."""
    if _tracer is None or not traceparent:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - loaded by now
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent.decode("latin-1")})
    remote = trace.get_current_span(context).get_span_context()
    return remote if remote.is_valid else None


def traceparent_of(span_context: Any) -> str:
    """The header by which another process continues this span."""
    return f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-{span_context.trace_flags:02x}"

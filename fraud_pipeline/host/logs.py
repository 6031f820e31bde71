"""Log lines of every process: text or JSON, from one level on, with the id of the request that they belong to.

Belongs here: the format of a line, and the id of the present request. Must not be here: the messages. A message never
holds personal data; request ids are checked at the entrance (`serving/request_ids.py`).
"""

import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@dataclass(frozen=True, slots=True)
class RequestIds:
    """Which request this is, and which distributed trace it belongs to; an empty text where it belongs to none."""

    request_id: str
    trace_id: str = ""


_SERVERS: Final = ("bentoml", "uvicorn", "circus", "streamlit")

REQUEST: Final[ContextVar[RequestIds | None]] = ContextVar("request", default=None)
"""The request that the running code answers; threads started with `asyncio.to_thread` inherit it."""


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Make every logger of this process write lines of this format to stderr, from this level on.

    Servers that run us give loggers handlers of their own: those are taken away, so that all lines have one shape.
    """
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for other in root.handlers[:]:
        if type(other) is logging.StreamHandler or isinstance(other, StderrHandler):
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level)
    for name, logger in root.manager.loggerDict.items():
        if name.partition(".")[0] in _SERVERS and isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)


class TextFormatter(logging.Formatter):
    """`WARNING serving.service: message [request 7f3a]`."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s%(request)s")

    def format(self, record: logging.LogRecord) -> str:
        request = REQUEST.get()
        record.request = f" [request {request.request_id}]" if request else ""
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message; request_id, trace_id and exception where there are."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = REQUEST.get()
        if request:
            line["request_id"] = request.request_id
            if request.trace_id:
                line["trace_id"] = request.trace_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)

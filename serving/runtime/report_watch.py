"""Watches the reports about the champion for Prometheus: reads the newest verdicts from the database now and then.

Belongs here: the interval, and tolerance of a database that is away. Must not be here: what is red
(`fraud_pipeline/defs/` stores that), the metric (`prometheus_metrics.py`).
"""

import logging
import threading
from typing import Final, Protocol

from fraud_pipeline.database import Database, DatabaseUnavailableError
from fraud_pipeline.database.verdicts import ReportName, newest_verdicts

LOOK_EVERY: Final = 60.0
"""Seconds; a report comes once a day."""
_PATIENCE: Final = 5.0

log: Final = logging.getLogger(__name__)


class OnVerdict(Protocol):
    """Gets the verdict of the newest report of each kind."""

    def __call__(self, report: ReportName, *, red: bool) -> None: ...


class ReportWatch:
    """A thread that reads, for each kind of report, whether the newest is red."""

    def __init__(self, database: Database, *, on_verdict: OnVerdict, every: float = LOOK_EVERY) -> None:
        self._database = database
        self._on_verdict = on_verdict
        self._every = every
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="report-watch", daemon=True)

    def start(self) -> None:
        """Start reading, now and then every interval, outside the caller's thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; the database may be closed after this."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=_PATIENCE)

    def look(self) -> None:
        """Pass on the verdicts stored now; while the database is away, the last ones stay."""
        try:
            verdicts = newest_verdicts(self._database)
        except Exception as error:  # noqa: BLE001 - the thread must survive any error and read again
            if not self._away:
                why = error if isinstance(error, DatabaseUnavailableError) else type(error).__name__
                log.warning("reports about the champion cannot be looked up: %s", why)
            self._away = True
            return
        self._away = False
        for verdict in verdicts:
            self._on_verdict(verdict.report, red=verdict.red)

    def _watch(self) -> None:
        self.look()
        while not self._stop.wait(self._every):
            self.look()

"""Watches the analysts' rules: reads one row every second, and what changed when that row says so.

Belongs here: the interval, and tolerance of a database that is away. Must not be here: reading
(`fraud_pipeline/database/rules_in_force.py`), what rules do (`fraud_pipeline/policy/analyst_rules.py`).
"""

import logging
import threading
from typing import Final

from fraud_pipeline.database import Database, DatabaseUnavailableError
from fraud_pipeline.database.rules_in_force import NOT_READ, RulesInForce, read_rules
from fraud_pipeline.policy.analyst_rules import RuleSet

CHECK_EVERY: Final = 1.0
"""Seconds; a change counts everywhere after this and the time of reading it."""
_PATIENCE: Final = 5.0
_NEVER_READ: Final = RuleSet(broken={"all rules": "the database has not answered yet"})

log: Final = logging.getLogger(__name__)


class RuleWatch:
    """A thread that holds the rules in force. While the database is away, the last ones stay."""

    def __init__(self, database: Database, *, every: float = CHECK_EVERY) -> None:
        self._database = database
        self._every = every
        self._in_force: RulesInForce = NOT_READ
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rule-watch", daemon=True)

    def current(self) -> RuleSet | None:
        """The rules to use for one micro-batch, or None where there are none."""
        if self._in_force is NOT_READ:
            return _NEVER_READ
        rules = self._in_force.rules
        return rules if rules.rules or rules.broken else None

    def start(self) -> None:
        """Check every interval, outside the caller's thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop checking; the database may be closed after this."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=_PATIENCE)

    def check_now(self) -> None:
        """Read the rules that changed since the last check."""
        try:
            in_force = read_rules(self._database, self._in_force)
        except Exception as error:  # noqa: BLE001 - the thread must survive any error and read again
            if not self._away:
                why = error if isinstance(error, DatabaseUnavailableError) else type(error).__name__
                log.warning("analysts' rules cannot be read, the last ones stay in force: %s", why)
            self._away = True
            return
        self._away = False
        if in_force is not self._in_force:
            for name, problem in in_force.rules.broken.items():
                log.error("rule %s is broken and decides nothing: %s", name, problem)
            self._in_force = in_force

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.check_now()

"""A circuit breaker: it stops calls to a failing dependency and probes it with one call at a time.

Belongs here: states and admission of calls. Must not be here: the dependencies, and the work without them
(`resilience.py`).

The lock guards state only and is never held during a call, so calls run side by side.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeVar

State = Literal["closed", "half_open", "open"]
Outcome = Literal["good", "bad", "unknown"]
Result = TypeVar("Result")


class BreakerOpenError(RuntimeError):
    """The call was not made: too many failed before it. Ask again after `retry_after` seconds."""

    def __init__(self, name: str, *, retry_after: float) -> None:
        super().__init__(f"{name} is left alone after failures; ask again in {retry_after:.1f} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens: after `failures_in_row`, or when `failure_share` of a rolling `window` of calls fail.

    It stays open for `recovery_time` and closes after `good_probes`; a probe is given up after `probe_timeout`.
    All times are in seconds of a monotonic clock.
    """

    failures_in_row: int = 3
    failure_share: float = 0.5
    window: float = 10.0
    minimum_calls: int = 20
    recovery_time: float = 5.0
    good_probes: int = 2
    probe_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class BreakerCounts:
    """Counts since the start; calls of unknown outcome are in none."""

    good: int
    bad: int
    refused: int
    opened: int


class Permit:
    """One admitted call: record its outcome. A block that ends without an outcome counts neither way."""

    def __init__(self, record: Callable[[int, Outcome], None], ticket: int) -> None:
        self._record = record
        self._ticket = ticket

    def record(self, outcome: Outcome) -> None:
        """Record the outcome; calls of an earlier state and second outcomes of probes do not count."""
        self._record(self._ticket, outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.record("unknown")


class CircuitBreaker:
    """Stops calls to a failing dependency: closed -> open -> half open, where exactly one call at a time may probe it.

    Only `failures` count as failures; any other exception counts neither way. `on_change` gets the name and the new
    state while the lock is held, so that states arrive in order. It must be quick.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: tuple[type[Exception], ...],
        policy: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str, State], None] = lambda _name, _state: None,
    ) -> None:
        self.name = name
        self._failures = failures
        self._policy = policy or BreakerPolicy()
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.RLock()
        self._state: State = "closed"
        self._ticket = 0  # of calls that may still report; a new ticket excludes all earlier calls
        self._until = 0.0  # when open ends, or when the running probe is given up
        self._probing = False
        self._good_probes = 0
        self._in_row = 0
        self._recent: deque[tuple[float, bool]] = deque()
        self._recent_bad = 0
        self._good = self._bad = self._refused = self._opened = 0

    @property
    def state(self) -> State:
        """The state now."""
        with self._lock:
            self._let_time_pass(self._clock())
            return self._state

    @property
    def counts(self) -> BreakerCounts:
        """Calls by outcome so far."""
        with self._lock:
            return BreakerCounts(good=self._good, bad=self._bad, refused=self._refused, opened=self._opened)

    def enter(self) -> Permit:
        """Admit a call whose outcome the caller records. Raises BreakerOpenError."""
        with self._lock:
            now = self._clock()
            self._let_time_pass(now)
            if self._state == "open" or self._probing:
                self._refused += 1
                raise BreakerOpenError(self.name, retry_after=self._until - now)
            if self._state == "half_open":
                self._probing, self._until = True, now + self._policy.probe_timeout
            return Permit(self._record, self._ticket)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Run the block as one call. Raises BreakerOpenError, and errors of the block."""
        with self.enter() as permit:
            try:
                yield
            except self._failures:
                permit.record("bad")
                raise
            permit.record("good")

    def run(self, function: Callable[[], Result]) -> Result:
        """The result of one call. Raises BreakerOpenError, and errors of the function."""
        with self.call():
            return function()

    def _let_time_pass(self, now: float) -> None:
        if self._probing and now >= self._until:  # the probe never returned, so it failed when its time ended
            self._open(self._until)
        if self._state == "open" and now >= self._until:
            self._good_probes = 0
            self._become("half_open")

    def _record(self, ticket: int, outcome: Outcome) -> None:
        with self._lock:
            now = self._clock()
            self._let_time_pass(now)
            if ticket != self._ticket:
                return
            if outcome != "unknown":
                self._good += outcome == "good"
                self._bad += outcome == "bad"
            if self._state == "closed":
                self._remember(now, outcome)
            else:
                self._probed(now, outcome)

    def _remember(self, now: float, outcome: Outcome) -> None:
        if outcome == "unknown":
            return
        recent, policy, bad = self._recent, self._policy, outcome == "bad"
        recent.append((now, bad))
        self._recent_bad += bad
        while recent[0][0] <= now - policy.window:
            self._recent_bad -= recent.popleft()[1]
        self._in_row = self._in_row + 1 if bad else 0
        enough = len(recent) >= policy.minimum_calls
        often = enough and self._recent_bad >= policy.failure_share * len(recent)
        if bad and (often or self._in_row >= policy.failures_in_row):
            self._open(now)

    def _probed(self, now: float, outcome: Outcome) -> None:
        self._probing = False
        self._ticket += 1
        if outcome == "bad":
            self._open(now)
        elif outcome == "good":
            self._good_probes += 1
            if self._good_probes >= self._policy.good_probes:
                self._in_row = self._recent_bad = 0
                self._recent.clear()
                self._become("closed")

    def _open(self, now: float) -> None:
        self._opened += 1
        self._probing = False
        self._until = now + self._policy.recovery_time
        self._become("open")

    def _become(self, state: State) -> None:
        self._state = state
        self._ticket += 1
        self._on_change(self.name, state)

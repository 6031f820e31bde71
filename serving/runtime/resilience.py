"""Always an answer: the mode while a dependency is away, and the way back.

Belongs here: the degradation policy and the scorer that obeys it. Must not be here: when a dependency is avoided
(`breaker.py`), what each mode leaves out (`fraud_pipeline/scoring/scorer.py`), the HTTP answer
(`serving/http/endpoints.py`).
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol, Self

from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import Conflict, Mode, ScoringResult
from fraud_pipeline.scoring.errors import (
    HistoryUnavailableError,
    ModelUnavailableError,
    StorageUnavailableError,
    with_retry,
)
from fraud_pipeline.scoring.micro_batch import NO_REQUEST_IDS, MicroBatch, RequestIdsOfRows, answers_of
from serving.runtime.breaker import BreakerOpenError, BreakerPolicy, CircuitBreaker, Permit, State

Clock = Callable[[], float]
Dependency = Literal["history", "model"]
_NEEDS: Final[Mapping[Mode, frozenset[Dependency]]] = MappingProxyType(
    {
        "full": frozenset({"history", "model"}),
        "no_history": frozenset({"model"}),
        "rules": frozenset({"history"}),
        "fail_safe": frozenset(),
    }
)
_MODES: Final[Mapping[frozenset[Dependency], Mode]] = MappingProxyType({needs: mode for mode, needs in _NEEDS.items()})


class DegradationPolicy:
    """The mode that the health of history and model allows: down at once, up after `recovery` seconds of health.

    Only one of the two is restored at a time, so that a recovering dependency does not get the full load at once.
    While nothing can be stored, the mode is `fail_safe`; that costs no level, because it says nothing about the two.
    """

    def __init__(self, *, recovery: float = 5.0, clock: Clock = time.monotonic) -> None:
        self._recovery = recovery
        self._clock = clock
        self._lock = threading.Lock()
        self._healthy_since: dict[Dependency, float] = {}
        self._used: set[Dependency] = {"history", "model"}
        self._climbed = float("-inf")

    def mode(self, *, history: State, model: State, storage: State) -> Mode:
        """The mode of the next call; ask before each, with the states of the breakers."""
        states: dict[Dependency, State] = {"history": history, "model": model}
        with self._lock:
            now = self._clock()
            for name, state in states.items():
                if state == "closed":
                    self._healthy_since.setdefault(name, now)
                else:
                    self._healthy_since.pop(name, None)
                    self._used.discard(name)
            for name, since in self._healthy_since.items():
                if name not in self._used and now - max(since, self._climbed) >= self._recovery:
                    self._used.add(name)
                    self._climbed = now
            return "fail_safe" if storage == "open" else _MODES[frozenset(self._used)]


class Scores(Protocol):
    """The methods of a Scorer that this module calls."""

    def transaction(
        self, rows: Sequence[TransactionRow], *, mode: Mode, request_ids: RequestIdsOfRows
    ) -> AbstractContextManager[MicroBatch]: ...
    def find(self, transaction_id: str) -> ScoringResult | None: ...
    def report(self, transaction_id: str, *, is_fraud: bool) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Breakers:
    """The breakers of a scorer's dependencies; share them between scorers of the same ones."""

    history: CircuitBreaker
    model: CircuitBreaker
    storage: CircuitBreaker

    @classmethod
    def build(
        cls,
        *,
        policy: BreakerPolicy | None = None,
        clock: Clock = time.monotonic,
        on_change: Callable[[str, State], None] = lambda _name, _state: None,
    ) -> Self:
        """One breaker for each, of the same policy."""

        def breaker(name: str, failure: type[Exception]) -> CircuitBreaker:
            return CircuitBreaker(name, failures=(failure,), policy=policy, clock=clock, on_change=on_change)

        return cls(
            history=breaker("history", HistoryUnavailableError),
            model=breaker("model", ModelUnavailableError),
            storage=breaker("storage", StorageUnavailableError),
        )


class ResilientScorer:
    """A scorer that leaves out a dependency that is away, so that the same rows get an answer within the same call.

    Only rows that cannot be stored get none: NotStoredError, at once while the storage's breaker is open. Values that
    the database refuses do not open it, because they concern one sender only. `on_decided` gets stored answers.
    """

    def __init__(
        self,
        scorer: Scores,
        *,
        breakers: Breakers,
        policy: DegradationPolicy,
        on_decided: Callable[[Sequence[ScoringResult | Conflict]], None] = lambda _answers: None,
    ) -> None:
        self._scorer = scorer
        self._breakers = breakers
        self._policy = policy
        self._on_decided = on_decided

    @property
    def mode(self) -> Mode:
        """The mode that the next call starts in."""
        breakers = self._breakers
        return self._policy.mode(
            history=breakers.history.state, model=breakers.model.state, storage=breakers.storage.state
        )

    def score(
        self, rows: Sequence[TransactionRow], *, request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> list[ScoringResult | Conflict]:
        """As `Scorer.score`, in the best possible mode. Raises NotStoredError."""
        return with_retry(lambda: answers_of(self.transaction(rows, request_ids=request_ids)))

    @contextmanager
    def transaction(
        self, rows: Sequence[TransactionRow], *, request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> Iterator[MicroBatch]:
        """As `Scorer.transaction`, in the best possible mode. Raises NotStoredError."""
        with ExitStack() as entered, self._storage():
            permits = self._permits(entered)
            with ExitStack() as opened:
                scored = self._open(opened, rows, permits, request_ids=request_ids)
                yield scored
            # A stored answer says nothing about dependencies that it did not need.
            new = [answer for answer in scored.answers if isinstance(answer, ScoringResult) and not answer.replayed]
            needed = frozenset().union(*(_NEEDS[mode] for mode in {result.mode for result in new}))
            for name in permits.keys() & needed:
                permits[name].record("good")
        self._on_decided(scored.answers)

    def _open(
        self,
        opened: ExitStack,
        rows: Sequence[TransactionRow],
        permits: dict[Dependency, Permit],
        *,
        request_ids: RequestIdsOfRows,
    ) -> MicroBatch:
        """Begin the transaction without the dependencies that fail meanwhile; their permits are used up."""
        while True:
            try:
                mode = _MODES[frozenset(permits)]
                return opened.enter_context(self._scorer.transaction(rows, mode=mode, request_ids=request_ids))
            except HistoryUnavailableError:
                permits.pop("history").record("bad")
            except ModelUnavailableError:
                permits.pop("model").record("bad")

    def find(self, transaction_id: str) -> ScoringResult | None:
        """As `Scorer.find`. Raises NotStoredError."""
        with self._storage():
            return self._scorer.find(transaction_id)

    def report(self, transaction_id: str, *, is_fraud: bool) -> int | None:
        """As `Scorer.report`. Raises NotStoredError."""
        with self._storage():
            return self._scorer.report(transaction_id, is_fraud=is_fraud)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            with self._breakers.storage.call():
                yield
        except BreakerOpenError as error:
            raise StorageUnavailableError(str(error)) from error

    def _permits(self, entered: ExitStack) -> dict[Dependency, Permit]:
        """Permits for the dependencies that this call may use: those that the mode needs, and those due for a probe."""
        needs = _NEEDS[self.mode]
        permits: dict[Dependency, Permit] = {}
        named: tuple[tuple[Dependency, CircuitBreaker], ...] = (
            ("history", self._breakers.history),
            ("model", self._breakers.model),
        )
        for name, breaker in named:
            if name in needs or breaker.state == "half_open":
                try:
                    permits[name] = entered.enter_context(breaker.enter())
                except BreakerOpenError:
                    continue  # its other callers saw it fail since, or probe it now
        return permits

"""The breaker behaves as its model in any order of events, and lets exactly one of fifty threads probe."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.runtime.breaker import (
    BreakerCounts,
    BreakerOpenError,
    BreakerPolicy,
    CircuitBreaker,
    Outcome,
    Permit,
    State,
)


class AwayError(Exception):
    """The failure that the breaker counts."""


@dataclass
class Clock:
    """A clock that moves only when the test sets it."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def away() -> None:
    raise AwayError


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(AwayError):
            breaker.run(away)


@dataclass(eq=False)
class Call:
    """An admitted call, with the model's knowledge of it."""

    entry: Permit
    life: object
    probe: bool


@dataclass
class Expected:
    """A readable model of a breaker: each change of state begins a new period, and only calls of that period count."""

    policy: BreakerPolicy
    state: State = "closed"
    life: object = field(default_factory=object)
    log: list[tuple[float, Outcome]] = field(default_factory=list)
    opened_at: float = 0.0
    probe_ends: float | None = None

    def become(self, state: State) -> None:
        self.state, self.life, self.log, self.probe_ends = state, object(), [], None

    def open(self, at: float) -> None:
        self.become("open")
        self.opened_at = at

    def at(self, now: float) -> None:
        if self.probe_ends is not None and now >= self.probe_ends:
            self.open(self.probe_ends)
        if self.state == "open" and now >= self.opened_at + self.policy.recovery_time:
            self.become("half_open")

    def admits(self) -> bool:
        return self.state == "closed" or (self.state == "half_open" and self.probe_ends is None)

    def settled(self, call: Call, outcome: Outcome, now: float) -> None:
        if call.life is not self.life:
            return
        if call.probe:
            self.probe_ends = None
        if outcome == "unknown":
            return
        self.log.append((now, outcome))
        if self.state == "half_open":
            if outcome == "bad":
                self.open(now)
            elif len(self.log) == self.policy.good_probes:
                self.become("closed")
        elif outcome == "bad":
            last = [outcome_ for _, outcome_ in self.log][-self.policy.failures_in_row :]
            recent = [outcome_ for when, outcome_ in self.log if when > now - self.policy.window]
            enough = len(recent) >= self.policy.minimum_calls
            often = recent.count("bad") >= self.policy.failure_share * len(recent)
            if last == ["bad"] * self.policy.failures_in_row or (enough and often):
                self.open(now)


class AnyOrder(RuleBasedStateMachine):
    """Calls begin, end in any order or never, time passes, and every answer is the one of the model."""

    calls: Bundle[Call] = Bundle("calls")

    @initialize(
        policy=st.builds(
            BreakerPolicy,
            failures_in_row=st.integers(1, 5),
            failure_share=st.sampled_from([0.25, 0.5, 1.0]),
            window=st.sampled_from([2.0, 10.0]),
            minimum_calls=st.integers(1, 6),
            recovery_time=st.sampled_from([1.0, 5.0]),
            good_probes=st.integers(1, 3),
            probe_timeout=st.sampled_from([1.0, 3.0]),
        )
    )
    def start(self, policy: BreakerPolicy) -> None:
        self.clock = Clock()
        self.announced: list[State] = []
        self.breaker = CircuitBreaker(
            "history",
            failures=(AwayError,),
            policy=policy,
            clock=self.clock,
            on_change=lambda _name, state: self.announced.append(state),
        )
        self.expected = Expected(policy)
        self.elsewhere = ThreadPoolExecutor(max_workers=1)

    @rule(target=calls)
    def begin(self) -> Call | MultipleResults[Call]:
        self.expected.at(self.clock.now)
        if not self.expected.admits():
            with pytest.raises(BreakerOpenError) as refused:
                self.breaker.enter()
            assert refused.value.retry_after > 0
            return multiple()
        probe = self.expected.state == "half_open"
        if probe:
            self.expected.probe_ends = self.clock.now + self.expected.policy.probe_timeout
        return Call(self.breaker.enter(), life=self.expected.life, probe=probe)

    @rule(call=consumes(calls), outcome=st.sampled_from(["good", "bad", "bad", "unknown"]))
    def end(self, call: Call, outcome: Outcome) -> None:
        self.expected.at(self.clock.now)
        call.entry.record(outcome)
        self.expected.settled(call, outcome, self.clock.now)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def agrees_with_the_model_and_answers_other_threads_during_calls(self) -> None:
        self.expected.at(self.clock.now)
        assert self.elsewhere.submit(lambda: self.breaker.state).result(timeout=LIMIT_SECONDS) == self.expected.state

    @invariant()
    def tells_every_change_in_order(self) -> None:
        following = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
        states: list[State] = ["closed", *self.announced]
        assert all(after in following[before] for before, after in pairwise(states))
        assert states[-1] == self.expected.state

    def teardown(self) -> None:
        if hasattr(self, "elsewhere"):
            self.elsewhere.shutdown(wait=False)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    policy = BreakerPolicy(failures_in_row=3, recovery_time=5, good_probes=2, probe_timeout=10)
    return CircuitBreaker("history", failures=(AwayError,), policy=policy, clock=clock)


class TestCalls:
    def test_an_open_breaker_makes_no_call_and_says_when_to_come_back(
        self, breaker: CircuitBreaker, clock: Clock
    ) -> None:
        fail(breaker, 3)
        clock.now += 1.5
        with pytest.raises(BreakerOpenError, match=r"history is left alone .* 3.5 s") as refused:
            breaker.run(away)
        assert refused.value.retry_after == 3.5
        assert breaker.counts == BreakerCounts(good=0, bad=3, refused=1, opened=1)

    def test_it_closes_after_good_probes_and_forgets_what_was_before(
        self, breaker: CircuitBreaker, clock: Clock
    ) -> None:
        fail(breaker, 3)
        clock.now += 5
        assert [breaker.run(lambda: 7) for _ in range(2)] == [7, 7]
        fail(breaker, 2)
        assert breaker.state == "closed"
        assert breaker.counts == BreakerCounts(good=2, bad=5, refused=0, opened=1)

    def test_another_exception_is_no_failure_and_frees_the_probe(self, breaker: CircuitBreaker, clock: Clock) -> None:
        fail(breaker, 2)
        with pytest.raises(ZeroDivisionError):
            breaker.run(lambda: 1 / 0)
        fail(breaker)
        clock.now += 5
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), breaker.call():
                _ = 1 / 0
        assert breaker.state == "half_open"
        assert breaker.run(lambda: "probed") == "probed"

    def test_a_probe_that_never_returns_is_given_up_and_cannot_close_anything_later(
        self, breaker: CircuitBreaker, clock: Clock
    ) -> None:
        fail(breaker, 3)
        clock.now += 5
        lost = breaker.enter()
        clock.now += 10
        with pytest.raises(BreakerOpenError):
            breaker.enter()
        clock.now += 5
        breaker.run(lambda: None)
        lost.record("good")
        assert breaker.state == "half_open"


class TestThreads:
    def test_calls_run_side_by_side(self, breaker: CircuitBreaker) -> None:
        together = threading.Barrier(8, timeout=LIMIT_SECONDS)
        with ThreadPoolExecutor(8) as pool:
            assert len({pool.submit(breaker.run, together.wait) for _ in range(8)}) == 8
        assert breaker.counts.good == 8

    def test_exactly_one_of_fifty_threads_probes_at_a_time(self, breaker: CircuitBreaker, clock: Clock) -> None:
        fail(breaker, 3)
        clock.now += 5
        for _ in range(2):
            assert len(race(breaker, threads=50)) == 1
        assert breaker.state == "closed"
        assert breaker.counts == BreakerCounts(good=2, bad=3, refused=98, opened=1)


def race(breaker: CircuitBreaker, *, threads: int) -> list[str]:
    """The names of admitted threads among those that call at once; they stay inside until all have called."""
    start = threading.Barrier(threads, timeout=LIMIT_SECONDS)
    permitted, leave = threading.Semaphore(0), threading.Event()
    let_through: list[str] = []

    def call() -> None:
        start.wait()
        try:
            with breaker.call():
                let_through.append(threading.current_thread().name)
                permitted.release()
                assert leave.wait(LIMIT_SECONDS)
        except BreakerOpenError:
            permitted.release()

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(call) for _ in range(threads)]
        assert all(permitted.acquire(timeout=LIMIT_SECONDS) for _ in range(threads))
        leave.set()
        for future in futures:
            future.result()
    return let_through

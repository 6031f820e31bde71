"""Something is always answered: at once with less, and with more again only when that has been well for a while."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.database import Database
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow
from fraud_pipeline.scoring.decision_record import Mode, ScoringResult
from fraud_pipeline.scoring.errors import StorageUnavailableError
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from serving.runtime.breaker import BreakerPolicy, State
from serving.runtime.resilience import Breakers, DegradationPolicy, ResilientScorer

NEEDS: Final[dict[Mode, set[str]]] = {
    "full": {"history", "model"},
    "no_history": {"model"},
    "rules": {"history"},
    "fail_safe": set(),
}
RECOVERY: Final = 5.0
POLICY: Final = BreakerPolicy(failures_in_row=3, recovery_time=5, good_probes=2)


@dataclass
class Clock:
    """A clock that moves only when the test sets it."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestLadder:
    @pytest.fixture
    def ladder(self, clock: Clock) -> DegradationPolicy:
        return DegradationPolicy(recovery=RECOVERY, clock=clock)

    @pytest.mark.parametrize(
        ("history", "model", "mode"),
        [
            ("closed", "closed", "full"),
            ("open", "closed", "no_history"),
            ("half_open", "closed", "no_history"),
            ("closed", "open", "rules"),
            ("open", "open", "fail_safe"),
        ],
    )
    def test_it_goes_down_at_once(self, ladder: DegradationPolicy, history: State, model: State, mode: Mode) -> None:
        assert ladder.mode(history="closed", model="closed", storage="closed") == "full"
        assert ladder.mode(history=history, model=model, storage="closed") == mode

    def test_it_goes_up_one_level_after_each_recovery(self, ladder: DegradationPolicy, clock: Clock) -> None:
        ladder.mode(history="open", model="open", storage="closed")
        seen = []
        for _ in range(12):
            clock.now += 1
            seen.append(ladder.mode(history="closed", model="closed", storage="closed"))
        assert seen == ["fail_safe"] * 5 + ["rules"] * 5 + ["full"] * 2

    def test_while_nothing_can_be_stored_it_is_fail_safe_and_costs_no_level(self, ladder: DegradationPolicy) -> None:
        assert ladder.mode(history="closed", model="closed", storage="open") == "fail_safe"
        assert ladder.mode(history="closed", model="closed", storage="half_open") == "full"

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0.5, 2.0, 6.0]),
                st.sampled_from(["closed", "closed", "closed", "half_open", "open"]),
                st.sampled_from(["closed", "closed", "closed", "half_open", "open"]),
            ),
            max_size=40,
        )
    )
    def test_nothing_unhealthy_is_used_and_nothing_is_trusted_early(
        self, story: list[tuple[float, State, State]]
    ) -> None:
        clock = Clock()
        ladder = DegradationPolicy(recovery=RECOVERY, clock=clock)
        used = {"history", "model"}
        unhealthy_at, climbed_at = dict.fromkeys(used, float("-inf")), float("-inf")
        for seconds, history, model in story:
            clock.now += seconds
            states = {"history": history, "model": model}
            now_used = NEEDS[ladder.mode(history=history, model=model, storage="closed")]
            unhealthy_at |= {name: clock.now for name, state in states.items() if state != "closed"}
            healthy = {name for name, state in states.items() if state == "closed"}
            gained = now_used - used
            assert used & healthy <= now_used <= healthy
            assert len(gained) <= 1
            for name in gained:
                assert clock.now - unhealthy_at[name] >= RECOVERY
                assert clock.now - climbed_at >= RECOVERY
                climbed_at = clock.now
            used = now_used
        for _ in range(3):
            mode = ladder.mode(history="closed", model="closed", storage="closed")
            clock.now += RECOVERY
        assert mode == "full"


@dataclass
class Champion:
    """The model of a scorer, which can be damaged and repaired, with a count of its loads."""

    good: Loaded
    damaged: bool = False
    calls: int = 0

    def __call__(self) -> Loaded:
        self.calls += 1
        return (
            Loaded(replace(self.good.model, features=("no_such_feature", *self.good.model.features[1:])))
            if self.damaged
            else self.good
        )


@dataclass
class Service:
    """A scorer on a real database that obeys breakers and ladder; `decide` sends another transaction."""

    database: Database
    champion: Champion
    clock: Clock = field(default_factory=Clock)
    sent: int = 0

    def __post_init__(self) -> None:
        self.breakers = Breakers.build(policy=POLICY, clock=self.clock)
        self.scorer = ResilientScorer(
            Scorer(
                database=self.database,
                champion=self.champion,
            ),
            breakers=self.breakers,
            policy=DegradationPolicy(recovery=RECOVERY, clock=self.clock),
        )

    def row(self, number: int) -> TransactionRow:
        # A new merchant each time, because cached merchants need not be read.
        return TransactionRow(f"t-{number}", 20_000 * DAY + number * HOUR, "c-1", f"m-{number}", 1_000)

    def decide(self) -> ScoringResult:
        self.sent += 1
        (answer,) = self.scorer.score([self.row(self.sent)])
        assert isinstance(answer, ScoringResult)
        return answer

    def modes(self, number: int) -> list[Mode]:
        return [self.decide().mode for _ in range(number)]


@pytest.fixture(scope="module")
def loaded(trained: TrainedModel) -> Loaded:
    return Loaded(trained.model)


@pytest.fixture
def service(database: Database, loaded: Loaded) -> Service:
    return Service(database, Champion(loaded))


class TestModelAway:
    def test_rules_answer_within_the_same_call_then_the_model_is_left_alone(self, service: Service) -> None:
        service.champion.damaged = True
        assert service.modes(3) == ["rules"] * 3
        assert service.breakers.model.state == "open"
        calls = service.champion.calls
        answer = service.decide()
        assert (answer.mode, answer.decided_by, answer.missing[:1]) == ("rules", "rules", ("model",))
        assert service.champion.calls == calls

    def test_it_is_probed_and_trusted_again_after_a_while(self, service: Service) -> None:
        service.champion.damaged = True
        service.modes(3)
        service.clock.now += 5
        assert service.decide().mode == "rules"
        assert service.breakers.model.state == "open"
        service.champion.damaged = False
        service.clock.now += 5
        assert service.modes(3) == ["full", "full", "rules"]
        service.clock.now += RECOVERY
        assert service.modes(2) == ["full", "full"]

    def test_stored_answers_probe_nothing(self, service: Service) -> None:
        assert service.decide().mode == "full"
        service.champion.damaged = True
        service.modes(3)
        service.clock.now += 5
        for _ in range(5):
            assert service.scorer.score([service.row(1)]) == [service.scorer.find("t-1")]
        assert service.breakers.model.state == "half_open"


@pytest.fixture
def on_postgres(empty_postgres_url: str, loaded: Loaded) -> Iterator[tuple[Service, sa.Connection]]:
    """A service that gives up slow statements, and another connection that may lock its tables."""
    database = Database(empty_postgres_url, statement_timeout=timedelta(milliseconds=200))
    database.upgrade()
    other = Database(empty_postgres_url)
    service = Service(database, Champion(loaded))
    service.decide()
    service.scorer.report("t-1", is_fraud=True)
    with other.transaction() as connection:
        yield service, connection
    database.close()
    other.close()


def lock(connection: sa.Connection, table: str) -> None:
    connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))


class TestDatabaseAway:
    def test_without_history_the_model_answers_and_history_comes_back(
        self, on_postgres: tuple[Service, sa.Connection]
    ) -> None:
        service, other = on_postgres
        lock(other, "merchant_days")
        assert service.modes(4) == ["no_history"] * 4
        assert service.breakers.history.counts.bad == 3
        assert service.breakers.model.state == service.breakers.storage.state == "closed"
        other.rollback()
        service.clock.now += 5
        assert service.modes(3) == ["full", "full", "no_history"]
        service.clock.now += RECOVERY
        assert service.decide().mode == "full"

    def test_two_failures_at_once_still_get_an_answer(self, on_postgres: tuple[Service, sa.Connection]) -> None:
        service, other = on_postgres
        lock(other, "merchant_days")
        service.champion.damaged = True
        assert service.decide().mode == "fail_safe"

    def test_what_cannot_be_stored_is_refused_soon_without_asking(
        self, on_postgres: tuple[Service, sa.Connection]
    ) -> None:
        service, other = on_postgres
        lock(other, "decisions")
        for _ in range(3):
            with pytest.raises(StorageUnavailableError, match="database"):
                service.decide()
        calls = service.champion.calls
        with pytest.raises(StorageUnavailableError, match="storage is left alone after failures"):
            service.decide()
        with pytest.raises(StorageUnavailableError, match="storage is left alone after failures"):
            service.scorer.find("t-1")
        assert service.champion.calls == calls
        assert service.scorer.mode == "fail_safe"
        other.rollback()
        service.clock.now += 5
        assert service.modes(3) == ["full"] * 3
        assert service.breakers.storage.state == "closed"

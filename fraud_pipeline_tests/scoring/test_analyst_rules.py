"""Analysts' rules in the scorer: precedence, what is stored, lists, snoozes, and what happens when a rule is broken."""

from dataclasses import replace

import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database
from fraud_pipeline.database.analyst_rules import rule_events, save_rule, set_state, snooze
from fraud_pipeline.database.performance import would_be_blocks
from fraud_pipeline.database.rule_tables import ANALYST_RULE_VERSIONS
from fraud_pipeline.database.tables import ALERTS, DECISIONS
from fraud_pipeline.database.value_lists import NewEntry, add_values, create_list, remove_values
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.analyst_rules import Action, AnalystRule, State
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.policy.value_lists import NO_END
from fraud_pipeline.schema.transactions import DAY, TransactionRow, now_microseconds
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from serving.runtime.rule_watch import RuleWatch

NOW = 20_000 * DAY
ALLOWING = Policy(review_threshold=float("inf"), block_threshold=float("inf"))
BLOCKING = Policy(review_threshold=0.0, block_threshold=0.0)


class Desk:
    """One database with a model, a watch on the rules, and the words of an analyst."""

    def __init__(self, database: Database, trained: TrainedModel) -> None:
        self.database = database
        self.watch = RuleWatch(database)
        self.trained = trained
        self.scorer = self.make(ALLOWING)
        self.watch.check_now()
        self._number = 0

    def make(self, policy: Policy | None, **changes: float) -> Scorer:
        model = Loaded(replace(self.trained.model, policy=policy)) if policy else None
        return Scorer(database=self.database, champion=lambda: model, rules=self.watch.current, **changes)  # type: ignore[arg-type]  # shares

    def rule(self, name: str, action: Action, expression: str, state: State = "active", percent: float = 100.0) -> None:
        rule = AnalystRule(name, 0, action, expression, own_types={"device_id": "identifier"})
        save_rule(self.database, rule, who="ann", reason="test")
        set_state(self.database, name, state, who="bea", reason="test", percent=percent)
        self.watch.check_now()

    def score(self, scorer: Scorer | None = None, **fields: object) -> ScoringResult:
        self._number += 1
        row = TransactionRow(f"t-{self._number}", NOW, "c-1", "m-1", 50_000)._replace(**fields)  # type: ignore[arg-type]  # by name
        (answer,) = (scorer or self.scorer).score([row])
        assert isinstance(answer, ScoringResult)
        return answer


@pytest.fixture
def desk(database: Database, trained: TrainedModel) -> Desk:
    return Desk(database, trained)


def test_a_rule_blocks_what_the_model_allows_and_the_stored_decision_says_so(desk: Desk) -> None:
    before = desk.score()
    assert (before.decision, before.decided_by, before.rule, before.model_decision) == ("allow", "model", None, None)
    desk.rule("gift_cards", "block", "amount >= 500 AND merchant_id = 'm-1'")
    answer = desk.score()
    assert (answer.decision, answer.decided_by, answer.rule) == ("block", "analyst_rule", "gift_cards@1")
    assert answer.model_decision == "allow"
    assert answer.probability is not None
    assert answer.reasons[0].code == "analyst_rule.gift_cards"
    assert desk.score(amount_cents=49_999).decided_by == "model"
    stored = desk.scorer.find(answer.transaction_id)
    assert stored == replace(answer, replayed=True)
    with desk.database.transaction() as connection:
        assert connection.execute(sa.select(ALERTS.c.transaction_id)).scalars().all() == [answer.transaction_id]


@pytest.mark.parametrize(
    ("policy", "actions", "decision", "decider"),
    [
        (ALLOWING, ("allow", "block", "review"), "allow", "allow@1"),
        (ALLOWING, ("block", "review"), "block", "block@1"),
        (ALLOWING, ("review", "tag"), "review", "review@1"),
        (BLOCKING, ("allow",), "allow", "allow@1"),
        (BLOCKING, ("review",), "block", None),
        (BLOCKING, ("tag",), "block", None),
        (None, ("block",), "block", "block@1"),
    ],
)
def test_allow_comes_before_block_before_review_before_the_model(
    desk: Desk, policy: Policy | None, actions: tuple[Action, ...], decision: str, decider: str | None
) -> None:
    for action in actions:
        desk.rule(action, action, "amount > 1")
    answer = desk.score(desk.make(policy))
    assert (answer.decision, answer.rule) == (decision, decider)
    assert sorted(match.name for match in answer.rule_matches) == sorted(actions)
    assert answer.tags == (("tag",) if "tag" in actions else ())
    if decider:
        assert answer.model_decision == ("block" if policy is BLOCKING else "allow")


def test_rules_work_without_a_model_and_without_history(desk: Desk) -> None:
    desk.rule("no_score", "review", "probability IS NULL")
    desk.rule("first_payment", "block", "customer_transaction_count_30d = 0")
    answer = desk.score(desk.make(None), merchant_id="m-2")
    assert (answer.rule, answer.mode) == ("first_payment@1", "rules")
    (blind,) = desk.make(None).score([TransactionRow("t-b", NOW, "c-2", "m-1", 5_000)], mode="fail_safe")
    assert isinstance(blind, ScoringResult)
    assert blind.rule == "no_score@1", "without history a count of 0 is not known, so it is no match"


def test_a_shadow_rule_and_a_rule_of_a_part_of_the_customers_are_recorded(desk: Desk) -> None:
    desk.rule("shadow", "block", "amount > 1", state="shadow")
    desk.rule("half", "review", "amount > 1", percent=50)
    answers = [desk.score(customer_id=f"c-{number}") for number in range(20)]
    assert {answer.rule for answer in answers} == {None, "half@1"}
    effects = {(match.name, match.effect) for answer in answers for match in answer.rule_matches}
    assert effects == {("shadow", "shadow"), ("half", "active"), ("half", "shadow")}
    again = [desk.score(customer_id=f"c-{number}") for number in range(20)]
    assert [answer.rule for answer in again] == [answer.rule for answer in answers]


def test_lists_match_until_they_end_and_changes_count_at_the_next_check(desk: Desk) -> None:
    create_list(desk.database, "trusted", match="exact", comment="", who="ann")
    create_list(desk.database, "attack", match="cidr", comment="", who="ann")
    add_values(desk.database, "attack", [NewEntry("203.0.113.0/24", "botnet", NO_END)], who="ann")
    desk.rule("trusted", "allow", "customer_id IN list('trusted')")
    add_values(desk.database, "trusted", [NewEntry("c-1", "a week", NOW + DAY), NewEntry("c-3", "", NOW)], who="ann")
    blocking = desk.make(BLOCKING)
    assert desk.score(blocking).decision == "block", "the watch has not checked yet"
    desk.watch.check_now()
    assert desk.score(blocking).rule == "trusted@1"
    assert desk.score(blocking, event_time=NOW + DAY).rule is None
    assert desk.score(blocking, customer_id="c-3").rule is None
    assert remove_values(desk.database, "trusted", ["c-1", "c-9"], who="ann", reason="") == 1
    desk.watch.check_now()
    assert desk.score(blocking).rule is None


def test_a_snooze_turns_one_rule_off_for_one_customer(desk: Desk) -> None:
    desk.rule("big", "block", "amount > 1")
    snooze(desk.database, "big", "c-1", ends_at=now_microseconds() + DAY, who="ann", reason="false positive")
    desk.watch.check_now()
    answer = desk.score()
    assert (answer.decision, answer.rule_matches[0].effect) == ("allow", "snoozed")
    assert desk.score(customer_id="c-2").rule == "big@1"
    assert [event.what for event in rule_events(desk.database, name="big")] == ["snoozed", "active", "saved"]


def test_own_fields_are_read_as_they_were_declared_when_the_rule_was_saved(desk: Desk) -> None:
    desk.rule("device", "block", "device_id LIKE 'rooted-%'")
    assert desk.score(own_fields='{"device_id":"rooted-7"}').rule == "device@1"
    assert desk.score(own_fields='{"device_id":17}').rule is None
    assert desk.score().rule is None


def test_a_broken_rule_leaves_the_decision_to_the_others_and_the_answer_says_so(desk: Desk) -> None:
    desk.rule("good", "review", "amount > 1")
    desk.rule("broken", "block", "amount > 1")
    with desk.database.transaction() as connection:
        broken = sa.update(ANALYST_RULE_VERSIONS).where(ANALYST_RULE_VERSIONS.c.name == "broken")
        connection.execute(broken.values(expression="customer_id IN list('gone')"))
    desk.rule("good", "review", "amount > 2")
    answer = desk.score()
    assert (answer.rule, answer.missing[-1]) == ("good@2", "rules")


def test_without_rules_nothing_is_missing(desk: Desk) -> None:
    assert desk.watch.current() is None
    assert "rules" not in desk.score().missing
    unread = Scorer(database=desk.database, champion=lambda: None, rules=RuleWatch(desk.database).current)
    assert desk.score(unread).missing[-1] == "rules"


def test_the_holdout_covers_the_blocks_of_rules_also_without_a_model(desk: Desk) -> None:
    desk.rule("all", "block", "amount > 1")
    for policy in (ALLOWING, None):
        scorer = desk.make(policy, holdout_share=0.2)
        answers = scorer.score([TransactionRow(f"{policy}-{number}", NOW, "c-1", "m-1", 500) for number in range(40)])
        decisions = {answer.decision for answer in answers if isinstance(answer, ScoringResult)}
        assert decisions == {"block", "review"}
    day = pd.Timestamp(NOW, unit="us", tz="UTC")
    blocks = would_be_blocks(desk.database, start=day, end=day + pd.Timedelta(days=1))
    assert blocks["share"].notna().all()
    assert len(blocks) == 80
    with desk.database.transaction() as connection:
        assert set(connection.execute(sa.select(DECISIONS.c.model_decision)).scalars()) == {"allow"}

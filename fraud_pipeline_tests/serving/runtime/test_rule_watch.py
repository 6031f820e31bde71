"""The watch on analysts' rules: takes changes over by itself, and keeps the last rules while the database is away."""

import sqlalchemy as sa

from fraud_pipeline.database import Database
from fraud_pipeline.database.analyst_rules import save_rule, set_state
from fraud_pipeline.database.overview import read_case
from fraud_pipeline.database.rule_tables import RULES_VERSIONS
from fraud_pipeline.policy.analyst_rules import AnalystRule
from fraud_pipeline.schema.transactions import DAY, TransactionRow
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.waiting import until
from serving.runtime.rule_watch import RuleWatch


def test_a_running_watch_takes_a_rule_over_and_the_next_payment_is_blocked(database: Database) -> None:
    watch = RuleWatch(database, every=0.02)
    scorer = Scorer(database=database, champion=lambda: None, rules=watch.current)
    watch.check_now()
    watch.start()
    save_rule(database, AnalystRule("shop", 0, "block", "merchant_id = 'm-1'"), who="ann", reason="attack")
    scorer.score([TransactionRow("t-1", 20_000 * DAY, "c", "m-1", 100)])
    set_state(database, "shop", "active", who="ann", reason="attack")
    until(watch.current, what="the rule")
    scorer.score([TransactionRow("t-2", 20_000 * DAY + 1, "c", "m-1", 100)])
    set_state(database, "shop", "retired", who="ann", reason="over")
    until(lambda: watch.current() is None, what="the end of the rule")
    watch.close()
    before, case = read_case(database, "t-1"), read_case(database, "t-2")
    assert before is not None
    assert (before.decision, before.rule) == ("allow", None)
    assert case is not None
    assert (case.decision, case.rule, case.model_decision) == ("block", "shop@1", "allow")
    assert case.reasons == ("merchant_id = 'm-1'",)


def test_the_last_rules_stay_while_they_cannot_be_read(database: Database) -> None:
    watch = RuleWatch(database)
    save_rule(database, AnalystRule("shop", 0, "block", "amount > 1"), who="ann", reason="")
    set_state(database, "shop", "active", who="ann", reason="")
    watch.check_now()
    with database.transaction() as connection:
        connection.execute(sa.delete(RULES_VERSIONS))
    watch.check_now()
    rules = watch.current()
    assert rules is not None
    assert [rule.name for rule in rules.rules] == ["shop"]

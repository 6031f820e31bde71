"""Backtests of rules: as true of stored decisions as live, with NULLs and without history, and with right figures."""

from datetime import timedelta
from itertools import cycle, islice, product

import numpy as np
import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.database.rule_backtest import stored_days
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.analyst_rules import AnalystRule, RuleSet, checked
from fraud_pipeline.policy.backtest import wilson
from fraud_pipeline.policy.expressions import columns_of
from fraud_pipeline.policy.value_lists import NO_END, ValueList
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.rule_backtest import backtest_rule, matches_of_day, stored_names
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded

NOW = 20_000 * DAY
LISTS = {"some": ValueList.of({f"c-{number}": NOW + number * HOUR for number in range(5)} | {"m-2": NO_END})}
CONDITIONS = (
    "amount > 12.34 AND country <> 'DE'",
    "NOT (country = 'NG' OR latitude > 6)",
    "probability > 0.01 OR probability IS NULL",
    "customer_transaction_count_24h >= 2 AND customer_amount_max_24h > 1",
    "customer_transaction_count_30d = 0",
    "is_online = 1 AND hour BETWEEN 1 AND 9 AND weekday <> 7",
    "customer_id IN list('some') OR merchant_id NOT IN list('some')",
    "merchant_id IS NULL OR category ILIKE 'g%t'",
    "is_vip IS NOT FALSE AND device LIKE 'd-%'",
    "hours_since(opened) > 30 AND coalesce(device, 'x') <> 'x'",
)
OWN = {"is_vip": "boolean", "device": "identifier", "opened": "time"}


def rows(count: int) -> list[TransactionRow]:
    """Rows in order of time, with every mixture of missing values."""
    own = ('{"device":"d-1","is_vip":true,"opened":"1970-01-02"}', '{"is_vip":false,"device":"e"}', "{}", None)
    mixture = product(
        (None, "DE", "NG"), ("m-1", "m-2", "none"), ("online", "chip", None), own, (None, 5.5), (None, "gift")
    )
    return [
        TransactionRow(
            f"t-{number}",
            NOW + number * HOUR // 3,
            f"c-{number % 7}",
            merchant,
            1_000 + number * 7,
            category,
            channel,
            country,
            place,
            place,
            text,
        )
        for number, (country, merchant, channel, text, place, category) in enumerate(islice(cycle(mixture), count))
    ]


@pytest.fixture
def rules() -> RuleSet:
    conditions = [
        AnalystRule(f"r{number}", 1, "tag", text, own_types=OWN)  # type: ignore[arg-type]  # types of own fields
        for number, text in enumerate(CONDITIONS)
    ]
    return RuleSet(conditions, lists=LISTS)


def test_a_backtest_finds_exactly_what_matched_live(database: Database, trained: TrainedModel, rules: RuleSet) -> None:
    assert rules.broken == {}
    model = Loaded(trained.model)
    live: dict[str, set[str]] = {}
    sent = rows(360)
    for mode, champion, piece in (
        ("full", model, sent[:200]),
        ("no_history", model, sent[200:260]),
        ("full", None, sent[260:300]),
        ("fail_safe", None, sent[300:]),
    ):
        scorer = Scorer(database=database, champion=lambda champion=champion: champion, rules=lambda: rules)  # type: ignore[misc]  # bound now
        for at in range(0, len(piece), 50):
            for answer in scorer.score(piece[at : at + 50], mode=mode):  # type: ignore[arg-type]  # a mode
                assert isinstance(answer, ScoringResult)
                for match in answer.rule_matches:
                    live.setdefault(match.name, set()).add(answer.transaction_id)
    for rule in rules.rules:
        columns = frozenset(name for column in columns_of(checked(rule, lists=LISTS)) for name in stored_names(column))
        days = list(
            stored_days(database, start=NOW, end=NOW + 10 * DAY, label_maturity=timedelta(days=1), columns=columns)
        )
        again = {
            id_
            for day in days
            for id_, matched in zip(
                day.columns["transaction_id"], matches_of_day(day, RuleSet([rule], lists=LISTS))[0], strict=True
            )
            if matched
        }
        assert again == live.get(rule.name, set()), rule.expression
        assert 0 < len(again) < len(sent), f"{rule.expression} proves nothing"


def test_the_figures_count_frauds_legitimate_ones_and_unknown_labels(database: Database) -> None:
    scorer = Scorer(database=database, champion=lambda: None, clock=lambda: NOW + DAY)
    scorer.score([TransactionRow(f"t-{number}", NOW + number, "c", "m", 10_000 * number) for number in range(10)])
    scorer.score([TransactionRow("t-new", NOW + 100 * DAY, "c", "m", 90_000)])
    for number in (1, 8, 9):
        scorer.report(f"t-{number}", is_fraud=True)
    rule = AnalystRule("big", 1, "block", "amount >= 600")
    result = backtest_rule(
        database, rule, lists={}, days=101, label_maturity=timedelta(days=50), end=NOW + 100 * DAY + 1
    )
    assert (result.rows, result.matches, result.matched_frauds, result.matched_legitimate) == (11, 5, 2, 2)
    assert result.precision == 0.5
    assert result.recall == 2 / 3
    assert result.samples[:2] == ("t-new", "t-9")
    stopped = {
        answer.transaction_id
        for answer in (scorer.find(f"t-{n}") for n in range(10))
        if answer and answer.decision != "allow"
    }
    assert result.new_frauds == len({"t-8", "t-9"} - stopped)
    assert result.saved_cents == sum(10_000 * number for number in (8, 9) if f"t-{number}" not in stopped)
    nothing = backtest_rule(database, rule, lists={}, days=1, label_maturity=timedelta(days=1), end=NOW - DAY)
    assert (nothing.rows, nothing.precision, nothing.recall, nothing.samples) == (0, None, None, ())


def test_the_interval_is_wilsons() -> None:
    assert np.allclose(wilson(8, 10), (0.490, 0.943), atol=5e-4)  # type: ignore[arg-type]  # numbers
    assert wilson(0, 0) == (None, None)

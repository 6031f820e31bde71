"""Own fields in the scorer: the stored row is the offline one, the store answers replays, and nothing is dropped."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.history import (
    load_history,
    read_merchant_days,
    read_newest_decisions,
    read_reports,
    read_transactions,
)
from fraud_pipeline.database.overview import read_case
from fraud_pipeline.database.own_fields import typed
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.own_inputs import OwnInput, OwnInputs
from fraud_pipeline.monitoring.skew_audit import Audit, VersionedHistory, audit_each, with_tables
from fraud_pipeline.schema.own_fields import OwnField, own_fields_json
from fraud_pipeline.schema.transactions import DAY, FRAUD_REPORTS, TransactionRow, empty, microseconds
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.reason_texts import own_sentence
from fraud_pipeline.scoring.reasons import Reason, explain
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.own_models import OWN_FIELDS, own_model, with_own_fields
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY
from fraud_pipeline_tests.support.streams import transactions
from serving.runtime.champion import LoadedModel
from serving.runtime.shadow import Shadow

if TYPE_CHECKING:
    from fraud_pipeline.database.performance import ShadowRow

BEGINNING, END = pd.Timestamp(0, tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")
NO_MODEL_DECLARES = ("undeclared",)


@pytest.fixture(scope="module")
def champion() -> Loaded:
    return Loaded(own_model())


@pytest.fixture
def scorer(database: Database, champion: Loaded) -> Scorer:
    return Scorer(database=database, champion=lambda: champion)


def rows_with_own_fields(count: int, *, prefix: str = "t") -> list[TransactionRow]:
    rows = transactions(count, customers=20, end=20_000 * DAY, prefix=prefix)
    return [with_own_fields(row, number) for number, row in enumerate(rows)]


def get(loaded: Loaded) -> Loaded:
    return loaded


def results(answers: Sequence[ScoringResult | Conflict]) -> list[ScoringResult]:
    assert all(isinstance(answer, ScoringResult) for answer in answers)
    return [answer for answer in answers if isinstance(answer, ScoringResult)]


def offline(database: Database, config: FeatureConfig, ids: Sequence[str]) -> NDArray[np.uint32]:
    """The own inputs that training computes of typed columns."""
    rows = read_transactions(database, start=BEGINNING, end=END, with_own_fields=True).set_index("transaction_id")
    table = typed(rows.loc[list(ids)], config.own_inputs.fields)
    columns = {name: table[name] for name in config.own_inputs.names}
    values = config.own_inputs.values(columns, microseconds(table["event_time"]))
    return np.ascontiguousarray(values).view(np.uint32)


def served(database: Database, ids: Sequence[str], *, inputs: int) -> NDArray[np.uint32]:
    decisions = read_newest_decisions(database, limit=10_000).set_index("transaction_id")
    rows = np.frombuffer(b"".join(decisions.loc[list(ids), "features"]), np.uint32).reshape(len(ids), -1)
    return rows[:, -inputs:]


def audited(database: Database, configs: dict[str, FeatureConfig]) -> Audit:
    online = read_transactions(database, start=BEGINNING, end=END, with_version=True, with_own_fields=True)

    def known(config: FeatureConfig) -> VersionedHistory:
        everything = VersionedHistory(
            transactions=typed(online, config.own_inputs.fields),
            reports=read_reports(database, start=BEGINNING, end=END, with_version=True),
            merchant_days=read_merchant_days(database, start=BEGINNING, end=END, label_maturity=config.label_maturity),
        )
        table = typed(online, OWN_FIELDS[:5]).drop(columns="customer_version").head(10)
        return with_tables(everything, transactions=table, reports=everything.reports.drop(columns="version"))

    decisions = read_newest_decisions(database, limit=10_000)
    return audit_each(decisions, known, configs=configs, unnamed=FeatureConfig(label_maturity=LABEL_MATURITY))


def test_the_stored_own_inputs_are_those_that_training_computes(
    database: Database, scorer: Scorer, champion: Loaded
) -> None:
    rows = rows_with_own_fields(60)
    for first in range(0, 60, 7):
        scorer.score(rows[first : first + 7])
    ids, config = [row.transaction_id for row in rows], champion.model.feature_config
    expected = offline(database, config, ids)
    assert (served(database, ids, inputs=expected.shape[1]) == expected).all()
    values = expected.view(np.float32)
    assert len(config.own_inputs.names) == expected.shape[1] > 36
    assert (~np.isnan(values)).mean() > 0.5
    assert (np.nanstd(values[:, 4:], axis=0) > 0).all()


@pytest.mark.slow
def test_each_decision_is_audited_with_its_own_inputs(database: Database, scorer: Scorer, champion: Loaded) -> None:
    """Decisions by rules are of a configuration that this audit does not get."""
    scorer.score(rows_with_own_fields(30))
    other = Loaded(own_model(OWN_FIELDS[:4]), version="2")
    Scorer(database=database, champion=lambda: other).score(rows_with_own_fields(30, prefix="u"))
    Scorer(database=database, champion=lambda: None).score(rows_with_own_fields(5, prefix="v"))
    configs = {config.id: config for config in (champion.model.feature_config, other.model.feature_config)}
    verdict = audited(database, configs)
    assert verdict.compared == 65
    assert verdict.different == 5
    assert "not kept" in verdict.features[0]
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE transactions SET own_fields = NULL WHERE transaction_id = 't29'")
    spoilt = audited(database, configs)
    assert spoilt.different == 6
    assert {"age", "score_3"} & set(spoilt.features)


@pytest.mark.slow
def test_a_replay_is_answered_from_the_store_and_other_own_fields_are_another_transaction(
    database: Database, champion: Loaded
) -> None:
    """Also after a change to a champion that declares other fields."""
    serving: list[Loaded | None] = [champion]
    scorer = Scorer(database=database, champion=lambda: serving[0])
    rows = rows_with_own_fields(10)
    before = results(scorer.score(rows))
    for now in (Loaded(own_model(OWN_FIELDS[:2]), version="2"), None):
        serving[0] = now
        again = results(scorer.score(rows))
        assert again == [replace(result, replayed=True) for result in before]
    assert scorer.find(rows[0].transaction_id) == replace(before[0], replayed=True)
    changed = rows[0]._replace(own_fields='{"age":19}')
    without = rows[1]._replace(own_fields=None)
    assert scorer.score([changed, without]) == [Conflict("t0"), Conflict("t1")]
    first, second = (rows_with_own_fields(1, prefix="w")[0], rows_with_own_fields(1, prefix="w")[0])
    assert second == first
    answers = scorer.score([first, second._replace(own_fields='{"age":20}')])
    assert answers[1] == Conflict("w0")


@pytest.mark.parametrize("mode", ["full", "no_history", "rules", "fail_safe"])
def test_own_fields_that_the_decision_did_not_use_are_stored_and_listed(
    database: Database, scorer: Scorer, mode: Any
) -> None:
    row = transactions(1, customers=1, end=20_000 * DAY)[0]
    row = row._replace(own_fields=own_fields_json({"age": 31, "undeclared": 7, "device_id": "d-1"}))
    (result,) = results(scorer.score([row], mode=mode))
    used = mode in ("full", "no_history")
    assert result.unused_fields == (NO_MODEL_DECLARES if used else ("age", "device_id", "undeclared"))
    with scoring_batch(database, read_only=True) as batch:
        event, decision = batch.stored([row.transaction_id])[row.transaction_id]
    assert event == row
    assert decision is not None
    case = read_case(database, row.transaction_id)
    assert case is not None
    assert case.own_fields == {"age": 31, "device_id": "d-1", "undeclared": 7}
    assert case.unused_fields == result.unused_fields


def test_a_value_that_fits_no_longer_is_missing(database: Database, scorer: Scorer, champion: Loaded) -> None:
    """As when the champion changes between the reading of a request and its decision."""
    row = transactions(1, customers=1, end=20_000 * DAY)[0]._replace(own_fields='{"age":"old","fee":2.5}')
    scorer.score([row])
    names = champion.model.feature_config.own_inputs.names
    values = served(database, [row.transaction_id], inputs=len(names)).view(np.float32)[0]
    assert np.isnan(values[names.index("age")])
    assert values[names.index("fee")] == 2.5


def test_a_reason_may_be_an_own_input(scorer: Scorer, champion: Loaded) -> None:
    answers = results(scorer.score(rows_with_own_fields(60)))
    names = champion.model.feature_config.own_inputs.names
    codes = {reason.code for answer in answers for reason in answer.reasons}
    assert codes & {f"feature.{name}" for name in names}


@pytest.mark.parametrize(
    ("own", "value", "text"),
    [
        (OwnInput("device_type", "category", ("desktop", "mobile")), 1.0, "device_type is mobile"),
        (
            OwnInput("device_type", "category", ("desktop",)),
            np.nan,
            "device_type not given, or rarely seen in training",
        ),
        (OwnInput("age", "number"), 31.0, "age is 31"),
        (OwnInput("age", "number"), float(np.float32(0.1)), "age is 0.1"),
        (OwnInput("age", "number"), 3e38, "age is over 1,000,000,000"),
        (OwnInput("age", "number"), np.nan, "age not given"),
        (OwnInput("new_device", "flag"), 1.0, "new_device is true"),
        (OwnInput("new_device", "flag"), 0.0, "new_device is false"),
        (OwnInput("account_opened", "age"), 3.0, "account_opened is 3 days ago"),
        (OwnInput("card_expires", "age"), -90.0, "card_expires is 90 days ahead"),
    ],
)
def test_the_sentence_of_an_own_input(own: OwnInput, value: float, text: str) -> None:
    assert own_sentence(own, value) == text


def test_a_sentence_of_any_category_is_short() -> None:
    assert len(own_sentence(OwnInput("memo", "category", ("x" * 1_000,)), 0.0)) == 120


def test_own_inputs_are_reasons_also_without_history() -> None:
    own = OwnInputs(inputs=(OwnInput("age", "number"), OwnInput("kind", "category", ("a", "b"))))
    reasons = explain(
        contributions=np.array([3.0, 1.0, 2.0], np.float32),
        values=np.array([9.0, 31.0, 1.0], np.float32),
        features=("customer_transaction_count_24h", "age", "kind"),
        rules_fired=(),
        own_inputs=own,
        without_history=True,
    )
    assert reasons == (Reason("feature.kind", "kind is b"), Reason("feature.age", "age is 31"))


@pytest.mark.slow
def test_a_challenger_of_other_own_inputs_is_compared_on_its_own_encoding(database: Database) -> None:
    """The champion may see none of them, or other ones."""
    kept: list[ShadowRow] = []
    challenger = LoadedModel(own_model(OWN_FIELDS[:6], seed=3), version="2", sha256="2" * 64, loaded_at="")
    rows = rows_with_own_fields(40)
    expected: list[ScoringResult] = []
    with closing(Database("sqlite://")) as alone:
        alone.upgrade()
        by_challenger = Scorer(database=alone, champion=lambda: challenger)
        for version, model in (("1", own_model()), ("3", own_model(OWN_FIELDS[6:8], seed=5))):
            renamed = [row._replace(transaction_id=f"{version}-{row.transaction_id}") for row in rows]
            champion, shadow = (
                Loaded(model, version=version, sha256=version * 64),
                Shadow(lambda: challenger, keep=kept.extend),
            )
            Scorer(database=database, champion=partial(get, champion), shadow=shadow).score(renamed)
            shadow.close()
            expected += results(by_challenger.score(renamed))
    assert {row.champion for row in kept} == {"1", "3"}
    assert {row.transaction_id: row.challenger_probability for row in kept} == {
        result.transaction_id: result.probability for result in expected
    }
    assert len({row.challenger_probability for row in kept}) > 20


def test_own_fields_of_tables_are_loaded_as_requests_spell_them(database: Database) -> None:
    """So a transaction that was loaded and is sent later is the same one, and is decided on."""
    rows = rows_with_own_fields(20)
    with closing(Database("sqlite://")) as other:
        other.upgrade()
        with scoring_batch(other) as batch:
            batch.remember(rows)
        table = typed(
            read_transactions(other, start=BEGINNING, end=END, with_own_fields=True),
            [*OWN_FIELDS, OwnField(name="undeclared", type="number")],
        )
    load_history(database, transactions=table, reports=empty(FRAUD_REPORTS))
    with scoring_batch(database, read_only=True) as batch:
        stored = {id_: event for id_, (event, _) in batch.stored([row.transaction_id for row in rows]).items()}
    assert stored == {row.transaction_id: row for row in rows}

"""A repeated or missing transaction id is an error at every join, never a label beside another row's features."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.defs.checks import label_leak_verdicts
from fraud_pipeline.defs.drift import sample
from fraud_pipeline.modeling.dataset import labels_as_of
from fraud_pipeline.modeling.training import PolicySettings, TrainedModel
from fraud_pipeline.monitoring.missed_fraud import allowed_frauds
from fraud_pipeline.monitoring.performance import EvaluationPeriod, assess
from fraud_pipeline.policy.holdout import Holdout
from fraud_pipeline.schema.joins import JoinError, positions_of, rows_of
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables

DAY = date(2026, 2, 1)
IDS = st.lists(st.text("abc", min_size=1, max_size=3), unique=True, min_size=1, max_size=20)


class TestRows:
    @given(ids=IDS, shuffle=st.randoms(use_true_random=False), data=st.data())
    def test_stand_in_the_order_that_was_asked_for(self, ids: list[str], shuffle: Random, data: st.DataObject) -> None:
        frame = pd.DataFrame({"transaction_id": ids, "value": range(len(ids))}).set_index(pd.Index([0] * len(ids)))
        order = data.draw(st.lists(st.sampled_from(ids), unique=True))
        shuffle.shuffle(order)
        rows = rows_of(frame, pd.Series(order, dtype=object), table="transactions")
        assert rows["transaction_id"].tolist() == order
        assert rows["value"].tolist() == [ids.index(name) for name in order]
        assert rows.index.tolist() == list(range(len(order)))

    @given(ids=IDS, data=st.data())
    def test_a_repeated_id_on_either_side_is_an_error_that_tells_no_id(
        self, ids: list[str], data: st.DataObject
    ) -> None:
        twice = data.draw(st.permutations([*ids, data.draw(st.sampled_from(ids))]))
        once = pd.Series(ids, dtype=object)
        with pytest.raises(JoinError, match=r"table 'transactions' holds 1 of \d+ rows whose transaction_id is rep"):
            rows_of(pd.DataFrame({"transaction_id": twice}), once, table="transactions")
        with pytest.raises(JoinError, match=r"table 'rows beside transactions' holds 1 of"):
            positions_of(pd.DataFrame({"transaction_id": ids}), pd.Series(twice, dtype=object), table="transactions")

    def test_a_missing_id_is_an_error_where_each_row_needs_one(self) -> None:
        frame, ids = pd.DataFrame({"transaction_id": ["a"]}), pd.Series(["b", "a"])
        with pytest.raises(JoinError, match="lacks 1 of 2 transactions .* materialize both again"):
            rows_of(frame, ids, table="transactions")
        assert positions_of(frame, ids, table="transactions").tolist() == [-1, 0]


class World:
    """The same day for every join: features, transactions and reports, of which each test plants one twice."""

    def __init__(self, tables: Tables, trained: TrainedModel, policy: PolicySettings, path: Path) -> None:
        on_day = tables.transactions["event_time"].dt.date == DAY
        self.transactions = tables.transactions[on_day].reset_index(drop=True)
        self.features = tables.features[on_day.to_numpy()].reset_index(drop=True)
        self.tables, self.trained, self.policy, self.path = tables, trained, policy, path

    def served(self) -> pd.DataFrame:
        rows: pd.DataFrame = self.transactions[["transaction_id"]].iloc[:3].assign(decision="allow", probability=0.1)
        return rows

    def train(self) -> object:
        return self.tables.__class__(
            transactions=self.all(self.tables.transactions, self.transactions),
            reports=self.tables.reports,
            features=self.all(self.tables.features, self.features),
            as_of=self.tables.as_of,
        ).training_set()

    @staticmethod
    def all(whole: pd.DataFrame, day: pd.DataFrame) -> pd.DataFrame:
        other_days = whole[whole["event_time"].dt.date != DAY]
        rows: pd.DataFrame = pd.concat([other_days, day]).sort_values("event_time", kind="stable", ignore_index=True)
        return rows

    def drift(self) -> object:
        store = TableStore(self.path)
        for name, rows in (("transactions", self.transactions), ("features", self.features)):
            store.write_days(name, rows, time_column="event_time", days=[DAY])
        return sample(store, self.trained.model, [DAY])

    def performance(self) -> object:
        return assess(
            self.trained.model,
            self.features,
            self.transactions,
            self.tables.reports,
            self.served(),
            window=EvaluationPeriod("matured", DAY, DAY),
            label_maturity=LABEL_MATURITY,
            as_of=self.tables.as_of,
            policy=self.policy,
            replicates=3,
        )

    def missed_fraud(self) -> object:
        return allowed_frauds(self.trained.model, self.features, self.transactions, self.served())

    def labels(self) -> object:
        return labels_as_of(
            self.transactions, self.tables.reports, as_of=self.tables.as_of, label_maturity=LABEL_MATURITY
        )

    def leak_checks(self) -> object:
        labelled = self.features.assign(label=(np.arange(len(self.features)) == 0).astype(float))
        return label_leak_verdicts(labelled, self.transactions)

    def holdout(self) -> object:
        blocked = self.transactions[["transaction_id"]].assign(held_out=False, by_model=True, share=0.1)
        return Holdout.of(self.features["transaction_id"], blocked, days=np.zeros(len(self.features), np.int64))


JOINS: dict[str, Callable[[World], object]] = {
    "training set": World.train,
    "drift report": World.drift,
    "performance report": World.performance,
    "missed fraud": World.missed_fraud,
    "labels": World.labels,
    "leak checks": World.leak_checks,
    "holdout": World.holdout,
}


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS.keys())
class TestPlanted:
    @pytest.fixture
    def world(self, tables: Tables, trained: TrainedModel, policy_settings: PolicySettings, tmp_path: Path) -> World:
        return World(tables, trained, policy_settings, tmp_path)

    def test_rows_that_belong_together_pass(self, world: World, join: Callable[[World], object]) -> None:
        join(world)

    def test_a_transaction_that_is_there_twice_is_an_error(self, world: World, join: Callable[[World], object]) -> None:
        """As two days that share an id look when they are read together."""
        world.transactions = pd.concat([world.transactions, world.transactions.iloc[[7]]], ignore_index=True)
        with pytest.raises(JoinError, match="transaction_id is repeated"):
            join(world)

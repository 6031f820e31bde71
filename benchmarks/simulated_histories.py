"""Simulated histories of synthetic worlds, with a champion that was trained on their first days.

Belongs here: code that the benchmarks of the daily reports share. Must not be here: output.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pandas as pd

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.generator.drift_schedule import Drift
from fraud_pipeline.ingest.sources import TransactionSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import PolicySettings, TuningSettings, build_training_set, train_model
from fraud_pipeline.monitoring.drift import SCORE
from fraud_pipeline.monitoring.missed_fraud import (
    MissedFraudReport,
    active_customers,
    allowed_frauds,
    missed_fraud_report,
    unseen_from,
)
from fraud_pipeline.policy.decisions import CostModel
from fraud_pipeline.schema.joins import rows_of

MATURITY: Final = timedelta(days=21)
TRAINED: Final = 120
START: Final = TRAINED + 10
"""The first judged day of the world, on which changes begin."""
WATCHED_AFTER: Final = 28
HELD_OUT_SEED: Final = 11
"""The first seed that was not used to choose the methods."""
AT_ONCE: Final = 10_000
"""Customers per group whose features are in memory together; the champion is trained on the first group."""
NOTHING_SERVED: Final = pd.DataFrame({"transaction_id": [], "decision": []}, dtype=object)


@dataclass(frozen=True)
class World:
    """The inputs of the daily reports on a world and its champion; `rows` are features, score, owners and day."""

    first_day: date
    label_maturity: timedelta
    champion: FraudModel
    allowed: pd.DataFrame
    reports: pd.DataFrame
    customers: dict[date, int]
    rows: pd.DataFrame

    def missed_fraud(self, day: int) -> MissedFraudReport:
        """The report on missed fraud of a day of the world."""
        return missed_fraud_report(
            self.first_day + timedelta(days=day),
            self.allowed,
            self.reports,
            self.customers,
            champion="1",
            first=unseen_from(self.champion),
            label_maturity=self.label_maturity,
        )


def first_red(red: Iterable[bool]) -> int | None:
    """The number of days before the first red day; None without a red day."""
    return next((day for day, is_red in enumerate(red) if is_red), None)


def median_days(days_until: Sequence[int | None]) -> float | None:
    """The median over several worlds; None when most of them never detect the change."""
    seen = [day for day in days_until if day is not None]
    return float(np.median(seen)) if 2 * len(seen) > len(days_until) else None


def in_words(days_until: Sequence[int | None]) -> str:
    """Days until red of several worlds, as text."""
    return ", ".join("never" if day is None else str(day) for day in days_until)


def moved(drift: Drift) -> Drift:
    """The same change, moved to the start of the judged days."""
    last = None if drift.last is None else START + drift.last - drift.first
    return Drift(name=drift.name, first=START, last=last, strength=drift.strength)


def simulate(
    *,
    seed: int,
    customers: int,
    watched: int,
    drifts: tuple[Drift, ...] = (),
    champion: FraudModel | None = None,
    rows_from: int | None = None,
) -> World:
    """Simulate a synthetic world that is judged for some days, see `simulate_days`.

    The worlds of a seed are equal before changes begin, so they can share a champion.
    """
    config = WorldConfig(seed=seed, customers=customers, drifts=drifts)
    return simulate_days(
        SyntheticWorld(config),
        first_day=config.first_day,
        trained=TRAINED,
        days=START + watched,
        label_maturity=MATURITY,
        champion=champion,
        rows_from=rows_from,
    )


def simulate_days(
    source: TransactionSource,
    *,
    first_day: date,
    trained: int,
    days: int,
    label_maturity: timedelta,
    champion: FraudModel | None = None,
    rows_from: int | None = None,
) -> World:
    """Simulate the days of a source; the champion is trained on the first of them, unless one is given.

    It has one trial, since the reports are the question, and a budget of one alert a day for a hundred of the customers
    that it learns from. `rows_from` is the first day of which rows are kept; None keeps none.
    """
    start = pd.Timestamp(first_day, tz="UTC")
    now, end = start + pd.Timedelta(days=trained), start + pd.Timedelta(days=days)
    transactions = validate(source.transactions(start=start, end=end), now=end).accepted
    reports = source.reports(start=start, end=end)
    by_merchant = merchant_days(transactions, reports, label_maturity=label_maturity)
    allowed, scored = [], []
    customer = pd.factorize(transactions["customer_id"])[0]
    group, budget = customer // AT_ONCE, min(customer.max() + 1, AT_ONCE) / 100
    for number in range(group.max() + 1):
        # A customer's features depend only on that customer and on merchants, which are the same for all groups.
        of_group = transactions[group == number].reset_index(drop=True)
        history = History(transactions=of_group.iloc[:0], reports=reports, merchant_days=by_merchant)
        features = FeatureEngineer(label_maturity=label_maturity).compute(history=history, new=of_group)
        champion = champion or _trained(
            features, of_group, reports, now=now, label_maturity=label_maturity, alert_budget=budget
        )
        features = with_own_inputs(features, of_group, champion.feature_config.own_inputs)
        unseen = features["event_time"] >= pd.Timestamp(unseen_from(champion), tz="UTC")
        unseen &= features["transaction_id"].isin(reports["transaction_id"])
        allowed.append(allowed_frauds(champion, features[unseen], of_group, NOTHING_SERVED))
        if rows_from is not None:
            day = ((features["event_time"] - start) // pd.Timedelta(days=1)).to_numpy()
            kept = features[day >= rows_from].reset_index(drop=True)
            whose = rows_of(of_group, kept["transaction_id"], table="transactions")[["customer_id", "merchant_id"]]
            values = champion.values(kept)
            encoded = pd.DataFrame(values, columns=pd.Index(champion.features))
            with_scores = kept[["transaction_id", "event_time"]].join(encoded)
            with_scores = with_scores.assign(**{SCORE: champion.probabilities(values), "day": day[day >= rows_from]})
            scored.append(pd.concat([with_scores, whose], axis=1))
        del features
        gc.collect()
    assert champion is not None  # noqa: S101 - there is a first group
    return World(
        first_day=first_day,
        label_maturity=label_maturity,
        champion=champion,
        allowed=pd.concat(allowed, ignore_index=True),
        reports=reports,
        customers=active_customers(transactions.groupby(transactions["event_time"].dt.date)["customer_id"]),
        rows=pd.concat(scored, ignore_index=True) if scored else pd.DataFrame(),
    )


def _trained(
    features: pd.DataFrame,
    transactions: pd.DataFrame,
    reports: pd.DataFrame,
    *,
    now: pd.Timestamp,
    label_maturity: timedelta,
    alert_budget: float,
) -> FraudModel:
    policy = PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=alert_budget)
    training_set, _ = build_training_set(
        features[features["event_time"] < now].reset_index(drop=True),
        transactions[transactions["event_time"] < now],
        reports[reports["reported_at"] < now],
        as_of=now,
        label_maturity=label_maturity,
        gap=timedelta(days=3),
        warm_up=timedelta(days=14),
    )
    return train_model(
        training_set,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=policy,
        feature_config=FeatureConfig(label_maturity=label_maturity),
        lineage={},
    ).model

"""Measures how long the retraining loop needs to learn a fraud that did not exist at the champion's training.

    python benchmarks/retrain.py [--days N] [--held-out-days N] [--n-trials N] [--training-days N] [--strength X]

In a synthetic world wallet theft appears on day 150, and nothing else changes. From then on every day runs as in the
pipeline: the champion's performance report at the end of the day, a training when it turns red and one every Monday,
and the gate, which alone decides on the champion. Only labels that are known at the time are used.

Recall is measured on the days after the simulation: no model was trained, tuned, calibrated or judged on them, and all
models are measured on the same thefts. A theft is caught when its score is among the highest of its day that fit into
the alert budget, so that thresholds make no difference. The generator's truth counts.

`recall_before` is that of the champion when wallet theft began, `recall_after` that of the last champion, and `gain`
the difference on the same thefts. `recall_learnable` is that of the same trees and features fitted on every simulated
day with the truth and no delay, which is the most that retraining can reach. `recall_oracle` is that of the oracle,
which knows the generator. Intervals are 95 %, customers resampled.

`days_to_recover` counts from the first day of wallet theft to the first recovered champion; null if there is none. A
champion has recovered when it and all later ones catch significantly more thefts than the first champion, and as many
as `recall_learnable` up to the tolerance of the performance report. `days_until_learned_from` counts to the first
champion whose trees saw any theft. Prints a line per event and, as its last line, one JSON object.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.features.own_inputs import FIXED_INPUTS
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.generator.drift_schedule import Drift
from fraud_pipeline.generator.story import NEW_SCENARIO
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.evaluation import Evaluation, Interval
from fraud_pipeline.modeling.metrics import Floats, budget_shares, customer_resamples, ratio
from fraud_pipeline.modeling.model_directory import FraudModel, fit_booster
from fraud_pipeline.modeling.training import (
    PolicySettings,
    TuningSettings,
    build_training_set,
    days,
    evaluate_model,
    model_frame,
    part,
    segments,
    train_model,
)
from fraud_pipeline.monitoring.performance import PerformanceReport, assess, seen_to, windows
from fraud_pipeline.monitoring.performance_comparison import TOLERANCE, compare
from fraud_pipeline.policy.decisions import CostModel, decide
from fraud_pipeline.promotion.gate import gate_verdict
from fraud_pipeline.promotion.verdict import GateRules, GateVerdict
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.settings import Settings

START: Final = 150
FEW_REPLICATES: Final = 100
REPLICATES: Final = 1_000
NOTHING_SERVED: Final = pd.DataFrame({"transaction_id": [], "decision": [], "probability": []}, dtype=object)


@dataclass(frozen=True)
class Champion:
    """A model, its evaluation at promotion, and the day of its promotion."""

    model: FraudModel
    promised: Evaluation
    since: int


@dataclass(frozen=True)
class Life:
    """All events of the world and the truth about them; methods use only what was known at their time."""

    settings: Settings
    policy: PolicySettings
    transactions: pd.DataFrame
    reports: pd.DataFrame
    features: pd.DataFrame
    truth: pd.DataFrame
    n_trials: int
    training_days: int

    def instant(self, day: int) -> pd.Timestamp:
        """Midnight at the start of a day of the world."""
        return pd.Timestamp(self.settings.first_day, tz="UTC") + pd.Timedelta(days=day)

    def rows(self, table: pd.DataFrame, first: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        return table[(table["event_time"] >= first) & (table["event_time"] < end)].reset_index(drop=True)

    def train(self, day: int, champion: Champion | None) -> tuple[Champion, GateVerdict]:
        """A challenger trained at the start of a day, and the gate's verdict on it."""
        now = self.instant(day)
        first = now - pd.Timedelta(days=self.training_days or day)
        rows, _ = build_training_set(
            self.rows(self.features, first, now),
            self.rows(self.transactions, first, now),
            self.reports[self.reports["reported_at"] < now],
            as_of=now,
            label_maturity=self.settings.label_maturity,
            gap=self.settings.gap,
            warm_up=self.settings.warm_up,
        )
        tuning = TuningSettings(n_trials=self.n_trials, seed=self.settings.seed)
        config = FeatureConfig(label_maturity=self.settings.label_maturity)
        model = train_model(rows, tuning=tuning, policy=self.policy, feature_config=config, lineage={}).model
        test = part(rows, "test")
        verdict = gate_verdict(
            model.predict(test),
            champion.model.predict(test) if champion else None,
            test["label"].to_numpy(np.float64),
            at_stake=test["amount_cents"].to_numpy(np.float64),
            customers=test["customer_id"].to_numpy(),
            days=days(test),
            alert_budget_per_day=self.policy.alert_budget_per_day,
            rules=GateRules(),
            segments=segments(test),
        )
        promised = evaluate_model(model, test, policy=self.policy)
        return Champion(model=model, promised=promised, since=day), verdict

    def report(self, day: int, champion: Champion) -> PerformanceReport:
        """The champion's performance report at the end of a day."""
        today: date = self.instant(day).date()
        assessments = [
            assess(
                champion.model,
                self.rows(self.features, *_bounds(window.first, window.last)),
                self.rows(self.transactions, *_bounds(window.first, window.last)),
                self.reports,
                NOTHING_SERVED,
                window=window,
                label_maturity=self.settings.label_maturity,
                as_of=self.instant(day + 1),
                policy=self.policy,
                replicates=FEW_REPLICATES,
            )
            for window in windows(
                today,
                label_maturity=self.settings.label_maturity,
                seen=seen_to(champion.model),
            )
            if window.kind == "matured"
        ]
        findings = compare(assessments[0].evaluation, champion.promised) if assessments else ()
        return PerformanceReport(
            day=today, champion=str(champion.since), assessments=tuple(assessments), findings=findings
        )

    def served(self, model: FraudModel, first: int, end: int) -> str:
        """The frauds that a champion caught on its days [first, end), by its own thresholds, in words."""
        rows = self.rows(self.features, self.instant(first), self.instant(end))
        caught = decide(model.predict(rows), model.policy, amounts_cents=rows["amount_cents"].to_numpy()) != "allow"
        new, fraud = self.is_theft(rows), self.is_fraud(rows)
        other_frauds = fraud & ~new
        return (
            f"{caught[new].sum()} of {new.sum()} thefts, "
            f"{caught[other_frauds].sum()} of {other_frauds.sum()} other frauds "
            f"at {caught.sum() / max(end - first, 1):.1f} alerts a day"
        )

    def is_theft(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """By the truth, shape (n,)."""
        return np.asarray(self.truth.loc[rows["transaction_id"], "kind"] == NEW_SCENARIO)

    def is_fraud(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """By the truth, shape (n,)."""
        return np.asarray(self.truth.loc[rows["transaction_id"], "is_fraud"], dtype=np.bool_)

    def thefts_seen(self, model: FraudModel) -> int:
        """The number of thefts among the rows that the trees were fitted on."""
        first, last = (pd.Timestamp(model.lineage[name]) for name in ("trained_from", "trained_to"))
        return int(self.is_theft(self.rows(self.features, first, last + pd.Timedelta(microseconds=1))).sum())

    def informed(self, model: FraudModel, end: int) -> FraudModel:
        """The same trees fitted on the truth about every day before `end`."""
        rows = self.rows(self.features, self.instant(0) + self.settings.warm_up, self.instant(end))
        booster = fit_booster(
            model_frame(rows, model.feature_config),
            self.is_fraud(rows).astype(np.float64),
            parameters=model.lineage["parameters"],
            rounds=model.lineage["rounds"],
            seed=self.settings.seed,
            feature_types=model.feature_config.feature_types(model.features),
        )
        return replace(model, booster=booster)


class HeldOut:
    """Held-out days after the simulation: the frauds among the alerts within the budget, for any scores."""

    def __init__(self, lived: Life, *, first: int, end: int) -> None:
        self.rows = lived.rows(lived.features, lived.instant(first), lived.instant(end))
        self._days = days(self.rows)
        self._budget = lived.policy.alert_budget_per_day
        self._fraud = lived.is_fraud(self.rows)
        self._theft = lived.is_theft(self.rows)[self._fraud]
        truth = lived.truth.loc[self.rows["transaction_id"]]
        self.oracle = truth["oracle_score"].to_numpy(np.float64)
        self.thefts = int(self._theft.sum())
        self.episodes = int(truth.loc[self._fraud, "episode_id"][self._theft].nunique())
        owner = rows_of(lived.transactions, self.rows["transaction_id"], table="transactions")["customer_id"]
        _, self._customers = np.unique(owner[self._fraud], return_inverse=True)

    def caught(self, scores: Floats) -> Floats:
        """1 for each fraud among the alerts and 0 for others; equal scores at the cut share the rest of the budget."""
        labels = self._fraud.astype(np.float64)
        shares = budget_shares(scores, labels, self._days, np.ones((1, len(scores))), budget=self._budget)
        return shares.ravel()

    def recall(self, caught: Floats, *, thefts: bool = True) -> Interval:
        """Share of the thefts, or of the other frauds, that was caught; for a difference of two, the gain."""
        among = self._theft if thefts else ~self._theft
        _, customers = np.unique(self._customers[among], return_inverse=True)
        blocks = customer_resamples(int(customers.max(initial=-1)) + 1, len(customers), replicates=REPLICATES, seed=0)
        shares = (ratio(drawn[:, customers] @ caught[among], drawn[:, customers].sum(axis=1)) for drawn in blocks)
        return Interval.of(np.concatenate(list(shares)))


def _bounds(first: date, last: date) -> tuple[pd.Timestamp, pd.Timestamp]:
    return pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1)


def life(*, length: int, n_trials: int, training_days: int, strength: float) -> Life:
    settings = Settings()
    drifts = (Drift(name="new_scenario", first=START, strength=strength),)
    world = SyntheticWorld(
        WorldConfig(seed=settings.seed, difficulty=settings.difficulty, first_day=settings.first_day, drifts=drifts)
    )
    start = pd.Timestamp(settings.first_day, tz="UTC")
    end = start + pd.Timedelta(days=length)
    transactions = validate(world.transactions(start=start, end=end), now=end).accepted
    reports = world.reports(start=start, end=end)
    history = History(
        transactions=transactions.iloc[:0],
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=settings.label_maturity),
    )
    features = FeatureEngineer(label_maturity=settings.label_maturity).compute(history=history, new=transactions)
    costs = CostModel(
        review_cost_cents=settings.review_cost_cents, false_block_cost_cents=settings.false_block_cost_cents
    )
    return Life(
        settings=settings,
        policy=PolicySettings(
            costs=costs,
            precision_floor=settings.precision_floor,
            alert_budget_per_day=settings.alert_budget_per_day,
        ),
        transactions=transactions,
        reports=reports,
        features=features.assign(**transactions[list(FIXED_INPUTS)]),
        truth=world.oracle(start=start, end=end).set_index("transaction_id"),
        n_trials=n_trials,
        training_days=training_days,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="how the loop learns a new fraud")
    parser.add_argument("--days", type=int, default=290, help="days of the world that are simulated")
    parser.add_argument("--held-out-days", type=int, default=400, help="days after them, on which recall is measured")
    parser.add_argument("--n-trials", type=int, default=Settings.model_fields["n_trials"].default)
    parser.add_argument("--training-days", type=int, default=0, help="number of newest days for training; 0: all")
    parser.add_argument("--strength", type=float, default=1.0, help="of wallet theft; 1: as in the default world")
    arguments = parser.parse_args()
    began, length = time.perf_counter(), arguments.days + arguments.held_out_days
    lived = life(
        length=length,
        n_trials=arguments.n_trials,
        training_days=arguments.training_days,
        strength=arguments.strength,
    )
    print(f"{len(lived.transactions):,} transactions, features in {time.perf_counter() - began:.0f} s", flush=True)
    held_out = HeldOut(lived, first=arguments.days, end=length)
    story = live(lived, held_out, end=arguments.days)
    ends = [*(champion.since for champion in story.reign[1:]), arguments.days]
    for champion, end in zip(story.reign, ends, strict=True):
        served = lived.served(champion.model, champion.since, end)
        print(f"champion from day {champion.since - START:3}: served, it caught {served}")
    print(json.dumps(figures(lived, held_out, story, end=arguments.days)))


@dataclass(frozen=True)
class Story:
    """The course of the simulation: champions, days with an alarm, and why challengers were held back."""

    reign: list[Champion]
    newest: FraudModel
    alarms: list[int]
    trainings: int
    held_back: Counter[str]


def live(lived: Life, held_out: HeldOut, *, end: int) -> Story:
    """Simulate every day from the first of wallet theft to `end`."""
    champion, _ = lived.train(START, None)
    reign, newest, red, alarms, trainings = [champion], champion.model, False, list[int](), 0
    held_back: Counter[str] = Counter()
    for day in range(START, end - 1):
        degraded = lived.report(day, champion).degraded
        alarm, red = degraded and not red, degraded
        if alarm:
            alarms.append(day - START)
            print(f"day {day - START:3}: the report turned red", flush=True)
        monday = lived.instant(day + 1).weekday() == 0
        if not (alarm or monday):
            continue
        challenger, verdict = lived.train(day + 1, champion)
        trainings, newest = trainings + 1, challenger.model
        failed = [reason.check for reason in verdict.reasons if not reason.passed]
        held_back.update(failed)
        why = f" for {', '.join(failed)}" if failed else ""
        print(
            f"day {day + 1 - START:3}: trained, its trees saw {lived.thefts_seen(challenger.model)} thefts; "
            f"{verdict.decision}{why}; "
            f"recall {held_out.recall(held_out.caught(challenger.model.predict(held_out.rows)))}",
            flush=True,
        )
        if verdict.decision == "promote":
            champion, red = challenger, False
            reign.append(champion)
    return Story(reign=reign, newest=newest, alarms=alarms, trainings=trainings, held_back=held_back)


def figures(lived: Life, held_out: HeldOut, story: Story, *, end: int) -> dict[str, Any]:
    """The figures of the last line."""
    caught = [held_out.caught(champion.model.predict(held_out.rows)) for champion in story.reign]
    recall = [held_out.recall(frauds) for frauds in caught]
    gain = [held_out.recall(frauds - caught[0]) for frauds in caught]
    learnable = held_out.recall(held_out.caught(lived.informed(story.newest, end).predict(held_out.rows)))
    oracle = held_out.recall(held_out.caught(held_out.oracle))
    recall_of_others = [held_out.recall(frauds, thefts=False) for frauds in (caught[0], caught[-1])]
    good = [
        increase.low > 0 and interval.value >= learnable.value - TOLERANCE
        for interval, increase in zip(recall, gain, strict=True)
    ]
    recovered = next((at for at in range(len(good)) if all(good[at:])), None)
    learned = next((champion.since - START for champion in story.reign if lived.thefts_seen(champion.model)), None)
    return {
        "recall_before": _rounded(recall[0].value),
        "recall_after": _rounded(recall[-1].value),
        "days_to_recover": None if recovered is None else story.reign[recovered].since - START,
        "days_until_learned_from": learned,
        "gain": _rounded(gain[-1].value),
        "recall_learnable": _rounded(learnable.value),
        "recall_oracle": _rounded(oracle.value),
        "intervals": {
            name: [_rounded(interval.low), _rounded(interval.high)]
            for name, interval in {
                "recall_before": recall[0],
                "recall_after": recall[-1],
                "gain": gain[-1],
                "recall_learnable": learnable,
                "recall_oracle": oracle,
            }.items()
        },
        "recall_of_other_frauds": [_rounded(interval.value) for interval in recall_of_others],
        "held_out_thefts": held_out.thefts,
        "held_out_episodes": held_out.episodes,
        "thefts_learned_from": lived.thefts_seen(story.reign[-1].model),
        "alarm_days": story.alarms,
        "trainings": story.trainings,
        "champions": len(story.reign),
        "held_back_for": dict(story.held_back),
    }


def _rounded(number: float) -> float | None:
    return None if np.isnan(number) else round(number, 3)


if __name__ == "__main__":
    main()

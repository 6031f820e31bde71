"""How long the loop needs to learn a fraud that did not exist when the champion was trained.

    python benchmarks/retrain.py [--days N] [--n-trials N] [--training-days N]

A synthetic world in which wallet theft appears on day 150, and nothing else changes. From then on every day is lived as
the pipeline lives it: the champion's report at the end of the day, a training when it turns red and one every Monday,
and the gate, which alone decides who is champion. A label is known from its report on; what matures later is not seen.
Recall is counted by the truth, which only the generator knows, on the decisions of the champion of the day.

`recall_before` is that of the champion of day 150 on wallet theft until another one recovered; that is the first one
with which wallet theft is caught as often as other frauds are on its days, up to the tolerance of the report.
`recall_after` is the recall from then on, `days_to_recover` the days from the first theft to it; null if never.
Prints a line per event and, as its last line, one JSON object.
"""

import argparse
import json
import time
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import pandas as pd

from fraud_pipeline.decisions import CostModel, decide
from fraud_pipeline.evaluation import Evaluation
from fraud_pipeline.features import FeatureEngineer, History, merchant_days
from fraud_pipeline.gate import GateRules, Verdict, gate_verdict
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.generator.drift_schedule import Drift
from fraud_pipeline.generator.story import NEW_SCENARIO
from fraud_pipeline.model import FraudModel
from fraud_pipeline.performance import PerformanceReport, assess, compare, windows
from fraud_pipeline.settings import Settings
from fraud_pipeline.training import (
    PolicySettings,
    TuningSettings,
    build_training_set,
    days,
    evaluate_model,
    part,
    segments,
    train_model,
)
from fraud_pipeline.validation import validate

START: Final = 150
FEW_REPLICATES: Final = 100
NOTHING_SERVED: Final = pd.DataFrame({"transaction_id": [], "decision": [], "probability": []}, dtype=object)


@dataclass(frozen=True)
class Champion:
    """A model, what it promised, and the day it took over."""

    model: FraudModel
    promised: Evaluation
    since: int


@dataclass(frozen=True)
class Life:
    """Everything that ever happens, and what is really fraud; who asks says what was known when."""

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

    def train(self, day: int, champion: Champion | None) -> tuple[Champion, Verdict]:
        """The challenger at the start of a day, and the gate's verdict on it."""
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
        model = train_model(rows, tuning=tuning, policy=self.policy, lineage={}).model
        test = part(rows, "test")
        verdict = gate_verdict(
            model.predict(test),
            champion.model.predict(test) if champion else None,
            test["label"].to_numpy(np.float64),
            amounts_cents=test["amount_cents"].to_numpy(np.int64),
            customers=test["customer_id"].to_numpy(),
            days=days(test),
            alert_budget_per_day=self.policy.alert_budget_per_day,
            rules=GateRules(),
            segments=segments(test),
        )
        promised = evaluate_model(model, test, policy=self.policy)
        return Champion(model=model, promised=promised, since=day), verdict

    def report(self, day: int, champion: Champion) -> PerformanceReport:
        """The champion at the end of a day."""
        today: date = self.instant(day).date()
        found = [
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
                trained_to=pd.Timestamp(champion.model.lineage["trained_to"]),
            )
            if window.kind == "matured"
        ]
        findings = compare(found[0].evaluation, champion.promised) if found else ()
        return PerformanceReport(day=today, champion=str(champion.since), assessments=tuple(found), findings=findings)

    def recalls(self, model: FraudModel, first: int, end: int) -> dict[str, Any]:
        """Caught and all frauds of days [first, end) by the truth: of the new scenario and of the others."""
        rows = self.rows(self.features, self.instant(first), self.instant(end))
        caught = decide(model.predict(rows), model.policy) != "allow"
        kind = self.truth.loc[rows["transaction_id"], "kind"].to_numpy()
        fraud = self.truth.loc[rows["transaction_id"], "is_fraud"].to_numpy()
        new = kind == NEW_SCENARIO
        return {"new": (caught[new].sum(), new.sum()), "others": (caught[fraud & ~new].sum(), (fraud & ~new).sum())}


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
        features=features,
        truth=world.oracle(start=start, end=end).set_index("transaction_id"),
        n_trials=n_trials,
        training_days=training_days,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="how the loop learns a new fraud")
    parser.add_argument("--days", type=int, default=290, help="days of the world that are lived")
    parser.add_argument("--n-trials", type=int, default=Settings.model_fields["n_trials"].default)
    parser.add_argument("--training-days", type=int, default=0, help="newest days that are learned from; 0: all")
    parser.add_argument("--strength", type=float, default=1.0, help="of wallet theft; 1: as in the default world")
    arguments = parser.parse_args()
    began = time.perf_counter()
    lived = life(
        length=arguments.days,
        n_trials=arguments.n_trials,
        training_days=arguments.training_days,
        strength=arguments.strength,
    )
    print(f"{len(lived.transactions):,} transactions, features in {time.perf_counter() - began:.0f} s", flush=True)
    champion, _ = lived.train(START, None)
    reign, red, alarms = [champion], False, []
    for day in range(START, arguments.days - 1):
        degraded = lived.report(day, champion).degraded
        alarm, red = degraded and not red, degraded
        if alarm:
            alarms.append(day - START)
            print(f"day {day - START:3}: the report turned red", flush=True)
        monday = lived.instant(day + 1).weekday() == 0
        if alarm or monday:
            challenger, verdict = lived.train(day + 1, champion)
            new = lived.recalls(challenger.model, day + 1, min(day + 29, arguments.days))["new"]
            held = ", ".join(reason.check for reason in verdict.reasons if not reason.passed)
            print(
                f"day {day + 1 - START:3}: trained, {verdict.decision}{f' for {held}' if held else ''}; "
                f"catches {new[0]} of the next {new[1]} thefts",
                flush=True,
            )
            if verdict.decision == "promote":
                champion, red = challenger, False
                reign.append(champion)
    ends = [*(one.since for one in reign[1:]), arguments.days]
    served = [lived.recalls(one.model, one.since, end) for one, end in zip(reign, ends, strict=True)]
    for one, counts in zip(reign, served, strict=True):
        told = ", ".join(f"{caught} of {all_} {name}" for name, (caught, all_) in counts.items())
        print(f"champion from day {one.since - START:3}: {told} caught")
    print(json.dumps(figures(reign, served) | {"alarm_days": alarms, "champions": len(reign)}))


def figures(reign: list[Champion], served: list[dict[str, Any]]) -> dict[str, Any]:
    def recall(parts: list[dict[str, Any]], name: str) -> float:
        caught, everything = (sum(int(part[name][at]) for part in parts) for at in (0, 1))
        return round(caught / everything, 3) if everything else float("nan")

    recovered = next(
        (at for at in range(1, len(reign)) if recall(served[at:], "new") >= recall(served[at:], "others") - 0.05), None
    )
    if recovered is None:
        return {"recall_before": recall(served, "new"), "recall_after": None, "days_to_recover": None}
    return {
        "recall_before": recall(served[:recovered], "new"),
        "recall_after": recall(served[recovered:], "new"),
        "days_to_recover": reign[recovered].since - START,
    }


if __name__ == "__main__":
    main()

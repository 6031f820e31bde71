"""The champion's daily performance report: days, labels, decisions, and the comparison with promotion."""

import re
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.database import Database, StoredDecision, scoring_batch
from fraud_pipeline.database.history import load_history
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.modeling.evaluation import Evaluation, Interval
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import PolicySettings, TrainedModel
from fraud_pipeline.monitoring.performance import (
    SHOWN,
    WINDOW,
    Assessment,
    EvaluationPeriod,
    PerformanceReport,
    assess,
    seen_to,
    windows,
)
from fraud_pipeline.monitoring.performance_comparison import MIN_FRAUDS, compare, difference
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.schema.transactions import microseconds
from fraud_pipeline_tests.support.reports import (
    LAST_DAY,
    NOTHING_SERVED,
    Deployment,
    deployment_in,
    evaluation_of_skill,
    near_perfect_evaluation,
)
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class TestWindows:
    @given(
        day=st.dates(date(2026, 1, 1), date(2026, 12, 31)),
        maturity=st.timedeltas(timedelta(0), timedelta(days=40)),
        trained=st.integers(-60, 60),
    )
    def test_each_unseen_day_is_in_one_period_and_matured_in_time(
        self, day: date, maturity: timedelta, trained: int
    ) -> None:
        trained_to = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=trained, hours=13)
        periods = windows(day, label_maturity=maturity, seen=trained_to)
        end = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
        matured = [
            start + timedelta(days=n) for w in periods for start in [w.first] for n in range((w.last - start).days + 1)
        ]
        assert len(matured) == len(set(matured))
        assert all(trained_to.date() < start <= day for start in matured)
        for window in periods:
            ends = pd.Timestamp(window.last, tz="UTC") + pd.Timedelta(days=1)
            if window.kind == "matured":
                assert ends <= end - maturity
                assert window.last - window.first < WINDOW
            else:
                assert pd.Timestamp(window.first, tz="UTC") + pd.Timedelta(days=1) > end - maturity

    def test_a_day_matures_with_its_last_row(self) -> None:
        periods = windows(date(2026, 3, 31), label_maturity=timedelta(days=10), seen=pd.Timestamp(0, tz="UTC"))
        assert periods == (
            EvaluationPeriod("matured", date(2026, 2, 22), date(2026, 3, 21)),
            EvaluationPeriod("provisional", date(2026, 3, 22), date(2026, 3, 31)),
        )

    def test_days_of_the_evaluation_are_left_out(
        self, tables: Tables, trained: TrainedModel, training_set: pd.DataFrame
    ) -> None:
        """The figures at promotion come from these days, so the champion would be compared with itself."""
        test = training_set[training_set["part"] == "test"]["event_time"]
        for after in range(40):
            day = LAST_DAY + timedelta(days=after)
            periods = windows(day, label_maturity=LABEL_MATURITY, seen=seen_to(trained.model))
            assert all(window.first > test.max().date() for window in periods)
            matured = sum(window.days for window in periods if window.kind == "matured")
            assert matured == min(after, WINDOW.days)

    def test_without_a_recorded_evaluation_days_after_the_training_are_judged(self, trained: TrainedModel) -> None:
        lineage = {name: value for name, value in trained.model.lineage.items() if name != "evaluated_to"}
        assert seen_to(replace(trained.model, lineage=lineage)) == pd.Timestamp(lineage["trained_to"])


def judged(
    tables: Tables,
    model: FraudModel,
    policy: PolicySettings,
    *,
    reports: pd.DataFrame | None = None,
    served: pd.DataFrame = NOTHING_SERVED,
    window: EvaluationPeriod | None = None,
) -> Assessment:
    """The model on days after its training, as known at the end of the world."""
    window = window or EvaluationPeriod("matured", date(2026, 1, 20), date(2026, 1, 26))
    end = pd.Timestamp(window.last, tz="UTC") + pd.Timedelta(days=1)
    in_window = (tables.transactions["event_time"] >= pd.Timestamp(window.first, tz="UTC")) & (
        tables.transactions["event_time"] < end
    )
    return assess(
        model,
        tables.model_rows[in_window.to_numpy()].reset_index(drop=True),
        tables.transactions[in_window],
        tables.reports if reports is None else reports,
        served,
        window=window,
        label_maturity=LABEL_MATURITY,
        as_of=tables.as_of,
        policy=policy,
        replicates=50,
    )


class TestAssess:
    def test_what_is_reported_later_changes_nothing(
        self, tables: Tables, trained: TrainedModel, policy_settings: PolicySettings
    ) -> None:
        row = tables.transactions[tables.transactions["event_time"] > pd.Timestamp("2026-01-22", tz="UTC")].iloc[:200]
        late = row[["transaction_id", "event_time", "customer_id", "merchant_id", "amount_cents"]].assign(is_fraud=True)

        def reported(at: pd.Timestamp) -> Evaluation:
            reports = pd.concat([tables.reports, late.assign(reported_at=at)[tables.reports.columns]])
            return judged(tables, trained.model, policy_settings, reports=reports).evaluation

        plain = judged(tables, trained.model, policy_settings).evaluation
        assert reported(tables.as_of).to_dict() == plain.to_dict()
        in_time = reported(tables.as_of - pd.Timedelta(seconds=1))
        assert in_time.counts["frauds"] > plain.counts["frauds"] + 150

    def test_an_immature_row_without_a_report_counts_as_legitimate(
        self, tables: Tables, trained: TrainedModel, policy_settings: PolicySettings
    ) -> None:
        window = EvaluationPeriod("provisional", date(2026, 2, 1), LAST_DAY)
        evaluation = judged(tables, trained.model, policy_settings, window=window).evaluation
        known = tables.reports[tables.reports["event_time"] >= pd.Timestamp("2026-02-01", tz="UTC")]
        assert 0 < evaluation.counts["frauds"] == known["transaction_id"].nunique() < evaluation.counts["rows"]

    def test_a_row_counts_with_the_decision_that_was_served(
        self, tables: Tables, trained: TrainedModel, policy_settings: PolicySettings
    ) -> None:
        offline = judged(tables, trained.model, policy_settings)
        assert offline.served == 0
        in_window = tables.transactions["event_time"].between(
            pd.Timestamp("2026-01-20", tz="UTC"), pd.Timestamp("2026-01-24", tz="UTC")
        )
        served = pd.DataFrame(
            {
                "transaction_id": [*tables.transactions.loc[in_window, "transaction_id"], "of another day"],
                "decision": "allow",
                "probability": 1e-6,
            }
        )
        mixed = judged(tables, trained.model, policy_settings, served=served)
        assert mixed.served == in_window.sum()
        assert f"{mixed.served:,} decisions as served" in mixed.basis
        # What was let through was not caught, whatever the model says about it today.
        assert mixed.evaluation.metrics["recall"].value < offline.evaluation.metrics["recall"].value / 2

    def test_segments_are_those_of_the_evaluation_and_the_category(
        self, tables: Tables, trained: TrainedModel, policy_settings: PolicySettings
    ) -> None:
        assessment = judged(tables, trained.model, policy_settings)
        assert set(assessment.evaluation.segments) == {"amount", "channel", "category"}
        report = PerformanceReport(day=LAST_DAY, champion="1", assessments=(assessment,), findings=())
        lines = report.to_markdown().splitlines()
        for (segment, group), part in assessment.groups().items():
            (line,) = [line for line in lines if line.startswith(f"| {segment}: {group} |" if segment else "| all |")]
            assert ("too few frauds" in line) == (part.counts["frauds"] < MIN_FRAUDS)


class TestCompare:
    def test_chance_alone_is_no_loss(self) -> None:
        then = [evaluation_of_skill(seed=seed) for seed in range(20)]
        findings = [compare(evaluation_of_skill(seed=100 + seed), evaluation) for seed, evaluation in enumerate(then)]
        assert sum(any(finding.degraded for finding in of) for of in findings) <= 1

    def test_a_real_loss_is_found_and_named(self) -> None:
        then, now = evaluation_of_skill(seed=1), evaluation_of_skill(seed=2, skill=0.6)
        worse = {finding.metric for finding in compare(now, then) if finding.degraded}
        assert {"average_precision", "recall", "precision"} <= worse

    def test_a_gain_is_no_loss(self) -> None:
        then, now = evaluation_of_skill(seed=1, skill=0.6), evaluation_of_skill(seed=2)
        assert not any(finding.degraded for finding in compare(now, then))

    def test_few_frauds_are_not_judged(self) -> None:
        few = evaluation_of_skill(seed=1, skill=0.0, rows=400)
        assert few.counts["frauds"] < MIN_FRAUDS
        assert compare(few, evaluation_of_skill(seed=2)) == ()

    def test_calibration_is_judged_without_earlier_figures(self) -> None:
        now = evaluation_of_skill(seed=1)
        metrics = {**now.metrics, "observed_over_expected": Interval(2.0, 1.6, 2.4)}
        (finding,) = compare(replace(now, metrics=metrics), None)
        assert finding.degraded
        assert "observed over expected" in finding.detail

    @given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
    def test_the_interval_of_a_difference_is_wider_than_either(self, values: list[float]) -> None:
        now, then = (Interval(value=b, low=a, high=c) for a, b, c in (sorted(values[:3]), sorted(values[3:])))
        change = difference(now, then)
        assert change.low <= change.value <= change.high
        for interval in (now, then):
            assert change.high - change.low >= (interval.high - interval.low) / np.sqrt(2) - 1e-9
        mirrored = difference(then, now)
        assert (change.low, change.value, change.high) == pytest.approx(
            (-mirrored.high, -mirrored.value, -mirrored.low), abs=1e-12
        )


@pytest.fixture
def deployment(tmp_path: Path, tables: Tables, trained: TrainedModel) -> Deployment:
    return deployment_in(tmp_path, tables, trained.model)


@pytest.mark.slow
class TestAsset:
    def test_without_a_champion_it_says_so_and_passes(self, deployment: Deployment) -> None:
        metadata, check = deployment.report(LAST_DAY)
        assert (
            metadata["summary"]
            == "2026-02-09 was not judged: there is no champion yet; `fraud-detect train` makes one."
        )
        assert check.passed

    @pytest.mark.slow
    def test_the_report_of_a_day_is_stored_and_replaced(self, deployment: Deployment, tables: Tables) -> None:
        deployment.promote(None)
        metadata, check = deployment.report(date(2026, 2, 5), LAST_DAY)
        assert check.passed
        assert metadata["summary"].startswith("Champion 1, 7 days matured, 2026-01-20 to 2026-01-26: ")
        assert "**Matured, 2026-01-20 to 2026-01-26**, 7 days: " in metadata["table"]
        assert "provisional: more frauds will be reported" in metadata["table"]
        assert "data:image/png;base64," in metadata["over_time"]
        stored = deployment.stored()
        assert set(stored["metric"]) == set(SHOWN)
        assert stored["day"].dt.date.nunique() == 5
        assert not stored.duplicated(["day", "kind", "metric"]).any()
        deployment.report(LAST_DAY)
        pd.testing.assert_frame_equal(deployment.stored(), stored)

    def test_right_after_its_training_a_champion_is_not_judged_and_the_report_says_so(
        self, tmp_path: Path, tables: Tables, trained: TrainedModel
    ) -> None:
        evaluated_to = str(trained.model.lineage["evaluated_to"])
        deployment = deployment_in(tmp_path, tables, trained.model, evaluated_to=evaluated_to)
        deployment.promote(near_perfect_evaluation())
        metadata, check = deployment.report(LAST_DAY)
        assert check.passed
        assert metadata["summary"].startswith("Champion 1 is not judged yet: no day after those that it was evaluated")
        assert "not judged yet" in metadata["table"]
        assert set(deployment.stored()["kind"]) == {"provisional"}

    def test_with_few_frauds_it_is_not_judged_and_the_report_says_how_many_there_are(
        self, tmp_path: Path, tables: Tables, trained: TrainedModel
    ) -> None:
        deployment = deployment_in(tmp_path, tables, trained.model, evaluated_to="2026-01-25T23:59:59+00:00")
        deployment.promote(near_perfect_evaluation())
        metadata, check = deployment.report(LAST_DAY)
        assert check.passed
        assert metadata["summary"].startswith("Champion 1, 1 day matured, 2026-01-26 to 2026-01-26: ")
        sentence = r"It is not judged yet: \d+ frauds in 1 day with matured labels, of 20 needed"
        assert re.search(sentence, metadata["table"])

    def test_a_degraded_champion_is_a_warning_and_stops_nothing(self, deployment: Deployment) -> None:
        deployment.promote(near_perfect_evaluation())
        metadata, check = deployment.report(LAST_DAY)
        assert not check.passed
        assert check.severity is dg.AssetCheckSeverity.WARN
        assert "clearly worse" in str(check.metadata["finding"].value)
        assert "was 0.990 (0.980 to 1.000)" in metadata["table"]

    def test_what_this_champion_served_is_taken_from_the_database(self, deployment: Deployment, tables: Tables) -> None:
        deployment.promote(None)
        champion = deployment.registry.with_alias("champion")
        assert champion is not None
        served_rows = tables.transactions["event_time"] >= pd.Timestamp("2026-01-24", tz="UTC")
        rows = tables.transactions[served_rows.to_numpy()]
        probability = deployment.model.predict(tables.model_rows[served_rows.to_numpy()])
        served = [
            StoredDecision(
                transaction_id=id_,
                decided_at=at,
                decision=decision,
                probability=float(p),
                decided_by="model",
                mode="full",
                missing="[]",
                reasons="[]",
                model_version="1",
                # Every third one was decided by another model.
                model_sha256="0" * 64 if number % 3 == 0 else champion.sha256,
                features=np.zeros(len(FEATURE_NAMES), np.float32).tobytes(),
                customer_version=1,
                reports_version=1,
                merchant_days_version=1,
            )
            for number, (id_, at, decision, p) in enumerate(
                zip(
                    rows["transaction_id"],
                    microseconds(rows["event_time"]).tolist(),
                    decide(probability, deployment.model.policy, amounts_cents=rows["amount_cents"].to_numpy()),
                    probability,
                    strict=True,
                )
            )
        ]
        with closing(Database(deployment.settings.database, statement_timeout=timedelta(minutes=1))) as database:
            database.upgrade()
            load_history(database, transactions=rows, reports=tables.reports.iloc[:0])
            with scoring_batch(database) as batch:
                batch.add_decisions(served)
        metadata, _ = deployment.report(LAST_DAY)
        matured = rows[rows["event_time"] < pd.Timestamp("2026-01-27", tz="UTC")]
        expected = sum(number % 3 != 0 for number in range(len(matured)))
        assert metadata["served"] == expected
        assert f"{expected:,} decisions as served" in metadata["table"]

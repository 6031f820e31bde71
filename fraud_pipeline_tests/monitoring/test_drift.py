"""What counts as drift: large, beyond chance, and seen from both baselines; and the report that says so."""

from contextlib import closing
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, get_args

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.database import Database
from fraud_pipeline.database.drift import read_drift
from fraud_pipeline.database.verdicts import newest_reported, newest_verdicts
from fraud_pipeline.modeling.metrics import effective_number
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.monitoring.drift import (
    LIMITS,
    DriftReport,
    Kind,
    Sample,
    Shift,
    drift_report,
    judgeable,
    population_stability_index,
)
from fraud_pipeline.monitoring.drift_by_day import daily_states
from fraud_pipeline.reporting.daily_charts import NOT_JUDGED, STATE_COLOURS
from fraud_pipeline.reporting.report_pages import drift_page
from fraud_pipeline_tests.support.pictures import picture_in, share_of
from fraud_pipeline_tests.support.reports import LAST_DAY, Deployment, deployment_in, write_units_fault
from fraud_pipeline_tests.support.small_world import Tables

Floats = NDArray[np.float64]
DAY: Final = date(2026, 5, 4)
START: Final = pd.Timestamp("2026-01-01", tz="UTC")

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def values(seed: int, rows: int = 2_000) -> Floats:
    return np.random.default_rng(seed).lognormal(size=rows)


def sample(amount: Floats, **more_values: Floats) -> Sample:
    """Rows of as many customers and merchants as there are rows."""
    return Sample(pd.DataFrame({"amount": amount, **more_values}), customers=len(amount), merchants=len(amount))


def judged(today: Sample, *, champion: Sample | None = None, before: Sample | None = None) -> DriftReport:
    return drift_report(
        DAY,
        today,
        champion=(champion or sample(values(1))).values,
        weeks_before=before or sample(values(2)),
        features=[str(name) for name in today.values],
    )


class TestIndex:
    @given(st.integers(0, 1_000), st.integers(0, 1_000))
    def test_it_is_zero_for_equal_rows_and_never_negative(self, size: int, other_size: int) -> None:
        assert population_stability_index(values(size), values(size))[0] == 0
        assert population_stability_index(values(size), values(other_size))[0] >= 0

    @given(st.integers(0, 1_000))
    def test_units_do_not_matter_when_both_change(self, seed: int) -> None:
        old, new = values(seed), values(seed + 1) * 1.3
        assert population_stability_index(old * 128, new * 128) == population_stability_index(old, new)

    def test_by_hand(self) -> None:
        """Of a thousand rows half are above the one edge that 0 and 1 have; then nine in ten."""
        old, new = np.repeat([0.0, 1.0], 500), np.repeat([0.0, 1.0], [100, 900])
        p, q = np.array([500.5, 500.5, 0.5]) / 1001.5, np.array([100.5, 900.5, 0.5]) / 1001.5
        psi, freedom = population_stability_index(old, new)
        assert psi == pytest.approx(((q - p) * np.log(q / p)).sum())
        assert freedom == 2

    def test_a_fault_in_the_tail_is_detected_although_no_decile_moves(self) -> None:
        old, new = values(1, 20_000), values(2, 20_000)
        new[:400] *= 100
        assert population_stability_index(old, new)[0] > 10 * population_stability_index(old, values(2, 20_000))[0]


class TestEvidence:
    @given(st.lists(st.sampled_from("abcdef"), min_size=1))
    def test_it_is_between_one_and_the_number_of_owners(self, owners: list[str]) -> None:
        assert 1 <= effective_number(pd.Series(owners)) <= len(set(owners)) + 1e-9

    def test_equal_owners_count_fully_and_one_dominant_owner_counts_as_one(self) -> None:
        assert effective_number(pd.Series([*"aabbcc"])) == pytest.approx(3)
        assert effective_number(pd.Series(["giant"] * 10_000 + ["a", "b"])) == pytest.approx(1, abs=1e-3)


class TestJudgeable:
    def test_windows_that_are_still_filling_are_left_out(self) -> None:
        young, grown, old = (set(judgeable(history=timedelta(days=days))) for days in (0, 30, 60))
        assert {"amount", "score"} <= young
        assert "customer_amount_mean_30d" in grown - young
        assert "merchant_cleared_count_30d" in old - grown
        assert young < grown < old
        assert not old & {"day_of_week", "is_weekend", "hour_of_day", "is_night"}


class TestVerdict:
    @pytest.mark.slow
    def test_days_without_drift_are_quiet(self) -> None:
        """100 days of 20 features."""

        def day(seed: int) -> Sample:
            return sample(values(seed), **{f"f{number}": values(1_000 * number + seed) for number in range(1, 20)})

        champion, before = day(501), day(502)
        assert [judged(day(seed), champion=champion, before=before).drifted for seed in range(100)] == [()] * 100

    def test_a_large_shift_is_drift_and_names_the_feature(self) -> None:
        report = judged(sample(values(3) * 3, quiet=values(4)), champion=_two(1), before=_two(2))
        assert {shift.feature for shift in report.drifted} == {"amount"}
        assert "drift in amount" in report.summary

    def test_a_million_rows_do_not_make_a_small_shift_important(self) -> None:
        many = values(5, 300_000) * 1.03
        report = judged(sample(many), champion=sample(values(6, 300_000)), before=sample(values(7, 300_000)))
        assert min(shift.q for shift in report.shifts if shift.kind == "ks") < 1e-9
        assert report.drifted == ()

    def test_the_ups_and_downs_of_few_customers_prove_nothing(self) -> None:
        def worth(number: int, rows: Floats) -> Sample:
            return Sample(pd.DataFrame({"amount": rows}), customers=number, merchants=number)

        shifted = values(8) * 1.8
        assert judged(worth(2_000, shifted), before=worth(2_000, values(2))).drifted
        assert not judged(worth(5, shifted), before=worth(5, values(2))).drifted

    @pytest.mark.parametrize("known", ["champion", "before"])
    def test_a_shift_against_one_baseline_is_no_drift(self, known: str) -> None:
        shifted: dict[str, Any] = {known: sample(values(9) * 3)}
        assert not judged(sample(values(10) * 3), **shifted).drifted

    def test_values_that_are_missing_are_a_drift_of_their_own(self) -> None:
        amounts = values(11)
        amounts[:600] = np.nan
        assert {shift.kind for shift in judged(sample(amounts)).drifted} == {"missing"}

    @pytest.mark.parametrize("rows", [0, 50])
    def test_few_rows_are_not_judged(self, rows: int) -> None:
        report = judged(sample(values(12, rows) * 100))
        assert (report.shifts, report.drifted) == ((), ())
        assert f"not judged: it has {rows} transactions (200 rows are needed)" in report.summary

    @pytest.mark.parametrize(
        ("few", "reason"),
        [
            ({"before": sample(values(2, 0))}, "no Monday in the last four weeks has data"),
            ({"before": sample(values(2, 50))}, "the Mondays of the last four weeks have 50 transactions"),
            ({"champion": sample(values(2, 150))}, "the champion's reference has 150 rows"),
        ],
    )
    def test_few_rows_of_a_baseline_are_named(self, few: dict[str, Sample], reason: str) -> None:
        report = judged(sample(values(12)), **few)
        assert report.summary.startswith(f"{DAY} was not judged: {reason} (200 rows are needed)")

    @pytest.mark.parametrize("known", ["champion", "before"])
    def test_a_shift_in_one_comparison_only_is_named_wherever_the_day_is_called_green(self, known: str) -> None:
        knows: dict[str, Any] = {known: sample(values(9) * 3)}
        report = judged(sample(values(10) * 3), **knows)
        assert "no drift" in report.summary
        assert "in one comparison only, or within chance: amount" in report.summary
        assert "| amount | psi |" in report.to_markdown()
        assert "one comparison only" in report.to_markdown()
        page = drift_page(report, {}, model_version="7")
        assert "<tr class=red>" not in page
        assert "<tr class=amber>" in page

    def test_the_evidence_of_the_reference_is_its_customers(self) -> None:
        def q(customers: float | None, before: float) -> float:
            report = drift_report(
                DAY,
                sample(values(8) * 1.2),
                champion=pd.DataFrame({"amount": values(1, 20_000)}),
                champion_customers=customers,
                weeks_before=Sample(sample(values(2)).values, customers=before, merchants=before),
                features=["amount"],
            )
            return next(shift.q for shift in report.shifts if (shift.kind, shift.baseline) == ("ks", "champion"))

        assert q(20_000, 500) < q(400, 500) < q(40, 500)
        # What it does not tell is no more than the weeks before.
        assert q(None, 400) == q(400, 500)


SIZES = st.floats(0, 1)
SHIFTS = st.dictionaries(
    st.tuples(st.sampled_from(["amount", "score"]), st.sampled_from(get_args(Kind))),
    st.tuples(SIZES, st.sampled_from([0.0, 1.0]), SIZES, st.sampled_from([0.0, 1.0])),
    min_size=1,
)


@given(SHIFTS)
def test_the_map_shows_drift_where_the_report_does_and_nowhere_else(
    sizes: dict[tuple[str, Kind], tuple[float, float, float, float]],
) -> None:
    shifts = [
        shift
        for (feature, kind), (size, q, size_before, q_before) in sizes.items()
        for shift in (
            Shift(feature, "champion", kind, size, q),
            Shift(feature, "weeks_before", kind, size_before, q_before),
        )
    ]
    report = DriftReport(DAY, rows=1_000, shifts=tuple(shifts))
    red = {(shift.feature, shift.kind) for shift in report.drifted}
    rows = pd.DataFrame([asdict(shift) | {"drifted": (shift.feature, shift.kind) in red} for shift in shifts])
    states = daily_states(rows.assign(day=START)).set_index("feature")["state"]
    assert set(states.index[states == "drift"]) == {shift.feature for shift in report.drifted}
    assert set(states.index[states == "beyond"]) == set(report.beyond)
    assert ("no drift" in report.summary) == (not (states == "drift").any())


def test_a_map_of_no_days_is_empty() -> None:
    names = ["day", "feature", "baseline", "kind", "size", "q", "drifted"]
    assert daily_states(pd.DataFrame(columns=names)).empty


def _two(seed: int) -> Sample:
    return sample(values(seed), quiet=values(seed + 100))


@pytest.fixture
def deployment(tmp_path: Path, tables: Tables, trained: TrainedModel) -> Deployment:
    return deployment_in(tmp_path, tables, trained.model)


def stored(deployment: Deployment) -> pd.DataFrame:
    with closing(Database(deployment.settings.database)) as database:
        return read_drift(database, start=START, end=START + pd.Timedelta(days=400))


class TestReport:
    def test_without_a_champion_it_says_so(self, deployment: Deployment) -> None:
        metadata, check = deployment.report(LAST_DAY, asset="drift_report")
        assert check.passed
        assert "no champion" in metadata["summary"]
        with closing(Database(deployment.settings.database)) as database:
            (verdict,) = newest_reported(database)
        assert (verdict.report, verdict.judged, verdict.summary) == ("drift", False, metadata["summary"])

    def test_training_days_of_the_champion_are_not_judged(self, deployment: Deployment) -> None:
        deployment.promote(None)
        metadata, check = deployment.report(date(2026, 1, 10), asset="drift_report")
        assert check.passed
        assert "learned from that day" in metadata["summary"]
        assert stored(deployment).empty

    def test_a_quiet_day_is_green_and_its_rows_are_stored_once(self, deployment: Deployment) -> None:
        deployment.promote(None)
        _, check = deployment.report(LAST_DAY, asset="drift_report")
        first = stored(deployment)
        deployment.report(LAST_DAY, asset="drift_report")
        assert check.passed
        assert len(first) == len(stored(deployment)) > 50
        assert not first["drifted"].any()

    def test_a_missing_day_is_a_stored_warning_and_no_recovery(self, deployment: Deployment, tables: Tables) -> None:
        deployment.promote(None)
        write_units_fault(deployment, tables)
        deployment.report(LAST_DAY, asset="drift_report")
        day = LAST_DAY + timedelta(days=1)
        metadata, checks = deployment.checked(day, asset="drift_report")
        assert "not judged: it has 0 transactions" in metadata["summary"]
        assert not checks["enough_rows"].passed
        assert checks["enough_rows"].severity is dg.AssetCheckSeverity.WARN
        assert f"0 rows on {day}" in str(checks["enough_rows"].metadata["finding"].value)
        assert not checks["no_drift"].passed
        assert f"The alarm stays red, as of the newest judged day, {LAST_DAY}" in str(
            checks["no_drift"].metadata["finding"].value
        )
        with closing(Database(deployment.settings.database)) as database:
            (missing,), (judged_last,) = newest_reported(database), newest_verdicts(database)
        assert (missing.day.date(), missing.judged, missing.red) == (day, False, False)
        assert (judged_last.day.date(), judged_last.red) == (LAST_DAY, True)
        assert share_of(STATE_COLOURS[NOT_JUDGED], picture_in(metadata["drift_by_day"])) > 0.05

    def test_the_reference_records_its_effective_customers(self, trained: TrainedModel, tables: Tables) -> None:
        recorded = float(trained.model.lineage["reference_customers"])
        assert 50 < recorded <= tables.transactions["customer_id"].nunique() < len(trained.model.reference)

    def test_a_units_fault_is_red_the_same_day(self, deployment: Deployment, tables: Tables) -> None:
        deployment.promote(None)
        write_units_fault(deployment, tables)
        metadata, check = deployment.report(LAST_DAY, asset="drift_report")
        assert not check.passed
        assert "amount" in metadata["summary"]
        red = stored(deployment).query("drifted")
        assert "amount" in set(red["feature"])
        assert (red["size"] >= red["kind"].map(LIMITS)).all()
        page = Path(metadata["page"]).read_text()
        assert metadata["summary"].split(":")[1].strip()[:20] in page
        assert page.count("<img") == 2

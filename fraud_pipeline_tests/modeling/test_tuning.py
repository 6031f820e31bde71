"""The search is seeded, resumable, prunes what is hopeless, and reports how it goes."""

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score

from fraud_pipeline.modeling.fitting import MAX_BINS, MAX_ROUNDS, LabelledRows, sensible_parameters
from fraud_pipeline.modeling.model_directory import fit_booster
from fraud_pipeline.modeling.tuning import TuningResult, tune


def rows(n: int, *, seed: int) -> LabelledRows:
    """Rare positives that two of four features tell about; one of them is often missing."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(n, 4)).astype(np.float32)
    chance = expit(2 * values[:, 0] + values[:, 0] * values[:, 1] - 4)
    values[generator.random(n) < 0.3, 1] = np.nan
    features = pd.DataFrame(values, columns=["a", "b", "c", "d"])
    return LabelledRows(features=features, labels=(generator.random(n) < chance).astype(np.float64))


TRAIN, TUNE_ON = rows(1_000, seed=1), rows(600, seed=2)
FIXED = sensible_parameters(TRAIN.labels)


def search(n_trials: int, *, seed: int = 0, journal: Path | None = None, **options: Any) -> TuningResult:
    return tune(train=TRAIN, tune_on=TUNE_ON, n_trials=n_trials, seed=seed, journal=journal, threads=1, **options)


def columns(result: TuningResult) -> pd.DataFrame:
    """What must be equal in two equal searches: all but the clock."""
    return result.trials.drop(columns="duration")


class TestSearch:
    def test_the_same_seed_gives_the_same_search(self) -> None:
        first, second = search(10, seed=3), search(10, seed=3)
        pd.testing.assert_frame_equal(columns(first), columns(second))
        assert (first.parameters, first.rounds) == (second.parameters, second.rounds)

    def test_another_seed_gives_another_search(self) -> None:
        first, second = (search(3, seed=seed).trials["params_learning_rate"].tolist() for seed in (3, 4))
        assert first[0] == second[0] == FIXED["learning_rate"]
        assert set(first[1:]).isdisjoint(second[1:])

    def test_the_chosen_trial_can_be_fitted_again(self) -> None:
        result = search(4)
        booster = fit_booster(
            TRAIN.features, TRAIN.labels, parameters=result.parameters, rounds=result.rounds, threads=1
        )
        scores = booster.inplace_predict(TUNE_ON.features)
        assert average_precision_score(TUNE_ON.labels, scores) == pytest.approx(result.average_precision)
        assert result.average_precision in result.trials["value"].tolist()

    def test_it_learns_the_signal_and_stops_early(self) -> None:
        result = search(4)
        chance = TUNE_ON.labels.mean()
        assert result.average_precision > 3 * chance
        assert 0 < result.rounds < MAX_ROUNDS

    def test_the_bins_and_the_base_score_are_searched(self) -> None:
        trials = search(8).trials
        assert set(trials["params_max_bin"]) == set(MAX_BINS)
        assert trials["params_base_score"].between(0.001, 0.5).all()

    def test_hopeless_trials_are_pruned_and_never_the_best(self) -> None:
        result = search(25)
        states = result.trials.set_index("number")["state"]
        assert "PRUNED" in set(states)
        assert set(states) <= {"PRUNED", "COMPLETE"}
        assert (states.loc[:4] == "COMPLETE").all(), "the first trials are what later ones are measured against"
        assert (
            states.loc[int(result.trials["value"].where(result.trials["state"] == "COMPLETE").idxmax())] == "COMPLETE"
        )


class TestChoice:
    """The best of many trials on few frauds is often the luckiest, and loses to fixed parameters on new rows."""

    def test_one_trial_has_the_fixed_parameters(self) -> None:
        assert search(1).parameters == FIXED

    @pytest.mark.parametrize("few", [True, False], ids=["few frauds", "many frauds"])
    def test_others_are_chosen_only_where_they_are_better_by_more_than_their_noise(self, *, few: bool) -> None:
        """A tune part of many frauds settles what one of few frauds leaves open."""
        tune_on = rows(300 if few else 20_000, seed=4)
        result = tune(train=TRAIN, tune_on=tune_on, n_trials=12, seed=2, threads=1)
        trials = result.trials[result.trials["state"] == "COMPLETE"].set_index("number")["value"]
        assert trials.idxmax() != 0, "the case needs a trial that seems better than the fixed one"
        chosen = result.trials.set_index("number").loc[int((trials == result.average_precision).idxmax())]
        assert (int(str(chosen.name)) == 0) is few
        assert result.parameters["learning_rate"] == chosen["params_learning_rate"]

    def test_columns_that_need_no_history_are_tried_with_the_fixed_parameters(self) -> None:
        result = search(2, plain=["a", "b"])
        assert result.trials["params_history"].tolist() == [True, False]
        for name, value in FIXED.items():
            assert (result.trials[f"params_{name}"] == value).all()
        best = bool(result.trials.loc[result.trials["value"].idxmax(), "params_history"])
        assert result.history is best
        assert result.columns == (("a", "b", "c", "d") if best else ("a", "b"))
        assert "history" not in result.parameters

    def test_a_searched_trial_and_a_fixed_one_are_compared_by_parameters_that_xgboost_has(self) -> None:
        """Whether a trial saw history is a choice of columns; XGBoost warns of a parameter that it does not use."""
        tune_on = rows(20_000, seed=4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = tune(train=TRAIN, tune_on=tune_on, n_trials=12, seed=2, threads=1, plain=["a", "b"])
        assert int(result.trials["value"].idxmax()) > 1, "the case needs a trial that seems better than the fixed ones"
        assert [str(each.message) for each in caught if "not used" in str(each.message)] == []

    def test_history_that_tells_frauds_is_kept_and_noise_is_left_out(self) -> None:
        assert search(2, plain=["c", "d"]).history
        noise = np.random.default_rng(0).normal(size=(1_000, 30)).astype(np.float32)
        # In the train part these columns tell everything, in the tune part nothing.
        tempting = pd.DataFrame(noise, columns=[f"h{n}" for n in range(30)]).assign(h0=TRAIN.labels)
        train = LabelledRows(features=pd.concat([TRAIN.features, tempting], axis=1), labels=TRAIN.labels)
        silent = tempting.iloc[:600].assign(h0=0.5)
        tune_on = LabelledRows(features=pd.concat([TUNE_ON.features, silent], axis=1), labels=TUNE_ON.labels)
        result = tune(train=train, tune_on=tune_on, n_trials=2, seed=0, threads=1, plain=["a", "b", "c", "d"])
        assert not result.history
        assert result.columns == ("a", "b", "c", "d")


class TestResuming:
    def test_a_fixed_trial_that_was_killed_runs_again(self, tmp_path: Path) -> None:
        def interrupt(number: int, _best: float) -> None:
            if number == 1:
                raise KeyboardInterrupt

        journal, plain = tmp_path / "studies.journal", ["a", "b"]
        with pytest.raises(KeyboardInterrupt):
            search(3, journal=journal, plain=plain, on_trial=interrupt)
        trials = search(3, journal=journal, plain=plain).trials
        fixed = trials["params_learning_rate"] == FIXED["learning_rate"]
        assert sorted(trials.loc[fixed, "params_history"]) == [False, True]
        assert len(trials) == 3

    def test_only_the_missing_trials_run(self, tmp_path: Path) -> None:
        trials: list[int] = []
        first = search(3, journal=tmp_path / "deep" / "studies.journal")
        second = search(
            6, journal=tmp_path / "deep" / "studies.journal", on_trial=lambda number, _best: trials.append(number)
        )
        assert trials == [4, 5, 6]
        assert len(second.trials) == 6
        pd.testing.assert_frame_equal(columns(second).head(3), columns(first), check_dtype=False)
        assert second.trials["params_learning_rate"].is_unique, (
            "a resumed sampler must not propose its first points again"
        )

    def test_a_finished_study_is_only_read(self, tmp_path: Path) -> None:
        first = search(3, journal=tmp_path / "studies.journal")
        trials: list[int] = []
        again = search(3, journal=tmp_path / "studies.journal", on_trial=lambda number, _best: trials.append(number))
        assert trials == []
        assert (again.parameters, again.rounds) == (first.parameters, first.rounds)

    def test_studies_of_other_names_share_a_journal_and_nothing_else(self, tmp_path: Path) -> None:
        journal = tmp_path / "studies.journal"
        search(2, journal=journal, study_name="monday")
        assert len(search(1, journal=journal, study_name="tuesday").trials) == 1
        assert len(search(1, journal=journal, study_name="monday").trials) == 2

    def test_a_search_killed_inside_a_trial_runs_another_trial(self, tmp_path: Path) -> None:
        def interrupt(number: int, _best: float) -> None:
            if number == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            search(5, journal=tmp_path / "studies.journal", on_trial=interrupt)
        result = search(5, journal=tmp_path / "studies.journal")
        assert (result.trials["state"].isin(["COMPLETE", "PRUNED"])).sum() == 5


class TestProgressAndLimits:
    def test_each_trial_is_reported_with_the_best_so_far(self) -> None:
        progress: list[tuple[int, float]] = []
        result = search(5, on_trial=lambda number, best: progress.append((number, best)))
        best = result.trials["value"].cummax()
        assert [number for number, _ in progress] == [1, 2, 3, 4, 5]
        assert [value for _, value in progress] == pytest.approx(best.tolist())

    def test_no_trial_starts_after_the_timeout(self) -> None:
        result = search(1_000, timeout=timedelta(seconds=0.3))
        assert 1 <= len(result.trials) < 100

    def test_two_workers_share_one_study(self, tmp_path: Path) -> None:
        trials: list[int] = []
        result = search(
            6, workers=2, journal=tmp_path / "studies.journal", on_trial=lambda number, _best: trials.append(number)
        )
        assert len(result.trials) == 6
        assert len(trials) == 6
        assert result.average_precision in result.trials["value"].tolist()
        # What a worker found holds when nobody works beside it.
        booster = fit_booster(
            TRAIN.features, TRAIN.labels, parameters=result.parameters, rounds=result.rounds, threads=1
        )
        scores = booster.inplace_predict(TUNE_ON.features)
        assert average_precision_score(TUNE_ON.labels, scores) == pytest.approx(result.average_precision)

    @pytest.mark.parametrize("label", [0.0, 1.0])
    @pytest.mark.parametrize("name", ["train", "tune"])
    def test_a_part_with_one_kind_of_label_is_refused_by_name(self, name: str, label: float) -> None:
        flat = LabelledRows(features=TRAIN.features, labels=np.full(len(TRAIN.labels), label))
        parts = {"train": TRAIN, "tune": TUNE_ON} | {name: flat}
        with pytest.raises(
            ValueError, match=f"the {name} part needs both fraud and legitimate rows; give it more days"
        ):
            tune(train=parts["train"], tune_on=parts["tune"], n_trials=1, seed=0)

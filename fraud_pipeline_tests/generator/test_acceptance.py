"""Acceptance of the synthetic world: hard, without leaks, and solvable only through history.

The thresholds stand in docs/explanation/synthetic-world.md too.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.generator.episodes import MAX_REPORT_DAYS
from fraud_pipeline.generator.story import FRAUD_KIND, NEVER
from fraud_pipeline.schema.transactions import DAY, HOUR, MICROSECOND, SECOND, microseconds

DAYS = 120
TRAINING_SHARE = 0.65


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Transactions, reports and truth of the default world, in order of time."""

    rows: pd.DataFrame
    reports: pd.DataFrame
    truth: pd.DataFrame
    is_fraud: NDArray[np.bool_]
    training: NDArray[np.bool_]


@pytest.fixture(scope="module")
def sample() -> Sample:
    config = WorldConfig()
    world, start = SyntheticWorld(config), pd.Timestamp(config.first_day, tz="UTC")
    end = start + pd.Timedelta(days=DAYS)
    rows, truth = world.transactions(start=start, end=end), world.oracle(start=start, end=end)
    return Sample(
        rows=rows,
        reports=world.reports(start=start, end=end),
        truth=truth,
        is_fraud=truth["is_fraud"].to_numpy(),
        training=np.arange(len(rows)) < TRAINING_SHARE * len(rows),
    )


def raw_fields(rows: pd.DataFrame) -> pd.DataFrame:
    codes = {name: pd.factorize(rows[name], sort=True)[0] for name in ("category", "channel", "country")}
    hour = microseconds(rows["event_time"]) % DAY / HOUR
    return rows[["amount", "latitude", "longitude"]].assign(**codes, hour=hour)


def windowed_features(rows: pd.DataFrame, reports: pd.DataFrame) -> pd.DataFrame:
    """Raw fields and a dozen plain history features, each from rows and reports strictly before."""
    frame = rows.assign(time=microseconds(rows["event_time"]), log_amount=np.log(rows["amount"]))
    frame["who"] = pd.factorize(frame["customer_id"])[0]
    order = frame.sort_values(["who", "time"], kind="stable")
    history, key = pd.DataFrame(index=order.index), order["who"].to_numpy() * 400 * DAY
    moment = key + order["time"].to_numpy() - order["time"].min()
    place = np.arange(len(order)) - np.searchsorted(key, key)
    total = np.concatenate([[0.0], order["amount"].cumsum()])
    for hours in (1, 6, 24, 168):
        first = np.maximum(np.searchsorted(moment, moment - hours * HOUR), np.arange(len(order)) - place)
        history[f"count_{hours}h"] = np.arange(len(order)) - first
        history[f"sum_{hours}h"] = total[:-1] - total[first]
    by_customer = order.groupby("who")
    history["since_last"] = by_customer["time"].diff()
    running = by_customer["log_amount"].cumsum() - order["log_amount"]
    history["amount_over_mean"] = order["log_amount"] - running / np.maximum(place, 1)
    by_category = order.groupby(["who", "category"], dropna=False)["log_amount"]
    seen = by_category.cumcount()
    history["amount_over_category"] = order["log_amount"] - (by_category.cumsum() - order["log_amount"]) / seen.where(
        seen > 0
    )
    for name in ("merchant_id", "category", "country"):
        history[f"visits_{name}"] = order.groupby(["who", name], dropna=False).cumcount()
    home = by_customer[["latitude", "longitude"]].transform(lambda values: values.shift().expanding().mean())
    last = by_customer[["latitude", "longitude"]].shift()
    for name, other in (("home", home), ("last", last)):
        history[f"from_{name}"] = np.hypot(
            (order["latitude"] - other["latitude"]) * 111, (order["longitude"] - other["longitude"]) * 70
        )
    report_times = {shop: np.sort(microseconds(when)) for shop, when in reports.groupby("merchant_id")["reported_at"]}
    history["merchant_reports_30d"] = [
        0 if shop not in report_times else int(np.diff(np.searchsorted(report_times[shop], [time - 30 * DAY, time]))[0])
        for shop, time in zip(order["merchant_id"], order["time"], strict=True)
    ]
    return pd.concat([raw_fields(rows), history.sort_index()], axis=1)


def held_out_scores(features: pd.DataFrame, sample: Sample) -> NDArray[np.float64]:
    """Scores of the last third of time by a model of the first two thirds, trained on the truth."""
    model = xgb.XGBClassifier(
        n_estimators=200, max_depth=4, learning_rate=0.07, subsample=0.8, colsample_bytree=0.6,
        max_bin=1024, base_score=0.01, nthread=1, random_state=0,
    )  # fmt: skip
    matrix = features.to_numpy(np.float64)
    model.fit(matrix[sample.training], sample.is_fraud[sample.training])
    return np.asarray(model.predict_proba(matrix[~sample.training])[:, 1])


def auc(features: pd.DataFrame, sample: Sample) -> float:
    return float(roc_auc_score(sample.is_fraud[~sample.training], held_out_scores(features, sample)))


def test_the_default_world_is_a_hundred_thousand_transactions(sample: Sample) -> None:
    assert len(sample.rows) == pytest.approx(100_000, rel=0.03)


def test_the_base_rate_is_that_of_cards(sample: Sample) -> None:
    assert 0.003 <= sample.is_fraud.mean() <= 0.01


def test_no_single_raw_column_reveals_fraud(sample: Sample) -> None:
    for name, values in raw_fields(sample.rows).items():
        column = pd.DataFrame({name: values})
        assert auc(column, sample) < 0.85, name


def test_missing_values_do_not_reveal_fraud(sample: Sample) -> None:
    missing = sample.rows.isna()
    assert missing.any().sum() >= 5
    assert auc(missing.astype(float), sample) < 0.55


def test_ids_do_not_reveal_fraud(sample: Sample) -> None:
    names = ["transaction_id", "customer_id", "merchant_id"]
    numbers = sample.rows[names].map(lambda text: int(text[:12], 16))
    assert auc(numbers, sample) < 0.55
    assert {length for name in names for length in sample.rows[name].str.len()} == {12, 16}


def test_history_beats_raw_fields_and_the_oracle_beats_both(sample: Sample) -> None:
    fraud = sample.is_fraud[~sample.training]
    raw = held_out_scores(raw_fields(sample.rows), sample)
    windowed = held_out_scores(windowed_features(sample.rows, sample.reports), sample)
    oracle = sample.truth["oracle_score"].to_numpy()[~sample.training]
    raw_ap, windowed_ap, oracle_ap = (average_precision_score(fraud, scores) for scores in (raw, windowed, oracle))
    raw_auc, windowed_auc, oracle_auc = (roc_auc_score(fraud, scores) for scores in (raw, windowed, oracle))
    assert 2 * raw_ap < windowed_ap
    assert 0.4 < windowed_ap < 0.8
    assert windowed_ap + 0.1 < oracle_ap < 0.99
    assert raw_auc + 0.03 < windowed_auc < oracle_auc < 1


def test_the_oracle_is_calibrated(sample: Sample) -> None:
    """The oracle's scores must be calibrated, or they are not the best possible ones."""
    score, fraud = sample.truth["oracle_score"], sample.truth["is_fraud"]
    assert score.mean() == pytest.approx(fraud.mean(), rel=0.1)
    for low, high in ((0.002, 0.05), (0.05, 0.5), (0.5, 0.95), (0.95, 1.01)):
        band = score.between(low, high, inclusive="left")
        noise = 3 * np.sqrt((score[band] * (1 - score[band])).sum()) / band.sum()
        assert fraud[band].mean() == pytest.approx(score[band].mean(), abs=noise + 0.1 * score[band].mean())


@pytest.mark.parametrize("fraud_rate", [0.003, 0.006, 0.01])
def test_honest_events_that_look_like_fraud_outnumber_it_threefold(fraud_rate: float) -> None:
    config = WorldConfig(fraud_rate=fraud_rate)
    start = pd.Timestamp(config.first_day, tz="UTC")
    _, truth = SyntheticWorld(config).rows_with_truth(start=start, end=start + pd.Timedelta(days=DAYS))
    fraud = FRAUD_KIND[truth.kind]
    honest = np.unique(truth.episode[~fraud & (truth.episode > 0)])
    assert len(honest) >= 3 * len(np.unique(truth.episode[fraud]))
    kinds = set(np.unique(truth.kind[~fraud & (truth.episode > 0)]))
    assert len(kinds) == 5  # travel, moving house, big purchase, burst at a fair, online spree


@pytest.fixture(scope="module")
def large_world() -> SyntheticWorld:
    return SyntheticWorld(WorldConfig(customers=4_000))


def test_reports_come_at_once_late_or_never(large_world: SyntheticWorld) -> None:
    start = pd.Timestamp(large_world.config.first_day, tz="UTC")
    rows, truth = large_world.rows_with_truth(start=start, end=start + pd.Timedelta(days=60))
    fraud = FRAUD_KIND[truth.kind]
    never = truth.reported_at[fraud] == NEVER
    delay = ((truth.reported_at - rows.time) / MICROSECOND)[fraud][~never]
    assert 0.05 <= never.mean() <= 0.08
    assert np.mean(delay <= 60 * 60 * SECOND) == pytest.approx(0.30, abs=0.06)
    late = np.log(delay[delay > DAY])
    assert abs(np.mean(late) - np.median(late)) < 0.25  # log-normal: symmetric in the logarithm
    assert 45 < np.quantile(delay, 0.995) / DAY <= delay.max() / DAY <= MAX_REPORT_DAYS


def test_one_report_in_a_hundred_accuses_an_honest_transaction(large_world: SyntheticWorld) -> None:
    start = pd.Timestamp(large_world.config.first_day, tz="UTC")
    end = start + pd.Timedelta(days=60)
    reports = large_world.reports(start=start, end=end + pd.Timedelta(days=MAX_REPORT_DAYS + 1))
    reports = reports[reports["event_time"] < end]
    _, truth = large_world.rows_with_truth(start=start, end=end)
    right = int((FRAUD_KIND[truth.kind] & (truth.reported_at != NEVER)).sum())
    assert reports["transaction_id"].is_unique
    assert 0.003 < (len(reports) - right) / len(reports) < 0.02

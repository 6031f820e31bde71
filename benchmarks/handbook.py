"""Train on the fraud-detection handbook's simulated transactions and score one test week by its protocol.

usage: handbook.py --data FILE.parquet [--week 2018-08-08] [--out scores.parquet] [--n-trials 12]

The protocol (Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, chapter 3): a label is
known 7 days after its transaction; the model is trained on labels known at the start of the test week; each transaction
of the week is scored on its own history with the labels known by then. File source, validation, features, tuning and
booster are the project's. Only the split is the protocol's.

The scores are written to --out (TRANSACTION_ID, score) for your own evaluation; the printed metrics are over all
transactions of the week. The last line is one JSON object.
"""

import argparse
import json
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer, History, merchant_days
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.dataset import labels_as_of
from fraud_pipeline.modeling.fitting import LabelledRows
from fraud_pipeline.modeling.leakage import auc
from fraud_pipeline.modeling.metrics import average_precision, rank_frauds
from fraud_pipeline.modeling.model_directory import fit_booster
from fraud_pipeline.modeling.tuning import tune
from fraud_pipeline.schema.transactions import TRANSACTIONS

LABEL_DELAY = timedelta(days=7)
WARM_UP = timedelta(days=14)
TUNE_DAYS = timedelta(days=14)


def load(path: Path, *, end: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Transactions before `end`, reports before `end`, and the number of rejected rows."""
    source = FileSource(path, label_delay=LABEL_DELAY)
    start = pd.Timestamp(source.first_day, tz="UTC")
    raw = source.transactions(start=start, end=end)
    # The protocol needs a score for every row, also for amounts of 0, which the pipeline would reject.
    raw["amount"] = raw["amount"].clip(lower=0.01)
    result = validate(raw, now=end)
    return TRANSACTIONS.validate(result.accepted), source.reports(start=start, end=end), len(result.rejected)


def main() -> None:
    arguments = _arguments()
    week = pd.Timestamp(arguments.week, tz="UTC")
    began = time.perf_counter()
    transactions, reports, rejected = load(arguments.data, end=week + pd.Timedelta(days=7))
    days = merchant_days(transactions, reports, label_maturity=LABEL_DELAY)
    history = History(transactions=transactions.iloc[:0], reports=reports, merchant_days=days)
    features = FeatureEngineer(label_maturity=LABEL_DELAY).compute(history=history, new=transactions)
    print(f"{len(transactions):,} transactions ({rejected} rejected), features in {time.perf_counter() - began:.0f} s")

    known = labels_as_of(transactions, reports, as_of=week, label_maturity=LABEL_DELAY)
    event_time = transactions["event_time"]
    warm = event_time >= event_time.min() + WARM_UP
    usable = (warm & (event_time < week - LABEL_DELAY)).to_numpy() & ~np.isnan(known)
    # Hyper-parameters are chosen on the last two labelled weeks, with the same delay after the training rows.
    tune_from = week - LABEL_DELAY - TUNE_DAYS
    parts = {
        "train": usable & (event_time < tune_from - LABEL_DELAY).to_numpy(),
        "tune": usable & (event_time >= tune_from).to_numpy(),
    }
    values = features.loc[:, list(FEATURE_NAMES)]
    values = values.loc[:, values.notna().any()]
    rows = {name: LabelledRows(features=values[mask], labels=known[mask]) for name, mask in parts.items()}
    tuning = tune(
        train=rows["train"],
        tune_on=rows["tune"],
        n_trials=arguments.n_trials,
        seed=arguments.seed,
        on_trial=lambda number, best: print(f"trial {number}: best average precision {best:.4f}", flush=True),
    )
    booster = fit_booster(
        values[usable], known[usable], parameters=tuning.parameters, rounds=tuning.rounds, seed=arguments.seed
    )

    test = (event_time >= week).to_numpy()
    scores = booster.inplace_predict(values[test]).astype(np.float64)
    ids = transactions.loc[test, "transaction_id"].astype("int64").to_numpy()
    pd.DataFrame({"TRANSACTION_ID": ids, "score": scores}).to_parquet(arguments.out, index=False)

    everything = FileSource(arguments.data, label_delay=timedelta(0))
    frauds = everything.reports(start=week, end=week + pd.Timedelta(days=7))["transaction_id"]
    truth = np.asarray(transactions.loc[test, "transaction_id"].isin(frauds), dtype=np.float64)
    ap = float(average_precision(rank_frauds(scores, truth, np.ones((1, len(truth)))))[0])
    figures = {
        "week": arguments.week,
        "ap_all_transactions": round(ap, 4),
        "auc_all_transactions": round(auc(scores, truth), 4),
        "tuning_ap": round(tuning.average_precision, 4),
        "trees": tuning.rounds,
        "seconds": round(time.perf_counter() - began),
    }
    print(f"parameters {tuning.parameters}, {tuning.rounds} trees")
    print(f"week {arguments.week}: {len(truth):,} transactions, {truth.sum():.0f} frauds; scores in {arguments.out}")
    print("The handbook leaves out cards that are known to be compromised: use its own test set for comparison.")
    print(json.dumps(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--week", default="2018-08-08")
    parser.add_argument("--out", type=Path, default=Path("scores.parquet"))
    parser.add_argument("--n-trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

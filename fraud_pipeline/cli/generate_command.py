"""The command `fraud-detect generate-data`.

Belongs here: writing the synthetic world to files. Must not be here: the world itself (`generator/`).
"""

import argparse
import shlex

import pandas as pd
from tqdm import tqdm

from fraud_pipeline.cli.training_plan import days_of
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.settings import load_settings


def generate_data(arguments: argparse.Namespace) -> int:
    """Write synthetic transactions, reports and the truth to Parquet files.

    `transactions.parquet` also has the moment of the first fraud report, so that `fraud-detect train` reads it alone.
    """
    settings = load_settings()
    seed = settings.seed if arguments.seed is None else arguments.seed
    world = SyntheticWorld(WorldConfig(seed=seed, difficulty=settings.difficulty, first_day=settings.world_begins))
    days = days_of(arguments.transactions)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = pd.Timestamp(settings.world_begins, tz="UTC")
    spans = [(start + pd.Timedelta(days=day), start + pd.Timedelta(days=day + 1)) for day in range(days)]
    tables = {}
    for name in ("transactions", "reports", "oracle"):
        parts = [getattr(world, name)(start=a, end=b) for a, b in tqdm(spans, desc=name, unit="day", disable=None)]
        tables[name] = pd.concat(parts, ignore_index=True)
    tables["transactions"]["reported_at"] = _first_reports(tables["transactions"], tables["reports"])
    for name, frame in tables.items():
        frame.to_parquet(arguments.out / f"{name}.parquet", index=False)
        print(f"{len(frame):>10,} rows  {arguments.out / name}.parquet")
    print(f"\nTrain on it: fraud-detect train --data-path {shlex.quote(str(arguments.out / 'transactions.parquet'))}")
    return 0


def _first_reports(transactions: pd.DataFrame, reports: pd.DataFrame) -> pd.Series:
    """When each transaction was first reported as fraud; missing for those that were not."""
    frauds = reports[reports["is_fraud"]].groupby("transaction_id")["reported_at"].min()
    return transactions["transaction_id"].map(frauds)

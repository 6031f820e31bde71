"""The command `fraud-detect generate-data`.

Belongs here: writing the synthetic world to files. Must not be here: the world itself (`generator/`).
"""

import argparse

import pandas as pd
from tqdm import tqdm

from fraud_pipeline.cli.training_plan import days_of
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.settings import load_settings


def generate_data(arguments: argparse.Namespace) -> int:
    """Write synthetic transactions, reports and the truth to Parquet files."""
    settings = load_settings()
    seed = settings.seed if arguments.seed is None else arguments.seed
    world = SyntheticWorld(WorldConfig(seed=seed, difficulty=settings.difficulty, first_day=settings.first_day))
    days = days_of(arguments.transactions)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = pd.Timestamp(settings.first_day, tz="UTC")
    spans = [(start + pd.Timedelta(days=day), start + pd.Timedelta(days=day + 1)) for day in range(days)]
    for name in ("transactions", "reports", "oracle"):
        parts = [getattr(world, name)(start=a, end=b) for a, b in tqdm(spans, desc=name, unit="day", disable=None)]
        frame = pd.concat(parts, ignore_index=True)
        frame.to_parquet(arguments.out / f"{name}.parquet", index=False)
        print(f"{len(frame):>10,} rows  {arguments.out / name}.parquet")
    return 0

"""Rows per second of window features: our kernel, pandas, Polars and DuckDB, on the handbook's transactions.

usage: features.py --data FILE.parquet [--repeats 5] [--threads N]      (or the file in HANDBOOK_DATA)

Every contender computes the 15 inputs of the fraud-detection handbook (Le Borgne et al., chapter 3) for every row:
amount, weekend, night; the customer's count and mean amount of 1, 7 and 30 days; the terminal's count and share of
fraud of 1, 7 and 30 days, known 7 days late. All windows are [t - w, t); the handbook's also contain the transaction
itself. Each contender starts from its own table in memory and ends with its own columns. The contenders alternate, and
all results are compared with ours.

Then it computes all features of the project on the same rows, from tables to the frame. The last line is one JSON
object.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer, History, merchant_days
from fraud_pipeline.features.kernels.columns import codes, ratio
from fraud_pipeline.features.kernels.windows import group, window_bounds, window_sum
from fraud_pipeline.schema.transactions import DAY, HOUR, TIME_DTYPE

WINDOWS: Final = (1, 7, 30)
DELAY: Final = 7
WIDTHS: Final = np.array(WINDOWS) * DAY
BenchmarkColumns = Mapping[str, NDArray[Any]]


def project_kernel(rows: pd.DataFrame) -> BenchmarkColumns:
    """The project's kernel, one thread."""
    times = rows["time"].to_numpy("datetime64[us]").view(np.int64)
    cents, fraud = rows["cents"].to_numpy(), rows["fraud"].to_numpy()
    days, within = np.divmod(times, DAY)
    out: dict[str, NDArray[Any]] = {"amount": cents, "weekend": (days + 3) % 7 >= 5, "night": within <= 6 * HOUR}
    customers, entities = codes(rows["customer"].to_numpy())
    events = group(customers, times, entities=entities)
    bounds = window_bounds(events, events, WIDTHS)
    for days_back, low in zip(WINDOWS, bounds.low, strict=True):
        count = bounds.high - low
        out[f"customer_count_{days_back}d"] = count
        out[f"customer_mean_{days_back}d"] = ratio(window_sum(events.order, cents, low, bounds.high), count)
    terminals, entities = codes(rows["terminal"].to_numpy())
    events = group(terminals, times, entities=entities)
    bounds = window_bounds(events, events._replace(times=events.times - DELAY * DAY), WIDTHS)
    for days_back, low in zip(WINDOWS, bounds.low, strict=True):
        count = bounds.high - low
        out[f"terminal_count_{days_back}d"] = count
        out[f"terminal_risk_{days_back}d"] = ratio(window_sum(events.order, fraud, low, bounds.high), count)
    return out


def with_pandas(rows: pd.DataFrame) -> BenchmarkColumns:
    """`groupby().rolling()`; a delayed window is a long one minus a short one, as in the handbook."""
    out: dict[str, Any] = {
        "amount": rows["cents"],
        "weekend": rows["time"].dt.weekday >= 5,
        "night": rows["time"] - rows["time"].dt.floor("D") <= pd.Timedelta(hours=6),
    }

    def rolling(entity: str, value: str, days_back: int) -> tuple[NDArray[Any], NDArray[Any]]:
        window = rows.groupby(entity).rolling(f"{days_back}D", on="time", closed="left")[value]
        # The result is in order of the groups; this is the position of each of its rows.
        place = np.argsort(rows[entity].to_numpy(), kind="stable")
        count, total = np.empty(len(rows)), np.empty(len(rows))
        count[place], total[place] = np.nan_to_num(window.count()), np.nan_to_num(window.sum())
        return count, total

    for days_back in WINDOWS:
        count, total = rolling("customer", "cents", days_back)
        out |= {f"customer_count_{days_back}d": count, f"customer_mean_{days_back}d": ratio(total, count)}
    hidden_count, hidden_fraud = rolling("terminal", "fraud", DELAY)
    for days_back in WINDOWS:
        count, total = rolling("terminal", "fraud", days_back + DELAY)
        count, total = count - hidden_count, total - hidden_fraud
        out |= {f"terminal_count_{days_back}d": count, f"terminal_risk_{days_back}d": ratio(total, count)}
    return out


def polars_query(rows: pd.DataFrame) -> Callable[[], BenchmarkColumns]:
    """`rolling_sum_by().over()`."""
    import polars as pl  # noqa: PLC0415 - the number of threads is fixed when it is imported

    frame = pl.from_pandas(rows).with_columns(unit=pl.lit(1, pl.Int64))

    def rolling(entity: str, value: str, days_back: int) -> Any:
        window = pl.col(value).rolling_sum_by("time", window_size=f"{days_back}d", closed="left")
        return window.over(entity).fill_null(0)

    def share(total: Any, count: Any) -> Any:
        return pl.when(count > 0).then(total / count)

    customer = [
        expression
        for w in WINDOWS
        for expression in (
            rolling("customer", "unit", w).alias(f"customer_count_{w}d"),
            rolling("customer", "cents", w).alias(f"customer_sum_{w}d"),
        )
    ]
    terminal = [
        rolling("terminal", value, w).alias(f"{value}_{w}")
        for w in (DELAY, *(w + DELAY for w in WINDOWS))
        for value in ("unit", "fraud")
    ]

    def run() -> BenchmarkColumns:
        sums = frame.lazy().with_columns(*customer, *terminal)
        result = sums.select(
            pl.col("cents").alias("amount"),
            (pl.col("time").dt.weekday() >= 6).alias("weekend"),
            (pl.col("time").dt.time() <= pl.time(6)).alias("night"),
            *(pl.col(f"customer_count_{w}d") for w in WINDOWS),
            *(
                share(pl.col(f"customer_sum_{w}d"), pl.col(f"customer_count_{w}d")).alias(f"customer_mean_{w}d")
                for w in WINDOWS
            ),
            *((pl.col(f"unit_{w + DELAY}") - pl.col(f"unit_{DELAY}")).alias(f"terminal_count_{w}d") for w in WINDOWS),
            *(
                share(
                    pl.col(f"fraud_{w + DELAY}") - pl.col(f"fraud_{DELAY}"),
                    pl.col(f"unit_{w + DELAY}") - pl.col(f"unit_{DELAY}"),
                ).alias(f"terminal_risk_{w}d")
                for w in WINDOWS
            ),
        ).collect()
        return {name: result[name].to_numpy() for name in result.columns}

    return run


def duckdb_query(rows: pd.DataFrame, *, threads: int) -> Callable[[], BenchmarkColumns]:
    """Range windows over whole microseconds."""
    import duckdb  # noqa: PLC0415 - as Polars, so that both are optional in the same way

    database = duckdb.connect(config={"threads": threads})
    table = rows.assign(number=np.arange(len(rows)), moment=rows["time"].astype("int64"))
    database.register("frame", table)
    database.execute("CREATE TABLE transactions AS SELECT * FROM frame")
    columns, definitions = [], []
    for w in WINDOWS:
        for entity, value, delay in (("customer", "cents", 0), ("terminal", "fraud", DELAY)):
            reach = f"BETWEEN {(w + delay) * DAY} PRECEDING AND {delay * DAY + 1} PRECEDING"
            definitions.append(f"{entity}_{w} AS (PARTITION BY {entity} ORDER BY moment RANGE {reach})")
            name = "mean" if entity == "customer" else "risk"
            columns.append(f"count(*) OVER {entity}_{w} AS {entity}_count_{w}d")
            columns.append(f"avg({value}) OVER {entity}_{w} AS {entity}_{name}_{w}d")
    query = f"""
        SELECT number, cents AS amount, isodow(time) >= 6 AS weekend, time::TIME <= TIME '06:00:00' AS night,
        {", ".join(columns)} FROM transactions WINDOW {", ".join(definitions)}
    """  # noqa: S608 - made of the constants above

    def run() -> BenchmarkColumns:
        result: dict[str, Any] = database.execute(query).fetchnumpy()
        place = np.argsort(result.pop("number"))
        return {name: np.ma.filled(values, np.nan)[place] for name, values in result.items()}

    return run


def check_equal(name: str, computed: BenchmarkColumns, expected: BenchmarkColumns) -> None:
    """Raise AssertionError when a contender's values differ from ours; sums are exact, means may round in the last
    bits.
    """
    for column, values in expected.items():
        np.testing.assert_allclose(
            computed[column].astype(float), values.astype(float), rtol=1e-9, err_msg=f"{name}: {column}"
        )


def race(contenders: Mapping[str, Callable[[], BenchmarkColumns]], *, repeats: int) -> dict[str, float]:
    """Median seconds of each contender; every round runs each of them once."""
    expected = contenders["ours"]()  # also compiles
    for name, run in contenders.items():
        check_equal(name, run(), expected)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def all_features(rows: pd.DataFrame, *, repeats: int) -> float:
    """Median seconds of every feature of the project, merchants' days included, from the pipeline's tables."""
    maturity = timedelta(days=DELAY)
    transactions = pd.DataFrame(
        {
            "transaction_id": rows.index.astype(str),
            "event_time": rows["time"].dt.tz_localize("UTC").astype(TIME_DTYPE),
            "customer_id": rows["customer"].astype(str),
            "merchant_id": rows["terminal"].astype(str),
            "amount_cents": rows["cents"],
            **dict.fromkeys(("category", "channel", "country")),
            **dict.fromkeys(("latitude", "longitude"), np.nan),
        }
    )
    frauds = transactions[rows["fraud"] == 1]
    reports = frauds.assign(reported_at=frauds["event_time"] + maturity, is_fraud=True)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        days = merchant_days(transactions, reports, label_maturity=maturity)
        history = History(transactions=transactions.iloc[:0], reports=reports, merchant_days=days)
        FeatureEngineer(label_maturity=maturity).compute(history=history, new=transactions)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def load(path: Path) -> pd.DataFrame:
    """The handbook's columns that matter, in order of time."""
    raw = pd.read_parquet(path).sort_values("TX_DATETIME", kind="stable", ignore_index=True)
    return pd.DataFrame(
        {
            "time": raw["TX_DATETIME"].astype("datetime64[us]"),
            "customer": raw["CUSTOMER_ID"],
            "terminal": raw["TERMINAL_ID"],
            "cents": (raw["TX_AMOUNT"] * 100).round().astype("int64"),
            "fraud": raw["TX_FRAUD"].astype("int64"),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of window features")
    parser.add_argument("--data", type=Path, default=os.environ.get("HANDBOOK_DATA"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for Polars and DuckDB; we use one")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the handbook's file by --data or HANDBOOK_DATA")
    os.environ["POLARS_MAX_THREADS"] = str(arguments.threads)
    rows = load(arguments.data)
    contenders: dict[str, Callable[[], BenchmarkColumns]] = {
        "ours": lambda: project_kernel(rows),
        "polars": polars_query(rows),
        "duckdb": duckdb_query(rows, threads=arguments.threads),
        "pandas": lambda: with_pandas(rows),
    }
    print(f"{len(rows):,} rows, {arguments.threads} threads where used, median of {arguments.repeats}")
    seconds = race(contenders, repeats=arguments.repeats)
    speed = {name: len(rows) / taken for name, taken in seconds.items()}
    print(f"{'15 inputs by':24}{'seconds':>10}{'rows/s':>14}{'ours is faster':>16}")
    for name, taken in seconds.items():
        print(f"{name:24}{taken:>10.3f}{speed[name]:>14,.0f}{speed['ours'] / speed[name]:>15.1f}x")
    everything = all_features(rows, repeats=arguments.repeats)
    print(f"{f'all {len(FEATURE_NAMES)} features':24}{everything:>10.3f}{len(rows) / everything:>14,.0f}")
    fastest = max(value for name, value in speed.items() if name != "ours")
    figures = {
        "rows_per_s": {name: round(value) for name, value in speed.items()},
        "ratio_vs_fastest_peer": round(speed["ours"] / fastest, 2),
        "ratio_vs_pandas": round(speed["ours"] / speed["pandas"], 2),
        "all_features_rows_per_s": round(len(rows) / everything),
        "rows": len(rows),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

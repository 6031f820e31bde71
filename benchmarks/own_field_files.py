"""Files of transactions with columns of their own, shaped like data sets that people start with.

    python benchmarks/own_field_files.py DIRECTORY [--rows N] [--seed N]

Each has the column names, the label spelling and the difficulties of its model: no ids, one-off customers, few frauds,
many columns with holes, a high base rate, steps instead of times. The rows are made up; which are frauds follows from
the row's own columns, in `cards` also from what a card did before.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

Floats = NDArray[np.float64]
START: Final = pd.Timestamp("2025-01-01")


def frauds(risk: Floats, *, rate: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw labels of a logistic model with these log-odds, shifted so that the expected rate is `rate`; shape (n,)."""
    shift = brentq(lambda offset: float(expit(risk + offset).mean()) - rate, -50, 50)
    return np.asarray(generator.random(len(risk)) < expit(risk + shift))


def holes(values: NDArray[Any], *, share: float, generator: np.random.Generator) -> pd.Series:
    """The values (n,) with about `share` of them missing."""
    return pd.Series(values).mask(pd.Series(generator.random(len(values)) < share))


def ids(prefix: str, numbers: NDArray[Any]) -> list[str]:
    return [f"{prefix}{number:07d}" for number in numbers]


def anonymous(rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """Principal components, seconds since the first row, no id at all; few frauds."""
    components = generator.standard_t(5, size=(rows, 28))
    amount = np.round(generator.lognormal(3, 1.4, rows), 2)
    risk = 1.6 * components[:, 3] - 1.4 * components[:, 13] + 0.9 * components[:, 9] * components[:, 11]
    label = frauds(risk + 0.3 * np.log(amount), rate=0.004, generator=generator)
    columns = {f"V{number + 1}": np.round(components[:, number], 6) for number in range(28)}
    seconds = np.sort(generator.integers(0, 90 * 86_400, rows)).astype(float)
    return pd.DataFrame({"Time": seconds, **columns, "Amount": amount, "Class": label.astype(int)})


def wide(rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """Online payments: 120 columns, many with holes; cards, e-mail domains, devices, flags T and F."""
    product = generator.choice(list("WCRHS"), rows, p=[0.7, 0.12, 0.08, 0.06, 0.04])
    domain = generator.choice(["gmail.com", "yahoo.com", "hotmail.com", "mail.example", "proton.example"], rows)
    device = holes(generator.choice(["desktop", "mobile"], rows), share=0.6, generator=generator)
    counts = generator.poisson(1.2, size=(rows, 14))
    numbers = np.where(generator.random((rows, 90)) < 0.35, np.nan, generator.normal(size=(rows, 90)).round(4))
    flags = [holes(generator.choice(["T", "F"], rows), share=0.3, generator=generator) for _ in range(6)]
    amount = np.round(generator.lognormal(4, 1, rows), 3)
    risk = 1.8 * (product == "C") + 1.2 * (domain == "mail.example") + 0.8 * (device == "mobile").to_numpy()
    risk = risk + 0.5 * counts[:, 0] + 1.2 * np.nan_to_num(numbers[:, 4]) - 1.0 * np.nan_to_num(numbers[:, 17])
    label = frauds(risk - 0.8 * (flags[0] == "T").to_numpy(), rate=0.035, generator=generator)
    return pd.DataFrame(
        {
            "TransactionID": np.arange(2_987_000, 2_987_000 + rows),
            "isFraud": label.astype(int),
            "TransactionDT": np.sort(generator.integers(86_400, 180 * 86_400, rows)),
            "TransactionAmt": amount,
            "ProductCD": product,
            "card1": generator.integers(1_000, 18_000, rows),
            "card4": generator.choice(["visa", "mastercard", "discover"], rows),
            "addr1": np.where(generator.random(rows) < 0.1, np.nan, generator.integers(100, 540, rows)),
            "P_emaildomain": domain,
            "DeviceType": device,
            **{f"C{number + 1}": counts[:, number] for number in range(14)},
            **{f"M{number + 1}": flags[number] for number in range(6)},
            **{f"V{number + 1}": numbers[:, number] for number in range(90)},
        }
    )


def steps(rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """Mobile money: hours since the start, customers that come once, balances before and after."""
    kind = generator.choice(
        ["PAYMENT", "CASH_OUT", "CASH_IN", "TRANSFER", "DEBIT"], rows, p=[0.34, 0.35, 0.2, 0.09, 0.02]
    )
    amount = np.round(generator.lognormal(9, 1.6, rows), 2)
    before = np.round(generator.lognormal(9, 2, rows) * (generator.random(rows) < 0.7), 2)
    emptied = (generator.random(rows) < 0.01) & np.isin(kind, ["TRANSFER", "CASH_OUT"])
    amount = np.where(emptied, np.maximum(before, 1.0), amount)
    after = np.maximum(before - amount, 0).round(2)
    risk = 5.0 * emptied + 1.5 * (kind == "TRANSFER") + 0.4 * np.log(amount)
    label = frauds(risk, rate=0.005, generator=generator)
    return pd.DataFrame(
        {
            "step": np.sort(generator.integers(1, 1_488, rows)),
            "type": kind,
            "amount": amount,
            "nameOrig": ids("C", generator.permutation(10 * rows)[:rows]),
            "oldbalanceOrg": before,
            "newbalanceOrig": after,
            "nameDest": ids("M", generator.integers(0, rows // 4, rows)),
            "isFraud": label.astype(int),
        }
    )


def claims(rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """Insurance claims: four in ten are frauds, mostly categories, a label of words."""
    policy = generator.choice(["all perils", "collision", "liability"], rows)
    fault = generator.choice(["policy holder", "third party"], rows, p=[0.7, 0.3])
    area = generator.choice(["rural", "urban"], rows)
    age, witnesses = generator.integers(18, 80, rows), generator.integers(0, 4, rows)
    risk = 1.6 * (policy == "all perils") + 1.4 * (fault == "policy holder") - 0.6 * witnesses - 0.02 * age
    label = frauds(risk, rate=0.4, generator=generator)
    at = START + pd.to_timedelta(np.sort(generator.integers(0, 900 * 1_440, rows)), unit="min")
    return pd.DataFrame(
        {
            "ClaimNumber": ids("CL", np.arange(rows)),
            "ClaimDate": at.strftime("%d/%m/%Y %H:%M"),
            "PolicyType": policy,
            "Fault": fault,
            "AccidentArea": area,
            "Age": age,
            "Witnesses": witnesses,
            "VehicleMake": generator.choice(["A", "B", "C", "D", "E", "F"], rows),
            "ClaimAmount": np.round(generator.lognormal(8, 0.7, rows), 2),
            "FraudFound_P": np.where(label, "fraud", "legit"),
        }
    )


def few(rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """Orders of a shop with about a hundred frauds in all, and one customer for nearly each."""
    entry = generator.choice(["web", "app", "phone"], rows, p=[0.6, 0.3, 0.1])
    age_of_account = np.round(generator.exponential(200, rows), 1)
    items, amount = generator.integers(1, 9, rows), np.round(generator.lognormal(4, 0.9, rows), 2)
    risk = 1.5 * (entry == "phone") - 0.01 * age_of_account + 0.9 * np.log(amount)
    label = frauds(risk, rate=min(0.5, 110 / rows), generator=generator)
    at = START + pd.to_timedelta(np.sort(generator.integers(0, 240 * 86_400, rows)), unit="s")
    return pd.DataFrame(
        {
            "order_id": ids("o", np.arange(rows)),
            "customer_id": ids("c", generator.integers(0, int(rows * 0.9), rows)),
            "created_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "total": amount,
            "entry": entry,
            "account_age_days": age_of_account,
            "items": items,
            "coupon": generator.choice(["true", "false"], rows, p=[0.2, 0.8]),
            "is_fraudulent": label.astype(int),
        }
    )


def cards(rows: int, generator: np.random.Generator) -> pd.DataFrame:
    """Card payments with a past: stolen cards are used in bursts, at amounts that are unusual for the card."""
    count = max(50, rows // 150)
    card = generator.integers(0, count, rows)
    seconds = np.sort(generator.integers(0, 180 * 86_400, rows))
    usual = generator.lognormal(3, 0.8, count)
    amount = usual[card] * generator.lognormal(0, 0.5, rows)
    label = np.zeros(rows, dtype=bool)
    for thief, began in zip(
        generator.integers(0, count, rows // 700), generator.integers(0, rows, rows // 700), strict=True
    ):
        stolen = np.arange(began, min(began + 400, rows))[:: int(generator.integers(60, 100))]
        card[stolen], label[stolen] = thief, True
        amount[stolen] = usual[thief] * generator.lognormal(1.2, 0.5, len(stolen))
    category = generator.choice(["grocery_pos", "gas_transport", "shopping_net", "misc_net", "travel"], rows)
    category = np.where(label & (generator.random(rows) < 0.4), "shopping_net", category)
    return pd.DataFrame(
        {
            "trans_date_trans_time": (START + pd.to_timedelta(seconds, unit="s")).strftime("%Y-%m-%d %H:%M:%S"),
            "cc_num": 4_000_000_000_000_000 + card,
            "merchant": ids("fraud_m", generator.integers(0, 600, rows)),
            "category": category,
            "amt": np.round(np.maximum(amount, 1), 2),
            "city_pop": generator.integers(200, 2_000_000, count)[card],
            "trans_num": ids("t", np.arange(rows)),
            "is_fraud": label.astype(int),
        }
    )


FILES: Final[dict[str, Callable[[int, np.random.Generator], pd.DataFrame]]] = {
    "anonymous": anonymous,
    "wide": wide,
    "steps": steps,
    "claims": claims,
    "few": few,
    "cards": cards,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for number, (name, make) in enumerate(FILES.items()):
        path = arguments.directory / f"{name}.csv"
        make(arguments.rows, np.random.default_rng([arguments.seed, number])).to_csv(path, index=False)
        print(f"{path}: {arguments.rows:,} rows")


if __name__ == "__main__":
    main()

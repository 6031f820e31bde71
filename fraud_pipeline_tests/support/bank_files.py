"""Small files in the shapes of data sets that many people know, made up by hand: names, spellings and layouts.

Belongs here: shapes. Must not be here: what an inspection makes of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

N: Final = 600
Frame = pd.DataFrame


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def frauds(rng: np.random.Generator, n: int = N, *, share: float = 0.08) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels, 1 for fraud; spread over all rows."""
    return (rng.random(n) < share).astype(np.int64)


def times(n: int = N, *, days: int = 120, start: str = "2024-01-05") -> pd.DatetimeIndex:
    """Sorted times, several a day."""
    return pd.date_range(start, periods=n, freq=pd.Timedelta(days=days) / n).floor("s")


def _pick(rng: np.random.Generator, values: Sequence[Any], n: int = N) -> list[Any]:
    return [values[index] for index in rng.integers(0, len(values), n)]


def _ids(rng: np.random.Generator, prefix: str, count: int, n: int = N) -> list[str]:
    return [f"{prefix}{number:06d}" for number in rng.integers(0, count, n)]


def components(seed: int = 1) -> Frame:
    """Anonymous components, seconds from the first row, an amount, a class."""
    rng = _random(seed)
    columns = {f"V{number}": rng.normal(size=N).round(6) for number in range(1, 29)}
    seconds = np.sort(rng.integers(0, 172_000, N))
    return Frame({"Time": seconds, **columns, "Amount": rng.lognormal(3, 1, N).round(2), "Class": frauds(rng)})


def mobile_money(seed: int = 2) -> Frame:
    """Steps of an hour, a sender and a receiver, balances, a rule's flag."""
    rng = _random(seed)
    return Frame(
        {
            "step": np.sort(rng.integers(1, 744, N)),
            "type": _pick(rng, ["CASH_OUT", "PAYMENT", "TRANSFER", "DEBIT", "CASH_IN"]),
            "amount": rng.lognormal(8, 2, N).round(2),
            "nameOrig": _ids(rng, "C1", 999_999),
            "oldbalanceOrg": rng.lognormal(8, 2, N).round(2),
            "newbalanceOrig": rng.lognormal(8, 2, N).round(2),
            "nameDest": _ids(rng, "M2", 300),
            "oldbalanceDest": rng.lognormal(8, 2, N).round(2),
            "newbalanceDest": rng.lognormal(8, 2, N).round(2),
            "isFraud": frauds(rng),
            "isFlaggedFraud": frauds(rng, share=0.01),
        }
    )


def online_payments(seed: int = 3) -> Frame:
    """Seconds from a reference, numbered cards and addresses, many empty cells."""
    rng = _random(seed)
    gaps = np.where(rng.random(N) < 0.6, np.nan, rng.normal(size=N).round(3))
    return Frame(
        {
            "TransactionID": np.arange(2_987_000, 2_987_000 + N),
            "isFraud": frauds(rng),
            "TransactionDT": np.sort(rng.integers(86_400, 15_811_131, N)),
            "TransactionAmt": rng.lognormal(4, 1, N).round(2),
            "ProductCD": _pick(rng, ["W", "C", "R", "H", "S"]),
            "card1": rng.integers(1_000, 1_200, N),
            "card4": _pick(rng, ["visa", "mastercard", "discover", None]),
            "addr1": rng.choice([204.0, 299.0, 325.0, np.nan], N),
            "P_emaildomain": _pick(rng, ["gmail.com", "yahoo.com", "anonymous.com"]),
            "C1": rng.integers(0, 9, N),
            "M1": _pick(rng, ["T", "F", None]),
            "V1": gaps,
            "id_31": _pick(rng, ["chrome 62.0", "safari 11.0", None]),
            "DeviceType": _pick(rng, ["desktop", "mobile", None]),
        }
    )


def card_holders(seed: int = 4) -> Frame:
    """A pandas index, US cards, persons and streets, the time twice."""
    rng = _random(seed)
    when = times()
    return Frame(
        {
            "Unnamed: 0": np.arange(N),
            "trans_date_trans_time": when.strftime("%Y-%m-%d %H:%M:%S"),
            "cc_num": rng.choice(rng.integers(10**15, 9 * 10**15, 40), N),
            "merchant": [f"fraud_Shop {number}" for number in rng.integers(0, 80, N)],
            "category": _pick(rng, ["grocery_pos", "gas_transport", "misc_net"]),
            "amt": rng.lognormal(3, 1, N).round(2),
            "first": _pick(rng, ["Ann", "Bob", "Cid"]),
            "last": _pick(rng, ["Archer", "Baker", "Cook"]),
            "gender": _pick(rng, ["F", "M"]),
            "street": [f"{number} Main Street" for number in rng.integers(0, 40, N)],
            "zip": [f"{number:05d}" for number in rng.integers(100, 400, N)],
            "lat": rng.uniform(30, 45, N).round(4),
            "long": rng.uniform(-120, -80, N).round(4),
            "city_pop": rng.integers(100, 10**6, N),
            "dob": pd.date_range("1950-01-01", periods=N, freq="30D").strftime("%Y-%m-%d"),
            "trans_num": [f"{number:032x}" for number in range(5, N + 5)],
            "unix_time": when.astype("int64") // 10**9 if when.unit == "ns" else when.as_unit("s").astype("int64"),
            "merch_lat": rng.uniform(30, 45, N).round(4),
            "merch_long": rng.uniform(-120, -80, N).round(4),
            "is_fraud": frauds(rng),
        }
    )


def handbook(seed: int = 5) -> Frame:
    """The simulator of a handbook, with the scenario that tells the label."""
    rng = _random(seed)
    label = frauds(rng)
    when = times()
    return Frame(
        {
            "TRANSACTION_ID": np.arange(N),
            "TX_DATETIME": when.strftime("%Y-%m-%d %H:%M:%S"),
            "CUSTOMER_ID": rng.integers(0, 50, N),
            "TERMINAL_ID": rng.integers(0, 90, N),
            "TX_AMOUNT": rng.lognormal(3, 1, N).round(2),
            "TX_TIME_SECONDS": (when - when[0]).total_seconds().astype(int),
            "TX_TIME_DAYS": (when - when[0]).days,
            "TX_FRAUD": label,
            "TX_FRAUD_SCENARIO": label * rng.integers(1, 4, N),
        }
    )


def account_openings(seed: int = 6) -> Frame:
    """Applications with a month only: no time, no customer, no amount."""
    rng = _random(seed)
    return Frame(
        {
            "fraud_bool": frauds(rng),
            "income": rng.choice([0.1, 0.3, 0.9], N),
            "customer_age": rng.choice([20, 30, 40, 50], N),
            "payment_type": _pick(rng, ["AA", "AB", "AC"]),
            "zip_count_4w": rng.integers(1, 6_000, N),
            "intended_balcon_amount": np.where(rng.random(N) < 0.8, -1.0, rng.uniform(0, 90, N)).round(2),
            "email_is_free": rng.integers(0, 2, N),
            "device_fraud_count": np.zeros(N, dtype=int),
            "keep_alive_session": rng.integers(0, 2, N),
            "month": np.sort(rng.integers(0, 8, N)),
        }
    )


def vehicle_claims(seed: int = 70) -> Frame:
    """Claims with parts of dates in words, no amount, a label with a suffix."""
    rng = _random(seed)
    return Frame(
        {
            "Month": _pick(rng, ["Jan", "Feb", "Mar"]),
            "WeekOfMonth": rng.integers(1, 6, N),
            "DayOfWeek": _pick(rng, ["Monday", "Friday"]),
            "Make": _pick(rng, ["Honda", "Ford", "Mazda"]),
            "Sex": _pick(rng, ["Female", "Male"]),
            "Age": rng.integers(16, 80, N),
            "FraudFound_P": frauds(rng),
            "PolicyNumber": np.arange(1, N + 1),
            "Deductible": rng.choice([300, 400, 700], N),
            "Year": np.sort(rng.choice([1994, 1995, 1996], N)),
        }
    )


def insurance_claims(seed: int = 8) -> Frame:
    """Dates without hours, labels Y and N, an empty column."""
    rng = _random(seed)
    return Frame(
        {
            "months_as_customer": rng.integers(0, 400, N),
            "policy_number": rng.permutation(np.arange(100_000, 100_000 + N)),
            "policy_bind_date": pd.date_range("1995-01-01", periods=N, freq="9D").strftime("%Y-%m-%d"),
            "insured_zip": rng.integers(430_000, 620_000, N),
            "incident_date": times(days=90).strftime("%Y-%m-%d"),
            "incident_type": _pick(rng, ["Single Vehicle Collision", "Vehicle Theft"]),
            "police_report_available": _pick(rng, ["YES", "NO", "?"]),
            "total_claim_amount": rng.integers(100, 99_999, N),
            "fraud_reported": np.where(frauds(rng, share=0.2) == 1, "Y", "N"),
            "_c39": [None] * N,
        }
    )


def bank_simulation(seed: int = 9) -> Frame:
    """Quoted ids, steps of a day, a postal code that is constant."""
    rng = _random(seed)
    return Frame(
        {
            "step": np.sort(rng.integers(0, 180, N)),
            "customer": [f"'C{number}'" for number in rng.integers(1_000, 1_060, N)],
            "age": [f"'{number}'" for number in rng.integers(0, 7, N)],
            "gender": _pick(rng, ["'F'", "'M'", "'E'"]),
            "zipcodeOri": ["'28007'"] * N,
            "merchant": [f"'M{number}'" for number in rng.integers(1_000, 1_030, N)],
            "zipMerchant": ["'28007'"] * N,
            "category": _pick(rng, ["'es_food'", "'es_travel'", "'es_health'"]),
            "amount": rng.lognormal(3, 1, N).round(2),
            "fraud": frauds(rng),
        }
    )


def shop_orders(seed: int = 10) -> Frame:
    """Two times, devices, browsers, an address as a number, a misspelled label."""
    rng = _random(seed)
    bought = times()
    return Frame(
        {
            "user_id": rng.permutation(N),
            "signup_time": (bought - pd.Timedelta(days=9)).strftime("%Y-%m-%d %H:%M:%S"),
            "purchase_time": bought.strftime("%Y-%m-%d %H:%M:%S"),
            "purchase_value": rng.integers(9, 150, N),
            "device_id": _ids(rng, "DEV", 400),
            "source": _pick(rng, ["SEO", "Ads", "Direct"]),
            "sex": _pick(rng, ["M", "F"]),
            "age": rng.integers(18, 70, N),
            "ip": [f"10.{a}.{b}.{c}" for a, b, c in rng.integers(0, 256, (N, 3))],
            "email": [f"person{number}@example.com" for number in rng.integers(0, 300, N)],
            "country": _pick(rng, ["DE", "FR", "US"]),
            "isFradulent": _pick(rng, ["False", "False", "False", "False", "True"]),
        }
    )


def kaggle_orders(seed: int = 11) -> Frame:
    """Words with blanks in names, dates month first, yes and no in words."""
    rng = _random(seed)
    when = times()
    return Frame(
        {
            "Transaction ID": [f"{number:08x}-af" for number in range(N)],
            "Customer ID": _ids(rng, "cust-", 80),
            "Transaction Amount": rng.lognormal(3, 1, N).round(2),
            "Transaction Date": when.strftime("%m/%d/%Y %H:%M"),
            "Payment Method": _pick(rng, ["PayPal", "credit card", "debit card"]),
            "Quantity": rng.integers(1, 6, N),
            "IP Address": [f"172.16.{a}.{b}" for a, b in rng.integers(0, 256, (N, 2))],
            "Shipping Address": [f"{number} Elm Road, Springfield" for number in range(N)],
            "Is Fraudulent": frauds(rng),
        }
    )


def european_export(seed: int = 12) -> Frame:
    """German names, day first, decimal commas; for a file with semicolons in Windows-1252."""
    rng = _random(seed)
    return Frame(
        {
            "Buchungsdatum": times(start="2024-01-13").strftime("%d.%m.%Y"),
            "Uhrzeit": times(start="2024-01-13").strftime("%H:%M:%S"),
            "Kunde": _ids(rng, "K", 70),
            "Händler": _pick(rng, ["Bäckerei", "Kiosk", "Käseladen"]),
            "Betrag": [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in rng.lognormal(5, 2, N)],
            "Filiale": rng.choice([101, 205, 330], N),
            "Betrug": np.where(frauds(rng) == 1, "ja", "nein"),
        }
    )


def calendar_parts(seed: int = 13) -> Frame:
    """Year, month, day and clock in columns of their own, amounts with a currency sign."""
    rng = _random(seed)
    when = times(days=200)
    return Frame(
        {
            "User": rng.integers(0, 9, N),
            "Card": rng.integers(0, 4, N),
            "Year": when.year,
            "Month": when.month,
            "Day": when.day,
            "Time": when.strftime("%H:%M"),
            "Amount": [f"${value:.2f}" for value in rng.normal(40, 60, N)],
            "Use Chip": _pick(rng, ["Swipe Transaction", "Chip Transaction", "Online Transaction"]),
            "Merchant Name": rng.choice(rng.integers(-(10**18), 10**18, 50), N),
            "Merchant City": _pick(rng, ["La Verne", "Monterey Park"]),
            "Zip": rng.choice([91750.0, 91754.0, np.nan], N),
            "MCC": rng.choice([5300, 5411, 5651], N),
            "Errors?": _pick(rng, [None, None, None, "Bad PIN", "Insufficient Balance"]),
            "Is Fraud?": np.where(frauds(rng) == 1, "Yes", "No"),
        }
    )


def managed_service(seed: int = 14) -> Frame:
    """The export form of a managed service: half of the rows have no label."""
    rng = _random(seed)
    when = times()
    label = np.where(frauds(rng, share=0.15) == 1, "1", "0").astype(object)
    label[rng.random(N) < 0.4] = None
    return Frame(
        {
            "EVENT_LABEL": label,
            "EVENT_TIMESTAMP": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "LABEL_TIMESTAMP": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "EVENT_ID": [f"{number:032x}" for number in range(N)],
            "ENTITY_TYPE": "customer",
            "ENTITY_ID": _ids(rng, "e", 90),
            "card_bin": rng.choice([304_027, 601_104, 357_961], N),
            "order_price": rng.lognormal(3, 1, N).round(2),
            "payment_currency": _pick(rng, ["EUR", "USD", "KWD"]),
            "merchant": _ids(rng, "shop", 60),
        }
    )


def chargebacks(seed: int = 15) -> Frame:
    """Epoch milliseconds, true and false, the day of the chargeback for frauds only."""
    rng = _random(seed)
    when = times()
    label = frauds(rng)
    later = (when + pd.Timedelta(days=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Frame(
        {
            "id": np.arange(70, 70 + N),
            "merchant_id": rng.integers(100, 190, N),
            "user_id": rng.integers(1_000, 1_080, N),
            "created_at": when.as_unit("ms").astype("int64"),
            "transaction_amount": rng.lognormal(3, 1, N).round(2),
            "device_id": rng.choice([5.0, 6.0, np.nan], N),
            "chargeback_date": pd.Series(later).where(label == 1),
            "has_cbk": np.where(label == 1, "TRUE", "FALSE"),
        }
    )


SHAPES: Final[dict[str, Callable[[], Frame]]] = {
    shape.__name__: shape
    for shape in (
        *(components, mobile_money, online_payments, card_holders, handbook, account_openings, vehicle_claims),
        *(insurance_claims, bank_simulation, shop_orders, kaggle_orders, european_export, calendar_parts),
        *(managed_service, chargebacks),
    )
}
"""A function for each shape by its name."""


def day_rows(day: int, *, n: int = 20) -> pa.Table:
    """Rows of one day of January 2026 with the fields' own names; the first row of a day is a fraud."""
    times = pd.date_range(f"2026-01-{day:02}", periods=n, freq="1h", tz="UTC").as_unit("us")
    return pa.table(
        {
            "transaction_id": [f"t{day}-{number}" for number in range(n)],
            "event_time": times,
            "customer_id": [f"c{number % 7}" for number in range(n)],
            "merchant_id": [f"m{number % 3}" for number in range(n)],
            "amount": [float(10 + number) + day / 100 for number in range(n)],
            "is_fraud": [number == 0 for number in range(n)],
        }
    )

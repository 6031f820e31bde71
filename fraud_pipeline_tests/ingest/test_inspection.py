"""An inspection gives each column one place, and recognises fields by name and values together."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.column_names import our_name, spelled
from fraud_pipeline.ingest.declaration import declaration_toml, read_declaration
from fraud_pipeline.ingest.field_names import NO_EVENT_TIME, field_rank
from fraud_pipeline.ingest.inspection import Inspection, inspect
from fraud_pipeline.ingest.inspection_overrides import parse_overrides
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.time_guesses import TimeOptions
from fraud_pipeline.schema.own_fields import RESERVED_NAMES
from fraud_pipeline_tests.support.bank_files import SHAPES, card_holders, handbook, kaggle_orders, times

EXPECTED: dict[str, dict[str, str]] = {
    "components": {"Time": "event_time", "Amount": "amount", "Class": "is_fraud"},
    "mobile_money": {
        "step": "event_time",
        "amount": "amount",
        "nameOrig": "customer_id",
        "nameDest": "merchant_id",
        "isFraud": "is_fraud",
    },
    "online_payments": {
        "TransactionID": "transaction_id",
        "TransactionDT": "event_time",
        "TransactionAmt": "amount",
        "card1": "customer_id",
        "ProductCD": "category",
        "isFraud": "is_fraud",
    },
    "card_holders": {
        "trans_num": "transaction_id",
        "trans_date_trans_time": "event_time",
        "cc_num": "customer_id",
        "merchant": "merchant_id",
        "amt": "amount",
        "category": "category",
        "is_fraud": "is_fraud",
        "merch_lat": "latitude",
        "merch_long": "longitude",
    },
    "handbook": {
        "TRANSACTION_ID": "transaction_id",
        "TX_DATETIME": "event_time",
        "CUSTOMER_ID": "customer_id",
        "TERMINAL_ID": "merchant_id",
        "TX_AMOUNT": "amount",
        "TX_FRAUD": "is_fraud",
    },
    "account_openings": {"fraud_bool": "is_fraud"},
    "vehicle_claims": {"PolicyNumber": "transaction_id", "FraudFound_P": "is_fraud"},
    "insurance_claims": {
        "policy_number": "transaction_id",
        "incident_date": "event_time",
        "total_claim_amount": "amount",
        "fraud_reported": "is_fraud",
    },
    "bank_simulation": {
        "step": "event_time",
        "customer": "customer_id",
        "merchant": "merchant_id",
        "category": "category",
        "amount": "amount",
        "fraud": "is_fraud",
    },
    "shop_orders": {
        "user_id": "customer_id",
        "purchase_time": "event_time",
        "purchase_value": "amount",
        "country": "country",
        "isFradulent": "is_fraud",
    },
    "kaggle_orders": {
        "Transaction ID": "transaction_id",
        "Customer ID": "customer_id",
        "Transaction Amount": "amount",
        "Transaction Date": "event_time",
        "Is Fraudulent": "is_fraud",
    },
    "european_export": {
        "Buchungsdatum": "event_time",
        "Uhrzeit": "event_time",
        "Kunde": "customer_id",
        "Händler": "merchant_id",
        "Betrag": "amount",
        "Betrug": "is_fraud",
    },
    "calendar_parts": {
        "User": "customer_id",
        "Year": "event_time",
        "Month": "event_time",
        "Day": "event_time",
        "Time": "event_time",
        "Amount": "amount",
        "Merchant Name": "merchant_id",
        "MCC": "category",
        "Is Fraud?": "is_fraud",
    },
    "managed_service": {
        "EVENT_ID": "transaction_id",
        "EVENT_TIMESTAMP": "event_time",
        "ENTITY_ID": "customer_id",
        "order_price": "amount",
        "merchant": "merchant_id",
        "EVENT_LABEL": "is_fraud",
    },
    "chargebacks": {
        "id": "transaction_id",
        "created_at": "event_time",
        "user_id": "customer_id",
        "has_cbk": "is_fraud",
        "merchant_id": "merchant_id",
        "transaction_amount": "amount",
        "chargeback_date": "reported_at",
    },
}
OWN_TYPES: dict[str, dict[str, str]] = {
    "mobile_money": {"type": "category", "oldbalanceOrg": "money"},
    "online_payments": {"addr1": "category", "M1": "boolean", "V1": "number", "DeviceType": "category"},
    "card_holders": {"zip": "category", "dob": "time", "street": "text", "first": "text", "lat": "number"},
    "account_openings": {"zip_count_4w": "number", "email_is_free": "boolean", "customer_age": "number"},
    "insurance_claims": {"police_report_available": "boolean", "policy_bind_date": "time"},
    "bank_simulation": {"age": "category", "gender": "category"},
    "shop_orders": {"ip": "ip", "email": "email", "device_id": "identifier", "signup_time": "time"},
    "kaggle_orders": {"IP Address": "ip", "Shipping Address": "text", "Quantity": "number"},
    "calendar_parts": {"Use Chip": "category", "Zip": "category", "Card": "category"},
    "managed_service": {"card_bin": "category", "payment_currency": "category"},
}
NOT_USED: dict[str, set[str]] = {
    "mobile_money": {"isFlaggedFraud"},
    "card_holders": {"Unnamed: 0", "unix_time"},
    "handbook": {"TX_FRAUD_SCENARIO", "TX_TIME_SECONDS", "TX_TIME_DAYS"},
    "account_openings": {"device_fraud_count"},
    "insurance_claims": {"_c39"},
    "bank_simulation": {"zipcodeOri", "zipMerchant"},
    "managed_service": {"LABEL_TIMESTAMP", "ENTITY_TYPE"},
}


def written(directory: Path, frame: pd.DataFrame, name: str = "data") -> Path:
    path = directory / f"{name}.csv"
    if name == "european_export":
        path.write_bytes(frame.to_csv(index=False, sep=";").encode("cp1252"))
    else:
        frame.to_csv(path, index=False)
    return path


def inspected(directory: Path, frame: pd.DataFrame, *words: str, **options: Any) -> Inspection:
    return inspect(written(directory, frame), overrides=parse_overrides(words), options=TimeOptions(**options))


def used_as(inspection: Inspection) -> dict[str, str]:
    return {place.column: place.name for place in inspection.columns if place.use == "field"}


def evidence(inspection: Inspection, column: str) -> str:
    return next(place.evidence for place in inspection.columns if place.column == column)


@pytest.mark.parametrize("name", SHAPES)
class TestShapes:
    def test_each_column_has_the_place_that_a_person_would_give_it(self, tmp_path: Path, name: str) -> None:
        inspection = inspect(written(tmp_path, SHAPES[name](), name))
        assert used_as(inspection) == EXPECTED[name]
        own = {place.column: place.type for place in inspection.columns if place.use == "own"}
        assert {column: own.get(column) for column in OWN_TYPES.get(name, {})} == OWN_TYPES.get(name, {})
        unused = {place.column for place in inspection.columns if place.use == "not_used"}
        assert unused == NOT_USED.get(name, set())
        assert not inspection.problems

    def test_the_source_reads_by_the_declaration_what_the_inspection_saw(self, tmp_path: Path, name: str) -> None:
        path = written(tmp_path, SHAPES[name](), name)
        inspection = inspect(path)
        declaration = read_declaration(declaration_toml(inspection.declaration))
        assert declaration == inspection.declaration
        source = FileSource(path, declaration=declaration)
        span = inspection.span
        assert span is not None
        assert (source.first_day, source.last_day) == (span[0].date(), span[1].date())
        rows = source.transactions(start=pd.Timestamp("1990-01-01", tz="UTC"), end=pd.Timestamp.now(tz="UTC"))
        assert len(rows) == inspection.rows
        assert set(rows) >= {own.name for own in declaration.own}
        reports = source.reports(start=pd.Timestamp("1990-01-01", tz="UTC"), end=pd.Timestamp.now(tz="UTC"))
        assert len(reports) == inspection.frauds


class TestTimes:
    @pytest.mark.parametrize(
        ("text_format", "start", "expected"),
        [
            ("%d/%m/%Y %H:%M", "2023-01-31", "day-first: 31/01/2023 00:00 in row 2"),
            ("%m/%d/%Y", "2023-01-31", "month-first: 01/31/2023 in row 2"),
            ("%d-%b-%Y %H:%M:%S", "2023-01-31", "31-Jan-2023"),
            ("%Y%m%d%H%M%S", "2023-01-31", "a date as one number: 20230131000000 in row 2"),
            ("%Y/%m/%d %H:%M:%S", "2023-01-31", "without a time zone, read as UTC"),
        ],
    )
    def test_the_evidence_shows_how_a_time_is_read(
        self, tmp_path: Path, text_format: str, start: str, expected: str
    ) -> None:
        frame = handbook().assign(TX_DATETIME=times(start=start).strftime(text_format))
        inspection = inspected(tmp_path, frame[["TX_DATETIME", "TX_AMOUNT", "TX_FRAUD"]])
        assert expected in evidence(inspection, "TX_DATETIME")
        assert inspection.span is not None
        assert inspection.span[0] == pd.Timestamp(start, tz="UTC")

    def test_an_order_of_day_and_month_that_no_cell_proves_is_warned_about(self, tmp_path: Path) -> None:
        days = pd.date_range("2023-01-01", periods=12, freq="D").repeat(50)
        frame = handbook().assign(TX_DATETIME=days.strftime("%d/%m/%Y"))
        inspection = inspected(tmp_path, frame[["TX_DATETIME", "TX_AMOUNT", "TX_FRAUD"]])
        assert inspection.span is not None
        assert inspection.span[1] == pd.Timestamp("2023-01-12", tz="UTC")
        assert any('--time-format "%m/%d/%Y"' in warning for warning in inspection.warnings)

    @pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
    def test_numbers_since_1970_are_known_by_their_size(self, tmp_path: Path, unit: str, factor: int) -> None:
        seconds = times().as_unit("s").astype("int64").to_numpy()
        inspection = inspected(tmp_path, handbook().assign(TX_DATETIME=seconds * factor))
        assert inspection.declaration.event_time is not None
        assert inspection.declaration.event_time.unit == unit
        assert inspection.span is not None
        assert inspection.span[0] == pd.Timestamp("2024-01-05", tz="UTC")

    def test_a_start_that_a_person_gives_needs_no_warning(self, tmp_path: Path) -> None:
        origin = pd.Timestamp("2017-12-01", tz="UTC").to_pydatetime()
        inspection = inspected(tmp_path, SHAPES["online_payments"](), origin=origin)
        assert inspection.span is not None
        assert inspection.span[0].date().isoformat() == "2017-12-02"
        assert not [warning for warning in inspection.warnings if "start" in warning]

    def test_dates_without_hours_are_warned_about(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, SHAPES["insurance_claims"]())
        assert any("are midnight" in warning for warning in inspection.warnings)


class TestLabels:
    def test_an_empty_label_is_unknown(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, SHAPES["managed_service"]())
        assert inspection.unknown == int(np.isnan(inspection.labels).sum()) > 100

    def test_the_rarer_of_two_strange_values_is_fraud_and_that_is_said(self, tmp_path: Path) -> None:
        frame = handbook()
        frame["TX_FRAUD"] = np.where(frame["TX_FRAUD"] == 1, "A2", "A1")
        inspection = inspected(tmp_path, frame)
        assert inspection.declaration.label is not None
        assert inspection.declaration.label.fraud == ("a2",)
        assert any("the rarer" in warning for warning in inspection.warnings)

    def test_without_a_label_the_option_is_named(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, handbook().drop(columns=["TX_FRAUD", "TX_FRAUD_SCENARIO"]))
        assert inspection.problems == ("No column is recognised as the label. Name it: --set is_fraud=COLUMN",)

    def test_too_few_frauds_stop(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, handbook().assign(TX_FRAUD=[1] * 5 + [0] * 595))
        assert "5 frauds of at least 20" in inspection.problems[0]

    def test_a_column_that_tells_the_label_is_no_input(self, tmp_path: Path) -> None:
        frame = handbook().rename(columns={"TX_FRAUD_SCENARIO": "how_found"})
        inspection = inspected(tmp_path, frame.assign(score=frame["TX_FRAUD"] * 3.5 + 0.1))
        assert {"how_found", "score"} <= set(inspection.declaration.not_used)
        assert "gives the label away" in evidence(inspection, "score")


class TestNumbers:
    def test_marks_between_thousands_make_money_of_any_number(self, tmp_path: Path) -> None:
        stock = [f"1.{number * 7 % 600:03d},5" for number in range(600)]
        inspection = inspected(tmp_path, handbook().assign(stock=stock))
        assert {own.column: own.type for own in inspection.declaration.own} == {"stock": "money"}

    def test_three_decimals_everywhere_are_decimals_of_an_own_number(self, tmp_path: Path) -> None:
        balance = [f"{number % 90 + 10}.{number:03d}" for number in range(600)]
        path = written(tmp_path, handbook().assign(balance=balance))
        inspection = inspect(path)
        assert {own.column: own.type for own in inspection.declaration.own} == {"balance": "number"}
        rows = FileSource(path, declaration=inspection.declaration).transactions(
            start=pd.Timestamp("1990-01-01", tz="UTC"), end=pd.Timestamp.now(tz="UTC")
        )
        assert rows["balance"].max() == 99.539

    def test_amounts_of_three_decimals_are_rounded_and_counted(self, tmp_path: Path) -> None:
        amounts = [f"{3 * number}.{number % 9}25" for number in range(1, 601)]
        path = written(tmp_path, handbook().assign(TX_AMOUNT=amounts))
        inspection = inspect(path)
        source = FileSource(path, declaration=inspection.declaration)
        assert source.notes["amount: more than two decimals, rounded to cents"] == 600
        start, end = pd.Timestamp("1990-01-01", tz="UTC"), pd.Timestamp.now(tz="UTC")
        assert source.transactions(start=start, end=end)["amount"].iloc[0] == 3.12
        assert len(source.reports(start=start, end=end)) == inspection.frauds


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *(("buyerEmail", "customer_id"), ("MERCH_NM", "merchant_id"), ("ACCT_NO", "customer_id")),
        *(("TRAN_AMT", "amount"), ("totalAmount", "amount"), ("orderNumber", "transaction_id")),
        *(("createdAt", "event_time"), ("trans_date", "event_time"), ("mcc_cd", "category")),
    ],
)
def test_names_that_people_give_to_fields(name: str, field: str) -> None:
    assert field_rank(field, name) is not None


@pytest.mark.parametrize("name", ["dob", "signup_time", "LABEL_TIMESTAMP", "last_login_date"])
def test_times_of_other_things_are_no_event_time(name: str) -> None:
    assert NO_EVENT_TIME.search(spelled(name))


def test_a_figure_about_other_amounts_is_no_amount(tmp_path: Path) -> None:
    frame = handbook().rename(columns={"TX_AMOUNT": "ratio_to_median_purchase_price"})
    assert "amount" not in inspected(tmp_path, frame).declaration.fields


class TestOverrides:
    def test_a_person_overrules_and_refuses(self, tmp_path: Path) -> None:
        inspection = inspected(
            tmp_path, card_holders(), "customer_id=last", "category=-", "gender=-", "kind:category=zip"
        )
        assert inspection.declaration.fields["customer_id"] == "last"
        assert "category" not in inspection.declaration.fields
        assert inspection.declaration.not_used["gender"] == "refused by you"
        kinds = {own.name: (own.type, own.column) for own in inspection.declaration.own}
        assert kinds["kind"] == ("category", "zip")
        assert kinds["own_category"] == ("category", "category")

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (("amount",), "write field=COLUMN"),
            (("amount=nowhere",), "no column nowhere"),
            (("amount=amt", "mine=amt"), "more than once"),
            (("is_fraud=amt",), "a label has two"),
            (("event_time=first",), "no times that are recognised"),
            (("mine:color=zip",), "type 'color' is none of"),
        ],
    )
    def test_words_that_cannot_be_followed_are_refused(
        self, tmp_path: Path, words: tuple[str, ...], problem: str
    ) -> None:
        with pytest.raises(SourceError, match=problem):
            inspected(tmp_path, card_holders(), *words)


class TestFiles:
    def test_parts_and_hive_directories_are_inspected_together(self, tmp_path: Path) -> None:
        for kind, part in kaggle_orders().groupby("Payment Method"):
            directory = tmp_path / "parts" / f"kind={str(kind).replace(' ', '-')}"
            directory.mkdir(parents=True)
            part.to_parquet(directory / "part-0.parquet", index=False)
        inspection = inspect(tmp_path / "parts")
        assert inspection.rows == len(kaggle_orders())
        assert {place.column for place in inspection.columns} == {*kaggle_orders().columns, "kind"}

    def test_a_file_that_is_too_large_to_read_as_a_whole_gives_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = written(tmp_path, pd.concat([card_holders(seed) for seed in range(30)], ignore_index=True))
        whole = inspect(path)
        monkeypatch.setattr("fraud_pipeline.ingest.inspection_sample.SMALL_BYTES", 1_000)
        monkeypatch.setattr("fraud_pipeline.ingest.inspection_sample._PIECE_BYTES", 100_000)
        sampled = inspect(path)
        assert (sampled.rows, sampled.frauds, sampled.span) == (whole.rows, whole.frauds, whole.span)
        assert used_as(sampled) == used_as(whole)

    def test_a_first_line_of_data_is_not_shown(self, tmp_path: Path) -> None:
        path = tmp_path / "data.csv"
        path.write_text("Erika,Mustermann,online\nErika,Mustermann,chip\n")
        with pytest.raises(SourceError, match=r".") as error:
            inspect(path)
        assert "Erika" not in str(error.value)


NAMES = st.sampled_from(
    [
        "isFraud",
        "label",
        "amount",
        "Time",
        "timestamp",
        "customer",
        "merchant",
        "lat",
        "merch_lat",
        "Ämter",
        "a b",
        "A b",
        "amount_cents",
        "score",
        "country",
        "category",
        "report_date",
        "chargeback",
        "Unnamed: 0",
        "x",
        "zip",
        "mcc",
        "2nd",
    ]
)
CELLS = st.sampled_from(
    ["", "0", "1", "Y", "N", "1.5", "2024-01-31", "31/01/2024", "12:30", "DE", "a@b.de", "10.0.0.1", "17", "Ä ö", "-3"]
)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_column_of_any_frame_has_exactly_one_place(tmp_path: Path, data: st.DataObject) -> None:
    names = data.draw(st.lists(NAMES, min_size=2, max_size=7, unique=True))
    n = data.draw(st.integers(3, 8))
    cells = {name: data.draw(st.lists(CELLS, min_size=n, max_size=n)) for name in names}
    path = tmp_path / "any.parquet"
    pd.DataFrame(cells).to_parquet(path, index=False)
    inspection = inspect(path)
    assert [place.column for place in inspection.columns] == names
    declaration = inspection.declaration
    declared = [*declaration.columns, *declaration.not_used]
    assert sorted(declared) == sorted(names)
    own = [field.name for field in declaration.own_fields]
    assert len(set(own)) == len(own)
    assert read_declaration(declaration_toml(declaration)) == declaration


@given(st.lists(st.text(max_size=80), max_size=20))
def test_names_are_in_our_form_and_unique(names: list[str]) -> None:
    taken = set(RESERVED_NAMES)
    for name in names:
        made = our_name(name, taken=taken)
        assert made not in taken
        assert len(made) <= 63
        assert made.isascii()
        assert made[0].isalpha()
        assert made == made.lower()
        taken.add(made)

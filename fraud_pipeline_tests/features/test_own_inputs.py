"""Own inputs: one row, a micro-batch and a year give the same bits, from JSON and from typed columns alike."""

import io
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.own_inputs import (
    FIXED_INPUTS,
    MAX_CATEGORIES,
    OwnInput,
    OwnInputs,
    fit_own_inputs,
    not_inputs,
)
from fraud_pipeline.features.record import changed_features, record_features
from fraud_pipeline.schema.money import MONEY_FIELDS, ORIGINAL_AMOUNT, ORIGINAL_CURRENCY, RATE, Conversion
from fraud_pipeline.schema.own_fields import OWN_TYPES, OwnField, own_columns, own_fields_json, own_values
from fraud_pipeline.schema.transactions import DAY, TransactionRow
from fraud_pipeline_tests.support.own_worlds import OwnWorld, own_fields, own_worlds

DE, UNKNOWN = 0.0, np.nan


def online(world: OwnWorld, inputs: OwnInputs, position: int) -> np.ndarray[Any, Any]:
    """The inputs of one transaction, as a request gives it."""
    row = world.fixed.iloc[position]
    columns: dict[str, Any] = {name: [None if pd.isna(row[name]) else row[name]] for name in FIXED_INPUTS}
    columns |= own_values([world.texts[position]], inputs.fields)
    return inputs.values(columns, world.event_time[[position]])


def stored(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, written to a file and read again."""
    file = io.BytesIO()
    rows.to_parquet(file)
    return pd.read_parquet(file)


class TestParity:
    @pytest.mark.slow
    @given(world=own_worlds(), batch=st.integers(1, 5))
    def test_rows_batches_and_tables_give_the_same_bits(self, world: OwnWorld, batch: int) -> None:
        rows = world.rows()
        inputs = fit_own_inputs(rows, world.fields, min_count=1)
        year = inputs.values(stored(rows), world.event_time)
        single = np.concatenate([online(world, inputs, position) for position in range(len(rows))])
        parts = [slice(start, start + batch) for start in range(0, len(rows), batch)]
        batches = [inputs.values(rows.iloc[part], world.event_time[part]) for part in parts]
        assert year.dtype == single.dtype == np.float32
        assert year.tobytes() == np.ascontiguousarray(single).tobytes() == np.concatenate(batches).tobytes()
        assert not np.isinf(year).any()

    @given(world=own_worlds())
    def test_a_saved_configuration_gives_the_same_bits(self, world: OwnWorld) -> None:
        rows = world.rows()
        config = FeatureConfig(timedelta(days=7), fit_own_inputs(rows, world.fields, min_count=1))
        again = FeatureConfig.from_json(config.to_json())
        assert (again, again.id) == (config, config.id)
        values = [each.own_inputs.values(rows, world.event_time).tobytes() for each in (config, again)]
        assert values[0] == values[1]

    @given(world=own_worlds(), others=own_fields())
    def test_a_model_of_another_declaration_reads_the_same_table(
        self, world: OwnWorld, others: tuple[OwnField, ...]
    ) -> None:
        """The other model declares fields of the same names with other types; what does not fit is missing."""
        rows = world.rows()
        kinds = tuple(OwnInput(own.name, "number") for own in others if own.name in rows)
        values = OwnInputs(fields=others, inputs=kinds).values(rows, world.event_time)
        numbers = {own.name for own in world.fields if own.type in ("number", "money")}
        for column, own in zip(values.T, kinds, strict=True):
            assert np.isnan(column).all() or own.name in numbers


class TestEncoding:
    FIELDS = tuple(OwnField(name=f"own_{type_}", type=type_) for type_ in OWN_TYPES)

    def rows(self, **columns: Any) -> pd.DataFrame:
        count = len(next(iter(columns.values())))
        return pd.DataFrame({name: [None] * count for name in FIXED_INPUTS} | columns)

    def test_a_category_has_the_place_of_its_name(self) -> None:
        inputs = fit_own_inputs(self.rows(country=["SE", "DE", "SE", None]), (), min_count=1)
        assert inputs.inputs == (OwnInput("country", "category", categories=("DE", "SE")),)
        values = inputs.values({"country": ["DE", "SE", "JP", None, np.nan]}, np.zeros(5, np.int64))
        np.testing.assert_array_equal(values[:, 0], np.array([DE, 1, UNKNOWN, UNKNOWN, UNKNOWN], np.float32))

    def test_rare_categories_are_missing(self) -> None:
        rows = self.rows(category=["a"] * 5 + ["b"] * 4, country=["DE"] * 4 + [None] * 5)
        assert fit_own_inputs(rows, (), min_count=5).inputs == (OwnInput("category", "category", categories=("a",)),)

    def test_the_most_frequent_categories_are_kept(self) -> None:
        names = [f"c{number:03}" for number in range(MAX_CATEGORIES + 50)]
        rows = self.rows(category=names + names[50:])
        (own,) = fit_own_inputs(rows.sample(frac=1, random_state=0), (), min_count=1).inputs
        assert own.categories == tuple(names[50:])

    def test_ages_flags_and_numbers(self) -> None:
        columns = own_columns(
            ['{"own_boolean":true,"own_money":-0.5,"own_number":1e300,"own_time":86400000000}', None], self.FIELDS
        )
        inputs = fit_own_inputs(columns.join(self.rows(country=[None, None])), self.FIELDS, min_count=1)
        values = inputs.values(columns, np.full(2, 3 * DAY))
        expected = {"own_number": np.finfo(np.float32).max, "own_boolean": 1.0, "own_time": 2.0, "own_money": -0.5}
        assert dict(zip(inputs.names, values[0].tolist(), strict=True)) == expected
        assert np.isnan(values[1]).all()

    def test_fields_that_are_no_inputs_say_why(self) -> None:
        inputs = fit_own_inputs(
            self.rows(country=["DE"]).join(own_columns([None], self.FIELDS)), self.FIELDS, min_count=1
        )
        reasons = not_inputs(inputs)
        assert set(reasons) == {own.name for own in self.FIELDS}
        assert "held no value" in reasons["own_number"]
        assert "type ip" in reasons["own_ip"]

    def test_a_field_with_the_name_of_a_feature_is_refused(self) -> None:
        with pytest.raises(ValueError, match="own field 'is_night': a feature has this name"):
            fit_own_inputs(self.rows(country=["DE"]), (OwnField(name="is_night", type="boolean"),), min_count=1)

    def test_a_transaction_row_gives_the_same_as_its_columns(self) -> None:
        inputs = fit_own_inputs(self.rows(country=["DE"], latitude=[1.5]), (), min_count=1)
        row = TransactionRow("t", 5, "c", "m", 100, country="DE", latitude=1.5)
        np.testing.assert_array_equal(inputs.values_of_rows([row]), np.array([[0.0, 1.5]], np.float32))


class TestRecord:
    def test_without_own_inputs_the_configuration_is_as_it_was(self) -> None:
        assert DEFAULT_FEATURE_CONFIG.to_json() == '{"label_maturity_microseconds": 1814400000000}'
        assert DEFAULT_FEATURE_CONFIG.id == "6db60dc4256da015"

    @pytest.mark.parametrize("code", ["same", "other"])
    def test_the_record_knows_a_changed_own_input(self, code: str) -> None:
        inputs = OwnInputs(
            fields=(OwnField(name="age", type="number"),),
            inputs=(OwnInput("country", "category", categories=("DE", "SE")), OwnInput("age", "number")),
        )
        config = FeatureConfig(timedelta(days=7), inputs)
        manifest = {"format_version": 2, **record_features(config.feature_names, config)}
        manifest["feature_code"] = manifest["feature_code"] if code == "same" else code
        assert changed_features(manifest) == []
        manifest["feature_values"] = manifest["feature_values"] | {"age": "other bits"}
        assert changed_features(manifest) == ([] if code == "same" else ["age"])


class TestMoney:
    EURO = Conversion(reporting="EUR", rates=(("USD", 0.92),))

    def rows(self, *currencies: str) -> pd.DataFrame:
        texts = [own_fields_json(self.EURO.paid(10.0, currency).own_values) for currency in currencies]
        fixed = pd.DataFrame({name: [None] * len(texts) for name in FIXED_INPUTS})
        return fixed.join(own_columns(texts, MONEY_FIELDS))

    def test_of_several_currencies_shows_the_original_amount(self) -> None:
        own = fit_own_inputs(self.rows("EUR", "USD", "USD"), MONEY_FIELDS, min_count=1)

        assert own.names == (ORIGINAL_CURRENCY, ORIGINAL_AMOUNT)
        assert own.inputs[0].categories == ("EUR", "USD")
        assert list(not_inputs(own)) == [RATE]

    def test_of_one_currency_says_nothing_beside_the_amount(self) -> None:
        own = fit_own_inputs(self.rows("USD", "USD"), MONEY_FIELDS, min_count=1)

        assert own.names == ()
        assert list(not_inputs(own)) == [ORIGINAL_CURRENCY, ORIGINAL_AMOUNT, RATE]

    def test_leaves_a_field_of_the_bank_by_the_same_name_alone(self) -> None:
        rate = OwnField(name=RATE, type="number")
        rows = self.rows("USD", "USD")

        assert fit_own_inputs(rows, [rate], min_count=1).names == (RATE,)

    def test_rates_are_part_of_the_configuration_and_not_of_the_history(self) -> None:
        config = FeatureConfig(label_maturity=timedelta(days=21), conversion=self.EURO)

        assert FeatureConfig.from_json(config.to_json()) == config
        assert config.id != DEFAULT_FEATURE_CONFIG.id
        assert config.of_history == DEFAULT_FEATURE_CONFIG
        assert "conversion" not in DEFAULT_FEATURE_CONFIG.to_dict()

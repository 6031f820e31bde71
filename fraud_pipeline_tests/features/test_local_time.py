"""Hour and weekday of the local clock: by its offset, in UTC where nobody knows it, and only if declared."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, HistoryTables
from fraud_pipeline.features.kernels.columns import table
from fraud_pipeline.features.own_inputs import fit_own_inputs, not_inputs
from fraud_pipeline.features.proof import value_hashes
from fraud_pipeline.features.record import changed_features, record_features
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET
from fraud_pipeline.schema.own_fields import own_fields_json
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TRANSACTIONS, TransactionRow, empty, microseconds
from fraud_pipeline.scoring.reason_texts import sentence
from fraud_pipeline_tests.support.feature_worlds import ENGINEER, MATURITY, World, frame, transaction

LOCAL = FeatureEngineer(label_maturity=MATURITY, local_time=True)
OF_CLOCK = ("hour_of_day", "day_of_week", "is_weekend", "is_night")


def of_clock(engineer: FeatureEngineer, at: str, offset: float) -> tuple[float, ...]:
    rows = frame([transaction(0, event_time=pd.Timestamp(at, tz="UTC"))]).assign(**{UTC_OFFSET: offset})
    history = World([], []).history([])
    features = engineer.compute(history=history, new=rows)
    return tuple(float(features[name].item()) for name in OF_CLOCK)


@pytest.mark.parametrize(
    ("at", "offset", "expected"),
    [
        ("2026-03-06 23:30", 60, (0.5, 5, 1, 1)),  # Friday in UTC, Saturday in Berlin
        ("2026-03-09 01:15", -300, (20.25, 6, 1, 0)),  # Monday in UTC, Sunday in New York
        ("2026-03-06 12:00", 345, (17.75, 4, 0, 0)),
        ("2026-03-06 02:00", 0, (2, 4, 0, 1)),
        ("2026-03-06 02:00", np.nan, (2, 4, 0, 1)),
        ("2026-03-06 02:00", 1_440, (2, 4, 0, 1)),  # no offset is as large
    ],
)
def test_hour_and_weekday_are_those_of_the_local_clock(at: str, offset: float, expected: tuple[float, ...]) -> None:
    assert of_clock(LOCAL, at, offset) == expected


def test_without_the_declaration_the_offset_changes_no_bit() -> None:
    rows = frame([transaction(number, at=number * 5) for number in range(40)])
    history = World([], []).history([])
    zoned = rows.assign(**{UTC_OFFSET: np.arange(40) * 30.0 - 600})
    expected = ENGINEER.compute(history=history, new=rows)
    pd.testing.assert_frame_equal(ENGINEER.compute(history=history, new=zoned), expected)
    pd.testing.assert_frame_equal(LOCAL.compute(history=history, new=rows), expected)
    local = LOCAL.compute(history=history, new=zoned)
    assert [name for name in expected if not local[name].equals(expected[name])] == list(OF_CLOCK)


@given(offsets=st.lists(st.none() | st.integers(-1_500, 1_500), min_size=1, max_size=6))
def test_rows_of_requests_and_a_table_give_the_same_bits(offsets: list[int | None]) -> None:
    config = replace(DEFAULT_FEATURE_CONFIG, local_time=True)
    rows = [
        TransactionRow(f"t{n}", 1_772_800_000_000_000 + n, f"c{n}", f"m{n}", 100, own_fields=text)
        for n, text in enumerate(own_fields_json({UTC_OFFSET: each}) if each is not None else None for each in offsets)
    ]
    batch = frame(
        [
            transaction(
                n,
                event_time=pd.Timestamp(row.event_time, unit="us", tz="UTC"),
                customer_id=row.customer_id,
                merchant_id=row.merchant_id,
            )
            for n, row in enumerate(rows)
        ]
    )
    stored = batch.assign(**{UTC_OFFSET: np.array(offsets, np.float64)})
    days = World([], []).history([]).merchant_days
    nothing = HistoryTables(table(empty(TRANSACTIONS)), table(empty(FRAUD_REPORTS)), table(days))
    offline = config.engineer().values(history=nothing, new=table(stored))
    for position, row in enumerate(rows):
        new = table(batch.iloc[[position]])
        online = config.engineer().values(history=nothing, new=config.on_local_clock(new, [row]))
        assert online.tobytes() == np.ascontiguousarray(offline[[position]]).tobytes()
    assert microseconds(batch["event_time"]).tolist() == [row.event_time for row in rows]


def test_a_configuration_without_local_time_is_that_of_earlier_releases() -> None:
    local = replace(DEFAULT_FEATURE_CONFIG, local_time=True)
    assert DEFAULT_FEATURE_CONFIG.to_json() == '{"label_maturity_microseconds": 1814400000000}'
    assert FeatureConfig.from_json(local.to_json()) == local
    assert local.of_history == local != DEFAULT_FEATURE_CONFIG
    assert local.engineer() != DEFAULT_FEATURE_CONFIG.engineer()


def test_a_model_records_its_clock() -> None:
    utc, local = (FeatureConfig(MATURITY, local_time=each) for each in (False, True))
    of_utc, of_local = value_hashes(utc.engineer()), value_hashes(local.engineer())
    assert [name for name in of_utc if of_utc[name] != of_local[name]] == list(OF_CLOCK)
    described = {entry["name"]: entry["description"] for entry in record_features(OF_CLOCK, local)["features"]}
    assert described["hour_of_day"] == "time of day in local time, with fraction"
    manifest = {**record_features(OF_CLOCK, local), "format_version": 2}
    assert changed_features(manifest) == []
    assert changed_features(manifest | {"feature_config": utc.to_dict()}) != []


def test_the_offset_itself_is_no_input_and_a_reason_does_not_call_local_hours_utc() -> None:
    rows = pd.DataFrame({"category": ["a"] * 3, "country": None, "latitude": np.nan, "longitude": np.nan})
    own = fit_own_inputs(rows.assign(**{UTC_OFFSET: [60.0, 0.0, np.nan]}), [OFFSET_FIELD], min_count=1)
    assert own.names == ("category",)
    assert list(not_inputs(own)) == [UTC_OFFSET]
    assert sentence("hour_of_day", 3.5) == "time of day 03:30 UTC"
    assert sentence("hour_of_day", 3.5, local_time=True) == "time of day 03:30"
    assert "UTC" not in sentence("day_of_week", 3, local_time=True) + sentence("is_night", 1, local_time=True)

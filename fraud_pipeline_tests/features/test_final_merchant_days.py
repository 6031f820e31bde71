"""Merchants' days that are made once, one day at a time, give the same bits as those of all raw days."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_pipeline.defs.calendar import Span
from fraud_pipeline.defs.features import engineer, history_before
from fraud_pipeline.features.engineer import FeatureEngineer, History
from fraud_pipeline.features.merchant_days import assembled, days_to_clear, final_on, merchant_days
from fraud_pipeline.ingest.day_plan import days_between
from fraud_pipeline.schema.transactions import FRAUD_REPORTS
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.feature_worlds import DAY, EXAMPLES, START, World, bits, frame, worlds
from fraud_pipeline_tests.support.small_world import Tables

DAYS: Final = 60
FEW_EXAMPLES: Final = settings(EXAMPLES, max_examples=15)
"""Each example makes sixty days, one at a time."""
maturities = st.sampled_from([0, 0.5, 1, 4.9, 5, 5.5, 21, 45]).map(lambda days: timedelta(days=days))


def final_days(world: World, *, label_maturity: timedelta) -> pd.DataFrame:
    """The rows of `final_on` of every day of the world."""
    transactions, reports = frame(world.transactions), frame(world.reports, FRAUD_REPORTS)
    of_day = transactions["event_time"].dt.floor("D")
    settles_in = days_to_clear(label_maturity) * DAY
    return pd.concat(
        [
            final_on(
                transactions=transactions[of_day == day],
                settling=transactions[of_day == day - settles_in],
                reports=reports,
                label_maturity=label_maturity,
            )
            for day in (START + number * DAY for number in range(DAYS))
        ],
        ignore_index=True,
    )


@pytest.mark.slow
@FEW_EXAMPLES
@given(world=worlds(), label_maturity=maturities)
def test_final_days_together_equal_all_merchants_days(world: World, label_maturity: timedelta) -> None:
    """Cleared columns only of days that settled in time."""
    final = final_days(world, label_maturity=label_maturity)
    transactions, reports = frame(world.transactions), frame(world.reports, FRAUD_REPORTS)
    expected = merchant_days(transactions, reports, label_maturity=label_maturity)
    days = assembled(final)
    settled = expected["day"] < START + DAYS * DAY - days_to_clear(label_maturity) * DAY
    pd.testing.assert_frame_equal(days[settled], expected[settled])
    volume = ["merchant_id", "day", "transaction_count", "amount_sum_cents"]
    pd.testing.assert_frame_equal(days[volume], expected[volume])
    assert not days.loc[~settled, "cleared_count"].any()


@pytest.mark.slow
@FEW_EXAMPLES
@given(world=worlds(), label_maturity=maturities)
def test_many_days_at_once_are_these_days_one_by_one(world: World, label_maturity: timedelta) -> None:
    transactions, reports = frame(world.transactions), frame(world.reports, FRAUD_REPORTS)
    of_day = transactions["event_time"].dt.floor("D")
    last = START + (DAYS - 1) * DAY
    together = final_on(
        transactions=transactions[of_day <= last],
        settling=transactions[of_day + days_to_clear(label_maturity) * DAY <= last],
        reports=reports,
        label_maturity=label_maturity,
    )
    pd.testing.assert_frame_equal(together, final_days(world, label_maturity=label_maturity))


@pytest.mark.slow
@FEW_EXAMPLES
@given(world=worlds(), label_maturity=maturities)
def test_features_of_a_day_need_thirty_final_days_and_keep_every_bit(world: World, label_maturity: timedelta) -> None:
    final = final_days(world, label_maturity=label_maturity)
    transactions, reports = frame(world.transactions), frame(world.reports, FRAUD_REPORTS)
    known = merchant_days(transactions, reports, label_maturity=label_maturity)
    everything = History(transactions=transactions, reports=reports, merchant_days=known)
    made_by = FeatureEngineer(label_maturity=label_maturity)
    of_day = transactions["event_time"].dt.floor("D")
    for day in of_day.unique():
        new = transactions[of_day == day].reset_index(drop=True)
        read = final[(final["final_on"] >= day - 30 * DAY) & (final["final_on"] < day)]
        stored = History(
            transactions=transactions[of_day.between(day - 30 * DAY, day)],
            reports=reports[reports["reported_at"].between(day - 60 * DAY, day + DAY, inclusive="left")],
            merchant_days=assembled(read),
        )
        expected = bits(made_by.compute(history=everything, new=new))
        np.testing.assert_array_equal(bits(made_by.compute(history=stored, new=new)), expected)


@pytest.mark.parametrize("label_maturity", [timedelta(days=2), timedelta(days=7.5)], ids="{0.days} days".format)
def test_final_days_stored_or_made_anew_give_the_history_that_all_rows_give(
    tables: Tables, tmp_path: Path, label_maturity: timedelta
) -> None:
    first = tables.transactions["event_time"].min().date()
    last = (tables.as_of - DAY).date()
    settings = Settings(home=tmp_path, first_day=first, label_maturity=label_maturity)
    store = TableStore(settings.tables_directory)
    tables.write(store, settings, days=days_between(first, last))
    for span in (Span(first, first), Span(date.fromordinal(last.toordinal() - 3), last)):
        stored = history_before(store, span, settings=settings)
        anew = history_before(store, span, settings=settings, stored_merchant_days=False)
        transactions, reports = (store.read(name, first, span.last) for name in ("transactions", "fraud_reports"))
        everything = merchant_days(transactions, reports, label_maturity=label_maturity)
        raw = History(transactions=transactions, reports=reports, merchant_days=everything)
        new = store.read("transactions", span.first, span.last)
        made_by = engineer(settings)
        expected = bits(made_by.compute(history=raw, new=new))
        for history in (stored, anew):
            np.testing.assert_array_equal(bits(made_by.compute(history=history, new=new)), expected)
        without = replace(stored, merchant_days=stored.merchant_days.iloc[:0])
        told_apart = bits(made_by.compute(history=without, new=new)) != bits(made_by.compute(history=stored, new=new))
        assert told_apart.any() == (span.first > first)
    assert stored.transactions["event_time"].min().date() == span.first - timedelta(days=30)

"""Labels as of an instant, and the split into train, tune, calibrate and test."""

from datetime import timedelta
from itertools import pairwise
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.modeling.dataset import LONGEST, PART_NAMES, Split, SplitError, labels_as_of, time_ordered_split
from fraud_pipeline.schema.transactions import DAY, HOUR, microseconds, times

AS_OF = pd.Timestamp("2024-03-01", tz="UTC")
MATURITY = timedelta(days=10)
HOURS_OF_DATA = 24 * 60


def transactions(ages_in_hours: list[int]) -> pd.DataFrame:
    """Transactions t0, t1, ... that happened so many hours before AS_OF."""
    event_time = AS_OF - pd.to_timedelta(ages_in_hours, unit="h")
    return pd.DataFrame({"transaction_id": [f"t{i}" for i in range(len(ages_in_hours))], "event_time": event_time})


def reports(*rows: tuple[int, int, bool]) -> pd.DataFrame:
    """Reports (row number, hours before AS_OF, is fraud)."""
    return pd.DataFrame(
        {
            "transaction_id": pd.Series([f"t{row}" for row, _, _ in rows], dtype=object),
            "reported_at": AS_OF - pd.to_timedelta([hours for _, hours, _ in rows], unit="h"),
            "is_fraud": pd.Series([is_fraud for _, _, is_fraud in rows], dtype=bool),
        }
    )


def labels(of: pd.DataFrame, known: pd.DataFrame) -> list[float]:
    return list(labels_as_of(of, known, as_of=AS_OF, label_maturity=MATURITY))


class TestLabels:
    def test_without_reports_only_old_rows_are_known_to_be_legitimate(self) -> None:
        assert labels(transactions([400, 241]), reports()) == [0.0, 0.0]
        assert np.isnan(labels(transactions([240, 0, -5]), reports())).all()

    def test_a_report_is_known_before_the_row_matures(self) -> None:
        assert labels(transactions([5, 5]), reports((0, 2, True), (1, 2, False))) == [1.0, 0.0]

    def test_the_latest_report_decides_and_fraud_wins_a_tie(self) -> None:
        cleared = reports((0, 9, True), (0, 8, False))
        accused = reports((0, 9, False), (0, 8, True))
        tied = reports((0, 8, True), (0, 8, False))
        assert [labels(transactions([500]), known) for known in (cleared, accused, tied)] == [[0.0], [1.0], [1.0]]

    def test_a_report_at_the_same_instant_is_not_known_yet(self) -> None:
        assert labels(transactions([500, 500]), reports((0, 0, True), (1, 1, True))) == [0.0, 1.0]

    def test_reports_about_other_transactions_are_ignored(self) -> None:
        assert labels(transactions([500]), reports((7, 9, True))) == [0.0]

    @given(
        known=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50), st.booleans()), max_size=12),
        later=st.lists(st.tuples(st.integers(0, 5), st.integers(-50, 0), st.booleans()), min_size=1, max_size=6),
        shuffle=st.randoms(use_true_random=False),
    )
    def test_later_repeated_and_reordered_reports_change_nothing(
        self,
        known: list[tuple[int, int, bool]],
        later: list[tuple[int, int, bool]],
        shuffle: Random,
    ) -> None:
        rows = transactions([500, 300, 240, 200, 50, 1])
        mixed = [*known, *later, *known[:3]]
        shuffle.shuffle(mixed)
        np.testing.assert_array_equal(labels(rows, reports(*mixed)), labels(rows, reports(*known)))


def hourly(hours: int = HOURS_OF_DATA, *, every: int = 20) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A row each hour up to AS_OF, every n-th a fraud, and all labels known."""
    end = microseconds(pd.Series([AS_OF]))[0]
    event_time = np.arange(end - hours * HOUR, end, HOUR, dtype=np.int64)
    return event_time, (np.arange(hours) % every == 0).astype(np.float64)


def split(
    event_time: NDArray[np.int64],
    known: NDArray[np.float64],
    *,
    gap: timedelta = timedelta(days=1),
    warm_up: timedelta = timedelta(days=3),
    maturity: timedelta = MATURITY,
    test_start: pd.Timestamp | None = None,
) -> Split:
    return time_ordered_split(
        event_time,
        known,
        as_of=AS_OF,
        label_maturity=maturity,
        gap=gap,
        warm_up=warm_up,
        test_start=test_start,
    )


class TestSplit:
    def test_parts_follow_each_other_with_the_gap_between(self) -> None:
        event_time, known = hourly()
        parts = split(event_time, known)
        for earlier, later in pairwise(PART_NAMES):
            distance = event_time[parts.rows(later)].min() - event_time[parts.rows(earlier)].max()
            assert DAY < distance <= DAY + 2 * HOUR
            assert parts.periods[later].start - parts.periods[earlier].end == timedelta(days=1)

    def test_parts_share_the_time_by_their_fractions(self) -> None:
        event_time, known = hourly()
        parts = split(event_time, known)
        free = HOURS_OF_DATA - 10 * 24 - 3 * 24 - 3 * 24
        for part, share in zip(PART_NAMES, (0.55, 0.15, 0.1, 0.2), strict=True):
            assert len(parts.rows(part)) == pytest.approx(free * share, abs=2)

    def test_a_longer_history_extends_the_train_part(self) -> None:
        event_time, known = hourly(24 * 800, every=2)
        parts = split(event_time, known)
        lengths = {part: parts.periods[part].end - parts.periods[part].start for part in LONGEST}
        assert lengths == LONGEST
        gaps, margins = timedelta(days=3), timedelta(days=3) + MATURITY
        rest = timedelta(days=800) - gaps - margins - sum(LONGEST.values(), timedelta(0))
        assert abs(parts.periods["train"].end - parts.periods["train"].start - rest) <= timedelta(hours=1)

    def test_parts_are_longer_when_fraud_is_rare(self) -> None:
        event_time, known = hourly(24 * 800, every=24 * 5)
        parts = split(event_time, known)
        # A tenth of the history holds 16 frauds, less than enough.
        assert known[parts.calibrate].sum() == pytest.approx(16, abs=1)

    def test_every_row_is_used_once_or_its_absence_is_explained(self) -> None:
        event_time, known = hourly()
        parts = split(event_time, known)
        used = np.concatenate([parts.rows(part) for part in PART_NAMES])
        assert len(np.unique(used)) == len(used)
        assert len(used) + parts.immature_rows + parts.warm_up_rows + parts.gap_rows == len(event_time)
        assert (parts.warm_up_rows, parts.immature_rows) == (3 * 24, 10 * 24)

    def test_immature_rows_are_left_out_even_when_already_reported(self) -> None:
        event_time, known = hourly()
        young = event_time >= event_time[-1] - 9 * DAY
        known[young & (known == 0)] = np.nan
        parts = split(event_time, known)
        assert not young[parts.test].any()
        assert parts.immature_known_frauds == len(range(1200, 1440, 20))
        assert not np.isnan(known[np.concatenate([parts.rows(part) for part in PART_NAMES])]).any()

    def test_the_last_matured_row_is_a_test_row(self) -> None:
        event_time, known = hourly()
        just_matured = microseconds(pd.Series([AS_OF - MATURITY]))[0]
        assert event_time[split(event_time, known).test[-1]] == just_matured - HOUR

    def test_row_order_does_not_matter(self) -> None:
        event_time, known = hourly()
        shuffled = np.random.default_rng(0).permutation(len(event_time))
        straight, mixed = split(event_time, known), split(event_time[shuffled], known[shuffled])
        for part in PART_NAMES:
            np.testing.assert_array_equal(np.sort(shuffled[mixed.rows(part)]), straight.rows(part))

    def test_warm_up_is_shortened_to_a_quarter_of_short_data(self) -> None:
        event_time, known = hourly(24 * 30)
        assert split(event_time, known, warm_up=timedelta(days=300)).warm_up_rows == pytest.approx(24 * 20 / 4, abs=2)

    def test_test_start_fixes_the_test_part_and_the_gap_before_it(self) -> None:
        event_time, known = hourly()
        test_start = AS_OF - timedelta(days=17)
        parts = split(event_time, known, test_start=test_start)
        assert times(event_time[parts.test]).min() == test_start
        assert parts.periods["calibrate"].end == test_start - timedelta(days=1)
        sizes = [len(parts.rows(part)) for part in ("train", "tune", "calibrate")]
        assert np.divide(sizes, sum(sizes)) == pytest.approx([0.55 / 0.8, 0.15 / 0.8, 0.1 / 0.8], abs=0.01)

    def test_old_data_are_split_up_to_their_own_end(self) -> None:
        event_time, known = hourly()
        parts = split(event_time - 700 * DAY, known)
        assert parts.immature_rows == 0
        assert parts.test[-1] == len(event_time) - 1

    @pytest.mark.parametrize(
        ("change", "cause", "remedy"),
        [
            ({"maturity": timedelta(days=100)}, "event_time: none of 1440 rows", "shorten label_maturity"),
            ({"gap": timedelta(days=30)}, "gap: 3 gaps of 30 days", "shorten gap"),
            ({"test_start": AS_OF}, "test_start: .* outside the matured data", "choose an instant inside"),
        ],
    )
    def test_too_little_data_is_explained(self, change: dict[str, timedelta], cause: str, remedy: str) -> None:
        event_time, known = hourly()
        with pytest.raises(SplitError, match=rf"{cause}.*{remedy}"):
            split(event_time, known, **change)  # type: ignore[arg-type]  # one keyword of its own type at a time

    def test_a_part_without_fraud_is_named(self) -> None:
        event_time, known = hourly()
        known[split(event_time, known).calibrate] = 0
        with pytest.raises(SplitError, match=r"calibrate: no fraud among .* give calibrate a larger fraction"):
            split(event_time, known)

    def test_a_part_without_rows_is_named(self) -> None:
        event_time, known = hourly()
        kept = np.setdiff1d(np.arange(len(event_time)), split(event_time, known).tune)
        with pytest.raises(SplitError, match="tune: no rows"):
            split(event_time[kept], known[kept])

    def test_fractions_must_name_every_part(self) -> None:
        event_time, known = hourly()
        with pytest.raises(SplitError, match="fractions: give each of train, tune, calibrate, test"):
            time_ordered_split(
                event_time,
                known,
                as_of=AS_OF,
                label_maturity=MATURITY,
                gap=timedelta(0),
                warm_up=timedelta(0),
                fractions={"train": 0.9, "test": 0.1},
            )

    def test_labels_of_another_instant_are_refused(self) -> None:
        event_time, known = hourly()
        known[100] = np.nan
        with pytest.raises(ValueError, match="labels: unknown on matured rows"):
            split(event_time, known)

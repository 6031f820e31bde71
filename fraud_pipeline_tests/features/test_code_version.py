"""Changes of feature code: the code's hash, the values of a fixed history, and the models that are accepted."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.features import customer_features, merchant_days, merchant_features
from fraud_pipeline.features import definitions as feature_definitions
from fraud_pipeline.features import engineer as features
from fraud_pipeline.features import proof as feature_proof
from fraud_pipeline.features.code_version import code_hash
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.features.definitions import FEATURE_NAMES, NEWEST_EVENTS
from fraud_pipeline.features.engineer import FeatureEngineer
from fraud_pipeline.features.kernels import columns, comparisons, windows
from fraud_pipeline.features.proof import value_hashes
from fraud_pipeline.modeling.model_directory import FraudModel, IncompatibleModelError
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.schema.transactions import DAY, SECOND

PACKAGE: Final = Path(features.__file__).parents[1]
ENGINEER: Final = DEFAULT_FEATURE_CONFIG.engineer()
FROZEN: Final = "a6f3168f88aa5c2ea48a0d08dda636004ad497232c30bb13fe3dab6e2354d6aa"

# Reads changes (file, old text, new text), makes one at a time in a copy of the package, and writes the hash of each.
_HASHES_OF_CHANGES: Final = """
import json, sys
from pathlib import Path

sys.dont_write_bytecode = True
package = Path(sys.argv[1])
sys.path.insert(0, str(package.parent))

def code_version():
    for name in [name for name in sys.modules if name.startswith("fraud_pipeline")]:
        del sys.modules[name]
    from fraud_pipeline.features.engineer import FeatureEngineer
    return FeatureEngineer.code_version()

hashes = [code_version()]
for file, old, new in json.load(sys.stdin):
    text = (package / file).read_text()
    assert text.count(old) == 1, (file, old, text.count(old))
    (package / file).write_text(text.replace(old, new))
    hashes.append(code_version())
    (package / file).write_text(text)
print(json.dumps(hashes))
"""

WINDOWS: Final = "features/kernels/windows.py"
ENGINEER_CODE: Final = "features/engineer.py"
WORDS: Final = (
    (
        WINDOWS,
        "    # Events of an entity are nearly in order",
        "    # Sorted, mostly: events are nearly in order",
    ),
    (
        WINDOWS,
        '"""Median of each slice, shape (queries,); NaN where it is empty."""',
        '"""The median."""',
    ),
    (
        WINDOWS,
        "def window_median(order: Ints, values: Ints, low: Ints, high: Ints) -> Floats:",
        "def window_median(order, values,\n    low: Any, high): ",
    ),
    ("features/customer_features.py", "HABIT_REACH: Final = 2 * HOUR", "HABIT_REACH = (2 * HOUR)"),
    (
        ENGINEER_CODE,
        "def _transaction(new",
        "def never_called() -> int:\n    return 1\n\n\ndef _transaction(new",
    ),
    ("features/merchant_days.py", "from datetime import timedelta", "import datetime\nfrom datetime import timedelta"),
    ("features/definitions.py", '"Saturday or Sunday"', '"at the weekend"'),
    ("features/definitions.py", 'name="features"', 'name="all features"'),
    ("schema/fields.py", "_MAX_TEXT_LENGTH: Final = 64", "_MAX_TEXT_LENGTH: Final = 65"),
)
VALUES: Final = (
    ("schema/transactions.py", "HOUR: Final = 3_600 * SECOND", "HOUR: Final = 3_601 * SECOND"),
    ("schema/fields.py", '"contactless": ("nfc"', '"touch": ("nfc"'),
    ("features/definitions.py", "NEWEST_EVENTS: Final = 128", "NEWEST_EVENTS: Final = 129"),
    ("features/definitions.py", '"24h": DAY, "7d"', '"24h": 2 * DAY, "7d"'),
    ("features/definitions.py", "LONGEST_WINDOW: Final = 60", "LONGEST_WINDOW: Final = 61"),
    ("features/kernels/comparisons.py", "6371.0088", "6371.0"),
    ("features/kernels/comparisons.py", "if happened[i] > cleared[q]:", "if happened[i] >= cleared[q]:"),
    ("features/kernels/windows.py", "while top < last and times[top] < t:", "while top < last and times[top] <= t:"),
    ("features/kernels/windows.py", "njit(cache=True, nogil=True)", "njit(cache=True, nogil=True, fastmath=True)"),
    ("features/kernels/columns.py", "if denominator[q] > 0:", "if denominator[q] != 0:"),
    ("features/kernels/columns.py", "MISSING_CODE: Final = -1", "MISSING_CODE: Final = -2"),
    ("features/customer_features.py", "HIGH_AMOUNT: Final = 2.5", "HIGH_AMOUNT: Final = 2.6"),
    ("features/customer_features.py", "self.bounds.high - NEWEST_EVENTS", "self.bounds.high - NEWEST_EVENTS + 1"),
    ("features/merchant_features.py", "midnight = now // DAY * DAY", "midnight = (now + 1) // DAY * DAY"),
    ("features/merchant_days.py", 'frauds["event_time"] + label_maturity,', 'frauds["event_time"],'),
    ("features/merchant_days.py", "-(-label_maturity // timedelta(days=1))", "label_maturity // timedelta(days=1)"),
    ("features/engineer.py", "EPOCH_WEEKDAY: Final = 3", "EPOCH_WEEKDAY: Final = 4"),
    ("features/engineer.py", "np.empty((len(FEATURE_NAMES)", "np.zeros((len(FEATURE_NAMES)"),
    ("features/engineer.py", "return timedelta(microseconds=max(LONGEST_WINDOW, cleared) + DAY)",
     "return timedelta(microseconds=max(LONGEST_WINDOW, cleared))"),
)  # fmt: skip


class TestTheHashOfTheCode:
    @pytest.mark.slow
    def test_comments_do_not_change_the_hash_and_deciding_code_does(self, tmp_path: Path) -> None:
        shutil.copytree(PACKAGE, tmp_path / "fraud_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        printed = subprocess.run(
            [sys.executable, "-c", _HASHES_OF_CHANGES, str(tmp_path / "fraud_pipeline")],
            input=json.dumps([*WORDS, *VALUES]),
            capture_output=True,
            text=True,
            check=True,
        )
        now, *hashes = json.loads(printed.stdout)
        assert now == FeatureEngineer.code_version()
        of_words, of_values = hashes[: len(WORDS)], hashes[len(WORDS) :]
        assert [change for change, hash_ in zip(WORDS, of_words, strict=True) if hash_ != now] == []
        assert [change for change, hash_ in zip(VALUES, of_values, strict=True) if hash_ == now] == []
        assert len(set(of_values)) == len(VALUES)

    def test_a_constant_without_a_stable_text_is_refused_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(customer_features, "HABIT_REACH", object())
        with pytest.raises(TypeError, match=r"customer_features\.HABIT_REACH is a object"):
            code_hash(FeatureEngineer.values)


def more(function: Callable[..., Any], *, of: int | None = None) -> Callable[..., Any]:
    """The same function with a slightly larger result, or one of its results."""

    def changed(*arguments: Any, **named: Any) -> Any:
        results = function(*arguments, **named)
        several = list(results) if isinstance(results, tuple) else [results]
        several[of or 0] = several[of or 0] + 1
        return tuple(several) if isinstance(results, tuple) else several[0]

    return changed


CHANGES: Final = {
    "customer_habit_hour_share_30d": (customer_features, "HABIT_REACH", customer_features.HABIT_REACH - 1),
    "customer_high_amount_count_7d": (customer_features, "HIGH_AMOUNT", customer_features.HIGH_AMOUNT + 0.01),
    "customer_amount_median_30d": (customer_features, "NEWEST_EVENTS", NEWEST_EVENTS - 1),
    "merchant_days_since_first_reported_fraud_60d": (merchant_features, "NEWEST_EVENTS", NEWEST_EVENTS - 40),
    "customer_transaction_count_24h": (
        customer_features, "CUSTOMER_WINDOWS", feature_definitions.CUSTOMER_WINDOWS | {"24h": DAY - 1}),
    "merchant_transaction_count_7d": (
        merchant_features, "MERCHANT_WINDOWS", feature_definitions.MERCHANT_WINDOWS | {"7d": 6 * DAY}),
    "merchant_report_count_30d": (
        merchant_features, "REPORT_WINDOWS", feature_definitions.REPORT_WINDOWS | {"30d": 30 * DAY - 1}),
    "customer_report_count_60d": (customer_features, "LONGEST_WINDOW", feature_definitions.LONGEST_WINDOW - 1),
    "day_of_week": (features, "EPOCH_WEEKDAY", features.EPOCH_WEEKDAY + 7 * 1 + 1),
    "is_atm": (features, "positions_in", more(columns.positions_in)),
    "customer_amount_spread_30d": (windows, "window_spread", more(windows.window_spread, of=1)),
    "customer_amount_min_24h": (windows, "window_extremes", more(windows.window_extremes)),
    "customer_distinct_merchants_24h": (windows, "window_distinct", more(windows.window_distinct)),
    "customer_amount_sum_7d": (windows, "window_sum", more(windows.window_sum)),
    "customer_distance_from_centre_30d": (comparisons, "location_stats", more(comparisons.location_stats, of=2)),
    "customer_same_country_count_30d": (comparisons, "matching_event_stats", more(comparisons.matching_event_stats)),
    "merchant_fraud_run_length_60d": (
        comparisons, "frauds_since_last_cleared", more(comparisons.frauds_since_last_cleared)),
    "merchant_cleared_count_30d": (features, "days_to_clear", more(merchant_days.days_to_clear)),
    "merchant_report_rate_30d": (merchant_features, "ratio", more(columns.ratio)),
    "customer_seconds_since_first_30d": (customer_features, "SECOND", SECOND - 1),
}  # fmt: skip


@pytest.fixture(autouse=True)
def computed_anew() -> Iterator[None]:
    """Clear caches, so that no test sees another's changes."""
    value_hashes.cache_clear()
    yield
    value_hashes.cache_clear()


class TestTheValuesOfTheFixedHistory:
    def test_the_fixed_history_is_the_same_in_every_release(self) -> None:
        """A change would make the features of every earlier model look changed."""
        transactions = feature_proof._transactions()
        frames = (transactions, feature_proof._reports(transactions))
        text = "".join(frame.to_csv(index=False, float_format="%.3f") for frame in frames)
        assert hashlib.sha256(text.encode()).hexdigest() == FROZEN

    def test_every_feature_has_many_values_and_is_missing_where_it_can_be(self) -> None:
        transactions = feature_proof._transactions()
        values = self.features_of(transactions)
        distinct = values.nunique()
        flags = [name for name in FEATURE_NAMES if name.startswith("is_")]
        assert (distinct[flags] == 2).all()
        assert (distinct.drop(flags) > 4).all()
        always = values.columns[values.notna().all()]
        never_missing = ("amount", "hour_of_day", "day_of_week", "is_weekend", "is_night")
        counts = [name for name in FEATURE_NAMES if "count" in name or "sum" in name or "distinct" in name]
        assert set(always) <= {*never_missing, *counts, "merchant_fraud_run_length_60d"}
        assert (values["customer_transaction_count_30d"] > 2 * NEWEST_EVENTS).any()
        assert (values["merchant_report_count_60d"] > NEWEST_EVENTS).any()
        assert transactions.duplicated(["customer_id", "event_time"]).sum() > 40

    def features_of(self, transactions: pd.DataFrame) -> pd.DataFrame:
        reports = feature_proof._reports(transactions)
        days = merchant_days.merchant_days(transactions, reports, label_maturity=ENGINEER.label_maturity)
        history = features.History(transactions=transactions, reports=reports, merchant_days=days)
        return ENGINEER.compute(history=history, new=transactions)[list(FEATURE_NAMES)]

    @pytest.mark.parametrize("feature", CHANGES)
    def test_changed_feature_code_changes_its_values(self, feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
        before = value_hashes(ENGINEER)
        value_hashes.cache_clear()
        module, name, changed = CHANGES[feature]
        monkeypatch.setattr(module, name, changed)
        after = value_hashes(ENGINEER)
        assert feature in {each for each in FEATURE_NAMES if before[each] != after[each]}

    def test_the_label_maturity_decides_features_of_cleared_transactions(self) -> None:
        before, after = (value_hashes(FeatureEngineer(label_maturity=timedelta(days=days))) for days in (21, 7))
        assert {name for name in FEATURE_NAMES if before[name] != after[name]} == {
            "merchant_cleared_count_30d",
            "merchant_days_since_last_cleared_30d",
            "merchant_fraud_run_length_60d",
            "merchant_fraud_run_days_60d",
            "merchant_fraud_run_smallest_amount_60d",
        }


class TestAModelOfAnotherRelease:
    @pytest.fixture
    def saved(self, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A model of this code that records another code hash."""
        trained.model.save(tmp_path / "model")
        monkeypatch.setattr(features, "_code_version", lambda: "another release")
        value_hashes.cache_clear()
        return tmp_path / "model"

    def test_a_release_with_the_same_values_keeps_the_champion(self, saved: Path, trained: TrainedModel) -> None:
        loaded = FraudModel.load(saved)
        assert loaded.feature_config == trained.model.feature_config

    def test_a_release_with_other_values_refuses_the_champion_and_names_the_features(
        self, saved: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(customer_features, "HABIT_REACH", customer_features.HABIT_REACH - 1)
        with pytest.raises(IncompatibleModelError, match=r"customer_habit_hour_share_30d; run the release that"):
            FraudModel.load(saved)

    def test_a_new_feature_that_the_model_does_not_use_is_no_obstacle(self, saved: Path, trained: TrainedModel) -> None:
        manifest = json.loads((saved / "model.json").read_text())
        unused = FEATURE_NAMES[-1]
        manifest["feature_order"].remove(unused)
        del manifest["feature_values"][unused]
        (saved / "model.json").write_text(json.dumps(manifest))
        assert FraudModel.load(saved).features == tuple(name for name in trained.model.features if name != unused)


def test_a_configuration_is_its_content() -> None:
    week = FeatureConfig(label_maturity=timedelta(days=7))
    assert week.id == FeatureConfig(label_maturity=timedelta(hours=168)).id
    assert week.id != DEFAULT_FEATURE_CONFIG.id
    assert FeatureConfig.from_json(week.to_json()) == week
    odd = FeatureConfig(label_maturity=timedelta(microseconds=1))
    assert FeatureConfig.from_dict(json.loads(json.dumps(odd.to_dict()))) == odd


def test_missing_values_have_one_bit_pattern_for_the_proof() -> None:
    """Processors differ in the sign of a NaN."""
    values = np.array([1.0, np.nan], np.float32)
    negative = np.array([1.0, -np.nan], np.float32)
    assert values.tobytes() != negative.tobytes()
    assert feature_proof._hash(values) == feature_proof._hash(negative)

"""A small model with own inputs of every type, and what a bank sends for them.

Must not be here: what is decided on it.
"""

from typing import Any, Final

import numpy as np
import pandas as pd

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.features.own_inputs import fit_own_inputs
from fraud_pipeline.modeling.model_directory import Calibration, FraudModel, fit_booster
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.schema.own_fields import OWN_TYPES, OwnField, own_columns
from fraud_pipeline.schema.transactions import DAY, TransactionRow, times
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY
from serving.http.own_fields import spelling

OWN_FIELDS: Final = (
    OwnField(name="device_type", type="category"),
    OwnField(name="age", type="number"),
    OwnField(name="fee", type="money"),
    OwnField(name="new_device", type="boolean"),
    OwnField(name="account_opened", type="time"),
    OwnField(name="device_country", type="country"),
    OwnField(name="device_id", type="identifier"),
    OwnField(name="client_ip", type="ip"),
    OwnField(name="contact", type="email"),
    OwnField(name="memo", type="text"),
    *(OwnField(name=f"score_{number}", type="number") for number in range(20)),
    *(OwnField(name=f"kind_{number}", type="category") for number in range(10)),
)
"""Forty declared fields; all types are among them."""
assert {field.type for field in OWN_FIELDS} == set(OWN_TYPES)

_ROWS: Final = 2_000
_NOW: Final = 20_000 * DAY


def sent_own_fields(number: int) -> dict[str, Any]:
    """What a bank sends as own fields of a transaction, the same for the same number; some are not declared."""
    random = np.random.default_rng(number)
    opened = pd.Timestamp("2020-01-01", tz="UTC") + pd.Timedelta(microseconds=int(random.integers(0, 10**14)))
    sent = {
        "device_type": str(random.choice(["mobile", "desktop", "tablet", "grün", "never in training"])),
        "age": int(random.integers(18, 90)),
        "fee": round(float(random.lognormal()), 2),
        "new_device": bool(random.random() < 0.2),
        "account_opened": opened.isoformat().replace("+00:00", "Z"),
        "device_country": str(random.choice(["DE", "FR", "BR"])),
        "device_id": f"d-{random.integers(0, 500)}",
        "client_ip": f"192.0.2.{random.integers(0, 255)}",
        "contact": f"c{random.integers(0, 50)}@example.com",
        "memo": f"order {number}",
        **{f"score_{n}": float(random.normal(scale=10.0 ** random.integers(-6, 6))) for n in range(20)},
        **{f"kind_{n}": f"k{random.integers(0, 4)}" for n in range(10)},
        "undeclared": 7,
    }
    return {name: value for name, value in sent.items() if random.random() < 0.85}


def with_own_fields(row: TransactionRow, number: int) -> TransactionRow:
    """The row with what a bank sends as its own fields."""
    return row._replace(own_fields=spelling(sent_own_fields(number)))


def own_config(fields: tuple[OwnField, ...] = OWN_FIELDS) -> FeatureConfig:
    """The configuration of a model that was trained on transactions with these own fields."""
    return FeatureConfig(
        label_maturity=LABEL_MATURITY, own_inputs=fit_own_inputs(_training_rows(fields), fields, min_count=5)
    )


def own_model(fields: tuple[OwnField, ...] = OWN_FIELDS, *, seed: int = 0) -> FraudModel:
    """A model that looks at own inputs; its quality does not matter, so features from history are noise to it."""
    random, config, rows = np.random.default_rng(seed), own_config(fields), _training_rows(fields)
    values = config.whole_rows(
        random.lognormal(3, 2, (_ROWS, len(FEATURE_NAMES))).astype(np.float32),
        config.own_inputs.values({name: rows[name] for name in config.own_inputs.names}, np.full(_ROWS, _NOW)),
    )
    features = pd.DataFrame(values, columns=list(config.feature_names))
    everything = _training_rows(OWN_FIELDS)
    signal = everything["new_device"].fillna(value=False).to_numpy(float) + (everything["age"] > 60).to_numpy(float)
    signal += (everything["device_type"] == "tablet").to_numpy(float)
    labels = (signal + random.normal(size=_ROWS) > 2).astype(np.float64)
    booster = fit_booster(
        features,
        labels,
        parameters={"max_depth": 5},
        rounds=30,
        threads=1,
        seed=seed,
        feature_types=config.feature_types(config.feature_names),
    )
    model = FraudModel(
        booster=booster,
        features=config.feature_names,
        feature_config=config,
        calibration=Calibration(),
        policy=Policy(review_threshold=0.2, block_threshold=0.6),
    )
    reference = features.head(200)
    return FraudModel(
        **{name: getattr(model, name) for name in ("booster", "features", "feature_config", "calibration", "policy")},
        reference=reference.assign(score=model.probabilities(reference.to_numpy(np.float32))),
    )


def _training_rows(fields: tuple[OwnField, ...]) -> pd.DataFrame:
    texts = [spelling(sent_own_fields(number)) for number in range(_ROWS)]
    random = np.random.default_rng(1)
    fixed = pd.DataFrame(
        {
            "event_time": times(np.full(_ROWS, _NOW)),
            "category": random.choice(["groceries", "fuel"], _ROWS).astype(object),
            "country": random.choice(["DE", "FR", "BR"], _ROWS).astype(object),
            "latitude": random.normal(50, 5, _ROWS),
            "longitude": random.normal(10, 5, _ROWS),
        }
    )
    return pd.concat([fixed, own_columns(texts, fields)], axis=1)

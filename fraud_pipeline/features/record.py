"""The features that a model directory records, and whether this code still computes them.

Belongs here: the entries of `model.json` about features. Must not be here: its other entries
(`modeling/model_directory.py`).

Changed code is compatible as long as it computes the same bits, so that a new release keeps the champion. The hash of
the code only decides whether values must be compared.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

from fraud_pipeline.features.code_version import code_hash
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.definitions import described_features
from fraud_pipeline.features.engineer import FeatureEngineer
from fraud_pipeline.features.own_inputs import OwnInputs
from fraud_pipeline.features.proof import own_value_hashes, value_hashes
from fraud_pipeline.schema.own_fields import own_columns, own_values

DEFINITIONS_ONLY: Final = 1
"""The format of earlier releases: label maturity in the lineage, and no hashes of features' values."""


def record_features(features: Sequence[str], config: FeatureConfig) -> dict[str, Any]:
    """The entries of `model.json`: definitions, configuration, and hashes of the code and of the values."""
    known = _definitions(config)
    return {
        "features": [known[name] for name in features if name in known],
        "feature_order": list(features),
        "feature_config": config.to_dict(),
        "feature_code": _code(config),
        "feature_values": _values(features, config),
    }


def recorded_config(manifest: Mapping[str, Any]) -> FeatureConfig:
    """The feature configuration of a manifest. Raises KeyError, TypeError or ValueError when it is missing."""
    if manifest["format_version"] == DEFINITIONS_ONLY:
        return FeatureConfig(label_maturity=timedelta(days=float(manifest["lineage"]["label_maturity_days"])))
    return FeatureConfig.from_dict(manifest["feature_config"])


def changed_features(manifest: Mapping[str, Any]) -> list[str]:
    """The features that this code computes differently from the record, in their order."""
    order: list[str] = manifest["feature_order"]
    config = recorded_config(manifest)
    known = {name: json.loads(json.dumps(entry, default=str)) for name, entry in _definitions(config).items()}
    saved = {entry["name"]: entry for entry in manifest["features"]}
    redefined = [name for name in order if name not in known or known[name] != saved.get(name)]
    if redefined or manifest["format_version"] == DEFINITIONS_ONLY or manifest["feature_code"] == _code(config):
        return redefined
    now, then = _values(order, config), manifest["feature_values"]
    return [name for name in order if now[name] != then.get(name)]


def _definitions(config: FeatureConfig) -> dict[str, dict[str, Any]]:
    """The definition of each feature and own input, by its name."""
    features = described_features(local_time=config.local_time)
    return {definition.name: asdict(definition) for definition in (*features, *config.own_inputs.definitions)}


def _code(config: FeatureConfig) -> str:
    """A hash of everything that computes features; equal hashes mean equal values."""
    libraries = [f"{name} {version(name)}" for name in ("numba", "numpy", "pandas")]
    described = [FeatureEngineer.code_version(), platform.machine(), *libraries]
    if config.own_inputs.inputs:
        described.append(_own_inputs_code())
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


@lru_cache(maxsize=1)
def _own_inputs_code() -> str:
    return code_hash(OwnInputs.values, OwnInputs.values_of_rows, own_values, own_columns)


def _values(features: Sequence[str], config: FeatureConfig) -> dict[str, str]:
    values = {**value_hashes(config.engineer()), **own_value_hashes(config.own_inputs)}
    return {name: values[name] for name in features if name in values}

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
from importlib.metadata import version
from typing import Any, Final

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURES, FeatureEngineer
from fraud_pipeline.features.proof import value_hashes

DEFINITIONS_ONLY: Final = 1
"""The format of earlier releases: label maturity in the lineage, and no hashes of features' values."""


def record_features(features: Sequence[str], config: FeatureConfig) -> dict[str, Any]:
    """The entries of `model.json`: definitions, configuration, and hashes of the code and of the values."""
    return {
        "features": [asdict(definition) for definition in FEATURES if definition.name in set(features)],
        "feature_order": list(features),
        "feature_config": config.to_dict(),
        "feature_code": _code(),
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
    known = {definition.name: json.loads(json.dumps(asdict(definition), default=str)) for definition in FEATURES}
    saved = {entry["name"]: entry for entry in manifest["features"]}
    redefined = [name for name in order if name not in known or known[name] != saved.get(name)]
    if redefined or manifest["format_version"] == DEFINITIONS_ONLY or manifest["feature_code"] == _code():
        return redefined
    now, then = _values(order, recorded_config(manifest)), manifest["feature_values"]
    return [name for name in order if now[name] != then.get(name)]


def _code() -> str:
    """A hash of everything that computes features; equal hashes mean equal values."""
    libraries = [f"{name} {version(name)}" for name in ("numba", "numpy", "pandas")]
    described = [FeatureEngineer.code_version(), platform.machine(), *libraries]
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


def _values(features: Sequence[str], config: FeatureConfig) -> dict[str, str]:
    values = value_hashes(config.engineer())
    return {name: values[name] for name in features if name in values}

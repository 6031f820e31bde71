"""FeatureConfig: everything besides the code that decides a feature's value.

Belongs here: what can differ between deployments or models, and its JSON. Must not be here: how features are computed
(`engineer.py`), where a configuration is stored (`modeling/model_directory.py`, `database/`).

A model carries the configuration that it was trained with. Serving builds its engineer from the model's configuration,
and never from the settings of its own process.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from fraud_pipeline.features.engineer import FeatureEngineer

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """The configuration; an unreported transaction counts as matured legitimate after `label_maturity`."""

    label_maturity: timedelta

    def engineer(self) -> FeatureEngineer:
        """The feature code with this configuration."""
        return FeatureEngineer(label_maturity=self.label_maturity)

    @property
    def id(self) -> str:
        """A short hash: equal for equal configurations, in every process and release."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in whole microseconds."""
        return {"label_maturity_microseconds": self.label_maturity // _MICROSECOND}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The configuration that `to_dict` wrote. Raises KeyError and TypeError for other values."""
        return cls(label_maturity=int(values["label_maturity_microseconds"]) * _MICROSECOND)

    def to_json(self) -> str:
        """One line of text that is the same for equal configurations."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration that `to_json` wrote."""
        return cls.from_dict(json.loads(text))


DEFAULT_FEATURE_CONFIG: Final = FeatureConfig(label_maturity=timedelta(days=21))
"""The configuration without a model: rules decide then, and no rule uses matured legitimate transactions."""

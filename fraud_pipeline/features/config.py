"""FeatureConfig: everything beside the code that decides a feature's value, as one small value.

Belongs here: what can differ between two deployments or models, as text and back. Must not be here: how features are
computed (`engineer.py`), where a configuration is kept (`modeling/model_directory.py`, `database/`).

A model carries the configuration that it was trained with, and whatever serves the model builds its engineer from
there: never from the settings of its own process.
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
    """How features are made; `label_maturity` is after how long an unreported transaction counts as cleared."""

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
        """The configuration of `to_dict`. Raises KeyError and TypeError for anything else."""
        return cls(label_maturity=int(values["label_maturity_microseconds"]) * _MICROSECOND)

    def to_json(self) -> str:
        """One line of text that is the same for equal configurations."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration of `to_json`."""
        return cls.from_dict(json.loads(text))


DEFAULT_FEATURE_CONFIG: Final = FeatureConfig(label_maturity=timedelta(days=21))
"""What features are made with while there is no model: rules decide then, and none of them looks at cleared days."""

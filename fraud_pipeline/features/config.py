"""FeatureConfig: everything besides the code that decides a feature's value.

Belongs here: what can differ between deployments or models, and its JSON. Must not be here: how features are computed
(`engineer.py`), where a configuration is stored (`modeling/model_directory.py`, `database/`).

A model carries the configuration that it was trained with. Serving builds its engineer from the model's configuration,
and never from the settings of its own process.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer
from fraud_pipeline.features.kernels.columns import Table
from fraud_pipeline.features.own_inputs import NO_OWN_INPUTS, OwnInputs
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import own_values
from fraud_pipeline.schema.transactions import TransactionRow, microseconds

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """The configuration; an unreported transaction counts as matured legitimate after `label_maturity`.

    `own_inputs` are what a model sees beside the features; they are fitted with it, and empty without a model.
    `conversion` are the rates that the model was trained with, if transactions have a currency. With `local_time`, hour
    and weekday are those of the local clock, and UTC where nobody knows its offset.
    """

    label_maturity: timedelta
    own_inputs: OwnInputs = NO_OWN_INPUTS
    conversion: Conversion | None = None
    local_time: bool = False

    def engineer(self) -> FeatureEngineer:
        """The feature code with this configuration; it computes everything but the own inputs."""
        return FeatureEngineer(label_maturity=self.label_maturity, local_time=self.local_time)

    def on_local_clock(self, new: Table, rows: Sequence[TransactionRow]) -> Table:
        """The table of these new transactions, with the offset of each one's clock where features need it."""
        if not self.local_time:
            return new
        offsets = own_values([row.own_fields for row in rows], [OFFSET_FIELD])[UTC_OFFSET]
        return {**new, UTC_OFFSET: np.array(offsets, np.float64)}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of a model's whole row: the features, then the own inputs."""
        return (*FEATURE_NAMES, *self.own_inputs.names)

    @property
    def of_history(self) -> Self:
        """The configuration of the features from history alone: models that share it share these features.

        They see amounts that are converted already.
        """
        return replace(self, own_inputs=NO_OWN_INPUTS, conversion=None)

    def feature_types(self, features: Sequence[str]) -> list[str] | None:
        """XGBoost's type of each of a model's features, or None where all are numbers."""
        if not self.own_inputs.inputs:
            return None
        types = dict(zip(self.own_inputs.names, self.own_inputs.feature_types, strict=True))
        return [types.get(name, "q") for name in features]

    def model_rows(self, rows: pd.DataFrame, *, features: Sequence[str]) -> NDArray[np.float32]:
        """The values of a model's `features`, shape (n, features), whose own inputs come last.

        `rows` hold the features from history, and own inputs as they are in `transactions`; event_time, too, where an
        own input is a time. Raises KeyError for a column that is not there.
        """
        own = self.own_inputs
        values: NDArray[np.float32] = rows.loc[:, [name for name in features if name not in own.names]].to_numpy(
            np.float32
        )
        if not own.inputs:
            return values
        at = microseconds(rows["event_time"]) if own.uses_event_time else np.zeros(len(rows), np.int64)
        return self.whole_rows(values, own.values(rows, at))

    def whole_rows(self, features: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        """Model rows (n, `feature_names`) of features (n, 68) and own inputs (n, k), as `OwnInputs` gives them."""
        return np.concatenate([features, own], axis=1) if own.shape[1] else features

    @property
    def id(self) -> str:
        """A short hash: equal for equal configurations, in every process and release."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in whole microseconds."""
        own = {"own_inputs": self.own_inputs.to_dict()} if self.own_inputs != NO_OWN_INPUTS else {}
        money = {"conversion": self.conversion.to_dict()} if self.conversion else {}
        local = {"local_time": True} if self.local_time else {}
        return {"label_maturity_microseconds": self.label_maturity // _MICROSECOND, **own, **money, **local}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The configuration that `to_dict` wrote. Raises KeyError, TypeError or ValueError for other values."""
        own, money = values.get("own_inputs"), values.get("conversion")
        return cls(
            label_maturity=int(values["label_maturity_microseconds"]) * _MICROSECOND,
            own_inputs=NO_OWN_INPUTS if own is None else OwnInputs.from_dict(own),
            conversion=None if money is None else Conversion.from_dict(money),
            local_time=bool(values.get("local_time", False)),
        )

    def to_json(self) -> str:
        """One line of text that is the same for equal configurations."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration that `to_json` wrote."""
        return cls.from_dict(json.loads(text))


DEFAULT_FEATURE_CONFIG: Final = FeatureConfig(label_maturity=timedelta(days=21))
"""The configuration without a model: rules decide then, and no rule uses matured legitimate transactions."""

"""The model directory as an MLflow model, for `mlflow.pyfunc.load_model`.

Belongs here: the files that MLflow reads beside ours, and how it loads a directory. Must not be here: the registry
(`registry.py`), the model (`modeling/model_directory.py`). Serving reads neither these files nor this module.
MLflow imports `_load_pyfunc` from the installed package, so that the directory holds no code and no pickle.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from numpy.typing import NDArray

from fraud_pipeline.features.own_inputs import InputKind, OwnInput
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.schema.transactions import TIME_DTYPE

EXAMPLE_FILE: Final = "input_example.json"
EXAMPLE_ROWS: Final = 5
_TYPES: Final[Mapping[InputKind, str]] = {
    "number": "double",
    "flag": "double",  # MLflow's booleans cannot be missing: 1, 0, or NaN
    "category": "string",
    "age": "datetime",
}


@dataclass(frozen=True, slots=True)
class _PyFunc:
    """The model for columns as MLflow passes them."""

    model: FraudModel

    def predict(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Fraud probabilities, shape (n,)."""
        own = self.model.feature_config.own_inputs
        times = [each.name for each in own.inputs if each.kind == "age"] + ["event_time"] * own.uses_event_time
        columns = {name: pd.to_datetime(rows[name], utc=True).astype(TIME_DTYPE) for name in times}
        flags = {each.name: rows[each.name].astype("boolean") for each in own.inputs if each.kind == "flag"}
        return self.model.predict(rows.assign(**columns, **flags))


def write_flavor(model: FraudModel, directory: Path) -> None:
    """Write `MLmodel` with the model's signature, and an input example, into a directory.

    Input: a column of float64 or float32 for each feature, NaN where it is missing; own inputs as they are in
    `transactions`, flags as 1 and 0; event_time where an own input is a time. Output: probabilities, shape (n,).
    """
    own = model.feature_config.own_inputs
    plain = [name for name in model.features if name not in own.names]
    inputs: list[ColSpec | TensorSpec] = [
        # MLflow widens float32 to double without loss, and refuses to narrow.
        *(ColSpec("double", name) for name in plain),
        *(ColSpec(_TYPES[each.kind], each.name) for each in own.inputs),
        *([ColSpec("datetime", "event_time")] if own.uses_event_time else []),
    ]
    # `mlflow.pyfunc.save_model` would import MLflow's agents, which takes seconds and warns.
    described = Model(
        signature=ModelSignature(inputs=Schema(inputs), outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,))]))
    )
    described.add_flavor("python_function", loader_module=__name__, python_version=platform.python_version())
    # A reference holds how old a time was, and no time.
    if len(model.reference) and not own.uses_event_time:
        example = model.reference.loc[:, list(model.features)].head(EXAMPLE_ROWS)
        example = example.assign(**{each.name: _raw(example[each.name], each) for each in own.inputs})
        example.to_json(directory / EXAMPLE_FILE, orient="split", index=False, double_precision=15)
        described.saved_input_example_info = {
            "artifact_path": EXAMPLE_FILE,
            "pandas_orient": "split",
            "type": "dataframe",
        }
    described.save(str(directory / "MLmodel"))


def _raw(encoded: pd.Series, own: OwnInput) -> pd.Series:
    """A column of the reference as `_PyFunc.predict` takes it."""
    if own.kind != "category":
        return encoded
    return encoded.map(lambda code: None if np.isnan(code) else own.categories[int(code)]).astype(object)


def _load_pyfunc(directory: str) -> _PyFunc:
    """The model of a directory, whose `predict` MLflow calls. Raises IncompatibleModelError."""
    return _PyFunc(FraudModel.load(Path(directory)))

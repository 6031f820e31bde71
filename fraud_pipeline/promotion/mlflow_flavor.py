"""The model directory as a model of MLflow's own, for `mlflow.pyfunc.load_model`.

Belongs here: the files that MLflow reads beside ours, and how it loads a directory. Must not be here: the registry
(`registry.py`), the model (`modeling/model_directory.py`). Serving reads neither these files nor this module.
MLflow imports `_load_pyfunc` from the installed package, so that the directory holds no code and no pickle.
"""

import platform
from pathlib import Path
from typing import Final

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from fraud_pipeline.modeling.model_directory import FraudModel

EXAMPLE_FILE: Final = "input_example.json"
EXAMPLE_ROWS: Final = 5


def write_flavor(model: FraudModel, directory: Path) -> None:
    """Write `MLmodel` with the model's signature, and an input example, into a directory.

    Input: a column of float64 or float32 for each feature, NaN where it is missing. Output: probabilities, shape (n,).
    """
    features = list(model.features)
    # `mlflow.pyfunc.save_model` would import MLflow's agents, which takes seconds and warns.
    described = Model(
        signature=ModelSignature(
            # MLflow widens float32 to double without loss, and refuses to narrow.
            inputs=Schema([ColSpec("double", name) for name in features]),
            outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,))]),
        )
    )
    described.add_flavor("python_function", loader_module=__name__, python_version=platform.python_version())
    if len(model.reference):
        example = model.reference.loc[:, features].head(EXAMPLE_ROWS)
        example.to_json(directory / EXAMPLE_FILE, orient="split", index=False, double_precision=15)
        described.saved_input_example_info = {
            "artifact_path": EXAMPLE_FILE,
            "pandas_orient": "split",
            "type": "dataframe",
        }
    described.save(str(directory / "MLmodel"))


def _load_pyfunc(directory: str) -> FraudModel:
    """The model of a directory, whose `predict` MLflow calls. Raises IncompatibleModelError."""
    return FraudModel.load(Path(directory))

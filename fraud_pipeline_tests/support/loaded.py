"""A model as the holder of the champion returns it.

Must not be here: the choice of the model.
"""

from dataclasses import dataclass

from fraud_pipeline.modeling.model_directory import FraudModel


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model."""

    model: FraudModel
    version: str = "1"
    sha256: str = "0" * 64

"""A model as whoever holds the champion gives it.

Must not be here: which model it is.
"""

from dataclasses import dataclass

from fraud_pipeline.modeling.model_directory import FraudModel


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is there."""

    model: FraudModel
    version: str = "1"
    sha256: str = "0" * 64

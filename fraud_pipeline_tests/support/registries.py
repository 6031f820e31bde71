"""Empty MLflow registries in a moment: its tables, which it takes seconds to make, are made once for each worker.

Belongs here: files with MLflow's tables. Must not be here: models.
"""

import tempfile
from functools import cache
from pathlib import Path

from mlflow.tracking import MlflowClient

from fraud_pipeline.settings import Settings


def prepare_registry(settings: Settings) -> None:
    """Put an empty registry where these settings have theirs, in the home directory."""
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "mlflow.db").write_bytes(_empty_registry())


@cache
def _empty_registry() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(home=Path(directory))
        MlflowClient(settings.tracking_uri).search_experiments()
        return (settings.home / "mlflow.db").read_bytes()

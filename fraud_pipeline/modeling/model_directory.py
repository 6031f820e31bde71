"""FraudModel: booster, feature list, calibration and policy, stored together in a directory of plain files.

Belongs here: fitting with given hyper-parameters, predicting, explaining, saving, loading. Must not be here: the search
for hyper-parameters (`tuning.py`), evaluation (`evaluation.py`), the registry, publishing
(`promotion/published_model.py`).

The directory holds `booster.ubj`, `model.json` (feature definitions, calibration, policy, lineage, hashes of the other
files) and `reference.parquet` (features and scores of unseen rows, for drift). There is no pickle, so loading runs no
foreign code.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

# XGBoost's threads spin while they wait. If another process needs the core, a tree takes ten times as long; sleeping #
# costs little. OpenMP reads this variable once, when XGBoost is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.record import DEFINITIONS_ONLY, changed_features, record_features, recorded_config
from fraud_pipeline.policy.decisions import Policy

FORMAT_VERSION: Final = 2
BOOSTER_FILE: Final = "booster.ubj"
MANIFEST_FILE: Final = "model.json"
REFERENCE_FILE: Final = "reference.parquet"


class IncompatibleModelError(ValueError):
    """A model directory that this code cannot rebuild, or whose files were changed after saving."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Beta calibration of a raw probability p: logit = a log p - b log(1 - p) + c; a, b > 0 keep the ranking.

    Source: Kull, Silva Filho and Flach, "Beta calibration", AISTATS 2017.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, margin: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (n,), from log-odds of the booster, shape (n,)."""
        margin = margin.astype(np.float64)
        return np.asarray(expit(self.a * log_expit(margin) - self.b * log_expit(-margin) + self.c))


def fit_calibration(margin: NDArray[np.floating[Any]], labels: NDArray[np.float64]) -> Calibration:
    """The calibration with the least log loss on held-out rows; `margin` (n,) are log-odds, `labels` (n,) 0 or 1."""
    log_p, log_q = log_expit(margin.astype(np.float64)), log_expit(-margin.astype(np.float64))

    def log_loss(parameters: NDArray[np.float64]) -> float:
        z = parameters[0] * log_p - parameters[1] * log_q + parameters[2]
        return float(-np.mean(labels * log_expit(z) + (1 - labels) * log_expit(-z)))

    offset = float(logit(np.clip(labels.mean(), 1e-6, 1 - 1e-6)) - logit(np.clip(expit(margin).mean(), 1e-6, 1 - 1e-6)))
    best = minimize(log_loss, [1.0, 1.0, offset], method="L-BFGS-B", bounds=[(0.01, 10), (0.01, 10), (-20, 20)])
    return Calibration(*(float(value) for value in best.x))


def training_parameters(parameters: Mapping[str, Any], *, threads: int, seed: int) -> dict[str, Any]:
    """XGBoost's own parameter dictionary for a fraud booster."""
    fixed = {"objective": "binary:logistic", "tree_method": "hist", "nthread": threads, "seed": seed, "verbosity": 1}
    return {**fixed, **parameters}


def fit_booster(
    features: pd.DataFrame,
    labels: NDArray[np.float64],
    *,
    parameters: Mapping[str, Any],
    rounds: int,
    threads: int = 0,
    seed: int = 0,
    feature_types: list[str] | None = None,
) -> xgb.Booster:
    """A booster of `rounds` trees on rows (n, k) and labels (n,) of 0 or 1; `threads` 0 means all cores.

    `feature_types` are those of `FeatureConfig.feature_types`.
    """
    matrix = xgb.QuantileDMatrix(
        features,
        label=labels,
        max_bin=int(parameters.get("max_bin", 256)),
        feature_types=feature_types,
        enable_categorical=feature_types is not None,
    )
    return xgb.train(training_parameters(parameters, threads=threads, seed=seed), matrix, num_boost_round=rounds)


@dataclass(frozen=True)
class FraudModel:
    """A model with everything that turns a feature row into a calibrated probability and a decision.

    Its own inputs are the last of its features. Methods take rows with raw columns of own inputs and encode them;
    methods of values take encoded ones, as the `reference` holds them.
    """

    booster: xgb.Booster
    features: tuple[str, ...]
    feature_config: FeatureConfig
    calibration: Calibration
    policy: Policy
    lineage: Mapping[str, Any] = field(default_factory=dict)
    reference: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __post_init__(self) -> None:
        own = self.feature_config.own_inputs.names
        if own and self.features[-len(own) :] != own:
            raise ValueError(f"features: the last {len(own)} must be the own inputs {', '.join(own)}")

    def margin(self, features: pd.DataFrame) -> NDArray[np.float32]:
        """Log-odds before calibration, shape (n,), of feature rows that hold at least the model's columns."""
        return self.margins(self.values(features))

    def predict(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Calibrated fraud probabilities, shape (n,)."""
        return self.probabilities(self.values(features))

    def contributions(self, features: pd.DataFrame) -> pd.DataFrame:
        """Additive contributions to the margin (n, k + 1), `bias` last; XGBoost's TreeSHAP."""
        values = self.contributions_of(self.values(features))
        return pd.DataFrame(values, columns=[*self.features, "bias"], index=features.index)

    def margins(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `margin`, of values (n, k) in the order of `features`.

        Several threads may predict and explain at once.
        """
        return np.asarray(self.booster.inplace_predict(values, predict_type="margin"), dtype=np.float32)

    def probabilities(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `predict`, of values (n, k) in the order of `features`."""
        return self.calibration(self.margins(values))

    def contributions_of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `contributions`, of values (n, k) in the order of `features`."""
        # One thread, as in prediction: starting others costs more than they save.
        types = self.feature_config.feature_types(self.features)
        rows = xgb.DMatrix(
            values,
            feature_names=list(self.features),
            feature_types=types,
            enable_categorical=types is not None,
            nthread=1,
        )
        return np.asarray(self.booster.predict(rows, pred_contribs=True), dtype=np.float32)

    def values(self, features: pd.DataFrame) -> NDArray[np.float32]:
        """The encoded rows (n, k) in the order of `features`. Raises KeyError for a column that is not there."""
        return self.feature_config.model_rows(features, features=self.features)

    def importance(self) -> pd.Series:
        """Total gain per feature as a share of all gain, largest first; features never used have 0."""
        gain = pd.Series(self.booster.get_score(importance_type="total_gain"), dtype="float64")
        gain = gain.reindex(list(self.features), fill_value=0.0)
        return (gain / max(gain.sum(), 1e-12)).sort_values(ascending=False)

    def save(self, directory: Path) -> str:
        """Write the model into `directory` and return its SHA-256; an existing model is replaced only after everything
        is written.
        """
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
            staging = Path(temporary) / directory.name
            staging.mkdir()
            self.booster.save_model(staging / BOOSTER_FILE)
            self.reference.to_parquet(staging / REFERENCE_FILE, index=False)
            manifest = {
                "format_version": FORMAT_VERSION,
                **record_features(self.features, self.feature_config),
                "calibration": asdict(self.calibration),
                "policy": self.policy.to_dict(),
                "lineage": dict(self.lineage),
                "sha256": {name: file_hash(staging / name) for name in (BOOSTER_FILE, REFERENCE_FILE)},
            }
            (staging / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, default=str, allow_nan=False))
            if directory.exists():
                shutil.rmtree(directory)
            staging.rename(directory)
        return file_hash(directory / MANIFEST_FILE)

    @classmethod
    def load(cls, directory: Path, *, expected_sha256: str | None = None, threads: int = 1) -> "FraudModel":
        """Read a model directory. Raises IncompatibleModelError when its files were changed or this code computes other
        features.

        `threads` is 1 because parallel prediction of single rows only adds latency.
        """
        directory = directory.resolve()  # the link may change while its files are read
        with _readable(directory):
            manifest = _read_manifest(directory, expected_sha256=expected_sha256)
            if changed := changed_features(manifest):
                raise IncompatibleModelError(
                    f"{directory.name} needs features that this code computes differently: {', '.join(changed[:5])}; "
                    "run the release that trained it, or retrain"
                )
            booster = xgb.Booster()
            booster.load_model(directory / BOOSTER_FILE)
            booster.set_param({"nthread": threads})
            return cls(
                booster=booster,
                features=tuple(manifest["feature_order"]),
                feature_config=recorded_config(manifest),
                calibration=Calibration(**manifest["calibration"]),
                policy=Policy.from_dict(manifest["policy"]),
                lineage=manifest["lineage"],
                reference=pd.read_parquet(directory / REFERENCE_FILE),
            )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(directory: Path, *, expected_sha256: str | None = None) -> dict[str, Any]:
    """The content of a model's `model.json`, also of a model that this code cannot rebuild.

    Raises IncompatibleModelError when its files are not the ones that were saved, or cannot be read.
    """
    with _readable(directory):
        return _read_manifest(directory.resolve(), expected_sha256=expected_sha256)


def _read_manifest(directory: Path, *, expected_sha256: str | None) -> dict[str, Any]:
    path = directory / MANIFEST_FILE
    if not path.is_file():
        raise IncompatibleModelError(f"{directory.name} holds no {MANIFEST_FILE}; export the champion again")
    if expected_sha256 is not None and file_hash(path) != expected_sha256:
        raise IncompatibleModelError(f"{path.name} is not the file that was registered; export the champion again")
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest.get("format_version") not in (DEFINITIONS_ONLY, FORMAT_VERSION):
        raise IncompatibleModelError(
            f"{directory.name} has model format {manifest.get('format_version')}, and this release reads "
            f"{DEFINITIONS_ONLY} and {FORMAT_VERSION}; run the release that trained it, or retrain"
        )
    for name, expected in manifest["sha256"].items():
        if not (directory / name).is_file() or file_hash(directory / name) != expected:
            raise IncompatibleModelError(f"{name} is missing or was changed after saving; export the champion again")
    return manifest


def read_feature_config(directory: Path) -> FeatureConfig:
    """The feature configuration of a model, also of one that this code cannot rebuild.

    Raises IncompatibleModelError when its files were changed or hold no configuration.
    """
    manifest = read_manifest(directory)
    with _readable(directory):
        return recorded_config(manifest)


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """Every error of reading damaged files becomes an IncompatibleModelError with the remedy."""
    try:
        yield
    except IncompatibleModelError:
        raise
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise IncompatibleModelError(
            f"{directory.name} cannot be read ({error!r}); export the champion again"
        ) from error

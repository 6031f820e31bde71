"""Train a fraud model on card transactions, keep it honest, and decide on new ones.

The names below are the Python API (`fraud_pipeline/api.py`). Importing this package loads nothing, so that serving
starts fast and the domain stays free of orchestration; the API is loaded when one of its names is first used.
"""

__all__ = [
    "FraudModel",
    "compute_features",
    "explain",
    "load_champion",
    "load_model",
    "read_transactions",
    "score",
]

TYPE_CHECKING = False  # true for type checkers; importing `typing` would load it
if TYPE_CHECKING:
    from fraud_pipeline.api import (
        FraudModel,
        compute_features,
        explain,
        load_champion,
        load_model,
        read_transactions,
        score,
    )
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fraud_pipeline import api  # noqa: PLC0415 - pandas and xgboost take a second

        return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

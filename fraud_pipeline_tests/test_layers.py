"""Arrows point one way: the domain knows no orchestration, and each outside system has its room.

What a module loads is asked of fresh processes; what it may load is written here once.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).resolve().parent.parent / "fraud_pipeline"
OUTSIDE: Final = {"dagster", "dagster_mlflow", "mlflow", "kafka", "sqlalchemy", "bentoml"}
TRAINING_ONLY: Final = {"optuna", "sklearn", "matplotlib"}

SERVING: Final = ("model", "features", "decisions", "validation", "transactions", "sources", "snapshots", "windows")
TRAINING: Final = (
    "tuning",
    "training",
    "performance",
    "missed_fraud",
    "report_pages",
    "model_card",
    "plots",
    "picture",
)
# Each outside system has one adapter; the orchestration may use any.
ADAPTERS: Final = {
    "dagster": ("defs/", "definitions.py", "instance.py"),
    "dagster_mlflow": ("defs/",),
    "mlflow": ("registry.py",),
    "sqlalchemy": ("database/",),
    "kafka": ("topics.py", "group_joins.py", "lenient_records.py", "committed_reads.py"),
    "optuna": ("tuning.py",),
    "bentoml": (),
}
NOT_DOMAIN: Final = {
    "__init__",
    "cli",
    "serving_commands",
    "training_command",
    "training_plan",
    "definitions",
    "instance",
    "registry",
    "database",
    "topics",
    "group_joins",
    "lenient_records",
    "committed_reads",
    "online_history",
    "rehearsal",
    "settings",
    "scored",
    "scoring",
    "spared_blocks",
    "audit",
    "following",
    "alerts",
    "alert_outbox",
    "webhook",
    "doctor",
    *TRAINING,
}


def modules() -> list[str]:
    """Every module and package directly below `fraud_pipeline`."""
    files = [path.stem for path in PACKAGE.glob("*.py")]
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "defs"]
    return sorted({*files, *packages})


DOMAIN: Final = [name for name in modules() if name not in NOT_DOMAIN]


def loaded_by(*names: str, without: str = "") -> set[str]:
    """Top-level packages in memory after importing these in a fresh process where `without` is not installed."""
    imports = "\n".join(f"import {name}" for name in names)
    missing = f"import sys\nif {without!r}: sys.modules[{without!r}] = None"
    tell = "import json\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    program = f"{missing}\n{imports}\nsys.modules.pop({without!r}, None)\n{tell}"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(told.stdout.splitlines()[-1]))


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


class TestWhatIsLoaded:
    def test_the_package_itself_loads_nothing(self) -> None:
        bare = loaded_by("sys")
        assert loaded_by("fraud_pipeline") - bare == {"fraud_pipeline"}

    def test_the_domain_loads_no_orchestration_and_no_training_library(self) -> None:
        # XGBoost itself loads scikit-learn where it is installed, so the domain is tried without.
        found = loaded_by(*(f"fraud_pipeline.{name}" for name in DOMAIN), without="sklearn")
        assert found & (OUTSIDE | TRAINING_ONLY) == set()

    def test_what_serving_needs_loads_no_training_library(self) -> None:
        found = loaded_by(*(f"fraud_pipeline.{name}" for name in SERVING), without="sklearn")
        assert found & (OUTSIDE | TRAINING_ONLY | {"tqdm", "IPython"}) == set()

    @pytest.mark.parametrize(
        "process", ["service", "consuming", "consumer", "producer", "champion", "dashboard.models_page"]
    )
    def test_what_serves_loads_neither_orchestration_nor_training_nor_mlflow(self, process: str) -> None:
        found = loaded_by(f"serving.{process}", without="sklearn")
        assert found & {"dagster", "dagster_mlflow", "mlflow", "optuna", "matplotlib"} == set()

    def test_training_loads_no_orchestration(self) -> None:
        found = loaded_by(*(f"fraud_pipeline.{name}" for name in TRAINING))
        assert found & OUTSIDE == set()

    def test_the_registry_loads_no_orchestration(self) -> None:
        assert loaded_by("fraud_pipeline.registry") & {"dagster", "dagster_mlflow", "kafka", "bentoml"} == set()

    def test_rooms_that_are_spoken_of_exist(self) -> None:
        assert {*SERVING, *TRAINING} <= set(modules())
        assert {"dataset", "evaluation", "gate", "generator", "metrics"} <= set(DOMAIN)


# Who makes a scorer, and what it is made of, elsewhere than here makes a second one that drifts away from the first.
ASSEMBLY: Final = {
    "Scorer": "serving/scoring_runtime.py",
    "ResilientScorer": "serving/scoring_runtime.py",
    "ChampionHolder": "serving/scoring_runtime.py",
    "Shadow": "serving/scoring_runtime.py",
    "DegradeLadder": "serving/scoring_runtime.py",
    "FeatureEngineer": "fraud_pipeline/feature_config.py",
}


class TestWhatIsWritten:
    @pytest.mark.parametrize("name", ASSEMBLY)
    def test_what_decides_is_put_together_in_one_place(self, name: str) -> None:
        root = PACKAGE.parent
        files = [path for room in ("fraud_pipeline", "serving") for path in (root / room).rglob("*.py")]
        makers = {
            str(path.relative_to(root))
            for path in files
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and name in {getattr(node.func, "id", None), getattr(node.func, "attr", None)}
        }
        assert makers == {ASSEMBLY[name]}

    @pytest.mark.parametrize("library", ADAPTERS)
    def test_an_outside_system_is_imported_in_its_rooms_only(self, library: str) -> None:
        users = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if library in imported(path)}
        assert {user for user in users if not user.startswith(ADAPTERS[library] or ("nowhere",))} == set()

    def test_the_domain_imports_no_adapter_and_no_orchestration(self) -> None:
        programs = {"defs", "definitions", "instance", "cli", "serving_commands", "training_command"}
        above = programs | {"registry", "settings", "database", "topics"}
        files = [
            path for name in (*DOMAIN, *TRAINING) for path in (PACKAGE / f"{name}.py", *PACKAGE.glob(f"{name}/*.py"))
        ]
        wrong = {
            f"{path.relative_to(PACKAGE)}: {node.module}"
            for path in files
            if path.exists()
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("fraud_pipeline")
            and (
                {*node.module.split(".")[1:2]} | {alias.name for alias in node.names if node.module == "fraud_pipeline"}
            )
            & above
        }
        assert wrong == set()

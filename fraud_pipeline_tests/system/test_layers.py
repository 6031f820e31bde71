"""Layers: imports point one way, each package declares its content, and each outside system has its packages.

Imports are read from the sources; loaded modules are read from `sys.modules` of fresh processes.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = {
    "fraud_pipeline.api",
    "fraud_pipeline.definitions",
    "fraud_pipeline.defs",
    "fraud_pipeline.cli",
    "serving",
}

# The packages and modules that import an outside system; a library that is not here may be imported anywhere.
ADAPTERS: Final = {
    "dagster": ("fraud_pipeline/defs/", "fraud_pipeline/definitions.py"),
    "dagster_mlflow": ("fraud_pipeline/defs/",),
    "mlflow": ("fraud_pipeline/promotion/",),
    "sqlalchemy": ("fraud_pipeline/database/",),
    "kafka": ("fraud_pipeline/messaging/", "serving/stream/"),
    "optuna": ("fraud_pipeline/modeling/",),
    "altair": ("fraud_pipeline/reporting/",),
    "vl_convert": ("fraud_pipeline/reporting/",),
    "bentoml": ("serving/service.py",),
    "streamlit": ("serving/dashboard/",),
}

# A second place that makes one of these drifts away from the first.
ASSEMBLY: Final = {
    "Scorer": "serving/runtime/scoring_runtime.py",
    "ResilientScorer": "serving/runtime/scoring_runtime.py",
    "ChampionHolder": "serving/runtime/scoring_runtime.py",
    "Shadow": "serving/runtime/scoring_runtime.py",
    "DegradationPolicy": "serving/runtime/scoring_runtime.py",
    "FeatureEngineer": "fraud_pipeline/features/config.py",
}


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax tree of every module of ours by its path."""
    paths = [path for name in ("fraud_pipeline", "serving") for path in (ROOT / name).rglob("*.py")]
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths if "migrations" not in path.parts
    }


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a module imports anywhere, inside functions too; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """The package of the module map that a module is in: `fraud_pipeline.scoring`, `serving.http`, or itself."""
    return ".".join(module.split(".")[:2])


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def arrows() -> dict[str, set[str]]:
    """The packages that each package imports."""
    known = {package_of(module_name(path)) for path in sources()}
    graph: dict[str, set[str]] = {name: set() for name in known}
    for path, tree in sources().items():
        package = package_of(module_name(path))
        graph[package] |= {package_of(name) for name in imported(tree)} & known - {package, "fraud_pipeline", "serving"}
    return graph


def loaded_by(*names: str, without: str = "") -> set[str]:
    """Top-level packages in memory after these modules are imported in a fresh process that lacks `without`."""
    program = "\n".join(
        [
            "import json, sys",
            f"if {without!r}: sys.modules[{without!r}] = None",
            *(f"import {name}" for name in names),
            f"print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}} - {{{without!r}}})))",
        ]
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def modules_of(*prefixes: str) -> list[str]:
    return sorted(module_name(path) for path in sources() if path.startswith(prefixes))


class TestTheMap:
    def test_packages_have_no_import_cycle(self) -> None:
        try:
            TopologicalSorter(arrows()).prepare()
        except CycleError as error:
            pytest.fail(f"these packages import each other: {' -> '.join(error.args[1])}")

    def test_the_domain_imports_no_program(self) -> None:
        graph = arrows()
        domain = {name for name in graph if not name.startswith(tuple(PROGRAMS)) and name != "fraud_pipeline"}
        assert {
            (package, target) for package in domain for target in graph[package] if target.startswith(tuple(PROGRAMS))
        } == set()

    @pytest.mark.parametrize("library", ADAPTERS)
    def test_an_outside_system_is_imported_in_its_packages_only(self, library: str) -> None:
        users = {path for path, tree in sources().items() if library in {name.split(".")[0] for name in imported(tree)}}
        assert users, f"nothing imports {library}"
        assert {path for path in users if not path.startswith(ADAPTERS[library])} == set()

    def test_every_package_says_what_belongs_there_and_what_must_not(self) -> None:
        for path, tree in sources().items():
            if path.endswith("/__init__.py") and path.count("/") > 1:
                text = " ".join((ast.get_docstring(tree) or "").split())
                assert "Must not be here:" in text, path

    @pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
    def test_dagsters_files_are_at_the_top_and_in_the_package(self, name: str) -> None:
        """People look for them at the top; a wheel carries the package's copies, which are links to them."""
        top = ROOT / name
        assert not top.is_symlink()
        assert (ROOT / "fraud_pipeline" / "defs" / name).resolve() == top

    def test_few_modules_are_outside_of_packages(self) -> None:
        assert {path.name for path in (ROOT / "fraud_pipeline").glob("*.py")} == {
            "__init__.py",
            "api.py",
            "definitions.py",
            "settings.py",
        }

    @pytest.mark.parametrize("name", ASSEMBLY)
    def test_each_deciding_object_is_assembled_in_one_place(self, name: str) -> None:
        makers = {
            path
            for path, tree in sources().items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and name in {getattr(node.func, "id", None), getattr(node.func, "attr", None)}
        }
        assert makers == {ASSEMBLY[name]}

    def test_test_modules_do_not_import_each_other(self) -> None:
        wrong = {
            (str(path.relative_to(ROOT)), name)
            for path in (ROOT / "fraud_pipeline_tests").rglob("*.py")
            for name in imported(ast.parse(path.read_text()))
            if name.startswith("fraud_pipeline_tests.") and name.split(".")[-1].startswith(("test_", "conftest"))
        }
        assert wrong == set()


class TestWhatIsLoaded:
    def test_the_package_itself_loads_nothing(self) -> None:
        assert loaded_by("fraud_pipeline") - loaded_by("sys") == {"fraud_pipeline"}

    @pytest.mark.slow
    def test_serving_loads_neither_orchestration_nor_training(self) -> None:
        programs = {"serving.dashboard.main"}  # Streamlit runs it; importing it is running it
        names = [name for name in modules_of("serving/") if name not in programs]
        # XGBoost loads scikit-learn where it is installed; a serving image has none.
        assert (
            loaded_by(*names, without="sklearn") & {"dagster", "dagster_mlflow", "mlflow", "optuna", "matplotlib"}
            == set()
        )

    @pytest.mark.slow
    def test_the_domain_loads_no_outside_system(self) -> None:
        """Packages without adapters and without a database."""
        graph = arrows()
        pure = {"fraud_pipeline.schema", "fraud_pipeline.ingest", "fraud_pipeline.features", "fraud_pipeline.policy"}
        pure |= {"fraud_pipeline.modeling", "fraud_pipeline.monitoring", "fraud_pipeline.storage"}
        assert pure <= set(graph)
        loaded = loaded_by(*modules_of(*(f"{name.replace('.', '/')}/" for name in pure)))
        assert loaded & {*ADAPTERS} - {"optuna"} == set()

"""Locked versions have no known vulnerabilities, and a bento serves with the serving extra alone."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import good_transaction
from fraud_pipeline_tests.support.deployment import BIN, ROOT
from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

LISTS: Final = ("requirements.txt", "deploy/requirements.txt", "deploy/serving-requirements.txt")
KNOWN: Final[Mapping[str, Any]] = tomllib.loads((ROOT / "deploy" / "advisories.toml").read_text())
HASH: Final = f"--hash=sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def audit() -> Any:
    """deploy/audit.py, which is no package."""
    specification = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class TestAudit:
    @pytest.mark.parametrize("name", LISTS)
    def test_no_locked_version_has_a_known_vulnerability(self, audit: Any, name: str) -> None:
        text = (ROOT / name).read_text()
        assert list(audit.findings(text, KNOWN)) == []
        assert not re.search(r"https?://", text), "a list names no host"

    @pytest.mark.parametrize("advisory", KNOWN["advisories"], ids=lambda advisory: advisory["package"])
    def test_a_vulnerable_version_is_reported(self, audit: Any, advisory: Mapping[str, str]) -> None:
        text = (ROOT / "requirements.txt").read_text()
        locked = rf"^({advisory['package']}(?:\[[^\]]*\])?==)\S+"
        planted = re.sub(locked, r"\g<1>0.0.0", text, flags=re.MULTILINE)
        assert planted != text, "nobody installs this: take it out of the list"
        assert any(advisory["id"] in finding for finding in audit.findings(planted, KNOWN))
        fixed = re.sub(locked, rf"\g<1>{advisory['fixed']}", text, flags=re.MULTILINE)
        assert not [finding for finding in audit.findings(fixed, KNOWN) if advisory["id"] in finding]

    @pytest.mark.parametrize(
        ("package", "below"),
        [("bentoml", "1.4.38"), ("mlflow", "3.12.0"), ("mlflow", "3.14.1"), ("pyjwt", "2.14.0")],
    )
    def test_a_version_below_a_floor_of_the_project_is_reported(self, audit: Any, package: str, below: str) -> None:
        text = (ROOT / "requirements.txt").read_text()
        locked = rf"^({package}(?:\[[^\]]*\])?==)\S+"
        planted = re.sub(locked, rf"\g<1>{below}", text, flags=re.MULTILINE)
        assert any("floor" in finding for finding in audit.findings(planted, KNOWN))
        at_floor = re.sub(locked, rf"\g<1>{KNOWN['floors'][package]}", text, flags=re.MULTILINE)
        assert list(audit.findings(at_floor, KNOWN)) == []

    def test_a_prerelease_of_the_mended_version_is_not_mended(self, audit: Any) -> None:
        assert list(audit.findings(f"bentoml==1.4.39rc1 \\\n    {HASH}\n", KNOWN))

    def test_a_banned_package_a_missing_hash_and_an_empty_list_are_reported(self, audit: Any) -> None:
        assert "use PyJWT" in next(audit.findings(f"Python_Jose==3.5.0 \\\n    {HASH}\n", KNOWN))
        assert "has no hash" in next(audit.findings("requests==2.40.0\n", KNOWN))
        assert "nothing is locked" in next(audit.findings("", KNOWN))

    def test_the_command_names_the_location_and_fails(
        self, audit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = tmp_path / "bad.txt"
        bad.write_text(f"mlflow==3.1.0 \\\n    {HASH}\n")
        assert audit.main([str(ROOT / "requirements.txt"), str(bad)]) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"{bad}: mlflow 3.1.0 has CVE-2026-4137: at least 3.11.0",
            f"{bad}: mlflow 3.1.0 is below the project's floor for known holes: at least 3.15",
        ]
        assert audit.main([str(ROOT / name) for name in LISTS]) == 0

    def test_the_floors_of_project_and_audit_agree_and_cover_known_vulnerabilities(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        requirements = [line for extra in project["optional-dependencies"].values() for line in extra]
        fixed = {advisory["package"]: advisory["fixed"] for advisory in KNOWN["advisories"]}
        for name, floor in KNOWN["floors"].items():
            floors = re.findall(rf"^{name}(?:\[\w+\])?>=([\d.]+)", "\n".join(requirements), re.MULTILINE)
            assert set(floors) == {floor}
            assert Version(floor) >= Version(fixed[name])


@pytest.fixture(scope="module")
def without_the_rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH that hides the checkout and all but the serving extra, as if never installed."""
    text = (ROOT / "deploy" / "serving-requirements.txt").read_text()
    served = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)(?:\[\S+\])?==", text, re.MULTILINE)}
    hidden = sorted(
        module
        for module, distributions in packages_distributions().items()
        if not any(canonicalize_name(distribution) in served for distribution in distributions)
    )
    assert {"dagster", "mlflow", "optuna", "matplotlib"} <= set(hidden)
    directory = tmp_path_factory.mktemp("hidden")
    (directory / "sitecustomize.py").write_text(
        "import sys\n"
        f"HIDDEN = frozenset({hidden!r}) - {{'fraud_pipeline', 'serving'}}\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in HIDDEN:\n"
        "            raise ModuleNotFoundError(f'{name} is not of the serving extra', name=name)\n"
        "editable = [one for one in sys.meta_path if 'editable' in getattr(one, '__module__', '')]\n"
        "sys.meta_path = [Hide(), *(one for one in sys.meta_path if one not in editable)]\n"
        f"sys.path = [entry for entry in sys.path if entry != {str(ROOT)!r}]\n"
    )
    return directory


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory, without_the_rest: Path) -> Path:
    """The bento's directory; it is built with the serving extra alone, too."""
    home = tmp_path_factory.mktemp("bentoml")
    environment = os.environ | {
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "true",
        "FRAUD_HOME": str(home / "fraud"),
        "PYTHONPATH": str(without_the_rest),
    }
    done = subprocess.run(
        [BIN / "bentoml", "build", "--output", "tag"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    name, version = done.stdout.strip().removeprefix("__tag__:").split(":")
    return home / "bentos" / name / version


@pytest.mark.slow
class TestBento:
    def test_it_holds_the_code_the_migrations_and_nothing_private(self, bento: Path) -> None:
        files = {str(path.relative_to(bento / "src")) for path in (bento / "src").rglob("*") if path.is_file()}
        assert "serving/service.py" in files
        assert "fraud_pipeline/database/migrations/versions/0001_decisions.py" in files
        assert {Path(name).parts[0] for name in files} == {"serving", "fraud_pipeline", "bentofile.yaml"}
        assert not [name for name in files if "defs/" in name or name.endswith((".db", ".env", "keys.json", ".pyc"))]

    def test_it_asks_for_the_locked_versions_with_their_hashes(self, bento: Path) -> None:
        locked = r"^[\w.-]+(?:\[\S+\])?==[^\s;]+|sha256:\w+"
        requested = re.findall(locked, (bento / "env" / "python" / "requirements.txt").read_text(), re.MULTILINE)
        locked_versions = re.findall(locked, (ROOT / LISTS[2]).read_text(), re.MULTILINE)
        # BentoML repeats its own version at the end.
        assert requested in (
            locked_versions,
            [*locked_versions, next(version for version in locked_versions if version.startswith("bentoml=="))],
        )

    @pytest.fixture
    def served(
        self, bento: Path, without_the_rest: Path, trained: TrainedModel, tmp_path: Path
    ) -> Iterator[tuple[str, Path]]:
        """The address of the bento's service and its home, with a champion."""
        home, port = tmp_path / "home", free_port()
        trained.model.save(tmp_path / "trained")
        publish(tmp_path / "trained", link=Settings(home=home).champion_directory, version=1)
        environment = os.environ | {
            "BENTOML_HOME": str(bento.parents[2]),
            "BENTOML_DO_NOT_TRACK": "true",
            "FRAUD_HOME": str(home),
            "PYTHONPATH": str(without_the_rest),
        }
        tag = f"{bento.parent.name}:{bento.name}"
        command = [f"{BIN}/bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is not None or _ready(port), what="the bento")
            assert process.poll() is None, (tmp_path / "log").read_text()
            yield f"http://127.0.0.1:{port}", home
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_SECONDS)

    def test_it_scores_with_the_serving_extra_alone(self, served: tuple[str, Path], without_the_rest: Path) -> None:
        url, home = served
        environment = os.environ | {"FRAUD_HOME": str(home), "PYTHONPATH": f"{without_the_rest}:{ROOT}"}
        command = [sys.executable, "-m", "fraud_pipeline.cli.main", "token", "--subject", "a-test"]
        token = subprocess.check_output(command, env=environment, text=True).strip()
        answer = httpx.post(
            f"{url}/score", json=good_transaction(), headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_SECONDS
        )
        assert answer.status_code == 200
        assert (answer.json()["decided_by"], answer.json()["model_version"]) == ("model", "1")

    def test_packages_outside_of_the_extra_are_hidden(self, without_the_rest: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(without_the_rest)}
        for module, is_visible in (("mlflow", False), ("dagster", False), ("fraud_pipeline", False), ("bentoml", True)):
            done = subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=False, cwd="/",
                                  capture_output=True)  # fmt: skip
            assert (done.returncode == 0) == is_visible, module


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False

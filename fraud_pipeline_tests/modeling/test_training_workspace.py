"""Two trainings at once: one waits for the other, and no model is registered with the other's evaluation."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from fraud_pipeline.defs.instance import prepare_dagster_home
from fraud_pipeline.modeling.evaluation import Evaluation
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.modeling.training_workspace import MismatchError, Workspace, locked_workspace
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline_tests.support.reports import deployment_in
from fraud_pipeline_tests.support.small_world import Tables
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HOLD = """
import sys
from pathlib import Path
from fraud_pipeline.modeling.training_workspace import locked_workspace
with locked_workspace(Path(sys.argv[1]), holder=sys.argv[2], on_wait=lambda told: print(told, flush=True)):
    print("has it", flush=True)
    sys.stdin.readline()
"""

TRAIN = """
import sys
from datetime import date, timedelta
from pathlib import Path
import dagster as dg
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.settings import Settings
settings = Settings(
    home=Path(sys.argv[1]), first_day=date(2026, 1, 1), label_maturity=timedelta(days=14), n_trials=1,
    gap=timedelta(days=1), warm_up=timedelta(days=5), synthetic=True,
)
names = ("training_set", "fraud_model", "evaluation", "registered_model")
with dg.DagsterInstance.get() as instance:
    build_defs(settings).resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in names],
        run_config={"ops": {"fraud_model": {"config": {"seed": int(sys.argv[2])}}}},
    )
"""


@contextmanager
def started(program: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that is killed at the end of the block."""
    command, pipe = [sys.executable, "-c", program, *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def output_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestLock:
    @pytest.mark.slow
    def test_a_second_training_waits_and_names_the_first_until_that_ends(self, tmp_path: Path) -> None:
        with started(HOLD, str(tmp_path), "Dagster run one") as first:
            assert output_line(first) == "has it"
            with started(HOLD, str(tmp_path), "Dagster run two") as second:
                waiting = output_line(second)
                assert f"is running: Dagster run one (process {first.pid}, since 20" in waiting
                first.communicate("\n")
                assert output_line(second) == "has it"
                second.communicate("\n")
        assert (first.returncode, second.returncode) == (0, 0)

    def test_a_killed_training_releases_the_lock(self, tmp_path: Path) -> None:
        with started(HOLD, str(tmp_path), "Dagster run one") as first:
            assert output_line(first) == "has it"
            first.send_signal(signal.SIGKILL)
            first.communicate()
        waited: list[str] = []
        with locked_workspace(tmp_path, holder="Dagster run two", on_wait=waited.append) as workspace:
            assert workspace == Workspace(tmp_path)
        assert waited == []

    def test_trainings_of_two_homes_do_not_wait_for_each_other(self, tmp_path: Path) -> None:
        waited: list[str] = []
        with (
            locked_workspace(tmp_path / "a", holder="one", on_wait=waited.append),
            locked_workspace(tmp_path / "b", holder="two", on_wait=waited.append),
        ):
            assert waited == []


class TestBelonging:
    @pytest.fixture
    def workspace(self, tmp_path: Path, trained: TrainedModel) -> Workspace:
        """A candidate that was trained on the training set `a` and evaluated."""
        workspace = Workspace(tmp_path)
        replace(trained.model, lineage={**trained.model.lineage, "data_sha256": "a"}).save(workspace.candidate)
        workspace.save_evaluation(Evaluation(metrics={}, counts={"rows": 7}, segments={}), training_set_sha256="a")
        return workspace

    def test_model_and_evaluation_of_one_training_are_loaded(self, workspace: Workspace) -> None:
        _, evaluation = workspace.evaluated_candidate("a")
        assert evaluation.counts == {"rows": 7}

    def test_another_training_set_is_refused(self, workspace: Workspace) -> None:
        with pytest.raises(MismatchError, match="another training set .* materialize fraud_model again"):
            workspace.evaluated_candidate("b")

    def test_the_evaluation_of_another_model_is_refused(self, workspace: Workspace, trained: TrainedModel) -> None:
        other = replace(trained.model, policy=Policy(0.01, 0.9), lineage={**trained.model.lineage, "data_sha256": "a"})
        other.save(workspace.candidate)
        with pytest.raises(MismatchError, match="not the evaluation of the model .* materialize evaluation again"):
            workspace.evaluated_candidate("a")

    def test_an_evaluation_of_an_earlier_release_or_none_is_refused(self, workspace: Workspace) -> None:
        workspace.evaluation_file.write_text('{"metrics": {}, "counts": {}, "segments": {}}')
        with pytest.raises(MismatchError, match="materialize evaluation again"):
            workspace.evaluated_candidate("a")
        workspace.evaluation_file.unlink()
        with pytest.raises(MismatchError, match="materialize evaluation again"):
            workspace.evaluated_candidate("a")


@pytest.mark.slow
def test_two_processes_that_train_at_once_register_each_model_with_its_own_evaluation(
    tmp_path: Path, tables: Tables, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the command line beside the daemon: two Dagster runs of one home, whose models differ by their seed."""
    deployment = deployment_in(tmp_path, tables, trained.model)
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_dagster_home(deployment.settings)))
    with dg.DagsterInstance.get():
        deployment.registry.versions()  # makes the tables of both, which is nobody's race here
    home = str(deployment.settings.home)
    with ExitStack() as both:
        trainings = [both.enter_context(started(TRAIN, home, str(seed))) for seed in (1, 2)]
        for training in trainings:
            _, errors = training.communicate(timeout=LIMIT_SECONDS)
            assert training.returncode == 0, errors[-3_000:]
    versions = deployment.registry.versions()
    assert len({version.sha256 for version in versions}) == len(versions) == 2
    for version in versions:
        evaluation = deployment.registry.evaluation(version)
        assert evaluation is not None
        assert evaluation["model_sha256"] == version.sha256
        assert deployment.registry.of_run(version.tags["dagster_run_id"]) == version

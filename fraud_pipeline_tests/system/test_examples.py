"""The notebooks of examples/: they run, and their committed outputs are complete, small and impersonal."""

import re
import tempfile
from pathlib import Path
from typing import Final

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS: Final = sorted(EXAMPLES.glob("*.ipynb"))
MAX_BYTES: Final = 300_000


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel's sockets are closed by its own garbage collection.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_it_runs_from_the_first_cell_to_the_last(
    path: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_HOME", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    # Where it is set, for example by a library that another test loads, a kernel shows no plots.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    committed = [output.output_type for output in outputs(notebook)]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [output.output_type for output in outputs(notebook)] == committed
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_executed_small_and_names_no_machine(path: Path) -> None:
    text = path.read_text()
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert not [
        output for output in outputs(notebook) if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert len(text.encode()) < MAX_BYTES
    places = [str(EXAMPLES.parent), str(Path.home()), tempfile.gettempdir(), "/home/", "/Users/"]
    words = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not [place for place in places if place in words]


def test_there_is_an_example() -> None:
    assert [path.name for path in NOTEBOOKS] == ["score_and_explain.ipynb"]

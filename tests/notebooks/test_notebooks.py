"""Every notebook runs through on the sample, and is committed without what a run leaves in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.conftest import ROOT, job_environment

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Of one cell, on a machine that does other things too.
CELL_TIMEOUT_S = 600


def read(notebook: Path) -> nbformat.NotebookNode:
    return nbformat.read(notebook, as_version=4)


def test_the_predecessors_path_is_complete() -> None:
    assert [notebook.name[:2] for notebook in NOTEBOOKS] == [f"{n:02d}" for n in range(11)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_and_no_execution_count_is_committed(notebook: Path) -> None:
    content = read(notebook)
    nbformat.validate(content)
    for cell in content.cells:
        assert re.fullmatch(rf"{notebook.name[:2]}-\d\d", cell.id), "ids are stable"
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    # Nothing of the machine that it was written on.
    assert set(content.metadata) == {"kernelspec", "language_info"}
    assert "/home/" not in notebook.read_text()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_states_what_it_shows(notebook: Path) -> None:
    first = read(notebook).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {notebook.name[:2]} · ")
    assert "**What this shows:**" in first.source


@pytest.mark.notebook
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_through_on_the_sample(
    notebook: Path, sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in job_environment(None).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LINESCORE_STORE", str(sample_store))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    content = read(notebook)
    client = NotebookClient(
        content,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        pytest.fail(f"{notebook.name}: {error}")
    problems = [
        output.get("text", "")
        for cell in content.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    assert not problems, "a reader would see warnings"
    assert number_of_pictures(content) >= source_of(content).count("plt.show()")


def source_of(content: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")


def number_of_pictures(content: nbformat.NotebookNode) -> int:
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)

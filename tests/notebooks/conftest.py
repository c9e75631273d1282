"""The store that all notebooks run on, built once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STORE_VARIABLE = "LINESCORE_STORE"


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's store; one that the environment names is taken as it is."""
    if given := os.environ.get(STORE_VARIABLE):
        return Path(given)
    folder = tmp_path_factory.mktemp("notebooks")
    # A process of its own: the training's threads and memory end with it.
    subprocess.run(
        [sys.executable, "-m", "tests.notebooks.sample", str(folder)],
        cwd=ROOT,
        check=True,
        timeout=1200,
    )
    return folder / "store"

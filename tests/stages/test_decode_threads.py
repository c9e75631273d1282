"""A decoding task computes on one thread, and loads PyTorch only where a resize needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, save

_PROBE = """
import sys
import pyarrow as pa
from pipeline.config import LimitsConfig
from pipeline.scoring.prepare import options_for
from pipeline.stages.decode import prepare_images
if sys.argv[2] == "before":
    import torch
options = options_for(LimitsConfig(), square=64, letterboxed=None)
rows = pa.table({"uri": [sys.argv[1]], "sha256": pa.nulls(1, pa.string())})
(made,) = prepare_images(rows, options)
assert made.square.shape == (64, 64, 3)
torch = sys.modules.get("torch")
print(torch.get_num_threads() if torch else "not loaded")
"""


@pytest.mark.parametrize(
    ("side", "loaded", "seen"),
    [(128, "", "1"), (128, "before", "1"), (100, "", "not loaded")],
)
def test_one_thread_whether_pytorch_was_there_or_comes(
    tmp_path: Path, side: int, loaded: str, seen: str
) -> None:
    file = tmp_path / "a.png"
    save(file, np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(file), loaded],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == seen

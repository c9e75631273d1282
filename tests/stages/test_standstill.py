"""Two CPUs and a small object store: more blocks than it holds go through, none waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.synthetic import write_rows
from tests.conftest import ROOT, TinyStore

# Ray's least: the outputs of a task that cuts a manifest soon wait for room.
STORE_BYTES = 80 * 2**20
ROWS = 8_000


@pytest.mark.ray
@pytest.mark.timeout(280)
def test_a_manifest_of_more_blocks_than_the_store_holds_is_scored(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    score = {
        "manifest": write_rows(tmp_path, ROWS),
        "bundle": tiny_store.bundle,
        "store": str(tmp_path),
        "run_id": "r",
        "reuse": False,
        "block_rows": 16,
        "commit_rows": 1024,
    }
    given = {"score": score, "cpus": 2, "object_store_bytes": STORE_BYTES}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.stub_run"],
        cwd=ROOT,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["images"]["scored"] == ROWS

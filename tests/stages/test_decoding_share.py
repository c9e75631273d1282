"""Decoding is given every CPU that the actors leave, whatever waits in the stages around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BLOCKS = 320


@pytest.mark.timeout(300)
def test_decoding_has_all_cpus_that_the_actors_leave(tmp_path: Path) -> None:
    """Ray Data keeps a part of the CPUs for each stage that asks for some: it left 3 of these 4."""
    pools = {"detector": 1, "features": 1, "classifier": 2}
    given = {"folder": str(tmp_path), "cpus": 8, "pools": pools, "blocks": BLOCKS, "seconds": 0.25}
    done = subprocess.run(
        [sys.executable, "-m", "tests.stages.decoding_share"],
        cwd=ROOT,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"most": 4, "blocks": BLOCKS}

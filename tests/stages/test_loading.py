"""What a worker opens to do its part of a run brings no network with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, job_environment

# Each worker that loads these for nothing starts seconds later.
NETWORKS = ("torch", "torchvision", "ultralytics", "sklearn")


@pytest.mark.parametrize("job", ["index", "fit", "score", "split", "evaluate"])
def test_a_worker_of_the_job_loads_no_network_before_it_needs_one(job: str) -> None:
    program = (
        f"import sys, pipeline.stages.{job}, pipeline.stages.decode, pipeline.stages.pools\n"
        f"print(sorted(set({NETWORKS}) & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=job_environment(None) | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert found.stdout.strip() == "[]", found.stderr

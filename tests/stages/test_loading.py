"""What a worker opens to do its part of a run brings no network with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, job_environment

# Each worker that loads these for nothing starts seconds later.
NETWORKS = ("torch", "torchvision", "ultralytics", "sklearn")


def loaded(modules: list[str], among: tuple[str, ...]) -> list[str]:
    """Which of these a fresh Python has loaded after it has opened the modules."""
    program = (
        f"import sys, {', '.join(modules)}\n"
        f"print(','.join(sorted(set({among}) & set(sys.modules))))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=job_environment(None) | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return [name for name in found.stdout.strip().split(",") if name]


OPENED = ["pipeline.stages.decode", "pipeline.stages.pools", "pipeline.stages.timing"]


@pytest.mark.parametrize("job", ["index", "fit", "score", "split", "evaluate"])
def test_a_worker_of_the_job_loads_no_network_before_it_needs_one(job: str) -> None:
    assert loaded([f"pipeline.stages.{job}", *OPENED], NETWORKS) == []


def test_what_every_worker_of_a_run_opens_reads_no_config() -> None:
    assert loaded(OPENED, ("pipeline.config", "pydantic")) == []
    assert loaded(["pipeline.stages.score"], ("pipeline.config",)) == ["pipeline.config"]

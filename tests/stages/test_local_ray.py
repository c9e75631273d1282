"""When a job ends, nothing of the Ray that it started is left: not even a worker that hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.conftest import ROOT, job_environment

# A worker that hangs in its end is one that doesn't end: this one is stopped.
PROGRAM = """
import os, signal, sys
import ray
from pipeline.config import RayConfig
from pipeline.stages.cluster import connected

class Actor:
    def pid(self):
        return os.getpid()

def job():
    actor = ray.remote(num_cpus=0)(Actor).remote()
    pid = ray.get(actor.pid.remote())
    print(pid, flush=True)
    os.kill(pid, signal.SIGSTOP)

if sys.argv[1] == "connected":
    with connected(RayConfig(num_cpus=2)):
        job()
else:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    job()
    ray.shutdown()
"""


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("how", "left"), [("connected", False), ("by itself", True)])
def test_no_worker_outlives_the_job(how: str, left: bool) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=job_environment(None) | {"PYTHONPATH": str(ROOT)},
        timeout=150,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    pid = int(found.stdout.splitlines()[-1])
    try:
        assert psutil.pid_exists(pid) is left
    finally:
        with suppress(ProcessLookupError):
            if left:
                os.kill(pid, signal.SIGKILL)

"""A Ray of a job's own: nothing of it outlives the job, and what keeps it from starting is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.stages.local_ray import _runs
from tests.conftest import ROOT, job_environment, printed_by, save

# Its worker has left Ray, as far as Ray knows, and then doesn't end.
PROGRAM = """
import atexit, os, sys, time
import ray
from pipeline.config import RayConfig
from pipeline.stages.cluster import connected

class Actor:
    def pid(self):
        atexit.register(time.sleep, 1000)
        return os.getpid()

def job():
    actor = ray.remote(num_cpus=0)(Actor).remote()
    print(ray.get(actor.pid.remote()), flush=True)

if sys.argv[1] == "connected":
    with connected(RayConfig(num_cpus=2)):
        job()
else:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    job()
    ray.shutdown()
"""


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
        assert lives(pid) is left
    finally:
        with suppress(ProcessLookupError):
            if left:
                os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    try:
        return _runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def test_a_process_whose_end_nobody_notes_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert lives(process.pid)
    process.kill()
    deadline = time.monotonic() + 20
    while lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert not lives(process.pid)
    process.wait()
    assert not lives(process.pid)


@pytest.mark.timeout(120)
def test_a_ray_that_can_not_be_started_is_no_traceback(tmp_path: Path) -> None:
    save(tmp_path / "archive/0.png", np.zeros((8, 8, 3), np.uint8))
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    settings = (f"source={tmp_path / 'archive'}", f"store={tmp_path / 'store'}", "name=m")
    found = subprocess.run(
        [sys.executable, "jobs/index.py", *settings],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=job_environment(None) | {"RAY_TMPDIR": str(in_the_way)},
        timeout=100,
        check=False,
    )
    assert found.returncode == 1, found.stderr
    assert "error: ray: none could be started on this machine: NotADirectoryError" in found.stderr
    assert f"whether {in_the_way}/ray can be written (RAY_TMPDIR=FOLDER" in found.stderr
    assert "Traceback" not in found.stderr


MISTAKEN = """
from pipeline.stages.local_ray import local_ray
try:
    with local_ray(1, object_store_memory=object()):
        pass
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.timeout(120)
def test_a_bug_in_starting_ray_stays_one() -> None:
    assert printed_by(MISTAKEN, timeout=100).split() == ["TypeError"]

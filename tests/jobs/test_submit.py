"""`ray job submit` on a cluster that `ray start --head` started, as an operator does it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.tables.runs import load_table
from tests.conftest import ONE_ACTOR_SET, ROOT, TinyStore, job_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

RAY = str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a head node's job server; the node ends with the test."""
    port, dashboard = free_port(), free_port()
    log = (tmp_path_factory.mktemp("head") / "log").open("w")
    options = [
        "--num-cpus=4",
        "--object-store-memory=1000000000",
        "--node-ip-address=127.0.0.1",
        f"--port={port}",
        "--include-dashboard=true",
        f"--dashboard-port={dashboard}",
        "--dashboard-agent-listen-port=0",
    ]
    node = subprocess.Popen(
        [RAY, "start", "--head", "--block", *options],
        env=venv_first(),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    wait_for(dashboard, node)
    yield f"http://127.0.0.1:{dashboard}"
    # Asked to end, it waits half a minute for its job server, and leaves processes behind; the
    # group is its own.
    os.killpg(node.pid, signal.SIGKILL)
    node.wait(60)
    log.close()


def wait_for(port: int, node: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and node.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail("the head node's job server did not answer within 90 s")


def venv_first() -> dict[str, str]:
    """The environment of an operator who activated the virtual environment."""
    environment = job_environment(None)
    return environment | {"PATH": f"{Path(RAY).parent}:{environment['PATH']}"}


def submit(address: str, *settings: str) -> subprocess.CompletedProcess[str]:
    job = ["python", "jobs/score.py", "--config", "configs/score.yaml", *settings]
    return subprocess.run(
        [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *job],
        cwd=ROOT,
        env=job_environment(None),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_submitted_job_scores_and_its_exit_status_tells_how_it_went(
    tiny_store: TinyStore, head: str, tmp_path: Path
) -> None:
    settings = [f"manifest={tiny_store.manifest}", f"bundle={tiny_store.bundle}"]
    done = submit(head, *settings, *ONE_ACTOR_SET, f"store={tmp_path}", "run_id=night")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 images: 40 scored, 0 errors" in done.stdout
    assert load_table(str(tmp_path), "night", "scores").num_rows == 40

    relative = submit(head, *settings, "run_id=second")
    assert relative.returncode != 0
    output = relative.stdout + relative.stderr
    assert "store: store: is relative" in output

"""A Ray that a job starts for itself: on loopback alone, and only for those with the token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, job_environment

# In a process of its own, as a job has: what listens, and who is let in.
SCRIPT = """
import json, os, subprocess, sys
from pipeline.config import RayConfig
from pipeline.stages.cluster import connected
import ray
from tests.stages.test_loopback import listening

with connected(RayConfig(num_cpus=2)):
    mode = ray.get(ray.remote(lambda: os.environ.get("RAY_AUTH_MODE")).remote())
    address = ray.get_runtime_context().gcs_address
    ask = f"from ray._raylet import GcsClient as C; C({address!r}).internal_kv_keys(b'', None, 9)"
    asked = [
        subprocess.run([sys.executable, "-c", ask], env=os.environ | token,
                       capture_output=True, text=True, timeout=60)
        for token in ({}, {"RAY_AUTH_TOKEN": "0" * 32})
    ]
    told = {"mode": mode, "address": address, "listening": listening(os.getpid()),
            "asked": [[one.returncode, one.stderr[-3000:]] for one in asked]}
print(json.dumps(told | {"switch": os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")}))
"""
_LISTEN = "0A"  # Linux's number of the state, include/net/tcp_states.h


def listening(root: int) -> list[str]:
    """Hexadecimal local addresses on which a process and its descendants listen."""
    family, inodes = descendants(root), set()
    for pid in family:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except OSError:  # it ended, or closed the file
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == _LISTEN and parts[9] in inodes:
                found.append(parts[1].split(":")[0])
    return found


def descendants(root: int) -> set[int]:
    """A process and all that it has started, directly or not."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


@pytest.mark.ray
@pytest.mark.timeout(200)
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")
def test_a_local_ray_listens_on_loopback_alone_and_asks_for_its_token(tmp_path: Path) -> None:
    environment = {k: v for k, v in job_environment(None).items() if k != "RAY_AUTH_MODE"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["mode"] == "token"
    assert told["address"].startswith("127.0.0.1:")
    assert told["switch"] is None  # a cluster that a later job reaches is no business of ours
    # 127.0.0.1 in the order of bytes of the machine, alone or mapped into IPv6; ::1.
    loopback = {
        "0100007F",
        "0000000000000000FFFF00000100007F",
        "00000000000000000000000001000000",
    }
    assert len(told["listening"]) > 4
    assert set(told["listening"]) <= loopback
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    (owner, said), (stranger, refused) = told["asked"]
    assert owner == 0, said
    assert stranger != 0
    assert "uthenticat" in refused

"""A cluster that grows: a job waits for the nodes it needs, and says when they don't come."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT, job_environment

# A cluster of its own, in a process of its own: a head without CPUs, as cluster.yaml has it.
SCRIPT = """
import json, threading, time
import ray
from ray.cluster_utils import Cluster
from pipeline.config import RayConfig
from pipeline.errors import InputError
from pipeline.stages.cluster import connected

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
ray.init(address=cluster.address, log_to_driver=False)
told = {}
try:
    with connected(RayConfig(min_cpus=3, startup_wait_s=1)):
        told["early"] = "let in"
except InputError as error:
    told["early"] = str(error)

def job():
    with connected(RayConfig(min_cpus=3, min_gpus=1, startup_wait_s=100)):
        there = ray.cluster_resources()
        told["later"] = [there.get("CPU"), there.get("GPU")]

waiting = threading.Thread(target=job)
waiting.start()
cluster.add_node(num_cpus=2, num_gpus=1)
time.sleep(2)
told["half"] = told.get("later")
cluster.add_node(num_cpus=2)
waiting.join()
ray.shutdown()
cluster.shutdown()
print(json.dumps(told))
"""


@pytest.mark.timeout(200)
def test_a_job_waits_for_the_nodes_it_asks_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=job_environment(None) | {"CUDA_VISIBLE_DEVICES": "0"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["early"] == (
        "ray.min_cpus, ray.min_gpus: after 1 s the cluster has 0 of 3 CPUs; ask for less, or look "
        "why no node comes (`ray status`)"
    )
    assert told["half"] is None
    assert told["later"] == [4.0, 1.0]

"""A worker computes on the GPUs that Ray gave it, and on none where it gave none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.stages.cards import keep_to_own_cards
from tests.conftest import ROOT, TinyModels, TinyStore, job_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

# A Ray of its own that is told of two GPUs; where they aren't there, their numbers are given out
# all the same. What a worker may use is what CUDA would read.
PROGRAM = """
import os, sys
import ray
from pipeline.stages.cards import keep_to_own_cards
from pipeline.config import PoolConfig
from pipeline.models.specs import FeatureLayout
from pipeline.stages.fit import FitActor
from pipeline.stages.pools import ActorSettings
from pipeline.stages.train_detector import _start

ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
visible = lambda: os.environ.get("CUDA_VISIBLE_DEVICES")
bundle = sys.argv[1]

class Actor:
    def __init__(self, bundle):
        self.before = visible()
        ActorSettings(bundle, 1, ()).open()
    def seen(self):
        return self.before, visible()

def task():
    before = visible()
    keep_to_own_cards()
    return before, visible()

class Fitting:
    def __init__(self, weights):
        layout = FeatureLayout(("layer2",), (2,), ("layer2",))
        FitActor((ray.put(open(weights, "rb").read()), layout, 2, 1, "float32"))
    def seen(self):
        return visible()

def on(share):
    actor = ray.remote(num_cpus=0, num_gpus=share)(Actor).remote(bundle)
    return ray.get(actor.seen.remote())

print(on(0), on(0.5)[1], on(1)[1])
print(ray.get(ray.remote(num_cpus=0, max_calls=1)(task).remote()))
fitting = ray.remote(num_cpus=0)(Fitting).remote(sys.argv[2])
training = [_start(visible, (), PoolConfig(size=1, num_cpus=1, num_gpus=n)) for n in (0, 1)]
print(repr(ray.get(fitting.seen.remote())), *map(repr, ray.get(training)))
"""


def test_an_actor_without_a_gpu_sees_none_of_its_nodes(
    tiny_store: TinyStore, tiny_models: TinyModels
) -> None:
    environment = job_environment(None) | {"PYTHONPATH": str(ROOT)}
    environment["CUDA_VISIBLE_DEVICES"] = "0,1"
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, tiny_store.bundle, str(tiny_models.backbone)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    actors, task, others = found.stdout.splitlines()[-3:]
    # The first of each pair is what Ray leaves by itself: without it this module isn't needed.
    assert actors == "('0,1', '') 0 1"
    assert task == "('0,1', '')"
    assert others == "'' '' '0'"


def test_outside_of_a_worker_nothing_is_hidden(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    keep_to_own_cards()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"

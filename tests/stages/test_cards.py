"""A worker computes on the GPUs that Ray gave it, and on none where it gave none."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from pipeline.stages.cards import keep_to_own_cards
from tests.conftest import TinyModels, TinyStore, printed_by

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

# A Ray of its own that is told of two GPUs; where they aren't there, their numbers are given out
# all the same. What a worker may use is what CUDA would read.
PROGRAM = """
import os, sys, time
import ray
from pipeline.stages.cards import keep_to_own_cards
from pipeline.config import PoolConfig
from pipeline.models.specs import FeatureLayout
from pipeline.stages.fit_worker import FitActor
from pipeline.stages.pools import ActorSettings
from pipeline.stages.train_detector import _start

ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
visible = lambda: os.environ.get("CUDA_VISIBLE_DEVICES")
bundle = sys.argv[1]

class Actor:
    def __init__(self, bundle):
        self.before = visible()
        if self.before == "0,1":
            ActorSettings(bundle, 1, ()).open()
        else:
            keep_to_own_cards()
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

class Card:
    def seen(self):
        return visible()

# As pools with a third of a GPU each: two actors of one model, then two of another.
packed, third = [], []
for _ in range(4):
    third.append(ray.remote(num_cpus=0, num_gpus=0.333)(Card).remote())
    packed.append(ray.get(third[-1].seen.remote()))
for actor in third:
    ray.kill(actor)
while ray.available_resources().get("GPU", 0) < 2:
    time.sleep(0.1)

def on(share):
    actor = ray.remote(num_cpus=0, num_gpus=share)(Actor).remote(bundle)
    return ray.get(actor.seen.remote())

print(on(0), on(0.5)[1], on(1)[1])
print(ray.get(ray.remote(num_cpus=0, max_calls=1)(task).remote()))
fitting = ray.remote(num_cpus=0)(Fitting).remote(sys.argv[2])
training = _start(visible, (), PoolConfig(size=1, num_cpus=1, num_gpus=0))
print(repr(ray.get(fitting.seen.remote())), repr(ray.get(training)))
print(*packed)
"""

# Numbers of GPUs that no machine has: Ray gives them out, and there is nothing behind them.
NOWHERE = "98,99"

# Every kind of worker that computes on GPUs, given one that isn't there.
WITHOUT_A_CARD = """
import json, sys
import ray
from pipeline.config import PoolConfig, ScoreConfig
from pipeline.models.specs import FeatureLayout
from pipeline.stages.fit_worker import FitActor
from pipeline.stages.pools import ActorSettings
from pipeline.stages.score import run_score
from pipeline.stages.train_detector import _start

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)

class Fitting:
    def __init__(self, weights):
        layout = FeatureLayout(("layer2",), (2,), ("layer2",))
        FitActor((ray.put(open(weights, "rb").read()), layout, 2, 1, "float32"))
    def done(self):
        return "computed"

def opened(bundle):
    ActorSettings(bundle, 1, ()).open()
    return "computed"

def told(work):
    try:
        return repr(work())
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

fitting = ray.remote(num_cpus=0, num_gpus=1)(Fitting).remote(sys.argv[2])
training = _start(lambda: "computed", (), PoolConfig(size=1, num_cpus=1, num_gpus=1))
config = ScoreConfig.model_validate_json(sys.argv[1])
scoring = ray.remote(num_cpus=0, num_gpus=0.5)(opened).remote(config.bundle)
for given in (scoring, fitting.done.remote(), training):
    print("told", json.dumps(told(lambda: ray.get(given))))
if sys.argv[3] == "whole":
    print("told", json.dumps(told(lambda: run_score(config))))
"""


def test_an_actor_without_a_gpu_sees_none_of_its_nodes(
    tiny_store: TinyStore, tiny_models: TinyModels
) -> None:
    given = tiny_store.bundle, str(tiny_models.backbone)
    found = printed_by(PROGRAM, *given, timeout=120, CUDA_VISIBLE_DEVICES="0,1")
    actors, task, others, packed = found.splitlines()[-4:]
    # The first of each pair is what Ray leaves by itself: without it this module isn't needed.
    assert actors == "('0,1', '') 0 1"
    assert task == "('0,1', '')"
    assert others == "'' ''"
    # Why several GPUs have fused pools by themselves: both actors of the first lie on one card.
    assert packed == "0 0 0 1"


@pytest.mark.parametrize("jobs", ["parts", pytest.param("whole", marks=pytest.mark.slow)])
def test_a_gpu_that_pytorch_cannot_use_is_refused_instead_of_a_night_on_the_processor(
    tiny_store: TinyStore, tiny_models: TinyModels, tmp_path: Path, jobs: str
) -> None:
    config = tiny_store.score_config(tmp_path, run_id="r", fuse_models=True, pools={})
    given = config.model_dump_json(exclude_unset=True), str(tiny_models.backbone), jobs
    found = printed_by(WITHOUT_A_CARD, *given, timeout=160, CUDA_VISIBLE_DEVICES=NOWHERE)
    told = [json.loads(line[5:]) for line in found.splitlines() if line.startswith("told ")]
    assert len(told) == (3 if jobs == "parts" else 4)
    for one in told:
        assert re.search(r"ray: GPU 9[89] of .* PyTorch can't use it", one)
        assert "give the pool num_gpus=0" in one
    if jobs == "whole":
        assert told[-1].startswith("InputError: ray: GPU")
    assert not (tmp_path / "published").exists()


def test_outside_of_a_worker_nothing_is_hidden(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    keep_to_own_cards()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"

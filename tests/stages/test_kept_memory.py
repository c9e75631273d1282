"""The processes that hold networks keep the memory they free."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import ray

from pipeline.models.specs import FeatureLayout
from pipeline.stages.fit import FitActor
from pipeline.stages.pools import ActorSettings, ClassifierActor, DetectorActor, FeatureActor
from tests.conftest import TinyModels, TinyStore
from tests.faults import PAGES, faults_of_a_batch

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def faults_after(settle: Callable[[], object]) -> int:
    """The same in a worker that ends thereafter, as others measure what they were not told."""
    task = ray.remote(num_cpus=0, max_calls=1)(lambda: (settle(), faults_of_a_batch())[1])
    return int(ray.get(task.remote()))


def test_a_worker_that_was_told_nothing_takes_memory_anew(cluster: str) -> None:
    assert faults_after(lambda: None) > PAGES // 2


@pytest.mark.parametrize("actor", [DetectorActor, FeatureActor, ClassifierActor])
def test_an_actor_with_a_model_keeps_its_memory(actor: type, tiny_store: TinyStore) -> None:
    settings = ActorSettings(tiny_store.bundle, 1, ())
    assert faults_after(lambda: actor(settings)) < PAGES // 10


def test_an_actor_of_a_fit_keeps_its_memory(cluster: str, tiny_models: TinyModels) -> None:
    weights = tiny_models.backbone.read_bytes()
    layout = FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",))
    settle = lambda: FitActor((ray.put(weights), layout, 2, 1, "float32"))  # noqa: E731
    assert faults_after(settle) < PAGES // 10

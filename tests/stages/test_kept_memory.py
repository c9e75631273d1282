"""The processes that hold networks keep the memory they free, where the networks run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from pipeline.images.decode import DecodeLimits
from pipeline.models.memory import keep_freed_memory
from pipeline.models.specs import FeatureLayout
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.chain import ChainPlan, PoolStage, build_chain
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.fit_worker import FitActor
from pipeline.stages.pools import ActorSettings, ClassifierActor, DetectorActor, FeatureActor
from tests.benchmarks.synthetic import write_rows
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


class Taking:
    """An actor that notes what a batch takes anew from the system."""

    def __init__(self, kept: bool) -> None:
        if kept:
            keep_freed_memory()

    def __call__(self, rows: pa.Table) -> pa.Table:
        faults = pa.array([faults_of_a_batch()] * len(rows), pa.int64())
        return rows.append_column("faults", faults)


def only_faults(rows: pa.Table) -> pa.Table:
    return rows.select(["faults"])


@pytest.mark.parametrize("kept", [True, False])
def test_a_pools_calls_find_the_memory_that_its_start_kept(
    cluster: str, tmp_path: Path, kept: bool
) -> None:
    """In a thread of its own a call would have an arena of its own, which holds 64 MiB at most."""
    pool: Any = PoolStage(Taking, kept, PoolPlan(1, 1.0, 0.0, 1))
    options = PrepareOptions(DecodeLimits(), square=4)
    plan = ChainPlan(write_rows(tmp_path, 8), None, options, (pool,), 4, 4)
    found = [row["faults"] for row in build_chain(plan, only_faults, {}).iter_rows()]
    assert len(found) == 8
    assert (max(found) < PAGES // 10) is kept

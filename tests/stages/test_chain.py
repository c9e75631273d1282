"""The chain is built for whatever pools are planned, GPUs included, before anything runs."""

from __future__ import annotations

import pytest

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.chain import ChainPlan, PoolStage, build_chain
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.pools import ActorSettings, FeatureActor
from pipeline.stages.sink import commit_block
from tests.conftest import TinyStore

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("gpus", [0.0, 0.5, 1.0])
def test_pools_on_gpus_are_accepted(tiny_store: TinyStore, gpus: float) -> None:
    plan = PoolPlan(size=2, num_cpus=0.5, num_gpus=gpus, threads=1)
    stage = PoolStage(FeatureActor, ActorSettings(tiny_store.bundle, 1, ()), plan)
    chain = ChainPlan(
        tiny_store.manifest,
        None,
        PrepareOptions(DecodeLimits(), square=64),
        (stage,),
        block_rows=8,
        commit_rows=8,
    )
    settings = {"run_folder": "nowhere", "anomaly_score": "cells", "keep": "none"}
    assert build_chain(chain, commit_block, settings) is not None

"""The chain is built for whatever pools are planned, GPUs included, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.data._internal.logical.optimizers import get_execution_plan

from pipeline.errors import InputError
from pipeline.images.decode import DecodeLimits
from pipeline.models.specs import FeatureLayout
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.chain import ChainPlan, PoolStage, build_chain
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.fit_worker import FitActor
from pipeline.stages.pools import ActorSettings, FeatureActor
from pipeline.stages.sink import commit_block
from pipeline.stages.worker_errors import plain_errors
from pipeline.tables.manifest import write_manifest
from tests.benchmarks.synthetic import write_rows
from tests.conftest import TINY_SIDE, TinyModels, TinyStore

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


@pytest.mark.parametrize("images", ["local", "remote"])
@pytest.mark.parametrize("store", ["local", "remote"])
def test_decoding_waits_or_computes_by_where_the_images_lie(
    cluster: str, tiny_store: TinyStore, tmp_path: Path, images: str, store: str
) -> None:
    """Archive, manifest and store may lie apart; commits wait where the store is remote."""
    rows = pq.read_table(tiny_store.manifest)
    if images == "remote":
        uris = pa.array([f"s3://archive/{n}.png" for n in range(len(rows))])
        rows = rows.set_column(rows.schema.get_field_index("uri"), rows.schema.field("uri"), uris)
    place = str(tmp_path / "m.parquet")
    write_manifest(place, rows)
    options = PrepareOptions(DecodeLimits(), square=TINY_SIDE)
    settings = {"run_folder": "s3://store/runs/r" if store == "remote" else str(tmp_path)}
    chain = build_chain(ChainPlan(place, None, options, (), 8, 8), commit_block, settings)
    planned, *_ = get_execution_plan(chain._logical_plan)
    decode, commit = list(planned.dag.post_order_iter())[-2:]
    assert "prepare_block" in decode.name
    asked, most = decode._ray_remote_args["num_cpus"], decode.get_max_concurrency_limit()
    assert (asked < 0.1, most is not None) == ((images == "remote"),) * 2
    assert commit._ray_remote_args["num_cpus"] == 0
    cpus = int(ray.cluster_resources()["CPU"])
    at_once = {"remote": max(6, 2 * cpus), "local": 2 + cpus // 16}[store]
    assert commit.get_max_concurrency_limit() == at_once


class Telling:
    """An actor that says how many images it was given with each."""

    def __init__(self, settings: None) -> None:
        """Loads nothing."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows.append_column("given", pa.array([len(rows)] * len(rows)))


def given_rows(rows: pa.Table) -> pa.Table:
    """What a commit's images were given with."""
    return pa.table({"given": rows["given"], "image_id": rows["image_id"]})


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("images", "blocks"),
    [(100, {8: 2, 32: 2, 20: 1}), (24, {8: 3}), (7, {7: 1})],
)
def test_each_actor_begins_with_a_block_of_few_images(
    cluster: str, tmp_path: Path, images: int, blocks: dict[int, int]
) -> None:
    """Its whole block, of as many as are asked for, comes behind that."""
    manifest = write_rows(tmp_path, images)
    pool = PoolStage(Telling, None, PoolPlan(2, 0.1, 0.0, 1))
    options = PrepareOptions(DecodeLimits(), square=4)
    chain = build_chain(ChainPlan(manifest, None, options, (pool,), 32, 8), given_rows, {})
    rows = chain.to_pandas()
    given = rows["given"].value_counts()
    assert {size: count // size for size, count in given.items()} == blocks
    assert rows["image_id"].nunique() == len(rows) == images


@pytest.mark.timeout(120)
def test_what_a_worker_lacks_is_said_by_the_worker(
    tiny_store: TinyStore, tiny_models: TinyModels
) -> None:
    """A driver need not have the hardware of its workers; no machine has that of bfloat17."""
    layout = FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",))
    weights = ray.put(tiny_models.backbone.read_bytes())
    stage = PoolStage(FitActor, (weights, layout, 2, 1, "bfloat17"), PoolPlan(1, 0.5, 0.0, 1))
    options = PrepareOptions(DecodeLimits(), square=TINY_SIDE)
    chain = build_chain(
        ChainPlan(tiny_store.manifest, None, options, (stage,), 8, 8), commit_block, {}
    )
    says = (
        "^precision: bfloat17: a worker's machine has no hardware for it; give the pool machines "
        "that have, or fit with precision=float32$"
    )
    with pytest.raises(InputError, match=says), plain_errors():
        list(chain.iter_batches(batch_size=None))

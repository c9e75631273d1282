"""Pools sized by what their stages take: as well as whole CPUs allow; what fails is no harm."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PoolConfig
from pipeline.scoring.bundle import open_bundle
from pipeline.stages import scoring_run, sizing
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.model_pools import ACTORS, pool_stages
from pipeline.stages.score import run_score
from pipeline.stages.scoring_run import open_work, prepare_options
from pipeline.stages.sizing import DECODE, Took, measured, sized, sizes_for
from pipeline.tables.manifest import write_manifest
from pipeline.tables.runs import load_table
from tests.conftest import TinyStore

NAMES = tuple(ACTORS)


@given(
    st.lists(st.integers(1, 200), min_size=4, max_size=4),
    st.integers(4, 11),
)
def test_the_slowest_stage_is_as_fast_as_whole_cpus_allow(costs: list[int], cpus: int) -> None:
    seconds = dict(zip((*NAMES, DECODE), map(float, costs), strict=True))
    found = sizes_for(seconds, cpus, {}, dict.fromkeys(NAMES, 1))
    tasks = cpus - sum(found.values())
    assert tasks >= 1
    slowest = max(seconds[DECODE] / tasks, *(seconds[n] / found[n] for n in NAMES))
    best = min(
        max(seconds[DECODE] / (cpus - sum(sizes)), *map(np.divide, costs, sizes))
        for sizes in product(range(1, cpus), repeat=3)
        if sum(sizes) < cpus
    )
    assert slowest == pytest.approx(best)


def test_given_sizes_and_threads_are_kept() -> None:
    seconds = {"detector": 8.0, "features": 2.0, "classifier": 2.0, DECODE: 1.0}
    took = {name: Took(value) for name, value in seconds.items()}
    pools = {name: PoolConfig() for name in NAMES}
    assert sizes_of(sized(pools, took, 13, 0)) == [8, 2, 2]
    pools["detector"] = PoolConfig(size=2)
    assert sizes_of(sized(pools, took, 13, 0)) == [2, 1, 1]  # more of the others would wait
    pools["detector"] = PoolConfig(threads=4)
    assert sizes_of(sized(pools, took, 13, 0)) == [2, 1, 1]


def sizes_of(pools: dict[str, PoolConfig]) -> list[int | None]:
    return [pool.size for pool in pools.values()]


def test_nothing_is_measured_where_there_is_nothing_to_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizing, "free_cpus", lambda: 16.0)
    pools, plan = {"features": PoolConfig()}, PoolPlan(1, 1.0, 0.0, 1)
    worth = sizing.worth_measuring
    assert worth(pools, {"features": plan}, 5000)
    assert not worth(pools, {"features": plan}, 4999)
    assert not worth({"features": PoolConfig(size=2)}, {"features": plan}, 5000)
    on_card = PoolPlan(1, 1.0, 0.5, 1)
    two, two_plans = pools | {"detector": PoolConfig()}, {"features": on_card, "detector": on_card}
    for gpus in (1, 2):
        monkeypatch.setattr(sizing, "total_gpus", lambda gpus=gpus: gpus)
        assert not worth(pools, {"features": on_card}, 99_999)
        assert worth(pools, {"features": on_card}, 100_000)
        assert not worth({"features": PoolConfig(num_gpus=0.5)}, {"features": on_card}, 100_000)
        # On two cards nobody knows which actors share one.
        assert worth(two, two_plans, 100_000) == (gpus == 1)
    monkeypatch.setattr(sizing, "total_gpus", lambda: 1)
    some = pools | {"detector": PoolConfig(num_gpus=0)}
    assert not worth(some, {"features": on_card, "detector": plan}, 100_000)
    monkeypatch.setattr(sizing, "free_cpus", lambda: 4.0)
    assert not worth(pools, {"features": plan}, 5000)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_long_run_measures_and_says_what_it_chose(
    tiny_store: TinyStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sizing, "LEAST_IMAGES", 1)
    # All of the cluster's: actors of the test before may hold some for another moment.
    for module in (sizing, scoring_run):
        monkeypatch.setattr(module, "free_cpus", lambda: 5.0)
    monkeypatch.setattr(sizing.log, "propagate", True)
    with caplog.at_level("INFO", logger="linescore"):
        report = run_score(
            tiny_store.score_config(
                tmp_path,
                run_id="r",
                fuse_models=False,
                pools={"classifier": {"size": 1}},
            )
        )
    (said,) = {r.getMessage() for r in caplog.records if "an image takes" in r.getMessage()}
    sizes = {name: report["pools"][name]["size"] for name in NAMES}
    for name, size in sizes.items():
        assert f"{name} {size}" in said
    assert sizes["classifier"] == 1
    assert sum(sizes.values()) <= 4
    assert load_table(str(tmp_path), "r", "scores").num_rows == report["images"]["scored"] == 40


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_images_that_can_not_be_had_leave_the_pools_as_they_are(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    rows = pq.read_table(tiny_store.manifest)
    place = rows.schema.get_field_index("uri")
    gone = pa.array([f"/nowhere/{row}.png" for row in range(len(rows))])
    manifest = str(tmp_path / "m.parquet")
    write_manifest(manifest, rows.set_column(place, rows.schema.field("uri"), gone))
    work = open_work(tiny_store.score_config(tmp_path, manifest=manifest))
    plans = dict.fromkeys(NAMES, PoolPlan(1, 1.0, 0.0, 1))
    stages = pool_stages(open_bundle(tiny_store.bundle, ""), NAMES, plans, "none")
    options = prepare_options(work, NAMES)
    assert measured(manifest, len(rows), options, stages) is None
    there = measured(tiny_store.manifest, len(rows), options, stages)
    assert there is not None
    assert set(there) == {*NAMES, DECODE}
    assert min(took.seconds for took in there.values()) > 0
    assert {(took.on_card, took.memory) for took in there.values()} == {(0, 0)}

"""Sharing CPUs and GPUs out: what is left open fits, what is fixed is kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PoolConfig
from pipeline.stages.cluster import TASK_CPUS, needs, share_out

NAMES = ("detector", "features", "classifier")


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    cpus=st.integers(2, 256),
    gpus=st.integers(0, 16),
)
def test_open_shares_always_leave_room_for_reading(sizes: list[int], cpus: int, gpus: int) -> None:
    pools = {name: PoolConfig(size=size) for name, size in zip(NAMES, sizes, strict=False)}
    plans = share_out(pools, cpus, gpus)
    assert needs(plans)["CPU"] <= cpus + 1e-9
    assert needs(plans)["GPU"] <= gpus + 1e-9
    assert {name: plan.size for name, plan in plans.items()} == dict(
        zip(NAMES, sizes, strict=False)
    )
    for plan in plans.values():
        assert plan.num_cpus > 0
        assert (plan.num_gpus > 0) == (gpus > 0)


@given(actors=st.integers(1, 40), gpus=st.integers(1, 8))
def test_every_actor_finds_a_gpu_that_holds_its_whole_share(actors: int, gpus: int) -> None:
    plan = share_out({"features": PoolConfig(size=actors)}, 64, gpus)["features"]
    assert gpus * math.floor(1 / plan.num_gpus + 1e-9) >= actors


def test_what_is_fixed_is_kept_and_the_others_share_the_rest() -> None:
    pools = {"detector": PoolConfig(size=1, num_cpus=4), "features": PoolConfig(size=6)}
    plans = share_out(pools, 8, 0)
    assert plans["detector"].num_cpus == 4
    assert plans["features"].num_cpus == pytest.approx((8 - TASK_CPUS - 4) / 6, abs=0.01)


@pytest.mark.parametrize(("cpus", "gpus", "size"), [(2, 0, 1), (4, 0, 1), (16, 0, 3), (16, 2, 2)])
def test_sizes_left_open_follow_the_machine(cpus: int, gpus: int, size: int) -> None:
    plans = share_out({name: PoolConfig() for name in NAMES}, cpus, gpus)
    assert {plan.size for plan in plans.values()} == {size}

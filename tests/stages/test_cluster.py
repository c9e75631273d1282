"""Sharing CPUs and GPUs out: what is left open fits, what is fixed is kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PoolConfig
from pipeline.errors import InputError
from pipeline.stages.cluster import FUSED, TASK_CPUS, PoolPlan, needs, share_out, unplaced

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


def test_no_pool_is_left_to_cpus_by_the_shares_of_others() -> None:
    given_shares = {"detector": PoolConfig(size=2, num_gpus=0.5), "features": PoolConfig()}
    with pytest.raises(InputError, match=r"pools\.features: .* leave nothing of 1 GPUs"):
        share_out(given_shares, 8, 1)
    asked = given_shares | {"features": PoolConfig(num_gpus=0)}
    assert share_out(asked, 8, 1)["features"].num_gpus == 0
    # A size alone: all four actors find their part of the card.
    shared = {name: PoolConfig(size=2 if name == "detector" else None) for name in NAMES}
    assert {plan.num_gpus for plan in share_out(shared, 8, 1).values()} == {0.25}


@given(actors=st.integers(1, 40), gpus=st.integers(1, 8))
def test_every_actor_finds_a_gpu_that_holds_its_whole_share(actors: int, gpus: int) -> None:
    plan = share_out({"features": PoolConfig(size=actors)}, 64, gpus)["features"]
    assert gpus * math.floor(1 / plan.num_gpus + 1e-9) >= actors


@given(
    actors=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=3),
    nodes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
)
def test_what_is_said_to_fit_the_nodes_fits_in_some_way(
    actors: list[tuple[int, int]], nodes: list[int]
) -> None:
    """Against every way of placing the actors; the greedy one may only refuse too much."""
    plans = {
        name: PoolPlan(size, cpus, 0.0, 1)
        for name, (size, cpus) in zip(NAMES, actors, strict=False)
    }
    sizes = [plan.num_cpus for plan in plans.values() for _ in range(plan.size)]

    def placeable(rest: list[float], free: tuple[float, ...]) -> bool:
        if not rest:
            return max(free) >= 0.85
        return any(
            placeable(rest[1:], (*free[:i], room - rest[0], *free[i + 1 :]))
            for i, room in enumerate(free)
            if room >= rest[0] and room not in free[:i]
        )

    stranded = unplaced(plans, [(float(cpus), 0.0) for cpus in nodes])
    possible = placeable(sorted(sizes, reverse=True), tuple(map(float, nodes)))
    if stranded is None:
        assert possible
    if max(sizes) > max(nodes):
        assert stranded is not None
    if len(nodes) == 1:
        assert (stranded is None) == possible


def test_an_actor_larger_than_every_node_is_told_from_a_cluster_that_is_too_small() -> None:
    plans = {"features": PoolPlan(1, 4, 0, 1), "classifier": PoolPlan(2, 1, 0, 1)}
    assert unplaced(plans, [(2, 0), (2, 0), (2, 0), (2, 0)]) == "features"
    assert unplaced(plans, [(2, 0), (5, 0)]) is None
    gpus = {"features": PoolPlan(2, 0.5, 0.6, 1)}
    assert unplaced(gpus, [(8, 1)]) == "features"
    assert unplaced(gpus, [(8, 1), (8, 1)]) is None


def test_what_is_fixed_is_kept_and_the_others_share_the_rest() -> None:
    pools = {"detector": PoolConfig(size=1, num_cpus=4), "features": PoolConfig(size=6)}
    plans = share_out(pools, 8, 0)
    assert plans["detector"].num_cpus == 4
    assert plans["features"].num_cpus == pytest.approx((8 - TASK_CPUS - 4) / 6, abs=0.01)


@pytest.mark.parametrize(("cpus", "gpus", "size"), [(2, 0, 1), (4, 0, 1), (16, 0, 3), (16, 2, 2)])
def test_sizes_left_open_follow_the_machine(cpus: int, gpus: int, size: int) -> None:
    plans = share_out({name: PoolConfig() for name in NAMES}, cpus, gpus)
    assert {plan.size for plan in plans.values()} == {size}


def test_a_pool_kept_on_the_cpus_has_as_many_actors_as_without_any_gpu() -> None:
    pools = {name: PoolConfig() for name in NAMES} | {"classifier": PoolConfig(num_gpus=0)}
    plans = share_out(pools, 16, 1)
    assert {name: plan.size for name, plan in plans.items()} == {
        "detector": 1,
        "features": 1,
        "classifier": 3,
    }
    assert plans["detector"].num_gpus == plans["features"].num_gpus == 0.5
    assert share_out({FUSED: PoolConfig(num_gpus=0)}, 16, 2)[FUSED].size == 14


@pytest.mark.parametrize(("cpus", "size"), [(2, 2), (3, 3), (4, 4), (8, 7), (16, 14)])
def test_one_pool_of_all_models_leaves_what_decoding_needs(cpus: int, size: int) -> None:
    plans = share_out({FUSED: PoolConfig()}, cpus, 0)
    assert plans[FUSED].size == size
    assert needs(plans)["CPU"] <= cpus
    assert share_out({FUSED: PoolConfig()}, cpus, 1)[FUSED].size == 1

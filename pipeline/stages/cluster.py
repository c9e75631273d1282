"""The Ray cluster: connecting, and sharing its CPUs and GPUs out so that nothing hangs."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.config import PoolConfig, RayConfig
from pipeline.errors import InputError
from pipeline.stages.local_ray import local_ray
from pipeline.stages.nodes import grown
from pipeline.tables.access import for_workers

# What reading, decoding and writing need while the pools hold their share: without it, actors
# that hold every CPU leave none for the tasks that feed them, and the job hangs.
TASK_CPUS = 1.0
# Of it decoding asks for nearly all: shares are rounded, and what they leave may be a little less.
# Tasks that cut the manifest or commit ask for none, so that they never wait for decoding, and what
# is finished is safe soon. Nor does Ray Data keep any for them: of shares, however small, it would
# keep decoding from a quarter of 16 CPUs and from half of 8 (docs/speed.md).
DECODE_CPUS = 0.9 * TASK_CPUS
# The pool whose actors hold all models.
FUSED = "fused"
# With fewer CPUs there is nothing to share out: one actor of each kind, and decoding.
LEAST_CPUS = 5
# What of the CPUs decodes where one pool holds all models: these take seven times as long.
_DECODING = 1 / 8
# A local Ray has at least this many logical CPUs: one for tasks, one for the actors to share.
_LEAST_CPUS = 2
# Ray ends workers beyond one a CPU that had nothing to do for a second, and a commit comes once in
# many seconds: a run on two CPUs started a worker for every hundred images, each two seconds of a
# core. Kept ones keep their memory as well, no more than they had at work. For Ray's own processes,
# in milliseconds.
KEEP_WORKERS = ("RAY_idle_worker_killing_time_threshold_ms", "300000")
# Ray sends statistics of its use to its makers unless it is told not to: nobody was asked here.
TELL_NOBODY = ("RAY_USAGE_STATS_ENABLED", "0")
# Sums of shares are compared with this tolerance: what floating point leaves.
_TOLERANCE = 1e-6
# Shares are rounded down to this, the resolution in which they are shown.
_SHARE_STEP = 0.01


@dataclass(frozen=True)
class PoolPlan:
    """What one actor pool gets.

    Attributes:
        size: actors.
        num_cpus: logical CPUs an actor reserves.
        num_gpus: fraction of a GPU an actor reserves.
        threads: threads of its arithmetic.
    """

    size: int
    num_cpus: float
    num_gpus: float
    threads: int


@contextmanager
def connected(config: RayConfig) -> Iterator[None]:
    """A connection to a cluster for the time of a job; a local one is started if there is none.

    A process that is connected already, as a test's is, keeps its connection.

    Raises:
        InputError: the address doesn't answer, or the nodes that the config asks for don't come.
    """
    if ray.is_initialized():
        with grown(config):
            yield
        return
    # Ray's own chatter: the job says what matters.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = config.address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address:
        ours = _joined(address, options)
    else:
        cpus = config.num_cpus or max(_LEAST_CPUS, os.cpu_count() or 1)
        os.environ.setdefault(*KEEP_WORKERS)
        os.environ.setdefault(*TELL_NOBODY)
        ours = local_ray(cpus, **options)
    with ours, grown(config):
        yield


@contextmanager
def _joined(address: str, options: Mapping[str, Any]) -> Iterator[None]:
    try:
        ray.init(address=address, runtime_env=_access(), **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"ray.address: {address}: no cluster answers: {first}") from None
    try:
        yield
    finally:
        ray.shutdown()


def elsewhere(config: RayConfig) -> bool:
    """Whether a job's work may be done on other machines than its own."""
    if ray.is_initialized():
        here = ray.get_runtime_context().get_node_id()
        return any(node["Alive"] and node["NodeID"] != here for node in ray.nodes())
    return (config.address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def _access() -> dict[str, Any] | None:
    """How workers on other nodes reach the store; those of a local Ray inherit it."""
    variables = for_workers()
    return {"env_vars": variables} if variables else None


def plan_pools(pools: Mapping[str, PoolConfig], wait_s: float) -> dict[str, PoolPlan]:
    """Sizes and shares of the pools on the connected cluster.

    Sizes and shares that a config names are kept; the others are shared out so that all actors
    and one reading task fit.

    Raises:
        InputError: it doesn't fit, with what is missing.
    """
    total = ray.cluster_resources()
    cpus, gpus = float(total.get("CPU", 0)), float(total.get("GPU", 0))
    plans = share_out(pools, free_cpus(), gpus)
    needed = needs(plans)
    _require(needed, {"CPU": cpus, "GPU": gpus}, plans, "the cluster has")
    _require_room(plans, _node_resources())
    _wait_for_free(needed, plans, wait_s)
    return plans


def free_cpus() -> float:
    """CPUs of the cluster to be shared out, less what the job's own entrypoint and others hold."""
    cpus = float(ray.cluster_resources().get("CPU", 0))
    free = float(ray.available_resources().get("CPU", 0))
    return min(cpus, free) if free > TASK_CPUS else cpus


def is_small() -> bool:
    """Whether the connected cluster has no GPU, and too few CPUs to share them out among pools."""
    total = ray.cluster_resources()
    return float(total.get("CPU", 0)) < LEAST_CPUS and not total.get("GPU")


def total_gpus() -> int:
    """The connected cluster's GPUs."""
    return int(ray.cluster_resources().get("GPU", 0))


def _node_resources() -> list[tuple[float, float]]:
    """(CPUs, GPUs) of each living node."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(float(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in alive]


def _require_room(plans: Mapping[str, PoolPlan], nodes: Sequence[tuple[float, float]]) -> None:
    """An actor lies on one node: the cluster's sum may suffice where no node does."""
    stranded = unplaced(plans, nodes)
    if stranded is None:
        return
    plan = plans[stranded]
    largest = ", ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in nodes)
    raise InputError(
        f"pools.{stranded}: {plan.size} actors of {plan.num_cpus:g} CPUs and {plan.num_gpus:g} "
        f"GPUs find no place beside the other pools' on the cluster's nodes ({largest}); ask for "
        "smaller or fewer actors, or for larger nodes"
    )


def unplaced(plans: Mapping[str, PoolPlan], nodes: Sequence[tuple[float, float]]) -> str | None:
    """The first pool an actor of which finds no node, the largest actors being placed first.

    Args:
        plans: the pools.
        nodes: (CPUs, GPUs) of each node.

    Returns:
        The pool's name; None when all fit, and a task beside them.
    """
    free = sorted(nodes, reverse=True)
    order = sorted(plans, key=lambda n: (plans[n].num_gpus, plans[n].num_cpus), reverse=True)
    for name in order:
        plan = plans[name]
        for _ in range(plan.size):
            for place, (cpus, gpus) in enumerate(free):
                left = (cpus - plan.num_cpus, gpus - plan.num_gpus)
                if min(left) >= -_TOLERANCE:
                    free[place] = left
                    break
            else:
                return name
    if max((cpus for cpus, _ in free), default=0.0) < DECODE_CPUS - _TOLERANCE:
        return order[0]
    return None


def share_out(pools: Mapping[str, PoolConfig], cpus: float, gpus: float) -> dict[str, PoolPlan]:
    """Fills in what the config leaves open, from what the cluster has.

    Raises:
        InputError: given shares leave no GPU to a pool whose own is open, which would compute on
            CPUs without a word.
    """
    sizes = {name: pool.size or _size(name, pools, cpus, gpus) for name, pool in pools.items()}
    cpu_share = _share(
        [(sizes[name], pool.num_cpus) for name, pool in pools.items()], cpus - TASK_CPUS
    )
    gpu_share = _gpu_share([(sizes[name], pool.num_gpus) for name, pool in pools.items()], gpus)
    open_share = [name for name, pool in pools.items() if pool.num_gpus is None]
    if gpus and open_share and not gpu_share:
        raise InputError(
            f"pools.{open_share[0]}: the other pools' num_gpus leave nothing of {gpus:g} GPUs: "
            "give smaller shares, or num_gpus=0 where it is to compute on CPUs"
        )
    return {
        name: PoolPlan(
            sizes[name],
            pool.num_cpus if pool.num_cpus is not None else cpu_share,
            pool.num_gpus if pool.num_gpus is not None else gpu_share,
            pool.threads,
        )
        for name, pool in pools.items()
    }


def _size(name: str, pools: Mapping[str, PoolConfig], cpus: float, gpus: float) -> int:
    pool = pools[name]
    if gpus and pool.num_gpus != 0:
        return int(gpus)
    if name == FUSED:
        size = round(cpus * (1 - _DECODING))
    else:
        size = int((cpus - TASK_CPUS) // (len(pools) + 1))  # decoding gets as much as a pool
    if gpus and pool.num_cpus is not None:
        # Beside the pools on GPUs, whose actors hold CPUs as well, so many as surely find room.
        size = min(size, int((cpus - TASK_CPUS) // (len(pools) * pool.num_cpus)))
    return max(1, size)


def _share(pools: list[tuple[int, float | None]], available: float) -> float:
    """An equal part, at most 1, of what the pools with a fixed share leave."""
    left = available - sum(size * share for size, share in pools if share is not None)
    actors = sum(size for size, share in pools if share is None)
    if not actors or left <= 0:
        return 0.0 if available <= 0 or not actors else _SHARE_STEP
    steps = math.floor(left / actors / _SHARE_STEP + _TOLERANCE)
    return min(1.0, max(_SHARE_STEP, steps * _SHARE_STEP))


def _gpu_share(pools: list[tuple[int, float | None]], gpus: float) -> float:
    """One of 1, 1/2, 1/3 …: an actor lies on one GPU, so shares have to fill GPUs evenly."""
    actors = sum(size for size, share in pools if share is None)
    left = gpus - sum(size * share for size, share in pools if share is not None)
    if not gpus or not actors or left <= 0:
        return 0.0
    return math.floor(1 / math.ceil(actors / left) * 1000) / 1000


def needs(plans: Mapping[str, PoolPlan]) -> dict[str, float]:
    """CPUs and GPUs that must be free at once: all actors, and one task."""
    return {
        "CPU": TASK_CPUS + sum(plan.size * plan.num_cpus for plan in plans.values()),
        "GPU": sum(plan.size * plan.num_gpus for plan in plans.values()),
    }


def _require(
    needed: Mapping[str, float], there: Mapping[str, float], plans: Mapping[str, PoolPlan], who: str
) -> None:
    for kind, amount in needed.items():
        missing = amount - there[kind]
        if missing > _TOLERANCE:
            key = f"num_{kind.lower()}s"
            actors = ", ".join(
                f"{name} {plan.size} × {getattr(plan, key):g}" for name, plan in plans.items()
            )
            task = f" and {TASK_CPUS:g} for reading" if kind == "CPU" else ""
            raise InputError(
                f"pools: need {amount:g} {kind}s ({actors}{task}), {who} {there[kind]:g}: "
                f"{missing:g} {kind}s are missing; ask for smaller pools or a smaller {key}, "
                "or add nodes"
            )


def _wait_for_free(
    needed: Mapping[str, float], plans: Mapping[str, PoolPlan], wait_s: float
) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        free = ray.available_resources()
        there = {kind: float(free.get(kind, 0)) for kind in needed}
        if all(there[kind] >= amount - _TOLERANCE for kind, amount in needed.items()):
            return
        if time.monotonic() >= deadline:
            _require(needed, there, plans, f"after {wait_s:g} s other jobs have left")
        time.sleep(0.5)

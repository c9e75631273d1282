"""How many actors each pool gets: from what its stage takes, measured on the machine it runs on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.config import PoolConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.chain import PoolStage
from pipeline.stages.cluster import FUSED, LEAST_CPUS, PoolPlan, free_cpus, result_of
from pipeline.stages.decode import MANIFEST_COLUMNS, prepare_block
from pipeline.tables.manifest import rows_at

log = logging.getLogger("linescore")

DECODE = "decode"
# A run of fewer images is over before what a better split saves has paid for the measurement.
LEAST_IMAGES = 5000
# Images that are measured, and seconds after which the run starts without.
_IMAGES = 32
_PATIENCE_S = 180.0


def worth_measuring(
    pools: Mapping[str, PoolConfig], plans: Mapping[str, PoolPlan], images: int
) -> bool:
    """Whether there is something to choose, and a run long enough to gain by it.

    On GPUs there isn't: each holds one actor of each pool, and gives its time to whichever has
    work; decoding has what CPUs the actors leave.
    """
    free = any(pool.size is None for pool in pools.values())
    on_gpus = any(plan.num_gpus for plan in plans.values())
    return free and not on_gpus and images >= LEAST_IMAGES and free_cpus() >= LEAST_CPUS


def sized(
    pools: Mapping[str, PoolConfig], seconds: Mapping[str, float], cpus: float
) -> dict[str, PoolConfig]:
    """The pools with the sizes that the measured seconds ask for; given ones stay."""
    fixed = {name: pool.size for name, pool in pools.items() if pool.size is not None}
    taken = {name: max(pool.threads, pool.num_cpus or 0.0) for name, pool in pools.items()}
    sizes = sizes_for(seconds, cpus, fixed, taken)
    measured = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seconds.items())
    chosen = ", ".join(f"{name} {size}" for name, size in sizes.items())
    log.info("an image takes %s: actors for %g CPUs: %s", measured, cpus, chosen)
    return {name: pool.model_copy(update={"size": sizes[name]}) for name, pool in pools.items()}


def measured_seconds(
    manifest: str, rows: int, options: PrepareOptions, stages: Sequence[PoolStage]
) -> dict[str, float] | None:
    """Seconds that one actor of each pool, and decoding, take for an image.

    One task loads model after model and times its second block: the first one warms it up.

    Args:
        manifest: its place; images spread over it are measured.
        rows: how many it has.
        options: what is made of each image.
        stages: the pools.

    Returns:
        Seconds by pool, and for `decode`; None where they can't be had: no image can be read, or
        the task ends with its worker. The run then meets whatever it is in its own way.
    """
    places = np.unique(np.linspace(0, rows - 1, min(rows, _IMAGES)).astype(np.int64))
    given = [(stage.stage or FUSED, stage.actor, stage.settings) for stage in stages]
    # A worker of its own, which then ends: its threads are set for the models.
    task = ray.remote(num_cpus=1, max_retries=0, max_calls=1)(_measure)
    reference = task.remote(manifest, places, options, given)
    done: list[Any] = []
    try:
        done, _ = ray.wait([reference], timeout=_PATIENCE_S)
        found: dict[str, float] | None = result_of(done[0]) if done else None
        if not done:
            log.info("the stages were not measured within %g s", _PATIENCE_S)
    # A worker that died, or what the stages raise: the run itself says what is wrong, and where.
    except (ray.exceptions.RayError, InputError, RunError, OSError) as error:
        log.info("the stages could not be measured (%s)", type(error).__name__)
        return None
    finally:
        # One that is done mustn't be cancelled: where Ray hasn't noted its end yet, that ends the
        # driver ("Tried to complete task that was not pending").
        if not done:
            ray.cancel(reference, force=True)
    return found


def _measure(
    manifest: str, places: np.ndarray, options: PrepareOptions, stages: list[Any]
) -> dict[str, float] | None:
    rows = rows_at(manifest, places, MANIFEST_COLUMNS)
    # The processor's time: waiting for a remote archive takes none.
    block, seconds = _timed(lambda: prepare_block(rows, options), time.process_time)
    usable = block.column("error_type").null_count
    if not usable:
        return None
    found = {DECODE: seconds / block.num_rows}
    for name, actor, settings in stages:
        _, seconds = _timed(partial(actor(settings), block))
        found[name] = seconds / usable
    return found


def _timed(
    work: Callable[[], pa.Table], clock: Callable[[], float] = time.perf_counter
) -> tuple[pa.Table, float]:
    work()
    started = clock()
    done = work()
    return done, clock() - started


def sizes_for(
    seconds: Mapping[str, float], cpus: float, fixed: Mapping[str, int], taken: Mapping[str, float]
) -> dict[str, int]:
    """Actors of each pool, so that the slowest stage is as fast as the CPUs allow.

    CPU after CPU goes to the stage that is the bottleneck, decoding included: no other way to
    give out whole CPUs makes the slowest stage faster.

    Args:
        seconds: for an image, by pool and for `decode`.
        cpus: to be given out.
        fixed: sizes that are given.
        taken: CPUs that an actor takes, by pool.

    Returns:
        The size of each pool, at least 1; CPUs that are left are decoding's.
    """
    sizes = {name: fixed.get(name, 1) for name in seconds if name != DECODE}
    tasks = 1
    left = cpus - tasks - sum(size * taken[name] for name, size in sizes.items())
    while True:
        pace = {name: seconds[name] / size for name, size in sizes.items()}
        pace[DECODE] = seconds[DECODE] / tasks
        slowest = max(pace, key=lambda name: pace[name])
        needed = 1 if slowest == DECODE else taken[slowest]
        if slowest in fixed or left < needed:
            return sizes
        left -= needed
        if slowest == DECODE:
            tasks += 1
        else:
            sizes[slowest] += 1

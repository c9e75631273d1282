"""How many actors each pool gets: from what its stage takes, measured on the machine it runs on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.config import PoolConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.cards import keep_to_own_cards
from pipeline.stages.chain import PoolStage
from pipeline.stages.cluster import FUSED, LEAST_CPUS, PoolPlan, free_cpus, total_gpus
from pipeline.stages.decode import MANIFEST_COLUMNS, prepare_block
from pipeline.stages.worker_errors import result_of
from pipeline.tables.manifest import rows_at

log = logging.getLogger("linescore")

DECODE = "decode"
# A run of fewer images is over before what a better split saves has paid for the measurement: on a
# processor, and on GPUs, which take an image in a millisecond or two.
LEAST_IMAGES = 5000
LEAST_IMAGES_ON_CARDS = 100_000
# Images that are measured, and seconds after which the run starts without.
_IMAGES = 32
_PATIENCE_S = 180.0
# A block is a few milliseconds of a GPU: so often it is timed.
_TURNS_ON_CARD = 5
# What actors on a card may fill of its memory: other images have more boxes than those measured.
_MOST_MEMORY = 0.8


@dataclass(frozen=True)
class Took:
    """What a stage takes.

    Attributes:
        seconds: of an actor, or of decoding, for an image.
        on_card: of these, in which a GPU computes; 0 without one.
        memory: the part of a GPU's that an actor needs.
    """

    seconds: float
    on_card: float = 0.0
    memory: float = 0.0


def worth_measuring(
    pools: Mapping[str, PoolConfig], plans: Mapping[str, PoolPlan], images: int
) -> bool:
    """Whether there is something to choose, and a run long enough to gain by it.

    On GPUs sizes are left as they are where actors can't be spread evenly: where shares are given,
    where some pools are on the CPUs, and where several pools share several cards, on which Ray lays
    actors as it finds room.
    """
    free = any(pool.size is None for pool in pools.values())
    least = LEAST_IMAGES
    if any(plan.num_gpus for plan in plans.values()):
        least = LEAST_IMAGES_ON_CARDS
        given = any(pool.num_gpus is not None for pool in pools.values())
        if given or (len(pools) > 1 and total_gpus() > 1):
            return False
    return free and images >= least and free_cpus() >= LEAST_CPUS


def sized(
    pools: Mapping[str, PoolConfig], took: Mapping[str, Took], cpus: float, gpus: int
) -> dict[str, PoolConfig]:
    """The pools with the sizes that the measurement asks for; given ones stay.

    Args:
        pools: as the config has them.
        took: by pool and for `decode`.
        cpus: to be given out.
        gpus: that the actors are on; 0: they compute on the CPUs.
    """
    fixed = {name: pool.size for name, pool in pools.items() if pool.size is not None}
    taken = {name: max(pool.threads, pool.num_cpus or 0.0) for name, pool in pools.items()}
    if gpus:
        sizes = sizes_on_cards(took, gpus, cpus, fixed, taken)
    else:
        sizes = sizes_for({name: one.seconds for name, one in took.items()}, cpus, fixed, taken)
    return {name: pool.model_copy(update={"size": sizes[name]}) for name, pool in pools.items()}


def say_what_was_chosen(
    took: Mapping[str, Took], plans: Mapping[str, PoolPlan], cpus: float, gpus: int
) -> None:
    """A line of the log with what was measured, and the sizes that came of it."""
    each = ", ".join(f"{name} {_told(one)}" for name, one in took.items())
    chosen = ", ".join(f"{name} {plan.size}" for name, plan in plans.items())
    on = f"{cpus:g} CPUs" + (f" and {gpus} GPUs" if gpus else "")
    log.info("an image takes %s: actors for %s: %s", each, on, chosen)


def _told(took: Took) -> str:
    on_card = f" ({1000 * took.on_card:.1f} of them on the GPU)" if took.on_card else ""
    return f"{1000 * took.seconds:.1f} ms{on_card}"


def measured(
    manifest: str, rows: int, options: PrepareOptions, stages: Sequence[PoolStage]
) -> dict[str, Took] | None:
    """What one actor of each pool, and decoding, take for an image.

    One task loads model after model, with a GPU where the pools have some, and times its second
    block: the first one warms it up.

    Args:
        manifest: its place; images spread over it are measured.
        rows: how many it has.
        options: what is made of each image.
        stages: the pools.

    Returns:
        What was taken by pool, and for `decode`; None where that can't be had: no image can be
        read, nobody tells when a GPU is busy, or the task ends with its worker. The run then meets
        whatever it is in its own way.
    """
    places = np.unique(np.linspace(0, rows - 1, min(rows, _IMAGES)).astype(np.int64))
    given = [(stage.stage or FUSED, stage.actor, stage.settings) for stage in stages]
    # A worker of its own, which then ends: its threads are set for the models.
    gpus = min(1.0, sum(stage.plan.num_gpus for stage in stages))
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, max_calls=1)(_measure)
    reference = task.remote(manifest, places, options, given, gpus > 0)
    done: list[Any] = []
    try:
        done, _ = ray.wait([reference], timeout=_PATIENCE_S)
        found: dict[str, Took] | None = result_of(done[0]) if done else None
        if not done:
            log.info("the stages were not measured within %g s", _PATIENCE_S)
        elif found is None:
            log.info("the stages could not be measured")
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
    manifest: str, places: np.ndarray, options: PrepareOptions, stages: list[Any], on_card: bool
) -> dict[str, Took] | None:
    keep_to_own_cards()  # before anything asks whether there is one
    rows = rows_at(manifest, places, MANIFEST_COLUMNS)
    # The processor's time: waiting for a remote archive takes none.
    block, seconds = _timed(lambda: prepare_block(rows, options), clock=time.process_time)
    usable = block.column("error_type").null_count
    if not usable:
        return None
    found = {DECODE: Took(seconds / block.num_rows)}
    for name, actor, settings in stages:
        took = _taken(partial(actor, settings), block, usable, on_card)
        if took is None:
            return None
        found[name] = took
    return found


def _taken(
    load: Callable[[], Callable[[pa.Table], pa.Table]], block: pa.Table, usable: int, on_card: bool
) -> Took | None:
    """What an actor takes for each of the block's usable images; None: nobody knows of its GPU."""
    from pipeline.models import card  # PyTorch, which the driver has no use for

    if not on_card:
        _, seconds = _timed(partial(load(), block))
        return Took(seconds / usable)
    if not card.is_there():
        return None  # Ray was told of one
    card.forget_memory()
    work = partial(load(), block)
    _, seconds = _timed(work, _TURNS_ON_CARD)
    busy = card.busy_seconds(work)
    if busy is None:
        return None
    return Took(seconds / usable, min(busy, seconds) / usable, card.memory_share())


def _timed(
    work: Callable[[], pa.Table], turns: int = 1, clock: Callable[[], float] = time.perf_counter
) -> tuple[pa.Table, float]:
    """What the work gives, and the seconds that it takes once it is warm."""
    work()
    started = clock()
    for _ in range(turns):
        done = work()
    return done, (clock() - started) / turns


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


def sizes_on_cards(
    took: Mapping[str, Took],
    gpus: int,
    cpus: float,
    fixed: Mapping[str, int],
    taken: Mapping[str, float],
) -> dict[str, int]:
    """Actors of each pool on GPUs, so that the slowest stage is as fast as cards and CPUs allow.

    An actor leaves its card alone while its process does something else: packs arrays, suppresses
    boxes, solves distances. While the slowest stage is one that waits so, each card gets another
    actor of it, as long as the cards aren't full, in time or in memory, and decoding, which has
    the CPUs that actors leave, doesn't become slower than that stage is.

    Args:
        took: by pool, and for `decode`.
        gpus: among which the actors are spread evenly.
        cpus: to be given out.
        fixed: sizes that are given.
        taken: CPUs that an actor takes, by pool.

    Returns:
        The size of each pool, at least one actor a card where it isn't given.
    """
    sizes = {name: fixed.get(name, gpus) for name in took if name != DECODE}
    full = sum(one.on_card for one in took.values()) / gpus

    def left(sizes: Mapping[str, int]) -> float:
        return cpus - sum(size * taken[name] for name, size in sizes.items())

    while True:
        pace = {name: took[name].seconds / size for name, size in sizes.items()}
        slowest = max(pace, key=lambda name: pace[name])
        more = sizes | {slowest: sizes[slowest] + gpus}
        memory = sum(size / gpus * took[name].memory for name, size in more.items())
        if (
            slowest in fixed
            or pace[slowest] <= full
            or left(more) < 1
            or took[DECODE].seconds / left(more) >= pace[slowest]
            or memory > _MOST_MEMORY
        ):
            return sizes
        sizes = more

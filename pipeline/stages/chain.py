"""The chain of stages on Ray Data: manifest, decode, the pools, the ledger."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy

from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.ahead import BLOCKS_A_TASK, cut_few_blocks_ahead
from pipeline.stages.attempts import ACTOR_TASK_RETRIES, INIT_DEATHS, TASK_RETRIES
from pipeline.stages.block_stats import forget_blocks
from pipeline.stages.cluster import DECODE_CPUS, PoolPlan
from pipeline.stages.decode import MANIFEST_COLUMNS, prepare_block
from pipeline.stages.timing import timed, timed_actor
from pipeline.tables import storage
from pipeline.tables.access import s3_access
from pipeline.tables.manifest import pieces, read_piece

_PIECE = "piece"
Piece = tuple[int, int, int]
# Of a task that cuts the manifest, asks earlier runs or commits: the processor is busy elsewhere.
_NO_CPU = 0
# Tasks that cut end as soon as they have cut: few of them run, as `cut_few_blocks_ahead` says.
_CUTTING = {"num_cpus": _NO_CPU, "_generator_backpressure_num_objects": -1}
# Rows to which columns of earlier runs are added at once: many to a file that is opened for them.
_GIVEN_ROWS = 1024
# Tasks that mostly wait for a remote archive: where one in five reads is throttled, reset or
# stalls, nearly every block waits for a slow one, so many wait side by side. The share of a CPU is
# no more than a token, as Ray Data gives each stage a part of the CPUs only.
_WAITING_TASKS = 6
_WAITING_CPUS = 0.03
# After so long without anything that moves, beside waiting for a store, something hangs.
_STANDS_STILL_S = 1800.0
# Images of the first blocks: a batch of the detector's, which takes longest.
_FIRST_ROWS = 8
# Where the store is local, a task that commits is a few milliseconds of a CPU.
_CPUS_A_TASK = 16


@dataclass(frozen=True)
class PoolStage:
    """One actor pool in the chain.

    Attributes:
        actor: its class.
        settings: what its constructor is given.
        plan: its size and share of the cluster.
        stage: what its time is noted as; None: it notes its time itself.
    """

    actor: type
    settings: Any
    plan: PoolPlan
    stage: str | None = "features"


@dataclass(frozen=True)
class ChainPlan:
    """What flows through the stages.

    Attributes:
        manifest: the manifest's place.
        wanted: (K,) int64 ids, sorted, to which it is restricted; None: all.
        options: what is made of each image.
        pools: the pools, in order.
        block_rows: images that travel together.
        commit_rows: images per commit.
        given: adds columns that no pool computes; None: there are none.
    """

    manifest: str
    wanted: np.ndarray | None
    options: PrepareOptions
    pools: tuple[PoolStage, ...]
    block_rows: int
    commit_rows: int
    given: Callable[[pa.Table], pa.Table] | None = None


def build_chain(
    plan: ChainPlan, commit: Callable[..., pa.Table], commit_settings: dict[str, Any]
) -> Dataset:
    """The dataset whose rows are the commits' summaries; nothing runs yet.

    Each image column is dropped in the stage that last uses it: the detector's, the largest,
    first, so that little goes through the object store.
    """
    quiet()
    at_once = _at_once(remote=storage.is_remote(commit_settings.get("run_folder", "")))
    # Many small tasks: one for the whole file, as Ray Data's own reader is, would hold its CPU
    # until the last row is taken.
    places = _with_small_first(pieces(plan.manifest, BLOCKS_A_TASK * plan.block_rows), plan)
    rows = ray.data.from_arrow([pa.table({_PIECE: [list(place)]}) for place in places])
    rows = rows.map_batches(
        _Selection(plan.manifest, plan.wanted),
        batch_format="pyarrow",
        batch_size=None,
        **_CUTTING,
    )
    if plan.given is not None:
        rows = _cut(rows, _GIVEN_ROWS).map_batches(
            plan.given,
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=_NO_CPU,
            compute=TaskPoolStrategy(size=at_once),
        )
    rows = _cut(rows, plan.block_rows)
    far = _images_are_remote(plan.manifest, places)
    rows = rows.map_batches(
        timed(prepare_block, "decode"),
        fn_kwargs={"options": plan.options},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=_WAITING_CPUS if far else DECODE_CPUS,
        compute=TaskPoolStrategy(size=_waiting_tasks()) if far else None,
        max_retries=TASK_RETRIES,
    )
    for pool in plan.pools:
        rows = rows.map_batches(
            timed_actor(pool.actor, pool.stage) if pool.stage else pool.actor,
            fn_constructor_args=(pool.settings,),
            compute=_pool_of(pool.plan.size),
            batch_format="pyarrow",
            # One block; Ray Data insists on a number where a GPU is asked for.
            batch_size=plan.block_rows,
            max_restarts=TASK_RETRIES,
            max_task_retries=ACTOR_TASK_RETRIES,
            **_resources(pool.plan),
        )
        if plan.wanted is None:
            _take_blocks_of(rows, _first_rows(plan))
    commits = rows.map_batches(
        commit,
        fn_kwargs=commit_settings,
        batch_format="pyarrow",
        batch_size=plan.commit_rows,
        num_cpus=_NO_CPU,
        compute=TaskPoolStrategy(size=at_once),
        max_retries=TASK_RETRIES,
    )
    cut_few_blocks_ahead(commits.context)
    forget_blocks(commits.context)
    return commits


def _cut(rows: Dataset, size: int) -> Dataset:
    """Blocks of so many rows; the last of each task may have fewer."""
    cut = rows.repartition(target_num_rows_per_block=size)
    # Ray Data has no public way to say what its own tasks ask for, which is a CPU.
    cut._logical_plan.dag.ray_remote_args.update(_CUTTING)
    return cut


def _with_small_first(places: list[Piece], plan: ChainPlan) -> list[Piece]:
    """The pieces, the first of them cut so that each actor begins with a block of few images.

    Its whole block would take it several seconds. Where a manifest is restricted, pieces have few
    images anyway, of which Ray Data makes whole blocks.
    """
    if plan.wanted is not None:
        return places
    size, actors = _first_rows(plan), max((pool.plan.size for pool in plan.pools), default=1)
    (group, start, count), *others = places or [(0, 0, 0)]
    small = min(actors, count // size)
    first = [(group, start + size * number, size) for number in range(small)]
    if count > size * small:
        first.append((group, start + size * small, count - size * small))
    return first + others


def _first_rows(plan: ChainPlan) -> int:
    return min(plan.block_rows, _FIRST_ROWS)


def _take_blocks_of(rows: Dataset, least: int) -> None:
    """Lets a pool's actors take blocks of so many rows; smaller ones are joined.

    By itself Ray Data joins what is smaller than a batch, and the first blocks would wait for
    others. It has no public way to say it.
    """
    object.__setattr__(rows._logical_plan.dag, "min_rows_per_bundled_input", least)


def _pool_of(size: int) -> ActorPoolStrategy:
    """Actors that do one thing at a time, in their main thread.

    By itself Ray Data calls them in another one, where no memory can be kept from batch to batch
    (`keep_freed_memory`); more than one call at a time would need `max_concurrent_calls_per_actor`.
    """
    return ActorPoolStrategy(size=size, enable_true_multi_threading=True)


def _images_are_remote(manifest: str, places: Sequence[Piece]) -> bool:
    """Whether images of a manifest, by its pieces, lie elsewhere than on the machines' disks.

    The manifest's own place doesn't say it: a store and the archive may lie apart.
    """
    ends = [(group, start, 1) for group, start, _ in (*places[:1], *places[-1:])]
    uris = [read_piece(manifest, end, ["uri"])["uri"][0].as_py() for end in ends]
    return any(storage.is_remote(uri) for uri in uris)


def _waiting_tasks() -> int:
    """Tasks at once that mostly wait for something remote: more than CPUs, but no multitude."""
    return max(_WAITING_TASKS, 2 * _cpus())


def _at_once(remote: bool) -> int:
    """Tasks at once that ask for no CPU and read or write a little in the store."""
    return _waiting_tasks() if remote else 2 + _cpus() // _CPUS_A_TASK


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 1))


def _resources(plan: PoolPlan) -> dict[str, float]:
    resources = {"num_cpus": plan.num_cpus}
    return resources | ({"num_gpus": plan.num_gpus} if plan.num_gpus else {})


def quiet() -> None:
    """Ray Data without bars and chatter, and failing at once."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    # Bad input that a worker finds comes as itself, not as a failure of Ray Data's.
    context.raise_original_map_exception = True
    # All pools load their models at once, while the first images are read and decoded; waiting for
    # each pool before the next one starts costs a load for every pool.
    context.wait_for_min_actors_s = -1
    # A store that is away holds a block while it is read, taken, and once more while it is
    # committed, each for as long as it is waited for.
    context.execution_no_progress_timeout_s = _STANDS_STILL_S + 3 * s3_access().retry_s
    # Bounded retries have no other name in this version, which is pinned below the one without it.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    # What goes wrong is raised, and told by the job; here it would come with a traceback.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


class _Selection:
    """From pieces of a manifest to their rows that are still to be done."""

    def __init__(self, manifest: str, wanted: np.ndarray | None) -> None:
        self._manifest = manifest
        # In the object store once, instead of in every task's description.
        self._wanted = ray.put(wanted) if wanted is not None else None

    def __call__(self, places: pa.Table) -> pa.Table:
        return pa.concat_tables([self._chosen(place) for place in places[_PIECE].to_pylist()])

    def _chosen(self, place: list[int]) -> pa.Table:
        group, start, count = place
        rows = read_piece(self._manifest, (group, start, count), MANIFEST_COLUMNS)
        if self._wanted is None:
            return rows
        ids = rows.column("image_id").to_numpy()
        return rows.filter(pa.array(_member(ids, ray.get(self._wanted))))


def _member(ids: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(len(ids), bool)
    places = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
    found: np.ndarray = ordered[places] == ids
    return found

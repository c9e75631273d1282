"""The main job: a manifest and a bundle in, published tables out, nothing lost on the way."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.config import RayConfig, ScoreConfig
from pipeline.errors import RunError
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.reuse.plan import ReusePlan
from pipeline.scoring.reuse.settle import Leaning, left_to_do
from pipeline.stages.chain import ChainPlan, build_chain
from pipeline.stages.cluster import FUSED, PoolPlan, connected
from pipeline.stages.metrics import RunMetrics
from pipeline.stages.model_pools import ACTORS, pool_stages
from pipeline.stages.progress import Progress, watch
from pipeline.stages.provenance import environment, now
from pipeline.stages.publish import Publication, publish
from pipeline.stages.reuse import GivenColumns, Taking, chains, take_pieces
from pipeline.stages.scoring_run import (
    Work,
    begin,
    identity,
    lacks_pools,
    leaning_of,
    open_work,
    pools_of,
    prepare_options,
    sizes_of,
)
from pipeline.stages.sink import commit_block
from pipeline.stages.worker_errors import driver_errors
from pipeline.tables import storage
from pipeline.tables.ledger import DamagedPartError, drop_commit, read_commits, remove_work
from pipeline.tables.lock import RunLock, locked
from pipeline.tables.lookup import DamagedTableError, forget_listed_ids
from pipeline.tables.runs import note_attempt, start_or_continue
from pipeline.tables.tally import Tally

log = logging.getLogger("linescore")

# A long run has about this many commits, each of more images than were asked for: a kill then costs
# a two-thousandth of the run, seconds of a night. None is larger than this, by what is kept: 1024
# rows of pooled features are two megabytes.
_MOST_COMMITS = 2_000
_LARGEST_COMMIT = {"none": 4096, "pooled": 1024}
# Parts found damaged at publication are scored again; twice means that the disk is failing.
_PUBLISH_TRIES = 3


def run_score(config: ScoreConfig) -> dict[str, Any]:
    """Scores a manifest, or finishes the run that was begun under the same id.

    Returns:
        The run's report; `already_published` says that there was nothing to do.

    Raises:
        InputError: something given is wrong, or another driver is at it; nothing was written.
        RunError: an image was lost or counted twice, parts kept being damaged, workers kept
            dying, the store failed, or another driver took the run over.
    """
    with driver_errors(f"store {config.store}"):
        work = open_work(config)
    with driver_errors(f"run {work.places.run_id}"):
        return _finished(work)


def _finished(work: Work) -> dict[str, Any]:
    if storage.exists(work.places.published):
        return _published_before(work)
    with locked(work.places.folder, f"run_id {work.places.run_id}") as lock:
        if storage.exists(work.places.published):
            return _published_before(work)  # by the driver that held the lock
        leaning = leaning_of(work)
        rest = left_to_do(leaning, _tally(work, leaning).settled)
        if leaning.plan.skipped.all():
            return _start(work, leaning, rest, lock)
        with connected(_ray_for(work, rest)):
            return _start(work, leaning, rest, lock)


def _ray_for(work: Work, rest: np.ndarray) -> RayConfig:
    """The cluster to ask for: to write the tables alone no node has to come."""
    config = work.config.ray
    return config if rest.any() else config.model_copy(update={"min_cpus": None, "min_gpus": None})


def _published_before(work: Work) -> dict[str, Any]:
    start_or_continue(work.places, identity(work), {})
    remove_work(work.places.folder)  # a kill may have come between record and clean-up
    report: dict[str, Any] = storage.read_json(work.places.report)
    return report | {"already_published": True}


@dataclass(frozen=True)
class _Start:
    """How the command found its run.

    Attributes:
        rest: (N,) bool, in the order of the plan's images: those that are left.
        plans: pools for them; none where no image is left.
        resumed: the run had been begun before.
        before: images that were committed already.
    """

    rest: np.ndarray
    plans: dict[str, PoolPlan]
    resumed: bool
    before: int


def _start(work: Work, leaning: Leaning, rest: np.ndarray, lock: RunLock) -> dict[str, Any]:
    plans = pools_of(work, leaning, rest)
    resumed = begin(work, leaning, plans)
    own = len(leaning.plan.skipped) - int(leaning.plan.skipped.sum())
    left = int(rest.sum())
    _announce(work, leaning, plans)
    if resumed:
        log.info("continuing: %d of %d images are committed already", own - left, own)
    note_attempt(work.places, _attempt(plans, own - left))
    metrics = RunMetrics("score", work.manifest.categories)
    progress = Progress(left, work.config.progress_s, metrics=metrics, lock=lock)
    start = _Start(rest, plans, resumed, own - left)
    return _score_and_publish(work, leaning, start, progress, lock)


def _score_and_publish(
    work: Work, leaning: Leaning, start: _Start, progress: Progress, lock: RunLock
) -> dict[str, Any]:
    rest, plans = start.rest, start.plans
    for attempt in range(_PUBLISH_TRIES):
        if attempt > 0:
            # In place: whoever called holds the same array.
            rest[:] = left_to_do(leaning, _tally(work, leaning).committed)
            if lacks_pools(work, leaning, rest, plans):
                plans = pools_of(work, leaning, rest)
        if rest.any():
            leaning, plans = _score(work, leaning, plans, progress, rest)
        try:
            facts = {
                "resumed": start.resumed,
                "committed_before": start.before,
                "scoring": progress.report(),
                "pools": sizes_of(plans),
                "environment": environment(),
            }
            lock.require()
            file_rows = work.config.file_rows
            run = Publication(work.places, work.manifest, work.bundle, leaning, file_rows, lock)
            return publish(run, facts)
        except DamagedPartError as error:
            _drop(work, error)
    raise RunError(
        f"run {work.places.run_id}: parts were damaged {_PUBLISH_TRIES} times after their commit; "
        f"check the disk or bucket behind {work.places.store}"
    )


def _tally(work: Work, leaning: Leaning) -> Tally:
    tally = Tally(leaning.plan.images.ids)
    for commit in read_commits(work.places.folder):
        tally.add(commit)
    return tally


def _attempt(plans: dict[str, PoolPlan], before: int) -> dict[str, Any]:
    return {"started_at": now(), "committed_before": before, "pools": sizes_of(plans)}


def _drop(work: Work, error: DamagedPartError) -> None:
    log.warning("%s: %s; its images are scored again", error.file, error.reason)
    drop_commit(work.places.folder, error.commit)


def _announce(work: Work, leaning: Leaning, plans: dict[str, PoolPlan]) -> None:
    pools = ", ".join(
        f"{name} {plan.size} × {plan.num_cpus:g} CPU"
        + (f" {plan.num_gpus:g} GPU" if plan.num_gpus else "")
        for name, plan in plans.items()
    )
    log.info(
        "run %s: %d images; pools: %s",
        work.places.run_id,
        work.manifest.rows,
        pools or "none",
        extra={"run_id": work.places.run_id},
    )
    for line in leaning.lines():
        log.info(line)
    for name in ACTORS:
        if name not in work.models:
            log.info("%s: off; its columns are null", name)
    if "features" in work.models:
        _warn_of_strange(work)


def _warn_of_strange(work: Work) -> None:
    strange = {
        name: count
        for name, count in work.manifest.categories.items()
        if name not in work.bundle.categories
    }
    if strange:
        listed = ", ".join(f"{name or '(none)'} {count}" for name, count in strange.items())
        log.warning(
            "%d images are of a category without a Gaussian in the bundle (%s); their anomaly "
            "scores are null, the others stand",
            sum(strange.values()),
            listed,
        )


def _score(
    work: Work,
    leaning: Leaning,
    plans: dict[str, PoolPlan],
    progress: Progress,
    rest: np.ndarray,
) -> tuple[Leaning, dict[str, PoolPlan]]:
    """Commits every image that is left; what it leaned on at the end, and its pools.

    `rest` is (N,) bool, in the order of the plan's images: those that are left.
    """
    while True:
        try:
            _commit_rest(work, leaning, plans, progress, rest)
        except DamagedTableError as error:
            log.warning(
                "run %s: %s: %s; what was to come from it is computed anew",
                error.run_id,
                error.file,
                error.reason,
            )
            leaning = leaning.without(error.run_id)
            rest = left_to_do(leaning, _tally(work, leaning).committed)
            plans = pools_of(work, leaning, rest)
        else:
            return leaning, plans


def _commit_rest(
    work: Work,
    leaning: Leaning,
    plans: dict[str, PoolPlan],
    progress: Progress,
    rest: np.ndarray,
) -> None:
    plan = leaning.plan
    anomaly_score = work.bundle.spec.anomaly_score
    taking = Taking(
        work.config.manifest,
        work.places.folder,
        work.bundle.uri,
        anomaly_score,
        work.models,
        _distance_threads(work.config, plans),
    )
    take_pieces(taking, plan, rest, progress)
    forget_listed_ids()
    outage = OutageGuard(_computed(plan), work.config.max_unreachable)
    for models, chosen in chains(plan, rest):
        given = GivenColumns(taking, plan, chosen) if models != work.models else None
        keep = work.config.keep_features if "features" in models else "none"
        images = int(chosen.sum())
        chain = build_chain(
            replace(
                _chain_plan(work, models, plans),
                wanted=None if images == len(chosen) else plan.images.ids[chosen],
                given=given,
                commit_rows=commit_rows(work.config, images, keep),
            ),
            commit_block,
            {"run_folder": work.places.folder, "anomaly_score": anomaly_score, "keep": keep},
        )
        watch(chain, progress, outage)


def _computed(plan: ReusePlan) -> int:
    """Images of which something is computed from the file."""
    return int(np.count_nonzero(~plan.skipped & (plan.compute > 0)))


def _distance_threads(config: ScoreConfig, plans: Mapping[str, PoolPlan]) -> int:
    """Threads of the actors that compute the distances, or would have where no image needs one."""
    pool = plans.get(FUSED) or plans.get("features") or config.pools.features
    return pool.threads


def _chain_plan(work: Work, models: tuple[str, ...], plans: dict[str, PoolPlan]) -> ChainPlan:
    config = work.config
    options = prepare_options(work, models)
    pools = pool_stages(work.bundle, models, plans, config.keep_features)
    return ChainPlan(config.manifest, None, options, pools, config.block_rows, config.commit_rows)


def commit_rows(config: ScoreConfig, images: int, keep: str) -> int:
    """Images per commit: as many as asked for, or more where the commits would be too many.

    At publication the driver knows each commit by its parts, in up to five kilobytes. Rows with
    features of each cell are large, and what a worker holds of them must not grow with a run.

    Grown commits are whole blocks: of blocks that don't fit Ray Data would make two commits, the
    second one of what is left.
    """
    asked, block = config.commit_rows, config.block_rows
    wanted = math.ceil(images / _MOST_COMMITS)
    if wanted <= asked or keep not in _LARGEST_COMMIT:
        return asked
    most = max(1, _LARGEST_COMMIT[keep] // block)
    return max(asked, block * min(most, math.ceil(wanted / block)))

"""The main job: a manifest and a bundle in, published tables out, nothing lost on the way."""

from __future__ import annotations

import logging
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.config import ScoreConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.bundle import LATEST, Bundle, open_bundle
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.prepare import options_for
from pipeline.stages.chain import ChainPlan, PoolStage, build_chain
from pipeline.stages.cluster import PoolPlan, connected, plan_pools
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.metrics import RunMetrics
from pipeline.stages.pools import ActorSettings, ClassifierActor, DetectorActor, FeatureActor
from pipeline.stages.progress import Progress, watch
from pipeline.stages.provenance import environment, now
from pipeline.stages.publish import publish
from pipeline.stages.sink import commit_block
from pipeline.tables import storage
from pipeline.tables.ledger import (
    DamagedPartError,
    committed_ids,
    drop_commit,
    read_commits,
    remove_work,
    settled_ids,
)
from pipeline.tables.lock import RunLock, locked
from pipeline.tables.manifest import Manifest, open_manifest
from pipeline.tables.runs import RunPlaces, note_attempt, start_or_continue

log = logging.getLogger("linescore")

ACTORS = {"detector": DetectorActor, "features": FeatureActor, "classifier": ClassifierActor}
_IMAGE_OF = {"detector": LETTERBOXED, "features": SQUARE, "classifier": SQUARE}
# Parts found damaged at publication are scored again; twice means that the disk is failing.
_PUBLISH_TRIES = 3


@dataclass(frozen=True)
class Work:
    """An opened run: what it scores and with what."""

    config: ScoreConfig
    places: RunPlaces
    manifest: Manifest
    bundle: Bundle
    models: tuple[str, ...]


def run_score(config: ScoreConfig) -> dict[str, Any]:
    """Scores a manifest, or finishes the run that was begun under the same id.

    Returns:
        The run's report; `already_published` says that there was nothing to do.

    Raises:
        InputError: something given is wrong; nothing was written.
        RunError: an image was lost or counted twice, or parts kept being damaged.
    """
    work = _open(config)
    if storage.exists(work.places.published):
        return _published_before(work)
    with locked(work.places.folder, f"run_id {work.places.run_id}") as lock, connected(config.ray):
        if storage.exists(work.places.published):
            return _published_before(work)  # by the driver that held the lock
        plans = plan_pools(
            {name: getattr(config.pools, name) for name in work.models}, config.ray.resource_wait_s
        )
        resumed = start_or_continue(work.places, _identity(work), _facts(work, plans))
        return _score_and_publish(work, plans, resumed, lock)


def _published_before(work: Work) -> dict[str, Any]:
    start_or_continue(work.places, _identity(work), {})
    remove_work(work.places.folder)  # a kill may have come between record and clean-up
    report: dict[str, Any] = storage.read_json(work.places.report)
    return report | {"already_published": True}


def _open(config: ScoreConfig) -> Work:
    store = storage.absolute(config.store)
    run_id = config.run_id or _new_run_id()
    settled = {"store": store, "manifest": storage.absolute(config.manifest), "run_id": run_id}
    config = config.model_copy(update=settled)
    manifest = open_manifest(config.manifest)
    if not manifest.rows:
        raise InputError(f"manifest: {config.manifest}: has no rows; there is nothing to score")
    places = RunPlaces(store, run_id)
    with storage.errors_for(store, "store"):
        bundle = open_bundle(_bundle_of(places, config.bundle), store)
    models = _models(config, bundle)
    storage.require_writable(store, "store")
    return Work(config, places, manifest, bundle, models)


def _bundle_of(places: RunPlaces, reference: str) -> str:
    """A begun run's `latest` is the one that it began with, whatever was fitted since."""
    if reference == LATEST and storage.exists(places.record):
        begun: str = storage.read_json(places.record)["bundle"]["uri"]
        return begun
    return reference


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _models(config: ScoreConfig, bundle: Bundle) -> tuple[str, ...]:
    there = {
        "detector": bundle.spec.detector is not None,
        "features": True,
        "classifier": bundle.spec.classifier_batch is not None,
    }
    models = tuple(name for name in ACTORS if there[name] and getattr(config.models, name))
    if not models:
        raise InputError(
            "models: all are switched off, or not in the bundle; nothing to score with"
        )
    if config.keep_features != "none" and "features" not in models:
        raise InputError(
            f"keep_features: {config.keep_features!r} needs models.features, which is off"
        )
    return models


def _identity(work: Work) -> dict[str, Any]:
    """What the numbers depend on; pools, block sizes and the like are free to change."""
    config = work.config
    return {
        "kind": "score",
        "manifest_digest": work.manifest.digest,
        "scorer_digest": work.bundle.scorer_digest,
        "models": list(work.models),
        "keep_features": config.keep_features,
        "verify_content": config.verify_content,
        "limits": {
            "max_pixels": config.limits.max_pixels,
            "max_bytes": config.limits.max_bytes,
            "min_side": config.limits.min_side,
        },
    }


def _facts(work: Work, plans: dict[str, PoolPlan]) -> dict[str, Any]:
    return {
        "run_id": work.places.run_id,
        "started_at": now(),
        "config": work.config.model_dump(mode="json"),
        "bundle": {
            "uri": work.bundle.uri,
            "bundle_digest": work.bundle.bundle_digest,
            "scorer_digest": work.bundle.scorer_digest,
            "feature_digest": work.bundle.feature_digest,
        },
        "pools": _sizes(plans),
        "environment": environment(),
    }


def _score_and_publish(
    work: Work, plans: dict[str, PoolPlan], resumed: bool, lock: RunLock
) -> dict[str, Any]:
    metrics = RunMetrics("score", work.manifest.categories)
    progress = Progress(work.manifest.rows, work.config.progress_s, metrics=metrics)
    before = 0
    for attempt in range(_PUBLISH_TRIES):
        commits = read_commits(work.places.folder)
        if attempt == 0:
            done = settled_ids(commits)
            before = len(done)
            progress.total = work.manifest.rows - before
            metrics.left(progress.total)
            _announce(work, plans, before, resumed)
            note_attempt(work.places, _attempt(plans, before))
        else:
            done = committed_ids(commits)
        if len(done) < work.manifest.rows:
            _score(work, plans, done, progress, lock)
        try:
            facts = {
                "resumed": resumed,
                "committed_before": before,
                "scoring": progress.report(),
                "pools": _sizes(plans),
                "environment": environment(),
            }
            lock.require()
            return publish(work.places, work.manifest, work.bundle, work.config, facts, lock)
        except DamagedPartError as error:
            _drop(work, error)
    raise RunError(
        f"run {work.places.run_id}: parts were damaged {_PUBLISH_TRIES} times after their commit; "
        f"check the disk or bucket behind {work.places.store}"
    )


def _sizes(plans: dict[str, PoolPlan]) -> dict[str, Any]:
    return {name: asdict(plan) for name, plan in plans.items()}


def _attempt(plans: dict[str, PoolPlan], before: int) -> dict[str, Any]:
    return {"started_at": now(), "committed_before": before, "pools": _sizes(plans)}


def _drop(work: Work, error: DamagedPartError) -> None:
    log.warning("%s: %s; its images are scored again", error.file, error.reason)
    drop_commit(work.places.folder, error.commit)


def _announce(work: Work, plans: dict[str, PoolPlan], before: int, resumed: bool) -> None:
    off = [name for name in ACTORS if name not in work.models]
    pools = ", ".join(
        f"{name} {plan.size} × {plan.num_cpus:g} CPU"
        + (f" {plan.num_gpus:g} GPU" if plan.num_gpus else "")
        for name, plan in plans.items()
    )
    log.info(
        "run %s: %d images; pools: %s",
        work.places.run_id,
        work.manifest.rows,
        pools,
        extra={"run_id": work.places.run_id},
    )
    for name in off:
        log.info("%s: off; its columns are null", name)
    if resumed:
        log.info("continuing: %d of %d images are committed already", before, work.manifest.rows)
    if "features" in work.models:
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
    work: Work, plans: dict[str, PoolPlan], done: np.ndarray, progress: Progress, lock: RunLock
) -> None:
    chain = build_chain(
        _chain_plan(work, plans, done),
        commit_block,
        {
            "run_folder": work.places.folder,
            "anomaly_score": work.bundle.spec.anomaly_score,
            "keep": work.config.keep_features,
        },
    )
    watch(chain, progress, OutageGuard(work.manifest.rows, work.config.max_unreachable), lock)


def _chain_plan(work: Work, plans: dict[str, PoolPlan], done: np.ndarray) -> ChainPlan:
    config, spec = work.config, work.bundle.spec
    needed = {_IMAGE_OF[name] for name in work.models}
    options = options_for(
        config.limits,
        square=spec.image_size if SQUARE in needed else None,
        letterboxed=spec.detector.image_size if LETTERBOXED in needed and spec.detector else None,
    )
    options = replace(options, verify=config.verify_content, facts=True)
    pools = tuple(
        PoolStage(ACTORS[name], _actor_settings(work, name, plans[name]), plans[name], name)
        for name in work.models
    )
    return ChainPlan(
        config.manifest, done, None, options, pools, config.block_rows, config.commit_rows
    )


def _actor_settings(work: Work, name: str, plan: PoolPlan) -> ActorSettings:
    later = work.models[work.models.index(name) + 1 :]
    image = _IMAGE_OF[name]
    drop = () if any(_IMAGE_OF[other] == image for other in later) else (image,)
    keep = work.config.keep_features if name == "features" else "none"
    return ActorSettings(work.bundle.uri, plan.threads, drop, keep)

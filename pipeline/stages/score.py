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
from pipeline.scoring.components import components_at
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.prepare import options_for
from pipeline.scoring.reuse.earlier import Terms
from pipeline.scoring.reuse.plan import BITS, Task
from pipeline.scoring.reuse.settle import Leaning, left_to_do, settle
from pipeline.stages.chain import ChainPlan, PoolStage, build_chain
from pipeline.stages.cluster import PoolPlan, connected, plan_pools
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.pools import ActorSettings, ClassifierActor, DetectorActor, FeatureActor
from pipeline.stages.progress import Progress, watch
from pipeline.stages.provenance import environment, now
from pipeline.stages.publish import Publication, publish
from pipeline.stages.reuse import GivenColumns, Taking, chains, take_pieces
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
from pipeline.tables.lookup import DamagedTableError
from pipeline.tables.manifest import Manifest, open_manifest
from pipeline.tables.runs import RunPlaces, start_or_continue

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
        start_or_continue(work.places, _identity(work), {})
        remove_work(work.places.folder)  # a kill may have come between record and clean-up
        report: dict[str, Any] = storage.read_json(work.places.report)
        return report | {"already_published": True}
    leaning = _leaning(work)
    if leaning.plan.skipped.all():
        resumed = start_or_continue(work.places, _identity(work), _facts(work, leaning, {}))
        return _score_and_publish(work, leaning, {}, resumed)
    with connected(work.config.ray):
        plans = _plan_pools(work, leaning)
        resumed = start_or_continue(work.places, _identity(work), _facts(work, leaning, plans))
        return _score_and_publish(work, leaning, plans, resumed)


def _leaning(work: Work) -> Leaning:
    """What the run takes from others: as it began, where it continues."""
    begun = None
    if storage.exists(work.places.record):
        start_or_continue(work.places, _identity(work), {})  # refuses another run's settings
        begun = storage.read_json(work.places.record)
    return settle(work.config, Task(_terms(work), work.bundle.spec.anomaly_score), begun)


def _plan_pools(work: Work, leaning: Leaning) -> dict[str, PoolPlan]:
    """Pools for the models that some image has to go through."""
    plan = leaning.plan
    sets = [int(value) for value in np.unique(plan.compute[~plan.skipped])]
    names = [name for name in work.models if any(BITS[name] & value for value in sets)]
    if not names:
        return {}
    pools = {name: getattr(work.config.pools, name) for name in names}
    return plan_pools(pools, work.config.ray.resource_wait_s)


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
    identity = {
        "kind": "score",
        "manifest_digest": work.manifest.digest,
        "scorer_digest": work.bundle.scorer_digest,
        "models": list(work.models),
        "keep_features": config.keep_features,
        "verify_content": config.verify_content,
        "limits": _limits(config),
    }
    skipping = {"skip_scored": config.skip_scored, "since_run": config.since_run}
    return identity | {name: value for name, value in skipping.items() if value}


def _limits(config: ScoreConfig) -> dict[str, int]:
    return {
        "max_pixels": config.limits.max_pixels,
        "max_bytes": config.limits.max_bytes,
        "min_side": config.limits.min_side,
    }


def _terms(work: Work) -> Terms:
    """What other runs are compared by."""
    config, scorer = work.config, work.bundle.scorer_digest
    components = components_at(work.bundle.uri, scorer)
    limits, verified = _limits(config), config.verify_content
    return Terms(scorer, work.models, components, limits, verified, config.keep_features)


def _facts(work: Work, leaning: Leaning, plans: dict[str, PoolPlan]) -> dict[str, Any]:
    return {
        "run_id": work.places.run_id,
        "started_at": now(),
        "config": work.config.model_dump(mode="json"),
        "bundle": {
            "uri": work.bundle.uri,
            "bundle_digest": work.bundle.bundle_digest,
            "scorer_digest": work.bundle.scorer_digest,
            "feature_digest": work.bundle.feature_digest,
            "components": leaning.task.terms.components,
        },
        "leans_on": leaning.as_facts(),
        "pools": {name: asdict(plan) for name, plan in plans.items()},
        "environment": environment(),
    }


def _score_and_publish(
    work: Work, leaning: Leaning, plans: dict[str, PoolPlan], resumed: bool
) -> dict[str, Any]:
    own = int((~leaning.plan.skipped).sum())
    progress = Progress(own, work.config.progress_s)
    before = 0
    for attempt in range(_PUBLISH_TRIES):
        commits = read_commits(work.places.folder)
        if attempt == 0:
            done = settled_ids(commits)
            before = len(done)
            progress.total = own - before
            _announce(work, leaning, plans)
            if resumed:
                log.info("continuing: %d of %d images are committed already", before, own)
        else:
            done = committed_ids(commits)
        if len(done) < own:
            leaning, plans = _score(work, leaning, plans, progress, done)
        try:
            timing = {"seconds": progress.seconds, "first_commit_s": progress.first_commit_s}
            facts = {"resumed": resumed, "committed_before": before, "scoring": timing}
            run = Publication(
                work.places, work.manifest, work.bundle, leaning, work.config.file_rows
            )
            return publish(run, facts)
        except DamagedPartError as error:
            _drop(work, error)
    raise RunError(
        f"run {work.places.run_id}: parts were damaged {_PUBLISH_TRIES} times after their commit; "
        f"check the disk or bucket behind {work.places.store}"
    )


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
        "run %s: %d images; pools: %s", work.places.run_id, work.manifest.rows, pools or "none"
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
    done: np.ndarray,
) -> tuple[Leaning, dict[str, PoolPlan]]:
    """Commits every image that is left; what it leaned on at the end, and its pools."""
    while True:
        try:
            _commit_rest(work, leaning, plans, progress, left_to_do(leaning, done))
        except DamagedTableError as error:
            log.warning(
                "run %s: %s: %s; what was to come from it is computed anew",
                error.run_id,
                error.file,
                error.reason,
            )
            leaning = leaning.without(error.run_id)
            plans = _plan_pools(work, leaning)
            done = committed_ids(read_commits(work.places.folder))
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
        work.config.pools.features.threads,
    )
    take_pieces(taking, plan, rest, progress)
    read = ~plan.skipped & (plan.compute > 0)
    outage = OutageGuard(int(read.sum()), work.config.max_unreachable)
    for models, chosen in chains(plan, rest):
        given = GivenColumns(taking, plan, chosen) if models != work.models else None
        keep = work.config.keep_features if "features" in models else "none"
        chain = build_chain(
            replace(
                _chain_plan(work, models, plans),
                wanted=None if chosen.all() else plan.images.ids[chosen],
                given=given,
            ),
            commit_block,
            {"run_folder": work.places.folder, "anomaly_score": anomaly_score, "keep": keep},
        )
        watch(chain, progress, outage)


def _chain_plan(work: Work, models: tuple[str, ...], plans: dict[str, PoolPlan]) -> ChainPlan:
    config, spec = work.config, work.bundle.spec
    needed = {_IMAGE_OF[name] for name in models}
    options = options_for(
        config.limits,
        square=spec.image_size if SQUARE in needed else None,
        letterboxed=spec.detector.image_size if LETTERBOXED in needed and spec.detector else None,
    )
    options = replace(options, verify=config.verify_content)
    pools = tuple(
        PoolStage(ACTORS[name], _actor_settings(work, models, name, plans[name]), plans[name])
        for name in models
    )
    nothing = np.empty(0, np.int64)
    return ChainPlan(
        config.manifest, nothing, None, options, pools, config.block_rows, config.commit_rows
    )


def _actor_settings(
    work: Work, models: tuple[str, ...], name: str, plan: PoolPlan
) -> ActorSettings:
    later = models[models.index(name) + 1 :]
    image = _IMAGE_OF[name]
    drop = () if any(_IMAGE_OF[other] == image for other in later) else (image,)
    keep = work.config.keep_features if name == "features" else "none"
    return ActorSettings(work.bundle.uri, plan.threads, drop, keep)

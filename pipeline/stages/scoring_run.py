"""Opening a run: what it scores and with what, checked before anything is written."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.config import PoolConfig, ScoreConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.bundle import LATEST, Bundle, open_ahead
from pipeline.scoring.components import components_at, version
from pipeline.scoring.prepare import PrepareOptions, options_for
from pipeline.scoring.reuse.earlier import Terms
from pipeline.scoring.reuse.plan import BITS, Task
from pipeline.scoring.reuse.settle import Leaning, settle
from pipeline.stages.cluster import FUSED, PoolPlan, free_cpus, is_small, plan_pools, total_gpus
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.model_pools import ACTORS, IMAGE_OF, pool_names, pool_stages
from pipeline.stages.provenance import environment, now
from pipeline.stages.sizing import measured, say_what_was_chosen, sized, worth_measuring
from pipeline.tables import storage
from pipeline.tables.manifest import Manifest, open_manifest
from pipeline.tables.runs import RunPlaces, start_or_continue

log = logging.getLogger("linescore")


@dataclass(frozen=True)
class Work:
    """An opened run: what it scores and with what."""

    config: ScoreConfig
    places: RunPlaces
    manifest: Manifest
    bundle: Bundle
    models: tuple[str, ...]


def leaning_of(work: Work) -> Leaning:
    """What the run takes from others: as it began, where it continues."""
    begun = None
    if storage.exists(work.places.record):
        start_or_continue(work.places, identity(work), {})  # refuses another run's settings
        begun = storage.read_json(work.places.record)
    return settle(work.config, Task(_terms(work), work.bundle.spec.anomaly_score), begun)


def lacks_pools(
    work: Work, leaning: Leaning, rest: np.ndarray, plans: Mapping[str, PoolPlan]
) -> bool:
    """Whether some image that is left, `rest` (N,) bool, needs a model that no pool holds."""
    return FUSED not in plans and not plans.keys() >= set(_models_for(work, leaning, rest))


def _models_for(work: Work, leaning: Leaning, rest: np.ndarray) -> list[str]:
    sets = [int(value) for value in np.unique(leaning.plan.compute[rest])]
    return [name for name in work.models if any(BITS[name] & value for value in sets)]


def pools_of(work: Work, leaning: Leaning, rest: np.ndarray) -> dict[str, PoolPlan]:
    """Pools for the models that some image that is left has to go through.

    Args:
        work: the run.
        leaning: what it takes from others.
        rest: (N,) bool, in the order of the plan's images: those that are left.
    """
    names = _models_for(work, leaning, rest)
    if not names:
        return {}
    config = work.config
    fuse = fused_by_itself(config) if config.fuse_models is None else config.fuse_models
    pools: dict[str, PoolConfig] = {
        name: getattr(config.pools, name) for name in pool_names(tuple(names), fuse)
    }
    plans = plan_pools(_at_first(pools, config, len(names)), config.ray.resource_wait_s)
    images = int(np.count_nonzero(leaning.plan.compute[rest]))
    if not worth_measuring(pools, plans, images):
        return plans
    took = measured(
        config.manifest,
        work.manifest.rows,
        prepare_options(work, tuple(names)),
        pool_stages(work.bundle, tuple(names), plans, config.keep_features),
    )
    if took is None:
        return plans
    cpus = free_cpus()
    gpus = total_gpus() if any(plan.num_gpus for plan in plans.values()) else 0
    try:
        chosen = plan_pools(sized(pools, took, cpus, gpus), config.ray.resource_wait_s)
    except InputError:  # given shares or single nodes have less room than was counted on
        log.info("pools: sizes by measurement find no room on the cluster's nodes")
        return plans
    say_what_was_chosen(took, chosen, cpus, gpus)
    return chosen


def _at_first(
    pools: dict[str, PoolConfig], config: ScoreConfig, models: int
) -> dict[str, PoolConfig]:
    """The pools as they are without a measurement.

    Where models are fused for the sake of several GPUs, each has as many actors as it would have
    with the models apart, so that one computes while another packs arrays or suppresses boxes;
    half of the CPUs are decoding's.
    """
    if config.fuse_models is not None or FUSED not in pools or total_gpus() < 2:
        return pools
    if pools[FUSED].size is not None or pools[FUSED].num_gpus is not None:
        return pools
    size = fused_size(models, free_cpus(), total_gpus())
    return {FUSED: pools[FUSED].model_copy(update={"size": size})}


def fused_size(models: int, cpus: float, gpus: int) -> int:
    """Actors that hold all models, on several GPUs: as many on each, and at most one a model."""
    return gpus * max(1, min(models, int(cpus / 2 / gpus)))


def fused_by_itself(config: ScoreConfig) -> bool:
    """Whether one pool holds all models where nobody said so.

    On a small machine without a GPU an actor for each model loads PyTorch once more, and one core
    waits for the others. On several GPUs Ray lays actors with a share of one side by side on the
    first that has room, so that one card has the detectors and another the rest.
    """
    given = any(getattr(config.pools, name).model_fields_set for name in ACTORS)
    return (is_small() or total_gpus() > 1) and not given


def prepare_options(work: Work, models: tuple[str, ...]) -> PrepareOptions:
    """What is made of each image for these models."""
    config, spec = work.config, work.bundle.spec
    needed = {IMAGE_OF[name] for name in models}
    options = options_for(
        config.limits,
        square=spec.image_size if SQUARE in needed else None,
        letterboxed=spec.detector.image_size if LETTERBOXED in needed and spec.detector else None,
    )
    return replace(options, verify=config.verify_content, facts=True)


def open_work(config: ScoreConfig) -> Work:
    """Opens what a run needs.

    Raises:
        InputError: something given is wrong; nothing was written.
    """
    store = storage.absolute(config.store)
    run_id = config.run_id or _new_run_id()
    settled = {"store": store, "manifest": storage.absolute(config.manifest), "run_id": run_id}
    config = config.model_copy(update=settled)
    manifest = open_manifest(config.manifest)
    if not manifest.rows:
        raise InputError(f"manifest: {config.manifest}: has no rows; there is nothing to score")
    places = RunPlaces(store, run_id)
    with storage.errors_for(store, "store"):
        bundle = open_ahead(_bundle_of(places, config.bundle), store)
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


def identity(work: Work) -> dict[str, Any]:
    """What the numbers depend on; pools, block sizes and the like are free to change."""
    config = work.config
    identity = {
        "kind": "score",
        "manifest_digest": work.manifest.digest,
        "scorer_digest": work.bundle.scorer_digest,
        "arithmetic": version(),
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


def begin(work: Work, leaning: Leaning, plans: dict[str, PoolPlan]) -> bool:
    """Writes the run's record, or checks that it is the same run, and looks who is still there.

    From its record on no run that it takes from is deleted by itself. Before, while it waited for
    nodes and measured its stages, one may have been.

    Returns:
        True when the run had been begun before.

    Raises:
        InputError: the run id belongs to a run with another identity.
        RunError: a run that it takes from is gone.
    """
    places = work.places
    if start_or_continue(places, identity(work), facts_of(work, leaning, plans)):
        return True
    for run_id in sorted({*leaning.needs, *leaning.plan.leaned_on}):
        other = RunPlaces(places.store, run_id)
        if not storage.exists(other.published) or storage.exists(other.deletion):
            storage.remove(places.record)
            raise RunError(
                f"run {places.run_id}: takes from run {run_id}, which was deleted while this one "
                "waited to begin; the same command starts without it"
            )
    return False


def facts_of(work: Work, leaning: Leaning, plans: dict[str, PoolPlan]) -> dict[str, Any]:
    """What the run's record says for people."""
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
        "needs": sorted({*leaning.needs, *leaning.plan.leaned_on}),
        "pools": sizes_of(plans),
        "environment": environment(),
    }


def sizes_of(plans: Mapping[str, PoolPlan]) -> dict[str, Any]:
    """The pools as a record says them."""
    return {name: asdict(plan) for name, plan in plans.items()}

"""Fitting: one backbone pass over the good training images, Gaussians per category, a bundle."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import FitConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.build import BundleBuilder
from pipeline.scoring.bundle import BACKBONE_FILE, TRAINED_ON_FILES, mark_latest
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.prepare import options_for
from pipeline.stages.chain import ChainPlan, PoolStage, build_chain
from pipeline.stages.cluster import PoolPlan, connected, elsewhere, plan_pools
from pipeline.stages.fit_worker import FitActor, commit_features
from pipeline.stages.metrics import RunMetrics
from pipeline.stages.progress import Progress, watch
from pipeline.stages.provenance import environment, now
from pipeline.stages.reduce import reduce_categories, source_for
from pipeline.stages.worker_errors import driver_errors
from pipeline.tables import storage
from pipeline.tables.ledger import (
    Commit,
    DamagedPartError,
    drop_commit,
    read_commits,
    read_part,
    remove_work,
)
from pipeline.tables.lock import RunLock, locked
from pipeline.tables.manifest import Manifest, open_manifest, require_unchanged, with_all_columns
from pipeline.tables.runs import RunPlaces, start_or_continue
from pipeline.tables.tally import Tally
from pipeline.tables.trained_on import trained_on_bytes

if TYPE_CHECKING:  # it loads torch, which most workers that open this module do without
    from pipeline.scoring.ingredients import Ingredients

_PROGRESS_S = 10.0


@dataclass(frozen=True)
class FitWork:
    """An opened fit.

    Attributes:
        config: its settings.
        places: its run.
        manifest: the manifest.
        ids: (N,) int64 ids per category of the good training images, sorted.
        ingredients: the models that the bundle will carry.
        identity: what the Gaussians depend on.
    """

    config: FitConfig
    places: RunPlaces
    manifest: Manifest
    ids: Mapping[str, np.ndarray]
    ingredients: Ingredients
    identity: dict[str, Any]


def run_fit(config: FitConfig) -> dict[str, Any]:
    """Fits a bundle, or finishes the fit that was begun with the same settings.

    Returns:
        The fit's report: the bundle's place, its size, images and shrinkage per category.

    Raises:
        InputError: something given is wrong, or a category has no usable training image.
        RunError: images were lost, or the store failed.
    """
    work = _open(config)
    with driver_errors(f"fit {work.places.run_id}"):
        return _fitted(work)


def _fitted(work: FitWork) -> dict[str, Any]:
    config = work.config
    if storage.exists(work.places.report):
        start_or_continue(work.places, work.identity, {})
        report: dict[str, Any] = storage.read_json(work.places.report)
        if storage.exists(storage.join(report["bundle"], "bundle.json")):
            remove_work(work.places.folder)
            mark_latest(work.places.store, report["bundle"])
            return report | {"already_fitted": True}
    what = f"fit {work.places.run_id}"
    with locked(work.places.folder, what) as lock, connected(config.ray):
        plans = plan_pools({"features": config.features}, config.ray.resource_wait_s)
        start_or_continue(work.places, work.identity, _facts(work))
        _extract(work, plans["features"], lock)
        require_unchanged(work.manifest)
        tally, commits = _committed(work)
        _account(work, tally)
        try:
            report = _build(work, tally, commits)
        except DamagedPartError as error:
            drop_commit(work.places.folder, error.commit)
            raise RunError(
                f"fit {work.places.run_id}: {error.file}: {error.reason}; the same command reads "
                "its images again"
            ) from None
        lock.require()
        storage.write_json(work.places.report, report)
        remove_work(work.places.folder)
    return report


def _open(config: FitConfig) -> FitWork:
    from pipeline.scoring.ingredients import load_ingredients

    store = storage.absolute(config.store)
    uri = storage.absolute(config.manifest)
    manifest = open_manifest(uri)
    ids = good_training_ids(uri)
    ingredients = load_ingredients(config, elsewhere(config.ray))
    storage.require_writable(store, "store")
    spec = ingredients.spec
    identity = {
        "kind": "fit",
        "manifest_digest": manifest.digest,
        "backbone_sha256": hashlib.sha256(ingredients.files[BACKBONE_FILE]).hexdigest(),
        "image_size": spec.image_size,
        "feature_batch": spec.feature_batch,
        "cell_layers": list(spec.features.cell_layers),
        "grids": list(spec.features.grids),
        "pooled_layers": list(spec.features.pooled_layers),
        "limits": config.limits.model_dump(exclude={"fetch_attempts"}),
        "bundle": {
            "anomaly_score": spec.anomaly_score,
            "global_floor": spec.global_floor,
            "files": {n: hashlib.sha256(c).hexdigest() for n, c in ingredients.files.items()},
            "detector": str(spec.detector),
            "classifier_batch": spec.classifier_batch,
        },
    }
    if spec.precision != "float32":
        identity["precision"] = spec.precision
    # Without a name of its own a fit is named by what it is, so that the same command continues.
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    places = RunPlaces(store, config.run_id or f"fit-{digest[:12]}")
    config = config.model_copy(update={"store": store, "manifest": uri})
    return FitWork(config, places, manifest, ids, ingredients, identity)


def good_training_ids(manifest: str) -> dict[str, np.ndarray]:
    """Ids of the good images to fit on, per category: role `fit`, or split `train` without roles.

    Raises:
        InputError: a category has none.
    """
    columns = ["image_id", "category", "split", "role", "is_defect"]
    table = with_all_columns(storage.read_parquet(manifest)).select(columns)
    roles = table.column("role").null_count < len(table)
    name, wanted = ("role", "fit") if roles else ("split", "train")
    fits = pc.equal(table.column(name).cast(pa.string()), wanted)
    good = pc.invert(table.column("is_defect").cast(pa.bool_()))
    chosen = table.filter(pc.fill_null(pc.and_(fits, good), False))
    ids: dict[str, np.ndarray] = {}
    lacking = []
    for category in sorted(set(table.column("category").to_pylist()) - {None}):
        rows = chosen.filter(pc.equal(chosen.column("category"), category))
        ids[category] = np.sort(rows.column("image_id").to_numpy())
        if not len(rows):
            lacking.append(category)
    if lacking or not ids:
        which = ", ".join(lacking) or "the manifest, which names no category,"
        raise InputError(
            f"manifest: {manifest}: {which}: no good image with {name} = {wanted!r}; a Gaussian "
            "needs good training images: add some, or leave the category out of the manifest"
        )
    return ids


def _facts(work: FitWork) -> dict[str, Any]:
    return {
        "run_id": work.places.run_id,
        "started_at": now(),
        "config": work.config.model_dump(mode="json"),
        "environment": environment(),
    }


def _extract(work: FitWork, plan: PoolPlan, lock: RunLock) -> None:
    """The backbone pass: features of every training image into the run's parts."""
    tally, _ = _committed(work)
    wanted, settled = tally.ids, tally.settled
    if settled.all():
        return
    config, spec = work.config, work.ingredients.spec
    weights = ray.put(work.ingredients.files[BACKBONE_FILE])
    precision = spec.precision_of("features")
    settings = (weights, spec.features, spec.feature_batch, plan.threads, precision)
    pool = PoolStage(FitActor, settings, plan)
    options = options_for(config.limits, square=spec.image_size)
    left = wanted[~settled]
    chain_plan = ChainPlan(
        config.manifest, left, options, (pool,), config.block_rows, config.commit_rows
    )
    metrics = RunMetrics("fit", {name: len(ids) for name, ids in work.ids.items()})
    progress = Progress(len(left), _PROGRESS_S, "read", metrics=metrics, lock=lock)
    outage = OutageGuard(len(wanted), config.max_unreachable)
    chain = build_chain(chain_plan, commit_features, {"run_folder": work.places.folder})
    watch(chain, progress, outage)


def _committed(work: FitWork) -> tuple[Tally, list[Commit]]:
    """What is committed of the training images, and the commits without their ids."""
    tally = Tally(np.sort(np.concatenate(list(work.ids.values()))))
    return tally, tally.take(read_commits(work.places.folder))


def _account(work: FitWork, tally: Tally) -> None:
    lost = tally.ids[~tally.committed]
    if len(lost):
        raise RunError(
            f"fit {work.places.run_id}: {len(lost)} training images were not committed, such as "
            f"{lost[0]}; the same command tries again"
        )


def _build(work: FitWork, tally: Tally, commits: Sequence[Commit]) -> dict[str, Any]:
    usable = tally.ids[tally.scored]
    ids = {name: np.intersect1d(wanted, usable) for name, wanted in work.ids.items()}
    empty = [name for name, left in ids.items() if not len(left)]
    errors = _error_counts(work, tally.recovered, commits)
    if empty:
        raise InputError(
            f"manifest: {work.config.manifest}: {', '.join(empty)}: no training image could be "
            f"read ({dict(errors)}); see the uri of each in the manifest"
        )
    spec = work.ingredients.spec
    sources = {
        name: source_for(work.places.folder, name, commits, spec.features) for name in sorted(ids)
    }
    categories = []
    with BundleBuilder(work.config.store, spec) as builder:
        for name, content in work.ingredients.files.items():
            builder.add_file(name, content)
        fitted = np.concatenate([*ids.values(), work.ingredients.backbone_saw])
        seen = trained_on_bytes(np.unique(fitted), np.empty(0, np.int64))
        builder.add_file(TRAINED_ON_FILES["gaussians"], seen)
        for name, gaussians in reduce_categories(sources, ids, spec.global_floor):
            for score, gaussian in gaussians.items():
                builder.add_gaussian(name, score, gaussian)
            categories.append(_category_facts(name, gaussians))
        provenance = _facts(work) | {"manifest_digest": work.manifest.digest}
        uri, size = builder.finish(provenance | {"categories": categories})
    return {
        "run_id": work.places.run_id,
        "kind": "fit",
        "finished_at": now(),
        "bundle": uri,
        "bytes": size,
        "categories": categories,
        "errors_by_type": dict(errors),
        "models": {
            "classifier": spec.classifier_batch is not None,
            "detector": spec.detector is not None,
        },
    }


def _category_facts(name: str, gaussians: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "category": name,
        "images": gaussians["cells"].count,
        "gaussians": {
            score: {
                "bytes": gaussian.mean.nbytes + gaussian.factor.nbytes,
                "regularisation": gaussian.regularisation,
                "shrinkage": float(gaussian.shrinkage.mean()),
            }
            for score, gaussian in gaussians.items()
        },
    }


def _error_counts(work: FitWork, recovered: np.ndarray, commits: Sequence[Commit]) -> Counter[str]:
    counts: Counter[str] = Counter()
    # A file that could not be had is tried again: it may stand in several commits, or be fine.
    counted = set(recovered.tolist())
    for commit in commits:
        if "errors" in commit.parts:
            part = read_part(work.places.folder, commit.name, commit.parts["errors"])
            for row in part.select(["image_id", "error_type"]).to_pylist():
                if row["image_id"] not in counted:
                    counted.add(row["image_id"])
                    counts[row["error_type"]] += 1
    return counts

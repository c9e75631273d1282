"""Training the classifier: Ray Data streams the images, Ray Train runs the workers."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import PoolConfig, TrainClassifierConfig
from pipeline.errors import RunError
from pipeline.scoring.classifier_metrics import base_rates, judge, judge_left_out
from pipeline.stages.classifier_loop import result_file, scores_file, weights_file
from pipeline.stages.classifier_plan import CROSS_FITTED, Fit
from pipeline.stages.classifier_trainer import train_pending
from pipeline.stages.classifier_work import Work, facts, open_work, pending
from pipeline.stages.cluster import connected, plan_pools
from pipeline.stages.provenance import now
from pipeline.stages.worker_errors import driver_errors
from pipeline.tables import storage
from pipeline.tables.lock import RunLock, locked
from pipeline.tables.schemas import CLASSIFIER_SCORES, SCHEMA_VERSION
from pipeline.tables.trained_models import ModelPlaces, begin_training, require_same
from pipeline.tables.trained_on import trained_on_bytes
from pipeline.tables.training_rows import TrainingRows

WEIGHTS, SCORES, TRAINED_ON = "classifier.safetensors", "scores.parquet", "trained_on.parquet"

log = logging.getLogger("linescore")


def run_train_classifier(config: TrainClassifierConfig) -> dict[str, Any]:
    """Trains a classifier, or finishes the training that was begun under the same name.

    Returns:
        What stands in training.json; `already_trained` says that there was nothing to do.

    Raises:
        InputError: something given is wrong, or another process trains under the name.
        RunError: a worker failed again and again, rows were lost, the store failed, or another
            process took the training over.
    """
    with driver_errors(f"classifier {config.name}"):
        work = open_work(config)
        with locked(work.places.folder, f"name {config.name}") as lock:
            return _trained(work, lock)


def _trained(work: Work, lock: RunLock) -> dict[str, Any]:
    config = work.config
    if storage.exists(work.places.training):
        require_same(work.places, work.identity)
        report: dict[str, Any] = storage.read_json(work.places.training)
        _remove_work(work.places)
        return report | {"already_trained": True}
    with connected(config.ray):
        wanted = PoolConfig(size=config.num_workers, num_cpus=1, num_gpus=float(config.use_gpu))
        plan_pools({"training": wanted}, config.ray.resource_wait_s)
        resumed = begin_training(work.places, work.identity, facts(work))
        _announce(work, resumed)
        if pending(work):
            train_pending(work)
    return _finish(work, lock)


def _announce(work: Work, resumed: bool) -> None:
    fixed = work.plan.fits[0]
    log.info(
        "classifier %s: %d trainings; the fixed model learns from %d images, %d more stop it",
        work.places.name,
        len(work.plan.fits),
        len(fixed.training),
        len(fixed.stopping),
    )
    for warning in work.plan.warnings:
        log.warning(warning)
    if resumed:
        done = len(work.plan.fits) - len(pending(work))
        log.info("continuing: %d of %d trainings are finished", done, len(work.plan.fits))


def _finish(work: Work, lock: RunLock) -> dict[str, Any]:
    """Checks that every row was scored, judges, and writes the model; training.json last."""
    places = work.places
    lock.require()  # who took over may have ended, and cleared what is read here
    results = {
        fit.name: storage.read_json(result_file(places.folder, fit)) for fit in work.plan.fits
    }
    unreadable = {int(i): t for result in results.values() for i, t in result["unreadable"].items()}
    tables = {fit.name: _scored(work, fit, unreadable) for fit in work.plan.fits}
    scores = pa.concat_tables(
        [tables[fit.name] for fit in work.plan.fits if fit.left_out is None]
    ).sort_by([("category", "ascending"), ("image_id", "ascending")])
    fixed = work.plan.fits[0]
    content = storage.read_bytes(weights_file(places.folder, fixed))
    lock.require()
    storage.write_bytes(places.file(WEIGHTS), content)
    storage.write_bytes(places.file(TRAINED_ON), trained_on_table(work, content))
    storage.write_bytes(places.file(SCORES), storage.parquet_bytes(scores))
    report = {
        "schema_version": SCHEMA_VERSION,
        **facts(work),
        "kind": "classifier",
        "finished_at": now(),
        "manifest_digest": work.identity["manifest_digest"],
        "starting_weights_sha256": work.identity["weights_sha256"],
        "weights": places.file(WEIGHTS),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "scores": places.file(SCORES),
        "warnings": list(work.plan.warnings),
        "unreadable": {str(i): text for i, text in sorted(unreadable.items())},
        "trainings": [fit_facts(work.rows, fit, results[fit.name]) for fit in work.plan.fits],
        "metrics": _metrics(work, scores, tables),
    }
    del report["started_at"]
    storage.write_json(places.training, report)
    _remove_work(places)
    return report


def trained_on_table(work: Work, weights: bytes) -> bytes:
    """What the fixed model has seen, and what its starting weights had seen before, as a file."""
    fixed = work.plan.fits[0]
    training = fixed.refit if work.config.refit else fixed.training
    return trained_on_bytes(training, fixed.stopping, work.seen, weights)


def _scored(work: Work, fit: Fit, unreadable: dict[int, str]) -> pa.Table:
    """A training's scores with the facts of each row.

    Raises:
        RunError: a row is missing that could be read.
    """
    found = storage.read_parquet(scores_file(work.places.folder, fit))
    ids = found.column("image_id").to_numpy()
    lost = np.setdiff1d(fit.scored, np.union1d(ids, np.array(list(unreadable), np.int64)))
    if len(lost) or len(np.unique(ids)) != len(ids):
        raise RunError(
            f"classifier {work.places.name}: {fit.name}: {len(lost)} rows were not scored, or some "
            f"twice ({len(ids)} scores); remove {work.places.folder} and train again"
        )
    rows = work.rows.of(ids).table  # both are ordered by id
    columns = {
        name: rows.column(name)
        for name in ("image_id", "category", "defect_type", "is_defect", "role", "group_id")
    }
    columns["fold"] = pa.array([fit.fold] * len(ids), pa.int32())
    columns["defect_logit"] = found.column("defect_logit")
    return pa.table([columns[name] for name in CLASSIFIER_SCORES.names], schema=CLASSIFIER_SCORES)


def fit_facts(rows: TrainingRows, fit: Fit, result: dict[str, Any]) -> dict[str, Any]:
    """One training for the report; images that could not be read are not counted."""
    unread = np.array([int(i) for i in result["unreadable"]], np.int64)
    training, stopping = (
        rows.of(np.setdiff1d(ids, unread)) for ids in (fit.training, fit.stopping)
    )
    best = result["history"][result["best_epoch"] - 1]
    return {
        "name": fit.name,
        "roles": list(fit.roles),
        "fold": fit.fold,
        "left_out": list(fit.left_out) if fit.left_out else None,
        "training": {"images": len(training), "defects": int(training.is_defect.sum())},
        "stopping": {"images": len(stopping), "defects": int(stopping.is_defect.sum())},
        "scored": len(np.setdiff1d(fit.scored, unread)),
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "continued_after_epoch": result["continued_after_epoch"],
        "stopping_average_precision": best["average_precision"],
    }


def _metrics(work: Work, scores: pa.Table, tables: dict[str, pa.Table]) -> dict[str, Any]:
    config, rows = work.config, work.rows
    drawn_on = CROSS_FITTED if config.folds else config.roles
    training = rows.where(np.isin(rows.roles, drawn_on))
    rates = base_rates(training.categories, training.is_defect)
    left_out = [
        judge_left_out(tables[fit.name], fit.left_out, config.seed)
        for fit in work.plan.fits
        if fit.left_out is not None
    ]
    return {
        "judged": judge(scores, rates, config.seed),
        "left_out": left_out,
    }


def _remove_work(places: ModelPlaces) -> None:
    storage.remove(places.checkpoints)
    storage.remove(places.file("ray-train"))
    storage.remove(places.file("work"))

"""Training the classifier: Ray Data streams the images, Ray Train runs the workers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.data import Dataset, ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline.config import PoolConfig, TrainClassifierConfig
from pipeline.errors import InputError, RunError
from pipeline.images.decode import DecodeLimits
from pipeline.models.augment import Augmentation
from pipeline.models.classifier_training import EpochSettings
from pipeline.models.defect_net import DefectNet
from pipeline.models.weights import load_state, state_to_bytes
from pipeline.scoring.classifier_metrics import base_rates, judge, judge_left_out
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.chain import quiet
from pipeline.stages.classifier_loop import (
    IMAGES,
    LoopSettings,
    result_file,
    scores_file,
    train_loop,
    weights_file,
)
from pipeline.stages.classifier_plan import (
    CROSS_FITTED,
    Fit,
    Plan,
    plan_fits,
    used_table,
)
from pipeline.stages.cluster import DECODE_CPUS, connected, plan_pools
from pipeline.stages.decode import prepare_block
from pipeline.stages.provenance import environment, now
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest
from pipeline.tables.roles import TEST
from pipeline.tables.schemas import CLASSIFIER_SCORES, SCHEMA_VERSION
from pipeline.tables.trained_models import ModelPlaces, begin_training
from pipeline.tables.trained_on import trained_on_bytes
from pipeline.tables.training_rows import TrainingRows, labelled_rows

WEIGHTS, SCORES, TRAINED_ON = "classifier.safetensors", "scores.parquet", "trained_on.parquet"
# A worker that is lost is started again, from the last checkpoint, so many times.
_RESTARTS = 2
# Images that travel together.
_BLOCK_ROWS = 32

log = logging.getLogger("linescore")


@dataclass(frozen=True)
class Work:
    """An opened training.

    Attributes:
        config: its settings.
        places: its files.
        rows: the labelled rows of the roles that it touches.
        plan: the trainings that it consists of.
        weights: the starting weights, as safetensors.
        identity: what weights and figures depend on.
    """

    config: TrainClassifierConfig
    places: ModelPlaces
    rows: TrainingRows
    plan: Plan
    weights: bytes
    identity: dict[str, Any]


def run_train_classifier(config: TrainClassifierConfig) -> dict[str, Any]:
    """Trains a classifier, or finishes the training that was begun under the same name.

    Returns:
        What stands in training.json; `already_trained` says that there was nothing to do.

    Raises:
        InputError: something given is wrong.
        RunError: a worker failed again and again, or rows were lost.
    """
    work = _open(config)
    if storage.exists(work.places.training):
        begin_training(work.places, work.identity, {})
        report: dict[str, Any] = storage.read_json(work.places.training)
        _remove_work(work.places)
        return report | {"already_trained": True}
    with connected(work.config.ray):
        wanted = PoolConfig(size=config.num_workers, num_cpus=1, num_gpus=float(config.use_gpu))
        plan_pools({"training": wanted}, config.ray.resource_wait_s)
        resumed = begin_training(work.places, work.identity, _facts(work))
        _announce(work, resumed)
        if _pending(work):
            _train(work)
    return _finish(work)


def _open(config: TrainClassifierConfig) -> Work:
    store, uri = storage.absolute(config.store), storage.absolute(config.manifest)
    config = config.model_copy(update={"store": store, "manifest": uri})
    manifest = open_manifest(uri)
    roles = (*CROSS_FITTED, TEST) if config.score_test else CROSS_FITTED
    rows = labelled_rows(uri, roles)
    plan = plan_fits(rows, config, uri)
    field = f"weights: {config.weights}"
    state = load_state(config.weights, "weights")
    net = DefectNet(state, config.trainable, field)
    weights = state_to_bytes({n: v for n, v in net.resnet_state().items() if n[:3] != "fc."})
    storage.require_writable(store, "store")
    free = {"store", "manifest", "name", "weights", "checkpoint_s", "ray", "limits"}
    identity = {
        "kind": "classifier",
        "manifest_digest": manifest.digest,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "limits": config.limits.model_dump(exclude={"fetch_attempts"}),
        **config.model_dump(mode="json", exclude=free),
    }
    return Work(config, ModelPlaces(store, config.name), rows, plan, weights, identity)


def _facts(work: Work) -> dict[str, Any]:
    return {
        "name": work.places.name,
        "started_at": now(),
        "config": work.config.model_dump(mode="json"),
        "environment": environment(),
    }


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
        done = len(work.plan.fits) - len(_pending(work))
        log.info("continuing: %d of %d trainings are finished", done, len(work.plan.fits))


def _pending(work: Work) -> list[Fit]:
    folder = work.places.folder
    return [fit for fit in work.plan.fits if not storage.exists(result_file(folder, fit))]


def _train(work: Work) -> None:
    """All trainings that aren't finished, in one group of workers."""
    config = work.config
    quiet()
    # Ray Train logs a worker's traceback; what it means is raised below.
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    fs, path = storage.filesystem(work.places.folder)
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"settings": _loop_settings(work)},
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": 1} | ({"GPU": 1} if config.use_gpu else {}),
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=path,
            storage_filesystem=PyFileSystem(FSSpecHandler(fs)),
            failure_config=FailureConfig(max_failures=_RESTARTS),
        ),
        datasets={IMAGES: _images(work)},
        dataset_config=_Shares(config.num_workers),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _told(error, work.places.name) from None


def _told(error: Exception, name: str) -> Exception:
    """What a worker raised for people, else that the training failed and why."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = getattr(failure, "cause", failure)
        for known in (failure, cause):
            if isinstance(known, InputError | RunError):
                return known
    first = next(iter(failures.values()), error)
    lines = str(first).strip().splitlines() or [type(first).__name__]
    return RunError(f"classifier {name}: a worker failed: {lines[-1]}; the same command goes on")


def _loop_settings(work: Work) -> LoopSettings:
    config = work.config
    changes = config.augmentation
    epochs = EpochSettings(
        seed=config.seed,
        epochs=config.epochs,
        patience=config.patience,
        learning_rate=config.learning_rate,
        layer_learning_rate=config.layer_learning_rate,
        weight_decay=config.weight_decay,
        augmentation=Augmentation(changes.flips, changes.shift, changes.brightness),
    )
    return LoopSettings(
        work.places.folder,
        ray.put(work.weights),
        config.trainable,
        work.plan.fits,
        epochs,
        config.views,
        config.batch_size,
        config.threads,
        config.checkpoint_s,
    )


def _images(work: Work) -> Dataset:
    """Every image that some training reads, decoded and resized while it streams."""
    config = work.config
    table = used_table(work.plan, work.rows, config.seed)
    blocks = [table.slice(i, _BLOCK_ROWS) for i in range(0, len(table), _BLOCK_ROWS)]
    options = PrepareOptions(
        DecodeLimits(config.limits.max_pixels, config.limits.min_side),
        config.limits.fetch_attempts,
        square=config.image_size,
    )
    return ray.data.from_arrow(blocks).map_batches(
        prepare_block,
        fn_kwargs={"options": options},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=DECODE_CPUS,
    )


class _Shares(DataConfig):  # type: ignore[misc]
    """Every worker's share of the images: all of them, in a fixed order, for one worker.

    Ray Train's own split makes the shares equal by dropping rows, and here each row counts.
    """

    def __init__(self, workers: int) -> None:
        options = ExecutionOptions(preserve_order=True)
        super().__init__(datasets_to_split=[], execution_options=options)
        self._workers = workers

    def configure(
        self,
        datasets: dict[str, Dataset],
        world_size: int,
        worker_handles: Sequence[Any] | None,
        worker_node_ids: Sequence[str] | None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """An iterator of each dataset for each worker."""
        if world_size == 1:
            iterators: list[dict[str, Any]] = super().configure(
                datasets, world_size, worker_handles, worker_node_ids, **options
            )
            return iterators
        splits = datasets[IMAGES].streaming_split(
            world_size, equal=False, locality_hints=list(worker_node_ids or []) or None
        )
        return [{IMAGES: split} for split in splits]


def _finish(work: Work) -> dict[str, Any]:
    """Checks that every row was scored, judges, and writes the model; training.json last."""
    places = work.places
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
    storage.write_bytes(places.file(WEIGHTS), content)
    storage.write_bytes(places.file(TRAINED_ON), trained_on_bytes(fixed.training, fixed.stopping))
    storage.write_bytes(places.file(SCORES), storage.parquet_bytes(scores))
    report = {
        "schema_version": SCHEMA_VERSION,
        **_facts(work),
        "kind": "classifier",
        "finished_at": now(),
        "manifest_digest": work.identity["manifest_digest"],
        "starting_weights_sha256": work.identity["weights_sha256"],
        "weights": places.file(WEIGHTS),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "scores": places.file(SCORES),
        "warnings": list(work.plan.warnings),
        "unreadable": {str(i): text for i, text in sorted(unreadable.items())},
        "trainings": [_fit_facts(work, fit, results[fit.name]) for fit in work.plan.fits],
        "metrics": _metrics(work, scores, tables),
    }
    del report["started_at"]
    storage.write_json(places.training, report)
    _remove_work(places)
    return report


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


def _fit_facts(work: Work, fit: Fit, result: dict[str, Any]) -> dict[str, Any]:
    training, stopping = work.rows.of(fit.training), work.rows.of(fit.stopping)
    best = result["history"][result["best_epoch"] - 1]
    return {
        "name": fit.name,
        "roles": list(fit.roles),
        "fold": fit.fold,
        "left_out": list(fit.left_out) if fit.left_out else None,
        "training": {"images": len(training), "defects": int(training.is_defect.sum())},
        "stopping": {"images": len(stopping), "defects": int(stopping.is_defect.sum())},
        "scored": len(fit.scored),
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

"""Training a detector on the cluster: one task, on a GPU where there is one."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import ray

from pipeline.config import PoolConfig, TrainDetectorConfig
from pipeline.errors import InputError, RunError
from pipeline.scoring.train_detector import (
    ModelPlaces,
    check_training,
    judge_detector,
    model_places,
    train_detector,
)
from pipeline.stages.cards import take_own_cards
from pipeline.stages.cluster import TASK_CPUS, connected, plan_pools
from pipeline.stages.provenance import environment, now
from pipeline.stages.worker_errors import driver_errors, plain_errors
from pipeline.tables import storage
from pipeline.tables.lock import RunLock, locked
from pipeline.tables.runs import differences
from pipeline.tables.trained_models import require_kind

SCHEMA_VERSION = "1"
# Seconds between two looks at the task, and between two lines about it.
_LOOK_S, _LINE_S = 1.0, 15.0

log = logging.getLogger("linescore")


def run_train_detector(config: TrainDetectorConfig) -> dict[str, Any]:
    """Trains a detector and judges it, or finishes the training that was begun under its name.

    Returns:
        The record that lies beside the weights, with the folder and what was new.

    Raises:
        InputError: something given is wrong, the name belongs to another training, or another
            process trains under it.
        RunError: the training failed, the store did, or another process took the training over.
    """
    with driver_errors(f"detector {config.name}"):
        return _trained(config)


def _trained(config: TrainDetectorConfig) -> dict[str, Any]:
    store = storage.absolute(config.store)
    changes = {"store": store, "manifest": storage.absolute(config.manifest)}
    if config.weights:
        changes["weights"] = storage.absolute(config.weights)
    config = config.model_copy(update=changes)
    places = model_places(store, config.name)
    identity = check_training(config)
    require_kind(places.folder, "detector")
    storage.require_writable(store, "store")
    with locked(places.folder, f"name {config.name}") as lock:
        record = earlier_record(places, identity)
        missing = record is None or _judged(record, config) is None
        if record is None or missing:
            with connected(config.ray):
                record = _work(config, places, identity, record, lock)
        storage.remove(places.work)
    return record | {"folder": places.folder, "already_trained": not missing}


def earlier_record(places: ModelPlaces, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The record of the same training, if it is finished; an unfinished one is marked as begun.

    A start that left no state to continue from binds nobody: it may have ended at bad input that
    other settings mend.

    Raises:
        InputError: the name belongs to another training.
    """
    finished = storage.exists(places.record)
    place = places.record if finished else places.started
    if not finished and not (storage.exists(place) and storage.exists(places.state)):
        storage.write_json(places.started, {"identity": identity, "started_at": now()})
        return None
    record: dict[str, Any] = storage.read_json(place)
    changed = differences(record.get("identity", {}), identity)
    if changed:
        raise InputError(
            f"name: {places.folder}: holds a training with other settings; "
            + "; ".join(changed)
            + ". Use another name, or the settings it was started with"
        )
    return record if finished else None


def _judged(record: dict[str, Any], config: TrainDetectorConfig) -> dict[str, Any] | None:
    """The metrics that the config asks for, if they are known."""
    metrics: dict[str, Any] | None = record["metrics"].get(config.evaluate_role)
    known = metrics is not None and metrics["confidences"] == list(config.confidences)
    return metrics if known else None


def _work(
    config: TrainDetectorConfig,
    places: ModelPlaces,
    identity: dict[str, Any],
    record: dict[str, Any] | None,
    lock: RunLock,
) -> dict[str, Any]:
    """Trains unless that was done, judges, and writes the record."""
    wanted = pool_for(config.threads, ray.cluster_resources())
    plan_pools({"training": wanted}, config.ray.resource_wait_s)
    if record is None:
        facts = _await(_start(train_detector, (config, places), wanted), places, lock)
        record = {
            "schema_version": SCHEMA_VERSION,
            "model": "detector",
            "identity": identity,
            "config": config.model_dump(mode="json"),
            "seed": config.seed,
            "environment": environment(),
            **facts,
            "metrics": {},
        }
        lock.require()
        # Whatever happens while it is judged: it won't be trained again.
        storage.write_json(places.record, record)
    metrics = _await(_start(judge_detector, (config, places), wanted), places, lock)
    metrics["confidences"] = list(config.confidences)
    record["metrics"][config.evaluate_role] = metrics
    record["finished_at"] = now()
    lock.require()
    storage.write_json(places.record, record)
    return record


def pool_for(threads: int, there: Mapping[str, float]) -> PoolConfig:
    """One task with as many CPUs as it has threads, as far as there are, and a GPU if there is one.

    Args:
        threads: of the arithmetic.
        there: what the cluster has in all.
    """
    cpus = max(1.0, min(float(threads), there.get("CPU", 0) - TASK_CPUS))
    return PoolConfig(size=1, num_cpus=cpus, num_gpus=1 if there.get("GPU", 0) >= 1 else 0)


def _start(function: Any, arguments: tuple[Any, ...], wanted: PoolConfig) -> Any:
    """A task; one whose node dies starts again, and continues from the state in the store."""
    share = {"num_cpus": wanted.num_cpus, "num_gpus": wanted.num_gpus}
    task = ray.remote(**share, max_retries=3)(_on_own).options(name=function.__name__)
    return task.remote(function, *arguments)


def _on_own(function: Any, *arguments: Any) -> Any:
    take_own_cards()
    return function(*arguments)


def _await(reference: Any, places: ModelPlaces, lock: RunLock) -> dict[str, Any]:
    """The task's result; says now and then how far it is.

    Raises:
        RunError: the task failed, or another process took the training over.
    """
    said, epoch = time.monotonic(), 0
    while not ray.wait([reference], timeout=_LOOK_S)[0]:
        lock.require_unless_lost()
        if time.monotonic() - said < _LINE_S or not storage.exists(places.progress):
            continue
        facts = storage.read_json(places.progress)
        if facts["epoch"] > epoch:
            said, epoch = time.monotonic(), facts["epoch"]
            loss = ", ".join(f"{name} {value:.3f}" for name, value in facts["loss"].items())
            log.info("epoch %d of %d, %s", epoch, facts["epochs"], loss)
    with plain_errors():
        try:
            result: dict[str, Any] = ray.get(reference)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            raise RunError(
                f"training {places.folder}: its process was killed ({type(error).__name__}); the "
                "same command continues"
            ) from None
    return result

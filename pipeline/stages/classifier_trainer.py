"""Ray Train and Ray Data put together: workers for the loop, and the images that they share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.data import Dataset, ExecutionOptions
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline.errors import InputError, RunError
from pipeline.models.augment import Augmentation
from pipeline.models.epochs import EpochSettings
from pipeline.scoring.prepare import options_for
from pipeline.stages.attempts import TASK_RETRIES
from pipeline.stages.chain import quiet
from pipeline.stages.classifier_failures import FAILURE_COLUMNS, Failures
from pipeline.stages.classifier_images import ImageSettings
from pipeline.stages.classifier_loop import IMAGES, LoopSettings, note_file, train_loop
from pipeline.stages.classifier_plan import used_ids, used_table
from pipeline.stages.classifier_work import Work
from pipeline.stages.cluster import DECODE_CPUS
from pipeline.stages.consuming import batches_of
from pipeline.stages.decode import prepare_block
from pipeline.tables import storage

# A worker that is lost is started again, from the last checkpoint, so many times.
_RESTARTS = 2
# Images that travel together.
_BLOCK_ROWS = 32
# Decoded images up to this size stay in the object store; more are decoded in every epoch.
_KEPT_BYTES = 1 << 30
_PROGRESS_S = 10.0

log = logging.getLogger("linescore")


def train_pending(work: Work) -> None:
    """All trainings that aren't finished, in one group of workers.

    Raises:
        InputError: what a worker found wrong with the images.
        RunError: a worker failed again and again.
    """
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
        with _watched(work):
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _told(error, work.places.name) from None


@contextmanager
def _watched(work: Work) -> Iterator[None]:
    """Logs what the worker notes: Ray Train itself tells nothing until it has ended."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(work, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(work: Work, ended: threading.Event) -> None:
    file = note_file(work.places.folder)
    told: Any = None
    while not ended.wait(_PROGRESS_S):
        note = storage.read_json(file) if storage.exists(file) else told
        if note == told:
            continue
        log.info(
            "training %d of %d (%s): epoch %d of at most %d%s",
            note["number"],
            len(work.plan.fits),
            note["training"],
            note["epoch"],
            work.config.epochs,
            "".join(
                f", average precision {value:.3f} on the rows that stop it"
                for value in note["average_precision"]
            ),
        )
        told = note


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
    images = ImageSettings(
        trainable=config.trainable,
        side=config.image_size,
        views=config.views,
        held_bytes=config.held_mb << 20,
        images=len(used_ids(work.plan)),
        batch_size=config.batch_size,
        augmentation=epochs.augmentation,
        seed=config.seed,
    )
    return LoopSettings(
        folder=work.places.folder,
        weights=ray.put(work.weights),
        fits=work.plan.fits,
        epochs=epochs,
        refit=config.refit,
        images=images,
        threads=config.threads,
        checkpoint_s=config.checkpoint_s,
        max_unreachable=config.max_unreachable,
    )


def _images(work: Work) -> Dataset:
    """Every image that some training reads, decoded and resized while it streams.

    Raises:
        RunError: the archive is out of reach.
    """
    config = work.config
    table = used_table(work.plan, work.rows, config.seed)
    blocks = [table.slice(i, _BLOCK_ROWS) for i in range(0, len(table), _BLOCK_ROWS)]
    options = options_for(config.limits, square=config.image_size)
    images = ray.data.from_arrow(blocks).map_batches(
        prepare_block,
        fn_kwargs={"options": options},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=DECODE_CPUS,
        max_retries=TASK_RETRIES,
    )
    images.context.execution_options.preserve_order = True
    kept = len(table) * config.image_size**2 * 3 <= _KEPT_BYTES
    if not kept:
        return images
    images = images.materialize()
    # An outage is known before any worker starts; a worker that fails is started again.
    failures = Failures(len(table), config.max_unreachable)
    reasons = images.select_columns(list(FAILURE_COLUMNS))
    with batches_of(reasons) as found:
        for block in found:
            failures.add(block)
    return images


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

"""What a training worker does: one training after the other, on images that Ray Data streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch

from pipeline.models.augment import Augmentation
from pipeline.models.batches import Batch, Sources, full_batches, in_memory, rows_of
from pipeline.models.classifier_training import (
    Attempt,
    EpochSettings,
    Progress,
    Team,
    defect_logits,
    train_classifier,
)
from pipeline.models.defect_net import HEAD, DefectNet, feature_views
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.weights import state_from_bytes, state_to_bytes
from pipeline.stages.classifier_failures import Failures
from pipeline.stages.classifier_plan import FIXED, Fit
from pipeline.stages.columns import unpack
from pipeline.stages.decode import SQUARE
from pipeline.tables import storage

IMAGES = "images"
# Images among which a streamed epoch is shuffled; the whole set was shuffled once before.
_SHUFFLE_ROWS = 512


@dataclass(frozen=True)
class LoopSettings:
    """What a worker is told.

    Attributes:
        folder: of the model's results.
        weights: reference to the starting weights, as safetensors.
        trainable: the first layer that is trained, or `head`.
        fits: the trainings, in order.
        epochs: how each is trained.
        views: per image, with a frozen trunk.
        batch_size: images per step.
        threads: of the arithmetic.
        checkpoint_s: seconds between checkpoints.
        images: how many the workers read together.
        max_unreachable: share of them whose files may be out of reach.
    """

    folder: str
    weights: Any
    trainable: str
    fits: tuple[Fit, ...]
    epochs: EpochSettings
    views: int
    batch_size: int
    threads: int
    checkpoint_s: float
    images: int
    max_unreachable: float


def result_file(folder: str, fit: Fit) -> str:
    """What a finished training left, written last."""
    return storage.join(folder, "work", f"{fit.name}.json")


def scores_file(folder: str, fit: Fit) -> str:
    """Its logits of the rows that it scores."""
    return storage.join(folder, "work", f"{fit.name}.parquet")


def weights_file(folder: str, fit: Fit) -> str:
    """The whole network."""
    return storage.join(folder, "work", f"{fit.name}.safetensors")


def checkpoint_file(folder: str, fit: Fit) -> str:
    """Where an unfinished training goes on.

    A file of our own, whole as soon as it is there: what is reported to Ray Train counts only
    when its controller has noted it, and a kill in between would lose it.
    """
    return storage.join(folder, "checkpoints", f"{fit.name}.pt")


def note_file(folder: str) -> str:
    """What the worker is at, for people who wait."""
    return storage.join(folder, "work", "now.json")


def train_loop(config: dict[str, LoopSettings]) -> None:
    """The worker's function; goes on from the last checkpoint of an earlier attempt."""
    settings = config["settings"]
    fix_arithmetic(settings.threads)
    worker = _Worker(settings)
    for fit in settings.fits:
        if not storage.exists(result_file(settings.folder, fit)):
            worker.train(fit)


@dataclass
class _Worker:
    """One worker: its share of the images, and its part in the team."""

    settings: LoopSettings
    team: Team = field(init=False)
    failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self.team = _team()
        self.failures = Failures(self.settings.images, self.settings.max_unreachable)
        self._state = state_from_bytes(ray.get(self.settings.weights), "weights")
        self._images = ray.train.get_dataset_shard(IMAGES)
        self._device = ray.train.torch.get_device()
        self._features: Batch | None = None
        self._saved = time.monotonic()

    def train(self, fit: Fit) -> None:
        """Trains, scores, and leaves the result in the store."""
        net = self._net(fit)
        sources = Sources(
            self._epochs(fit), lambda: self._rows(fit.stopping, np.ones(len(fit.stopping)))
        )
        progress = self._checkpoint(fit)
        begun = progress.epoch if progress else 0
        attempt = Attempt(progress, lambda now: self._save(fit, now), self.team)
        progress = train_classifier(net, sources, self.settings.epochs, attempt)
        scored = self._rows(fit.scored, np.ones(len(fit.scored)))
        ids, _, logits = defect_logits(net, scored, self.team)
        failures = self.failures.of_all(self.team)
        if self.team.rank == 0:
            self._leave(fit, net, (ids, logits), _facts(progress, begun, failures))

    def _net(self, fit: Fit) -> DefectNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.epochs.seed)
            net = DefectNet(self._state, self.settings.trainable, f"weights ({fit.name})")
        return net.to(self._device).eval()

    def _epochs(self, fit: Fit) -> Callable[[int], Iterator[Batch]]:
        if self.settings.trainable != HEAD:
            return lambda epoch: full_batches(
                self._streamed(fit.training, fit.weights, epoch), self.settings.batch_size
            )
        batch = _only(self._all_features(), fit.training, fit.weights)
        return in_memory(batch, self.settings.batch_size, self.settings.epochs.seed)

    def _rows(self, ids: np.ndarray, weights: np.ndarray) -> Iterator[Batch]:
        if self.settings.trainable != HEAD:
            yield from self._streamed(ids, weights, None)
        else:
            yield _only(self._all_features(), ids, weights)

    def _streamed(self, ids: np.ndarray, weights: np.ndarray, epoch: int | None) -> Iterator[Batch]:
        for batch in self._stream(epoch):
            chosen = _only(batch, ids, weights)
            if len(chosen.ids):
                yield chosen

    def _stream(self, epoch: int | None) -> Iterator[Batch]:
        """All images of this worker, shuffled where an epoch is named."""
        shuffle = (
            {}
            if epoch is None
            else {
                "local_shuffle_buffer_size": _SHUFFLE_ROWS,
                "local_shuffle_seed": self.settings.epochs.seed + epoch,
            }
        )
        for block in self._images.iter_batches(
            batch_size=self.settings.batch_size, batch_format="pyarrow", **shuffle
        ):
            yield self._batch(block)

    def _batch(self, block: pa.Table) -> Batch:
        images, present = unpack(block.column(SQUARE))
        ids = block.column("image_id").to_numpy()
        self.failures.add(block)
        return Batch(
            ids[present],
            torch.from_numpy(images.copy()),
            block.column("is_defect").to_numpy(zero_copy_only=False)[present],
            np.ones(len(present), np.float32),
        )

    def _all_features(self) -> Batch:
        """With a frozen trunk: features of all views of all images, made once."""
        if self._features is None:
            net = self._net(self.settings.fits[0])
            parts = []
            for number, batch in enumerate(self._stream(None)):
                seed = self.settings.epochs.seed + number
                views = feature_views(net, batch.inputs, self.settings.views, self._changes, seed)
                parts.append(Batch(batch.ids, views, batch.is_defect, batch.weight))
            self._features = Batch(
                np.concatenate([part.ids for part in parts]),
                torch.cat([part.inputs for part in parts]),
                np.concatenate([part.is_defect for part in parts]),
                np.concatenate([part.weight for part in parts]),
            )
        return self._features

    @property
    def _changes(self) -> Augmentation:
        return self.settings.epochs.augmentation

    def _checkpoint(self, fit: Fit) -> Progress | None:
        file = checkpoint_file(self.settings.folder, fit)
        return Progress.from_bytes(storage.read_bytes(file)) if storage.exists(file) else None

    def _save(self, fit: Fit, progress: Progress) -> None:
        """A note for the driver; a checkpoint, when enough time has passed since the last."""
        if self.team.rank == 0:
            note = {
                "training": fit.name,
                "number": [other.name for other in self.settings.fits].index(fit.name) + 1,
                "epoch": progress.epoch,
                "average_precision": progress.history[-1]["average_precision"],
            }
            storage.write_json(note_file(self.settings.folder), note)
        due = time.monotonic() - self._saved >= self.settings.checkpoint_s
        if not self.team.agree(due):
            return
        if self.team.rank == 0:
            storage.write_bytes(checkpoint_file(self.settings.folder, fit), progress.to_bytes())
        self._saved = time.monotonic()

    def _leave(
        self, fit: Fit, net: DefectNet, scored: tuple[np.ndarray, np.ndarray], facts: dict[str, Any]
    ) -> None:
        folder = self.settings.folder
        if fit.name == FIXED:
            content = state_to_bytes(net.resnet_state())
            storage.write_bytes(weights_file(folder, fit), content)
        table = pa.table({"image_id": scored[0], "defect_logit": scored[1]})
        storage.write_bytes(scores_file(folder, fit), storage.parquet_bytes(table))
        storage.write_json(result_file(folder, fit), facts)


def _facts(progress: Progress, begun: int, failures: dict[int, str]) -> dict[str, Any]:
    return {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "continued_after_epoch": begun,
        "history": progress.history,
        "unreadable": {str(i): text for i, text in sorted(failures.items())},
    }


def _only(batch: Batch, ids: np.ndarray, weights: np.ndarray) -> Batch:
    """The rows of a batch that are among sorted ids, with those weights."""
    rows = np.flatnonzero(np.isin(batch.ids, ids))
    chosen = rows_of(batch, rows)
    places = np.searchsorted(ids, chosen.ids)
    return Batch(chosen.ids, chosen.inputs, chosen.is_defect, weights[places].astype(np.float32))


def _team() -> Team:
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Team()
    from torch import distributed
    from torch.distributed.algorithms.join import Join

    def gather(mine: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, ...]]:
        found: list[Any] = [None] * context.get_world_size()
        distributed.all_gather_object(found, mine)
        return found

    def agree(answer: bool) -> bool:
        said = [answer]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def add(tensor: torch.Tensor) -> torch.Tensor:
        distributed.all_reduce(tensor)
        return tensor

    def wrap(net: DefectNet) -> torch.nn.Module:
        wrapped: torch.nn.Module = ray.train.torch.prepare_model(
            net, parallel_strategy_kwargs={"broadcast_buffers": False}
        )
        return wrapped

    def uneven(model: Any) -> Join:
        return Join([model])

    return Team(context.get_world_rank(), wrap, uneven, add, gather, agree)

"""What a training worker does: one training after the other, on images that Ray Data streams."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch

from pipeline.models.batches import Sources
from pipeline.models.classifier_training import defect_logits, train_classifier
from pipeline.models.defect_net import DefectNet
from pipeline.models.epochs import Attempt, EpochSettings, Progress, Team
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.weights import state_from_bytes, state_to_bytes
from pipeline.stages.cards import take_own_cards
from pipeline.stages.classifier_failures import Failures
from pipeline.stages.classifier_images import ImageSettings, WorkerImages
from pipeline.stages.classifier_plan import FIXED, Fit
from pipeline.stages.classifier_team import this_team
from pipeline.tables import storage

IMAGES = "images"
# Of the second pass, in the names of its files.
_REFIT = "-refit"


@dataclass(frozen=True)
class LoopSettings:
    """What a worker is told.

    Attributes:
        folder: of the model's results.
        weights: reference to the starting weights, as safetensors.
        fits: the trainings, in order.
        epochs: how each is trained.
        refit: train a second time, on the stopping images too, as long as they said.
        images: how to come by the images, and which layers are trained.
        threads: of the arithmetic.
        checkpoint_s: seconds between checkpoints.
        max_unreachable: share of them whose files may be out of reach.
    """

    folder: str
    weights: Any
    fits: tuple[Fit, ...]
    epochs: EpochSettings
    refit: bool
    images: ImageSettings
    threads: int
    checkpoint_s: float
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


def checkpoint_file(folder: str, name: str) -> str:
    """Where an unfinished pass of a training goes on.

    A file of our own, whole as soon as it is there: what is reported to Ray Train counts only
    when its controller has noted it, and a kill in between would lose it.
    """
    return storage.join(folder, "checkpoints", f"{name}.pt")


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


@dataclass(frozen=True)
class _Pass:
    """A network that was trained; `begun`: epochs that an earlier attempt had done."""

    net: DefectNet
    progress: Progress
    begun: int


@dataclass
class _Worker:
    """One worker: its share of the images, and its part in the team."""

    settings: LoopSettings
    team: Team = field(init=False)
    failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.team = this_team()
        self.failures = Failures(settings.images.images, settings.max_unreachable)
        self._state = state_from_bytes(ray.get(settings.weights), "weights")
        take_own_cards()
        self._device = ray.train.torch.get_device()
        shard = ray.train.get_dataset_shard(IMAGES)
        self._images = WorkerImages(shard, settings.images, self._net, self.failures)
        self._saved = time.monotonic()

    def train(self, fit: Fit) -> None:
        """Trains, scores, and leaves the result in the store."""
        chosen = last = self._choose_epoch(fit)
        if self.settings.refit:
            last = self._refit(fit, chosen.progress.best_epoch)
        ids, _, logits = defect_logits(last.net, self._images.rows(fit.scored), self.team)
        failures = self.failures.of_all(self.team)
        if self.team.rank == 0:
            begun = chosen.begun + (last.begun if self.settings.refit else 0)
            facts = _facts(chosen.progress, begun, failures)
            self._leave(fit, last.net, (ids, logits), facts)

    def _choose_epoch(self, fit: Fit) -> _Pass:
        """Trained until the stopping images say that it is enough."""
        images = self._images
        sources = Sources(
            images.epochs(fit.training, fit.weights), lambda: images.rows(fit.stopping)
        )
        return self._pass(fit, fit.name, sources, self.settings.epochs)

    def _refit(self, fit: Fit, epochs: int) -> _Pass:
        """Trained from the start on all training rows, as many epochs as the first time."""
        sources = Sources(self._images.epochs(fit.refit, fit.refit_weights), None)
        settings = replace(self.settings.epochs, last=epochs)
        return self._pass(fit, fit.name + _REFIT, sources, settings)

    def _pass(self, fit: Fit, name: str, sources: Sources, settings: EpochSettings) -> _Pass:
        """One training from its last checkpoint, else from the start, to its end."""
        net, file = self._net(), checkpoint_file(self.settings.folder, name)
        before = Progress.from_bytes(storage.read_bytes(file)) if storage.exists(file) else None
        begun = before.epoch if before else 0
        attempt = Attempt(before, lambda now: self._save(fit, name, now), self.team)
        progress = train_classifier(net, sources, settings, attempt)
        if self.settings.refit and self.team.rank == 0:
            storage.write_bytes(file, progress.to_bytes())
        return _Pass(net, progress, begun)

    def _net(self) -> DefectNet:
        """As every training begins: the same new head on the given weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.epochs.seed)
            net = DefectNet(self._state, self.settings.images.trainable, "weights")
        return net.to(self._device).eval()

    def _save(self, fit: Fit, name: str, progress: Progress) -> None:
        """A note for the driver; a checkpoint, when enough time has passed since the last."""
        if self.team.rank == 0:
            note = {
                "training": name,
                "number": [other.name for other in self.settings.fits].index(fit.name) + 1,
                "epoch": progress.epoch,
                "average_precision": [e["average_precision"] for e in progress.history[-1:]],
            }
            storage.write_json(note_file(self.settings.folder), note)
        due = time.monotonic() - self._saved >= self.settings.checkpoint_s
        if not self.team.agree(due):
            return
        if self.team.rank == 0:
            file = checkpoint_file(self.settings.folder, name)
            storage.write_bytes(file, progress.to_bytes())
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

"""Training the good/defect classifier on a given backbone: epochs, early stopping, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import InputError
from pipeline.models.augment import Augmentation, augmented
from pipeline.models.batches import Batch, Sources
from pipeline.models.defect_net import DefectNet, pixels
from pipeline.models.epochs import Attempt, EpochSettings, Progress, Team

# Below it a channel that never changes would be blown up instead of scaled.
_LEAST_DEVIATION = 1e-6
# Share of the epochs in which the trained layers' learning rate grows: a new head's first
# gradients are large and point anywhere, and would shake what the layers know.
WARM_UP = 0.2
# Longest gradient of the layers in a step: a few odd images can't throw the weights away.
MOST_GRADIENT = 1.0
# Views of each image from which the features' scale is taken: more change it little.
_SCALE_VIEWS = 2
# Steps of the seed between epochs and between ranks: no two draw the same numbers.
_SEED_STEP = 1_000_003


def train_classifier(
    net: DefectNet, sources: Sources, settings: EpochSettings, attempt: Attempt | None = None
) -> Progress:
    """Trains in place, from the beginning or from a checkpoint, and leaves the best epoch's state.

    The best epoch is the one with the highest average precision on the stopping images; among
    equals the one with the lowest loss there. Without stopping images it is the last one. A
    training that goes on from a checkpoint ends with the same bits as one that was never cut off.

    Raises:
        InputError: training or stopping images lack one of the two kinds.
    """
    attempt = attempt or Attempt()
    progress = attempt.progress or Progress()
    if progress.epoch:
        net.load_state_dict(progress.model, strict=False)
    else:
        _settle_scale(net, sources.training(0), attempt.team)
    optimiser = _optimiser(net, settings)
    if progress.optimiser:
        optimiser.load_state_dict(progress.optimiser)
    model = attempt.team.wrap(net)
    training = _Training(net, model, optimiser, sources, settings, attempt.team)
    while not progress.finished(settings):
        training.epoch(progress.epoch)
        training.judge(progress)
        attempt.on_epoch(progress)
    net.load_state_dict(progress.best, strict=False)
    return progress


def _optimiser(net: DefectNet, settings: EpochSettings) -> torch.optim.Optimizer:
    layers = [p for name in net.trained for p in net.trunk.layers[name].parameters()]
    groups = [{"params": list(net.head.parameters()), "lr": settings.learning_rate}]
    if layers:
        groups.append({"params": layers, "lr": settings.layer_learning_rate})
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


@dataclass(frozen=True)
class _Training:
    """The pieces of one training; `model` is `net` as the loss sees it."""

    net: DefectNet
    model: nn.Module
    optimiser: torch.optim.Optimizer
    sources: Sources
    settings: EpochSettings
    team: Team

    def epoch(self, number: int) -> None:
        """One pass over the training images."""
        settings = self.settings
        fade = 0.5 * (1 + math.cos(math.pi * number / settings.epochs))
        warm = min(1.0, (number + 0.5) / (WARM_UP * settings.epochs))
        rates = (settings.learning_rate, settings.layer_learning_rate * warm)
        for group, rate in zip(self.optimiser.param_groups, rates, strict=False):
            group["lr"] = rate * fade
        self.net.train()
        with self.team.uneven(self.model), torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + _SEED_STEP * (number + 1) + self.team.rank)
            for batch in self.sources.training(number):
                self._step(batch)
        self.net.eval()

    def _step(self, batch: Batch) -> None:
        logits = self.model(_training_inputs(self.net, batch, self.settings.augmentation))
        truth = torch.from_numpy(batch.is_defect).float().to(logits.device)
        weight = torch.from_numpy(batch.weight).to(logits.device)
        losses = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        self.optimiser.zero_grad()
        (losses * weight).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.trunk.parameters(), MOST_GRADIENT)
        self.optimiser.step()

    def judge(self, progress: Progress) -> None:
        """Notes how good the stopping images are told apart now, and the state to go on from."""
        progress.epoch += 1
        if self.sources.stopping is None or self._is_best(progress, self.sources.stopping()):
            progress.best_epoch = progress.epoch
            progress.best = self.net.trained_state()
        progress.model = self.net.trained_state()
        progress.optimiser = self.optimiser.state_dict()

    def _is_best(self, progress: Progress, stopping: Iterable[Batch]) -> bool:
        """Whether no epoch before was as good; notes its figures."""
        _, truth, logits = defect_logits(self.net, stopping, self.team)
        require_both_kinds(int(truth.sum()), len(truth), "early stopping")
        signs = np.where(truth, -logits, logits).astype(np.float64)
        entry = {
            "average_precision": float(average_precision_score(truth, logits)),
            "loss": float(np.logaddexp(0, signs).mean()),
        }
        progress.history.append(entry)
        ranks = [(e["average_precision"], -e["loss"]) for e in progress.history]
        return self.team.agree(ranks[-1] > max(ranks[:-1], default=(-1.0, 0.0)))


def _settle_scale(net: DefectNet, batches: Iterable[Batch], team: Team) -> None:
    """Mean and deviation of the training images' features, all views, over all workers."""
    width = len(net.mean)
    sums = torch.zeros(2 * width + 3, dtype=torch.float64)
    for batch in batches:
        features = _all_features(net, batch.inputs).double().cpu()
        sums[:width] += features.sum(0)
        sums[width:-3] += features.square().sum(0)
        sums[-3] += len(features)
        sums[-2] += float(batch.is_defect.sum())
        sums[-1] += len(batch.ids)
    sums = team.add(sums.to(net.mean.device)).cpu()
    count, defects, images = sums[-3], int(sums[-2]), int(sums[-1])
    require_both_kinds(defects, images, "training")
    mean = sums[:width] / count
    variance = (sums[width:-3] / count - mean.square()).clamp_min(0)
    net.mean.copy_(mean)
    net.deviation.copy_(variance.sqrt().clamp_min(_LEAST_DEVIATION))


def require_both_kinds(defects: int, images: int, use: str) -> None:
    """Refuses images of one kind alone.

    Raises:
        InputError: with the counts.
    """
    if defects in (0, images):
        raise InputError(
            f"{use}: {defects} of {images} readable images are defects: both kinds are needed; "
            "add some of the other kind to the role, or ask for fewer folds"
        )


def _all_features(net: DefectNet, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        if inputs.dtype == torch.uint8:
            return net.features(net.frozen_part(pixels(inputs, net)))
        views = inputs[:, :_SCALE_VIEWS].unbind(1)
        return torch.cat([net.features(view.to(net.mean.device)) for view in views])


def _training_inputs(net: DefectNet, batch: Batch, augmentation: Augmentation) -> Tensor:
    if batch.inputs.dtype == torch.uint8:
        return net.frozen_part(augmented(pixels(batch.inputs, net), augmentation))
    count, views = batch.inputs.shape[:2]
    return batch.inputs[torch.arange(count), torch.randint(0, views, (count,))].to(net.mean.device)


def defect_logits(
    net: DefectNet, batches: Iterable[Batch], team: Team | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (N,) int64 in order, truth (N,) bool and logits (N,) float32 of plain images.

    Of images given as views the first is the plain one.
    """
    team = team or Team()
    parts = [
        (batch.ids, batch.is_defect, _plain_logits(net, batch.inputs)) for batch in batches
    ] or [(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, np.float32))]
    mine = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    ids, truth, logits = (np.concatenate(column) for column in zip(*team.gather(mine), strict=True))
    order = np.argsort(ids)
    return ids[order], truth[order], logits[order]


def _plain_logits(net: DefectNet, inputs: Tensor) -> np.ndarray:
    with torch.inference_mode():
        images = inputs.dtype == torch.uint8
        plain = net.frozen_part(pixels(inputs, net)) if images else inputs[:, 0]
        logits: np.ndarray = net(plain.to(net.mean.device)).cpu().numpy()
    return logits

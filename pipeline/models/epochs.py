"""A classifier's training seen from outside: its settings, how far it is, who takes part."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.models.augment import Augmentation
from pipeline.models.defect_net import DefectNet
from pipeline.models.weights import State


@dataclass(frozen=True)
class EpochSettings:
    """How to train.

    Attributes:
        seed: of everything that is left to chance.
        epochs: at most so many; the learning rates fall over all of them.
        last: the epoch after which training ends all the same; None: none.
        patience: epochs without a better average precision before training stops.
        learning_rate: of the head.
        layer_learning_rate: of the backbone's trained layers.
        weight_decay: AdamW's.
        augmentation: what happens to training images.
    """

    seed: int = 0
    epochs: int = 60
    last: int | None = None
    patience: int = 10
    learning_rate: float = 5e-3
    layer_learning_rate: float = 1e-4
    weight_decay: float = 0.05
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass
class Progress:
    """How far a training has come; everything that it needs to go on.

    Attributes:
        epoch: epochs done.
        history: per epoch the loss and the average precision on the stopping images, if any.
        best: what the best epoch left, by `DefectNet.trained_state`.
        best_epoch: counted from 1.
        model: the current state.
        optimiser: the optimiser's.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: State = field(default_factory=dict)
    best_epoch: int = 0
    model: State = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)

    def finished(self, settings: EpochSettings) -> bool:
        """No epoch is left, or none of the last ones was better."""
        waited = self.epoch - self.best_epoch >= settings.patience
        last = settings.epochs if settings.last is None else settings.last
        return self.epoch >= last or (self.epoch > 0 and waited)

    def to_bytes(self) -> bytes:
        """As a checkpoint."""
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Progress:
        """From a checkpoint."""
        return cls(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


@dataclass(frozen=True)
class Team:
    """The workers that train together; one alone by default.

    Attributes:
        rank: this one's number.
        wrap: the network as the loss sees it: itself, or what averages gradients.
        uneven: what lets workers have different numbers of batches.
        add: a tensor added up over all workers.
        gather: (ids, truth, logits) of all workers.
        agree: rank 0's answer.
    """

    rank: int = 0
    wrap: Callable[[DefectNet], nn.Module] = lambda net: net
    uneven: Callable[[nn.Module], Any] = lambda _: _Nothing()
    add: Callable[[Tensor], Tensor] = lambda tensor: tensor
    gather: Callable[[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]] = lambda mine: [mine]
    agree: Callable[[bool], bool] = lambda answer: answer


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Attempt:
    """What surrounds one training.

    Attributes:
        progress: where it goes on; None: from the beginning.
        on_epoch: told of each epoch that is done.
        team: the workers.
    """

    progress: Progress | None = None
    on_epoch: Callable[[Progress], None] = lambda _: None
    team: Team = field(default_factory=Team)

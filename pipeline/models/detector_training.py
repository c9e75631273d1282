"""Fine-tuning a YOLOv8 detector with ultralytics' trainer (AGPL-3.0), cut off from all but its work.

What ultralytics' own loop would do beside training is switched off: no validation (so no row
chooses the epoch), no plots, fonts, callbacks or loggers, no precision check that downloads a
model. Each epoch starts from random numbers of its own, so that a continued training gives the
weights of an uninterrupted one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.models.detector import load_network, require_quiet


@dataclass(frozen=True)
class FineTuning:
    """How to train.

    Attributes:
        weights: an ultralytics .pt to start from; None: from scratch.
        image_size: side of the letterboxed square, px.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: of AdamW, falling linearly to a hundredth.
        freeze: layers, counted from the input, that keep the weights they start with.
        seconds: the training is shortened to end after about this long; None: no limit.
        seed: of everything random.
        threads: of the arithmetic; another number can change the last bits.
        augment: shares and probabilities by ultralytics' names.
    """

    weights: Path | None
    image_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    freeze: int
    seconds: float | None
    seed: int
    threads: int
    augment: Mapping[str, float]


@dataclass(frozen=True)
class Epoch:
    """What is known at the end of an epoch.

    Attributes:
        number: epochs that are done.
        epochs: how many there will be.
        seconds: time trained so far, over all attempts.
        loss: the mean training loss of each kind.
        state: what a later attempt continues from; loads without running code.
    """

    number: int
    epochs: int
    seconds: float
    loss: Mapping[str, float]
    state: bytes


def fine_tune(
    images: Path,
    names: tuple[str, ...],
    settings: FineTuning,
    on_epoch: Callable[[Epoch], None],
    state: bytes | None = None,
) -> bytes:
    """Trains for the given number of epochs and returns the last averaged weights.

    Args:
        images: a folder of images whose labels lie in the sister folder `labels`; a temporary
            one, since ultralytics leaves its cache beside the labels.
        names: the classes.
        settings: how.
        on_epoch: called after each epoch, to keep its state.
        state: of the epoch to continue after; None: from the start.

    Returns:
        An ultralytics checkpoint (.pt) in half precision, without optimiser and without paths.

    Raises:
        InputError: weights that can't be loaded.
        RunError: the loss became infinite.
    """
    require_quiet()
    if settings.weights is not None:
        load_network(settings.weights, f"weights: {settings.weights}")
    torch.set_num_threads(settings.threads)
    from pipeline.models.detector_loop import FineTuner

    before = torch.load(io.BytesIO(state), weights_only=True) if state else None
    trainer = FineTuner(images, names, settings, on_epoch, before)
    trainer.train()
    return trainer.checkpoint()

"""Fine-tuning a YOLOv8 detector with ultralytics' trainer (AGPL-3.0), cut off from all else.

What ultralytics' own loop would do beside training is switched off: no validation (so no row
chooses the epoch), no plots, fonts, callbacks or loggers, no precision check that downloads a
model. Each epoch starts from random numbers of its own, so that a continued training gives the
weights of an uninterrupted one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import RunError
from pipeline.models.detector import load_network, require_quiet
from pipeline.models.memory import is_out_of_memory
from pipeline.models.specs import Epoch, FineTuning


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
        RunError: the loss became infinite; memory doesn't hold a batch.
    """
    require_quiet()
    if settings.weights is not None:
        load_network(settings.weights, f"weights: {settings.weights}")
    from pipeline.models.detector_loop import FineTuner

    # Of a GPU, perhaps, that isn't there any more.
    before = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True) if state else None
    trainer = FineTuner(images, names, settings, on_epoch, before)
    torch.set_num_threads(settings.threads)  # after ultralytics has set its own number
    try:
        trainer.train()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"training: no memory for a batch of {settings.batch_size} images of "
            f"{settings.image_size} px; take a smaller batch_size or image_size, or a machine or "
            "GPU with more memory"
        ) from None
    return trainer.checkpoint()


def mean_average_precision(
    right: np.ndarray, confidence: np.ndarray, found: np.ndarray, true: np.ndarray
) -> float:
    """Average precision, averaged over the classes that occur, by ultralytics' own interpolation.

    Args:
        right: (N,) bool, which found boxes are right.
        confidence: (N,) of the found boxes.
        found: (N,) int, their classes.
        true: (M,) int, the classes of the true boxes; at least one.
    """
    require_quiet()
    from ultralytics.utils.metrics import ap_per_class

    precisions = ap_per_class(right[:, None], confidence, found, true)[5]
    return float(precisions[:, 0].mean())

"""Labelled images on their way into a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B labelled images.

    Attributes:
        ids: (B,) int64.
        inputs: (B, S, S, 3) uint8 images, or (B, V, …) float32: what the frozen layers make of V
            views of each, the plain image's first.
        is_defect: (B,) bool.
        weight: (B,) float32, of each image in the loss.
    """

    ids: np.ndarray
    inputs: Tensor
    is_defect: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Sources:
    """Where a training's images come from; each call starts anew.

    Attributes:
        training: batches of an epoch, shuffled by its number.
        stopping: batches of the images that decide when to stop, never trained on; None: it ends
            at an epoch that is settled.
    """

    training: Callable[[int], Iterable[Batch]]
    stopping: Callable[[], Iterable[Batch]] | None


def in_memory(
    batch: Batch, size: int, seed: int, rows: np.ndarray | None = None
) -> Callable[[int], Iterator[Batch]]:
    """Epochs over images that are held in memory: shuffled by seed and epoch, in batches.

    Args:
        batch: the images.
        size: of a batch.
        seed: of the order.
        rows: the numbers of those that take part; None: all.
    """
    chosen = np.arange(len(batch.ids)) if rows is None else rows

    def epoch_of(epoch: int) -> Iterator[Batch]:
        order = chosen[np.random.default_rng([seed, epoch]).permutation(len(chosen))]
        for start in range(0, len(order), size):
            yield rows_of(batch, order[start : start + size])

    return epoch_of


def full_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same images in the same order, `size` at a time: what was filtered is uneven.

    The rest joins the last full one, so that no step follows a handful of images.
    """
    held: list[Batch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch.ids)
        while count >= 2 * size:
            whole = _joined(held)
            yield rows_of(whole, np.arange(size))
            held, count = [rows_of(whole, np.arange(size, count))], count - size
    if count:
        yield _joined(held)


def _joined(batches: list[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.ids for batch in batches]),
        torch.cat([batch.inputs for batch in batches]),
        np.concatenate([batch.is_defect for batch in batches]),
        np.concatenate([batch.weight for batch in batches]),
    )


def rows_of(batch: Batch, rows: np.ndarray) -> Batch:
    """Some rows of a batch, by number."""
    return Batch(
        batch.ids[rows],
        batch.inputs[torch.from_numpy(rows)],
        batch.is_defect[rows],
        batch.weight[rows],
    )

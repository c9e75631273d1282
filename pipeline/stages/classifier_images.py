"""A training worker's share of the images: streamed, or held as the frozen layers see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.models.augment import Augmentation
from pipeline.models.batches import Batch, full_batches, in_memory, rows_of
from pipeline.models.defect_net import HEAD, DefectNet, frozen_views
from pipeline.stages.classifier_failures import Failures
from pipeline.stages.columns import unpack
from pipeline.stages.decode import SQUARE

# Images among which a streamed epoch is shuffled; the whole set was shuffled once before.
_SHUFFLE_ROWS = 512
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class ImageSettings:
    """How a worker comes by its images.

    Attributes:
        trainable: the first layer that is trained, or `head`.
        side: of the square images, in pixels.
        views: per image, where they are held.
        held_bytes: most that the held views may take; more images are streamed in every epoch.
        images: how many the workers read together.
        batch_size: images per step.
        augmentation: what happens to training images.
        seed: of order and views.
    """

    trainable: str
    side: int
    views: int
    held_bytes: int
    images: int
    batch_size: int
    augmentation: Augmentation
    seed: int


class WorkerImages:
    """What one worker trains on and scores; rows are named by sorted int64 ids."""

    def __init__(
        self,
        stream: Any,
        settings: ImageSettings,
        net: Callable[[], DefectNet],
        failures: Failures,
    ) -> None:
        """Nothing is read yet.

        Args:
            stream: Ray Data's iterator over this worker's share.
            settings: how to read it.
            net: the network before training, whose frozen layers every training shares.
            failures: told of images that can't be read.
        """
        self._stream, self._settings, self._net = stream, settings, net
        self._failures = failures
        self._held: Batch | None = None

    def epochs(self, ids: np.ndarray, weights: np.ndarray) -> Callable[[int], Iterator[Batch]]:
        """Shuffled batches by the epoch's number; `weights` (N,) of the ids in the loss."""
        size = self._settings.batch_size
        if not self._hold():
            return lambda epoch: full_batches(self._streamed(ids, weights, epoch), size)
        held = self._all_held()
        rows = np.flatnonzero(np.isin(held.ids, ids))
        weight = np.zeros(len(held.ids), np.float32)
        weight[rows] = weights[np.searchsorted(ids, held.ids[rows])]
        batch = Batch(held.ids, held.inputs, held.is_defect, weight)
        return in_memory(batch, size, self._settings.seed, rows)

    def rows(self, ids: np.ndarray) -> Iterator[Batch]:
        """The images with these ids, as they are."""
        weights = np.ones(len(ids), np.float32)
        if not self._hold():
            yield from self._streamed(ids, weights, None)
            return
        held, size = self._all_held(), self._settings.batch_size
        rows = np.flatnonzero(np.isin(held.ids, ids))
        for start in range(0, len(rows), size):
            yield rows_of(held, rows[start : start + size])

    def _hold(self) -> bool:
        """With a frozen trunk always; with trained layers where the views fit into memory."""
        settings = self._settings
        if settings.trainable == HEAD:
            return True
        blank = torch.zeros(1, 3, settings.side, settings.side)
        net = self._net()
        one = net.frozen_part(blank.to(net.mean.device)).numel() * _FLOAT_BYTES
        return settings.images * settings.views * one <= settings.held_bytes

    def _streamed(self, ids: np.ndarray, weights: np.ndarray, epoch: int | None) -> Iterator[Batch]:
        for batch in self._batches(epoch):
            rows = np.flatnonzero(np.isin(batch.ids, ids))
            if len(rows):
                chosen = rows_of(batch, rows)
                weight = weights[np.searchsorted(ids, chosen.ids)].astype(np.float32)
                yield Batch(chosen.ids, chosen.inputs, chosen.is_defect, weight)

    def _batches(self, epoch: int | None) -> Iterator[Batch]:
        """All images of this worker, shuffled where an epoch is named."""
        shuffle = (
            {}
            if epoch is None
            else {
                "local_shuffle_buffer_size": _SHUFFLE_ROWS,
                "local_shuffle_seed": self._settings.seed + epoch,
            }
        )
        for block in self._stream.iter_batches(
            batch_size=self._settings.batch_size, batch_format="pyarrow", **shuffle
        ):
            yield self._batch(block)

    def _batch(self, block: pa.Table) -> Batch:
        images, present = unpack(block.column(SQUARE))
        ids = block.column("image_id").to_numpy()
        self._failures.add(block)
        return Batch(
            ids[present],
            torch.from_numpy(images.copy()),
            block.column("is_defect").to_numpy(zero_copy_only=False)[present],
            np.ones(len(present), np.float32),
        )

    def _all_held(self) -> Batch:
        """What the frozen layers make of all views of all images; made once."""
        if self._held is None:
            net, settings = self._net(), self._settings
            parts = []
            for number, batch in enumerate(self._batches(None)):
                seed = settings.seed + number
                views = frozen_views(net, batch.inputs, settings.views, settings.augmentation, seed)
                parts.append(Batch(batch.ids, views, batch.is_defect, batch.weight))
            self._held = Batch(
                np.concatenate([part.ids for part in parts]),
                torch.cat([part.inputs for part in parts]),
                np.concatenate([part.is_defect for part in parts]),
                np.concatenate([part.weight for part in parts]),
            )
        return self._held

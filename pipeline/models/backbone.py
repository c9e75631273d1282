"""The backbone: features of an image, per cell of its grids and averaged over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from pipeline.models.precision import FLOAT32
from pipeline.models.resnet import Trunk, default_device, in_fixed_batches
from pipeline.models.specs import FeatureLayout

# All of its bits are set in what is infinite or no number.
_EXPONENT = 0x7C00


@dataclass(frozen=True)
class Features:
    """Features of N images, in the types in which they are stored.

    Attributes:
        cells: (N, G, D) float16; grid after grid, each row by row.
        pooled: (N, P) float32.
    """

    cells: np.ndarray
    pooled: np.ndarray

    def finite(self) -> np.ndarray:
        """(N,) bool: whether every feature of an image is a number; float16 ends at 65504."""
        # By the bits of float16: `isfinite` turns each into a wider float, in 13 times the time.
        exponents = self.cells.view(np.uint16) & _EXPONENT
        cells: np.ndarray = (exponents != _EXPONENT).all(axis=(1, 2))
        pooled: np.ndarray = np.isfinite(self.pooled).all(axis=1)
        return np.asarray(cells & pooled)


class Backbone:
    """ResNet-18 up to the last layer in use."""

    def __init__(
        self,
        state: Mapping[str, Tensor],
        layout: FeatureLayout,
        batch_size: int,
        what: str = "backbone.weights",
        precision: str = FLOAT32,
        device: torch.device | None = None,
    ) -> None:
        """Loads the weights, to the GPU that this process may use unless a device is named.

        Raises:
            InputError: the layers in use are not complete.
        """
        self.layout = layout
        self.device = device or default_device()
        self._batch_size = batch_size
        self._trunk = Trunk(state, layout.last_layer, what).settled(precision).to(self.device)

    def features(self, images: np.ndarray) -> Features:
        """Features of (N, S, S, 3) uint8 RGB images.

        A cell's feature is the average over its area of each layer's output; adaptive average
        pooling, so that grids need not divide the layer's size. It is rounded to float16, the
        type in which it is stored and from which every distance is computed.
        """
        cells, pooled = in_fixed_batches(self._run, images, self._batch_size, self.device)
        return Features(cells, pooled)

    def _run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        used = {*self.layout.cell_layers, *self.layout.pooled_layers}
        outputs = {n: out.float() for n, out in self._trunk.of_pixels(batch).items() if n in used}
        grids = [
            torch.cat(
                [
                    adaptive_avg_pool2d(outputs[name], side).flatten(2).transpose(1, 2)
                    for name in self.layout.cell_layers
                ],
                dim=2,
            )
            for side in self.layout.grids
        ]
        pooled = [outputs[name].mean(dim=(2, 3)) for name in self.layout.pooled_layers]
        return torch.cat(grids, dim=1).half(), torch.cat(pooled, dim=1)

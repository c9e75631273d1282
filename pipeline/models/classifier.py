"""The good/defect classifier: a ResNet-18 with a head of one or two outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.models.precision import FLOAT32
from pipeline.models.resnet import Trunk, default_device, in_fixed_batches
from pipeline.models.specs import CHANNELS


class Classifier:
    """Images in, the logit of `defect` over `good` out.

    The head's width tells where it sits: 512 channels behind layer4, as torchvision has it, or
    256 behind layer3, for backbones that end there. Of two outputs the second is `defect`.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        batch_size: int,
        what: str = "classifier.weights",
        precision: str = FLOAT32,
        device: torch.device | None = None,
    ) -> None:
        """Loads the weights, to the GPU that this process may use unless a device is named.

        Raises:
            InputError: no head, or one of another shape.
        """
        self.device = device or default_device()
        self._batch_size = batch_size
        self._head, last_layer = _head(state, what)
        self._head.to(self.device)
        trunk = {name: value for name, value in state.items() if not name.startswith("fc.")}
        self._last_layer = last_layer
        self._trunk = Trunk(trunk, last_layer, what).settled(precision).to(self.device)

    def defect_logits(self, images: np.ndarray) -> np.ndarray:
        """(N,) float32 logits of (N, S, S, 3) uint8 RGB images."""
        (logits,) = in_fixed_batches(self._run, images, self._batch_size, self.device)
        return logits

    def _run(self, batch: Tensor) -> tuple[Tensor]:
        pooled = self._trunk.of_pixels(batch)[self._last_layer].float().mean(dim=(2, 3))
        outputs = self._head(pooled)
        if outputs.shape[1] == 1:
            return (outputs[:, 0],)
        return (outputs[:, 1] - outputs[:, 0],)


def _head(state: Mapping[str, Tensor], what: str) -> tuple[nn.Linear, str]:
    weight, bias = state.get("fc.weight"), state.get("fc.bias")
    if weight is None or bias is None:
        raise InputError(f"{what}: has no head (fc.weight and fc.bias)")
    if weight.ndim != 2 or weight.shape[0] not in (1, 2):
        raise InputError(
            f"{what}: fc.weight has the shape {tuple(weight.shape)}; "
            "good/defect takes 1 or 2 outputs"
        )
    by_width = {CHANNELS[name]: name for name in ("layer3", "layer4")}
    if weight.shape[1] not in by_width:
        raise InputError(
            f"{what}: fc.weight reads {weight.shape[1]} channels; layer3 has 256 and layer4 512"
        )
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    head.eval().requires_grad_(False)
    return head, by_width[weight.shape[1]]

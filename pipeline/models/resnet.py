"""ResNet-18 as both users of it need it: cut behind its last used layer, uint8 images in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from pipeline.models.memory import in_batches
from pipeline.models.specs import LAYERS
from pipeline.models.weights import fill

# Mean and standard deviation of ImageNet's RGB, with which the weights were trained.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def layers_until(last: str) -> tuple[str, ...]:
    """The layers up to and with `last`."""
    return LAYERS[: LAYERS.index(last) + 1]


def unused_after(last: str) -> tuple[str, ...]:
    """Prefixes of the weights behind `last`, the head included."""
    return (*(f"{name}." for name in LAYERS[LAYERS.index(last) + 1 :]), "fc.")


class Trunk(nn.Module):
    """ResNet-18 from the image to its last used layer, in eval mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, state: Mapping[str, Tensor], last_layer: str, what: str) -> None:
        super().__init__()
        full = resnet18(weights=None)
        fill(full, state, unused_after(last_layer), what)
        self.stem = nn.Sequential(full.conv1, full.bn1, full.relu, full.maxpool)
        self.layers = nn.ModuleDict(
            {name: getattr(full, name) for name in layers_until(last_layer)}
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def normalised_stem(self, images: Tensor) -> Tensor:
        """The first layer's input, of images (N, 3, H, W) in [0, 1], RGB."""
        stem: Tensor = self.stem((images - self.mean) / self.std)
        return stem

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Output of every layer; images: (N, 3, H, W) in [0, 1], RGB."""
        x = self.normalised_stem(images)
        outputs = {}
        for name, layer in self.layers.items():
            x = layer(x)
            outputs[name] = x
        return outputs


def default_device() -> torch.device:
    """The GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fix_arithmetic(threads: int) -> None:
    """Settles what a process computes with, so that equal images give equal numbers.

    float32 stays float32: TensorFloat-32 would change distances by 1e-3.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def in_fixed_batches(
    run: Callable[[Tensor], Sequence[Tensor]], images: np.ndarray, size: int, device: torch.device
) -> list[np.ndarray]:
    """Applies a network to images in batches of one shape, the last one padded with black.

    Libraries choose their kernels by the batch's shape: with one shape an image's numbers
    don't depend on how many others came along.

    Args:
        run: from (size, 3, H, W) in [0, 1] to tensors with `size` rows.
        images: (N, H, W, 3) uint8.
        size: images per batch.
        device: where `run` computes.

    Returns:
        For each output of `run`, an array with N rows.

    Raises:
        NoMemoryError: images that find no room even alone.
    """

    def one(chunk: np.ndarray, shape: int) -> list[np.ndarray]:
        tensor = padded(chunk, shape, device)
        with torch.inference_mode():
            outputs = run(tensor)
        return [output[: len(chunk)].cpu().numpy() for output in outputs]

    # No image at all takes a pass as well: its outputs tell the shapes.
    parts = in_batches(one, images, size) or [one(images, 1)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def padded(images: np.ndarray, size: int, device: torch.device) -> Tensor:
    """(size, 3, H, W) float32 in [0, 1] of up to `size` (N, H, W, 3) uint8 images, then black."""
    batch = np.zeros((size, *images.shape[1:]), np.uint8)
    batch[: len(images)] = images
    return torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() / 255

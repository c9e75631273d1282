"""ResNet-18 as both users of it need it: cut behind its last used layer, uint8 images in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.models.memory import in_batches
from pipeline.models.precision import NUMBER_TYPES, cast
from pipeline.models.specs import LAYERS
from pipeline.models.vision import resnet18
from pipeline.models.weights import fill

# Mean and standard deviation of ImageNet's RGB, with which the weights were trained.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

# Batches whose outputs a GPU may still be computing: each has a buffer of the host's memory.
_UNDER_WAY = 4


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
    scale: Tensor
    offset: Tensor

    def __init__(self, state: Mapping[str, Tensor], last_layer: str, what: str) -> None:
        super().__init__()
        full = resnet18(weights=None)
        fill(full, state, unused_after(last_layer), what)
        # The largest of the positive is the positive part of the largest, to the bit: a quarter of
        # the values are left to look at.
        self.stem = nn.Sequential(full.conv1, full.bn1, full.maxpool, full.relu)
        self.layers = nn.ModuleDict(
            {name: getattr(full, name) for name in layers_until(last_layer)}
        )
        self.kind = torch.float32
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        # The same from 0 to 255: x / 255 / std - mean / std.
        self.register_buffer("scale", 1 / (255 * self.std), persistent=False)
        self.register_buffer("offset", self.mean / self.std, persistent=False)
        self.eval().requires_grad_(False)

    def settled(self, precision: str) -> Trunk:
        """Itself as it is used, no longer to be trained: in that precision, and faster.

        Each batch norm becomes part of the convolution before it, in float32; the two have the
        same function in eval mode.
        """
        for module in list(self.modules()):
            _fold(module)
        for module in (self.stem, self.layers):
            cast(module, precision)
        self.kind = NUMBER_TYPES[precision]
        return self

    def normalised_stem(self, images: Tensor) -> Tensor:
        """The first layer's input, of images (N, 3, H, W) in [0, 1], RGB."""
        stem: Tensor = self.stem((images - self.mean) / self.std)
        return stem

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Output of every layer; images: (N, 3, H, W) in [0, 1], RGB."""
        return self._layers(self.normalised_stem(images))

    def of_pixels(self, pixels: Tensor) -> dict[str, Tensor]:
        """Output of every layer, in the network's precision; pixels: (N, 3, H, W) uint8, RGB.

        Whoever averages over it does so in float32: the mean of many rounded values is exacter
        than each of them, unless it is rounded again.
        """
        # In place, and a row of pixels at once: on one thread each fresh copy of the batch costs as
        # much as a small layer, and a channel at a time takes six times as long.
        rows = pixels.permute(0, 2, 3, 1)
        width = rows.shape[2]
        x = rows.flatten(2).float()
        x.mul_(self.scale.view(3).repeat(width)).sub_(self.offset.view(3).repeat(width))
        x = x.to(self.kind).view(rows.shape).permute(0, 3, 1, 2)
        return self._layers(self.stem(x))

    def _layers(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {}
        for name, layer in self.layers.items():
            x = layer(x)
            outputs[name] = x
        return outputs


def _fold(module: nn.Module) -> None:
    """Folds each batch norm among a module's children into the convolution before it."""
    for (name, child), (norm, after) in pairwise(list(module.named_children())):
        if isinstance(child, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, after))
            setattr(module, norm, nn.Identity())


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
    # Of cuDNN's ways to the same sum some add in whatever order their threads end.
    torch.backends.cudnn.deterministic = True


def in_fixed_batches(
    run: Callable[[Tensor], Sequence[Tensor]], images: np.ndarray, size: int, device: torch.device
) -> list[np.ndarray]:
    """Applies a network to images in batches of one shape, the last one padded with black.

    Libraries choose their kernels by the batch's shape: with one shape an image's numbers
    don't depend on how many others came along.

    Args:
        run: from (size, 3, H, W) uint8 to tensors with `size` rows.
        images: (N, H, W, 3) uint8.
        size: images per batch.
        device: where `run` computes.

    Returns:
        For each output of `run`, an array with N rows.

    Raises:
        NoMemoryError: images that find no room even alone.
    """
    under_way: list[list[Tensor]] = []

    def fetch() -> None:
        for outputs in under_way:
            outputs[:] = [output.cpu() for output in outputs]
        under_way.clear()

    def one(chunk: np.ndarray, shape: int) -> list[Tensor]:
        tensor = padded(chunk, shape, device)
        with torch.inference_mode():
            outputs = [output[: len(chunk)] for output in run(tensor)]
        # Not fetched yet: a GPU computes a batch while the next one is put together.
        under_way.append(outputs)
        if len(under_way) == _UNDER_WAY:
            fetch()
        return outputs

    # No image at all takes a pass as well: its outputs tell the shapes.
    parts = in_batches(one, images, size) or [one(images, 1)]
    fetch()
    return [
        np.concatenate([output.numpy() for output in column]) for column in zip(*parts, strict=True)
    ]


def padded(images: np.ndarray, size: int, device: torch.device) -> Tensor:
    """(size, 3, H, W) uint8, channels last, of up to `size` (N, H, W, 3) uint8 images, then black.

    They go to a GPU as bytes, a quarter of what floats would be, and from memory that it reads
    while the processor goes on.
    """
    shape = (size, *images.shape[1:])
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    rows = batch.numpy()
    rows[: len(images)] = images
    rows[len(images) :] = 0
    return batch.to(device, non_blocking=True).permute(0, 3, 1, 2)

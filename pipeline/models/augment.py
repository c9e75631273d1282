"""Changes by chance that leave a defect a defect: mirrored, moved a little, brighter or darker.

No crop, which could cut the defect away, and no change of hue, which can be the defect.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image: mirroring, a shift, brightness.

    Attributes:
        flips: mirror along both axes by chance.
        shift: most, as a share of the side.
        brightness: most, as a relative change.
    """

    flips: bool = True
    shift: float = 0.04
    brightness: float = 0.1


def brightness_gains(count: int, most: float) -> Tensor:
    """Factors (count, 1, 1, 1) in 1 ± `most`, from torch's global random state."""
    return 1 + most * (2 * torch.rand(count, 1, 1, 1) - 1)


def mirrored(batch: Tensor) -> Tensor:
    """Each image (B, C, S, S) mirrored by chance along each axis."""
    for axis in (2, 3):
        flip = torch.rand(len(batch), 1, 1, 1) < 0.5
        batch = torch.where(flip.to(batch.device), batch.flip(axis), batch)
    return batch


def shifted(batch: Tensor, most: int) -> Tensor:
    """Each image (B, C, S, S) moved by up to `most` pixels, its edge repeated into the gap."""
    size = batch.shape[-1]
    padded = functional.pad(batch, (most, most, most, most), mode="replicate")
    moves = torch.randint(0, 2 * most + 1, (len(batch), 2)).tolist()
    moved = [
        image[:, down : down + size, right : right + size]
        for image, (down, right) in zip(padded, moves, strict=True)
    ]
    return torch.stack(moved)


def augmented(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Images (B, 3, S, S) in [0, 1], changed by chance from torch's global random state."""
    gains = brightness_gains(len(images), augmentation.brightness).to(images.device)
    batch = (images * gains).clamp(0, 1)
    if augmentation.flips:
        batch = mirrored(batch)
    return shifted(batch, round(augmentation.shift * images.shape[-1]))

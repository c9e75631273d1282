"""A perceptual hash that sees the surface and not the light: 256 bits an image."""

from __future__ import annotations

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Side in pixels of the image that is hashed: what pHash with 16 × 16 coefficients looks at.
HASH_SIDE = 64
HASH_BITS = 256
HASH_BYTES = HASH_BITS // 8
# Half the side of the window, in pixels of the small image, over which light is evened out:
# about a fifth of the image, so that a shadow goes and a stain stays.
_WINDOW = 6
# Grey levels per local deviation, around the middle: two and a half deviations fit into a byte.
_MIDDLE, _LEVELS = 128, 48


def perceptual_hash(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bits of pHash over the image with its light evened out.

    The same part under another exposure or lamp keeps most of its bits; two parts under one
    lamp, whose plain images correlate strongly, share hardly more than chance.

    Args:
        square: (64, 64, 3) uint8, as `resize_square` makes it.

    Returns:
        (32,) uint8: 256 bits, packed.
    """
    grey = np.asarray(Image.fromarray(square).convert("L"))
    bits = imagehash.phash(Image.fromarray(even_light(grey)), hash_size=16).hash
    return np.packbits(bits.ravel())


def even_light(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel less the mean of its window, in deviations of the window; (H, W) uint8.

    The sums are of whole numbers, and the root and quotient are the ones IEEE 754 rounds
    correctly, so that every machine gets the same bytes.
    """
    values = grey.astype(np.int64)
    count = (2 * _WINDOW + 1) ** 2
    total, squares = _window_sums(values), _window_sums(values * values)
    # count² × variance, and never below that of one grey level: a flat window stays flat.
    spread = np.sqrt(np.maximum(squares * count - total * total, count * count))
    scaled = np.rint(_MIDDLE + _LEVELS * ((values * count - total) / spread))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _window_sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
    side = 2 * _WINDOW + 1
    padded = np.pad(values, _WINDOW, mode="edge")
    sums: NDArray[np.int64] = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    upper, lower = sums[:-side], sums[side:]
    within = lower[:, side:] - lower[:, :-side] - upper[:, side:] + upper[:, :-side]
    return np.asarray(within)

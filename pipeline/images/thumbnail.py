"""Small pictures for reports."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pixels of the longer side, and JPEG's quality: about 3 kB an image.
SIDE, _QUALITY = 96, 85


def thumbnail(image: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """A JPEG of an image whose longer side is `side` pixels; a smaller image isn't enlarged.

    Args:
        image: (H, W, 3) RGB.
        side: of the thumbnail, in pixels.

    Raises:
        ValueError: the image is of another shape or type, or empty.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image is {image.dtype} {image.shape}, need uint8 (H, W, 3)")
    small = Image.fromarray(image)
    # Averages over all pixels of the image: a scratch a pixel wide leaves a trace.
    small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()

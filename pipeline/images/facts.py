"""What a photograph looks like in three numbers: light, contrast and focus."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Sharpness is measured at one scale, or the same part in a camera of twice the resolution would
# count as less sharp. This is about what a backbone sees of an image.
SHARPNESS_PIXELS = 256 * 256
# Below this deviation, in grey levels, there is nothing that could be sharp.
_FLAT = 0.5


@dataclass(frozen=True)
class ImageFacts:
    """Of the whole decoded image.

    Attributes:
        brightness: mean of grey, 0 to 255.
        contrast: standard deviation of grey.
        sharpness: root mean square of the Laplacian of grey over the standard deviation of grey,
            both of the image shrunk to 256 × 256 px in area; no unit. Gain and offset of the
            light cancel out, and so does the size of images with this many pixels. NaN for a
            flat image.
    """

    brightness: float
    contrast: float
    sharpness: float


def image_facts(pixels: NDArray[np.uint8]) -> ImageFacts:
    """Facts of an image (H, W, 3) uint8 RGB; grey is ITU-R 601's luma, in whole levels.

    Raises:
        ValueError: the image is of another shape or type, or empty.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"image is {pixels.dtype} {pixels.shape}, need uint8 (H, W, 3)")
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    return ImageFacts(float(mean[0, 0]), float(deviation[0, 0]), _sharpness(_at_one_scale(grey)))


def _at_one_scale(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) averaged down to an area of about 256 × 256 px; a smaller one stays as it is.

    Halving is a tenth of the work of any other ratio, which is left for the last step.
    """
    height, width = grey.shape
    while height * width >= 4 * SHARPNESS_PIXELS and min(height, width) > 1:
        height, width = height // 2, width // 2
        grey = _averaged(grey[: 2 * height, : 2 * width], height, width)
    ratio = math.sqrt(SHARPNESS_PIXELS / (height * width))
    if ratio >= 1:
        return grey
    return _averaged(grey, max(1, round(height * ratio)), max(1, round(width * ratio)))


def _averaged(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    shrunk = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def _sharpness(grey: NDArray[np.uint8]) -> float:
    _, contrast = cv2.meanStdDev(grey)
    if contrast[0, 0] < _FLAT:
        return math.nan
    # The four-neighbour kernel; 16 bits hold its whole range, ±1020.
    edges = cv2.norm(cv2.Laplacian(grey, cv2.CV_16S, ksize=1), cv2.NORM_L2)
    return float(edges / math.sqrt(grey.size) / contrast[0, 0])

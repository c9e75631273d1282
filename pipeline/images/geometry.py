"""Pixels to the square shapes the models take, and the detector's boxes back to the image."""

import warnings
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# What ultralytics pads with in training and prediction (ImageNet's mean grey).
LETTERBOX_GREY = 114
# ultralytics rounds the two halves of an odd padding this way: the smaller half to the left and
# top, and never by Python's round-half-to-even.
_HALF_PIXEL_TIE = 0.1


def resize_square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W, 3) to (size, size, 3): bilinear with antialiasing, the aspect ratio not kept.

    The same arithmetic as torchvision's resize of the PIL image, so features match those of
    models trained that way. A square that is halved once or more PyTorch does with vector
    instructions, in a quarter to an eighth of Pillow's time, and at most a value in a thousand is
    one level off. At other ratios a tenth to a quarter of the values would be, and distances would
    change by up to 4 %.
    """
    height, width = pixels.shape[:2]
    if height != width or not _is_halved(width, size):
        return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    # Here, as many a job that prepares no image for a model reads this module.
    import torch
    from torch.nn.functional import interpolate

    # Pillow's arrays are read only, of which PyTorch warns; nothing here writes to one.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return np.asarray(resized[0].permute(1, 2, 0).contiguous().numpy())


def _is_halved(side: int, size: int) -> bool:
    """Whether `side` is `size` times a power of two."""
    times = side // size
    return side % size == 0 and times & (times - 1) == 0


def letterbox(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W, 3) to (size, size, 3): scaled to fit, centred on grey.

    Byte for byte ultralytics' LetterBox(auto=False). Its `predict` pads a batch of equal shapes
    to the smallest rectangle instead, unless rect=False: the result of an image would depend on
    its neighbours.
    """
    height, width = pixels.shape[:2]
    fit = _fit(size, width, height)
    canvas = np.full((size, size, 3), LETTERBOX_GREY, np.uint8)
    canvas[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = cv2.resize(
        pixels, (fit.width, fit.height), interpolation=cv2.INTER_LINEAR
    )
    return canvas


def letterbox_to_image(
    boxes: NDArray[np.float32], size: int, width: int, height: int
) -> NDArray[np.float32]:
    """Boxes (M, 4) xyxy in letterbox pixels to pixels of the width × height image, clipped to it.

    As ultralytics' scale_boxes: the two axes are undone by the rounded sizes, not by one ratio.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have shape {boxes.shape}, expected (M, 4) with x1, y1, x2, y2")
    fit = _fit(size, width, height)
    restored = boxes.copy()
    restored[:, 0::2] = ((boxes[:, 0::2] - fit.left) / (fit.width / width)).clip(0, width)
    restored[:, 1::2] = ((boxes[:, 1::2] - fit.top) / (fit.height / height)).clip(0, height)
    return restored


@dataclass(frozen=True)
class _Fit:
    """Where the scaled image lies on the square, in its pixels."""

    left: int
    top: int
    width: int
    height: int


def _fit(size: int, width: int, height: int) -> _Fit:
    ratio = min(size / height, size / width)
    fitted_width = max(round(width * ratio), 1)  # a thin line keeps one pixel
    fitted_height = max(round(height * ratio), 1)
    return _Fit(
        left=round((size - fitted_width) / 2 - _HALF_PIXEL_TIE),
        top=round((size - fitted_height) / 2 - _HALF_PIXEL_TIE),
        width=fitted_width,
        height=fitted_height,
    )

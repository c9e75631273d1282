"""The alternatives' images: opened, resized and letterboxed as one would without this project."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Task:
    """What the loop is to do; travels as JSON.

    Attributes:
        files: images.
        bundle: the bundle's folder.
        square, letterboxed: sides in px.
        batch: images per pass of the ResNets and the detector.
        threads: of the arithmetic.
        workers: processes that decode; 0: the loop itself.
        precision: float32 or bfloat16.
        category: of all images.
    """

    files: list[str]
    bundle: str
    square: int
    letterboxed: int
    batch: int
    threads: int
    workers: int
    precision: str
    category: str


def pair(task: Task, place: int) -> tuple[np.ndarray, np.ndarray]:
    """The (S, S, 3) square and the (L, L, 3) letterboxed image of one file."""
    cv2.setNumThreads(1)
    with Image.open(task.files[place]) as file:
        image = file.convert("RGB")
    square = np.array(image.resize((task.square, task.square), Image.Resampling.BILINEAR))
    return square, boxed(np.asarray(image), task.letterboxed)


def boxed(pixels: np.ndarray, size: int) -> np.ndarray:
    """Scaled to fit, centred on grey."""
    height, width = pixels.shape[:2]
    scale = min(size / height, size / width)
    wide, high = round(width * scale), round(height * scale)
    canvas = np.full((size, size, 3), 114, np.uint8)
    left, top = (size - wide) // 2, (size - high) // 2
    canvas[top : top + high, left : left + wide] = cv2.resize(pixels, (wide, high))
    return canvas

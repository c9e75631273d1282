"""Our decoder against others, per format: content in, upright RGB pixels out, on one thread."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from pipeline.images.decode import decode
from tests.benchmarks.archive import encoded
from tests.benchmarks.ratios import Ratio, in_turns, speed

# Name, side in px, format, grey.
CASES = (
    ("PNG 1024 grey", 1024, "png", True),
    ("PNG 1024 RGB", 1024, "png", False),
    ("JPEG 512", 512, "jpeg", False),
    ("JPEG 2048", 2048, "jpeg", False),
)
SECONDS_A_TURN = 0.6


def pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def opencv(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def torchvision(content: bytes) -> np.ndarray:
    tensor = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return decode_image(tensor, ImageReadMode.RGB).permute(1, 2, 0).contiguous().numpy()


OTHERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "Pillow": pillow,
    "OpenCV": opencv,
    "torchvision": torchvision,
}


def measure(turns: int, seconds: float = SECONDS_A_TURN) -> list[Ratio]:
    """Our speed against each other decoder's, in images a second."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    found = []
    for name, side, kind, grey in CASES:
        contents = [encoded(seed, side, kind, grey=grey) for seed in range(4)]

        def run(work: Callable[[bytes], object], contents: list[bytes] = contents) -> float:
            once = 1 / speed(lambda: work(contents[0]), 1)
            repeats = max(1, round(seconds / once / len(contents)))
            return speed(lambda: [work(one) for one in contents], len(contents), repeats)

        for other, work in OTHERS.items():
            what = f"decode / {other}: {name}"
            found.append(in_turns(what, lambda: run(decode), lambda w=work: run(w), turns))
    return found


if __name__ == "__main__":
    for ratio in measure(3):
        print(ratio.row())

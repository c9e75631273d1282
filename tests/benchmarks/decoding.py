"""Decoding on one thread: our decoder against others, and the whole stage against a plain loop's.

A decoder has content in and upright RGB pixels out, per format. The stage reads files, compares
their digests, decodes them, measures light and focus, and makes both sizes of each image.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from pipeline.images.decode import DecodeLimits, decode
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.decode import prepare_block
from tests.benchmarks.archive import encoded, write_pictures
from tests.benchmarks.bare_images import Task, pair
from tests.benchmarks.ratios import Ratio, in_turns, speed

# Name, side in px, format, grey.
CASES = (
    ("PNG 1024 grey", 1024, "png", True),
    ("PNG 1024 RGB", 1024, "png", False),
    ("JPEG 512", 512, "jpeg", False),
    ("JPEG 2048", 2048, "jpeg", False),
)
# Of the whole stage, at 1024 px.
KINDS = ("jpeg", "png")
SIDE, SQUARE, LETTERBOXED = 1024, 256, 640
FILES = 8
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
    """Our speed against each other decoder's and a plain loop's, in images a second."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    found = []
    for name, side, kind, grey in CASES:
        contents = [encoded(seed, side, kind, grey=grey) for seed in range(4)]

        def run(work: Callable[[bytes], object], contents: list[bytes] = contents) -> float:
            return _speed(lambda: [work(one) for one in contents], len(contents), seconds)

        for other, work in OTHERS.items():
            what = f"decode / {other}: {name}"
            found.append(in_turns(what, lambda: run(decode), lambda w=work: run(w), turns))
    with tempfile.TemporaryDirectory(prefix="linescore-bench-") as folder:
        found += [_stage(Path(folder) / kind, kind, turns, seconds) for kind in KINDS]
    return found


def _speed(work: Callable[[], object], images: int, seconds: float) -> float:
    once = images / speed(work, images)
    return speed(work, images, max(1, round(seconds / once)))


def _stage(folder: Path, kind: str, turns: int, seconds: float) -> Ratio:
    """The stage against `pair`, which decodes with Pillow and checks nothing."""
    write_pictures(folder, FILES, SIDE, kind)
    files = sorted(str(file) for file in folder.rglob("*.*"))
    contents = [Path(file).read_bytes() for file in files]
    rows = pa.table(
        {
            "uri": files,
            "sha256": [hashlib.sha256(one).hexdigest() for one in contents],
            "bytes": [len(one) for one in contents],
        }
    )
    options = PrepareOptions(DecodeLimits(), square=SQUARE, letterboxed=LETTERBOXED, facts=True)
    assert prepare_block(rows, options)["error_type"].null_count == FILES
    task = Task(files, "", SQUARE, LETTERBOXED, FILES, 1, 0, "float32", "part")
    return in_turns(
        f"decode stage / a plain loop's images: {kind} {SIDE} px",
        lambda: _speed(lambda: prepare_block(rows, options), FILES, seconds),
        lambda: _speed(lambda: [pair(task, place) for place in range(FILES)], FILES, seconds),
        turns,
    )


if __name__ == "__main__":
    for ratio in measure(3):
        print(ratio.row())

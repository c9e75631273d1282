"""A sample on disk, in the MVTec AD layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.samples.render import GOOD, render
from pipeline.samples.spec import SampleSpec, find_category

Counts = dict[str, dict[str, dict[str, int]]]

# Grain barely compresses: the lowest level is three times as fast for a few per cent more bytes.
PNG_LEVEL = 1


def write_sample(root: Path, spec: SampleSpec) -> Counts:
    """Write all images and masks under root; return how many, by category, split and type.

    Files are `<category>/<split>/<type>/<index>.png` and, for defects,
    `<category>/ground_truth/<type>/<index>_mask.png` with 0 and 255.
    """
    counts: Counts = {}
    for category in spec.categories:
        defects = dict.fromkeys(find_category(category).defects, spec.per_defect)
        counts[category] = {
            "train": {GOOD: spec.train_good},
            "test": {GOOD: spec.test_good, **defects},
        }
        for split, types in counts[category].items():
            for kind, number in types.items():
                for index in range(number):
                    _write_one(root / category, kind, split, index, spec)
    return counts


def _write_one(folder: Path, kind: str, split: str, index: int, spec: SampleSpec) -> None:
    defect_type = None if kind == GOOD else kind
    pixels, mask = render(folder.name, defect_type, split, index, spec)
    _write_png(folder / split / kind / f"{index:03d}.png", pixels)
    if defect_type is not None:
        levels = mask.astype(np.uint8) * np.uint8(255)
        _write_png(folder / "ground_truth" / kind / f"{index:03d}_mask.png", levels)


def _write_png(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=PNG_LEVEL)

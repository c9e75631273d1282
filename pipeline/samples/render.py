"""One sample image at a time: a pure function of seed, category, split, type and index."""

import zlib

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, RunError
from pipeline.samples.scene import Defect, Scene
from pipeline.samples.spec import SampleSpec, find_category

GOOD = "good"
SPLITS = ("train", "test")
# A change of fewer grey levels drowns in the grain; such pixels keep their good value.
VISIBLE_LEVELS = 8
# A defect of fewer pixels (share of the image) is dust to a viewer; at least a handful of them.
MIN_DEFECT_SHARE = 0.0007
MIN_DEFECT_PIXELS = 4
# Each draw shows with a probability well over a half, so this many never fail together.
MAX_DRAWS = 50

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def render(
    category: str, defect_type: str | None, split: str, index: int, spec: SampleSpec
) -> tuple[Image, Mask]:
    """Pixels (S, S, 3) and mask (S, S) of one image; without a defect type the mask is empty.

    Raises:
        InputError: the category, type, split or index does not exist.
    """
    draw_defect = _find_defect(category, defect_type, split, index)
    scene, rng = _good_scene(category, defect_type, split, index, spec)
    good = scene.pixels()
    if draw_defect is None:
        return good, np.zeros(good.shape[:2], dtype=bool)
    return _spoil(scene, good, draw_defect, rng)


def render_base(
    category: str, defect_type: str | None, split: str, index: int, spec: SampleSpec
) -> Image:
    """The good image (S, S, 3) that the defect image of the same arguments was made from."""
    _find_defect(category, defect_type, split, index)
    return _good_scene(category, defect_type, split, index, spec)[0].pixels()


def _spoil(
    scene: Scene, good: Image, draw_defect: Defect, rng: np.random.Generator
) -> tuple[Image, Mask]:
    """Draw the defect until it shows; only visibly changed pixels are taken over."""
    enough = max(MIN_DEFECT_PIXELS, MIN_DEFECT_SHARE * scene.size**2)
    for _ in range(MAX_DRAWS):
        spoiled = draw_defect(scene, rng).pixels()
        change = np.abs(spoiled.astype(np.int16) - good).max(axis=2)
        mask = change >= VISIBLE_LEVELS
        if mask.sum() >= enough:
            return np.where(mask[..., None], spoiled, good), mask
    raise RunError(f"no visible defect in {MAX_DRAWS} draws at {scene.size} px")


def _good_scene(
    category: str, defect_type: str | None, split: str, index: int, spec: SampleSpec
) -> tuple[Scene, np.random.Generator]:
    """The good scene and the generator that its defect continues with."""
    names = [_number(name) for name in (category, split, defect_type or GOOD)]
    rng = np.random.default_rng(np.random.SeedSequence([spec.seed, *names, index]))
    return find_category(category).draw(rng, spec.size), rng


def _number(name: str) -> int:
    """A number for the name that is the same in every process, unlike hash()."""
    return zlib.crc32(name.encode())


def _find_defect(category: str, defect_type: str | None, split: str, index: int) -> Defect | None:
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
    if index < 0:
        raise InputError(f"sample index is {index}: it must be 0 or more")
    defects = find_category(category).defects
    if defect_type is None:
        return None
    if defect_type not in defects:
        known = ", ".join(defects)
        raise InputError(f"unknown defect type {defect_type!r} of {category}: choose from {known}")
    if split == "train":
        raise InputError(f"defect type {defect_type!r} in train: only test holds defects")
    return defects[defect_type]

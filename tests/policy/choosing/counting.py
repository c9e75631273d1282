"""Stand-ins for the engine in tests: images one by one, and counts from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.policy.choosing.confusion import Confusion, Decided, Population

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """N images with everything that counts keep apart, and the decisions of P policies."""

    category: npt.NDArray[np.str_]
    defect_type: npt.NDArray[np.str_]
    defect: Ints
    part: Ints
    decision: Ints
    """(P, N) 0 defect, 1 review, 2 good."""


def random_images(seed: int, images: int = 200, policies: int = 7, known: bool = True) -> Images:
    rng = np.random.default_rng(seed)
    defect = rng.integers(0 if known else -1, 2, images)
    kinds = np.where(defect == 1, rng.choice(["crack", "dent"], images), "good")
    return Images(
        category=rng.choice(["bolt", "tile", "wood"], images),
        defect_type=kinds,
        defect=defect,
        part=rng.integers(0, 3, images),
        decision=rng.integers(0, 3, (policies, images)),
    )


def decided(images: Images, review: bool = True) -> Decided:
    """Counts by group, as an engine would make them."""
    keys = list(zip(*(column.tolist() for column in _columns(images)), strict=True))
    groups = sorted(set(keys))
    code = np.array([groups.index(key) for key in keys])
    into = (code[:, None] == np.arange(len(groups))).astype(np.int64)
    population = Population(
        category=[group[0] for group in groups],
        defect_type=[group[1] for group in groups],
        defect=np.array([group[2] for group in groups]),
        part=np.array([group[3] for group in groups]),
        images=into.sum(0),
    )
    sent = (images.decision == 1).astype(np.int64) @ into
    return Decided(
        (images.decision == 0).astype(np.int64) @ into, sent if review else None, population
    )


def _columns(images: Images) -> tuple[npt.NDArray[np.generic], ...]:
    return images.category, images.defect_type, images.defect, images.part


def counts_of(fn: object, fp: object, defects: int, goods: int, review: object = 0) -> Confusion:
    """Counts without a review of defects, all arrays of one shape."""
    arrays = [np.asarray(a, np.int64) for a in (fn, fp, 0, review, defects, goods)]
    return Confusion(*np.broadcast_arrays(*arrays))

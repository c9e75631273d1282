"""A formula as signed corners of a cumulated cube.

Rows are counted by their bin on every axis. Cumulated upward, an entry counts the rows at or
above its bins; downward, those at or below. The count of rows that satisfy a formula is then a
sum of few entries with signs: the finite differences of the formula's truth table (the prefix-sum
cube of Ho, Agrawal, Megiddo and Srikant, 1997).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.policy.cube.rules import slots_of
from pipeline.policy.formula import Formula, holds

Ranks = tuple[tuple[int, ...], ...]
Upward = tuple[bool, ...]

# A truth table above this is too slow to difference for every order of thresholds.
MOST_POSITIONS = 1 << 18
# Directions are tried out for so many scores; with more all axes go upward.
_MOST_TRIED = 5


@dataclass(frozen=True)
class Place:
    """An entry's bin on one axis.

    Attributes:
        slot: the bin of this slot's threshold, plus `step`; None: `step` itself, -1 the last bin.
        step: what is added.
    """

    slot: int | None
    step: int


@dataclass(frozen=True)
class Corner:
    """An entry of the cumulated cube, to be added `sign` times; a place per score."""

    sign: int
    places: tuple[Place, ...]


def positions(formula: Formula) -> int:
    """The size of its truth table, no two thresholds of a score being equal."""
    return math.prod(len(slots) + 2 for slots in slots_of(formula).values())


@lru_cache(maxsize=8192)
def corners(formula: Formula, ranks: Ranks, upward: Upward) -> tuple[Corner, ...]:
    """What to add up for a formula whose thresholds have a given order.

    Args:
        formula: over its slots.
        ranks: per score (by name) and slot (increasing) the threshold's rank among the different
            ones of that score, from 0; equal thresholds have equal ranks.
        upward: per score, the direction in which the cube is cumulated.

    Returns:
        The corners; their places follow the scores by name.
    """
    slots = slots_of(formula)
    table = _truth(formula, list(slots), ranks)
    for axis, up in enumerate(upward):
        table = np.diff(table, axis=axis, prepend=0) if up else -np.diff(table, axis=axis, append=0)
    axes = [
        _places(own, ranked, up)
        for own, ranked, up in zip(slots.values(), ranks, upward, strict=True)
    ]
    return tuple(
        Corner(int(table[tuple(where)]), tuple(axes[a][at] for a, at in enumerate(where)))
        for where in np.argwhere(table).tolist()
    )


def _truth(formula: Formula, scores: Sequence[str], ranks: Ranks) -> npt.NDArray[np.int64]:
    """1 where it holds, on the grid of missing, below all thresholds, and from each of them on."""
    thresholds = np.zeros(
        max((s for own in slots_of(formula).values() for s in own), default=0) + 1
    )
    for own, ranked in zip(slots_of(formula).values(), ranks, strict=True):
        thresholds[list(own)] = ranked
    values = [np.array([np.nan, *range(-1, max(ranked, default=-1) + 1)]) for ranked in ranks]
    shape = tuple(len(axis) for axis in values)
    grid = np.meshgrid(*values, indexing="ij")
    columns = {score: axis.ravel() for score, axis in zip(scores, grid, strict=True)}
    held = holds(formula, columns or {"": np.zeros(1)}, thresholds)
    return held.reshape(shape).astype(np.int64)


def _places(own: Sequence[int], ranked: Sequence[int], up: bool) -> list[Place]:
    """Each position of the truth table as a bin: missing, below all thresholds, from each on."""
    slot_of_rank = dict(zip(ranked, own, strict=True))
    ordered = [slot_of_rank[rank] for rank in sorted(slot_of_rank)]
    if up:
        return [Place(None, 0), Place(None, 1), *(Place(slot, 0) for slot in ordered)]
    # Downward an entry ends below the next threshold.
    return [Place(None, 0), *(Place(slot, -1) for slot in ordered), Place(None, -1)]


@lru_cache(maxsize=1024)
def best_directions(formula: Formula) -> Upward:
    """The directions with the fewest corners, the thresholds of a score taken as increasing."""
    ranks = tuple(tuple(range(len(own))) for own in slots_of(formula).values())
    if len(ranks) > _MOST_TRIED or positions(formula) > MOST_POSITIONS:
        return (True,) * len(ranks)
    tried = itertools.product((True, False), repeat=len(ranks))
    return min(tried, key=lambda upward: len(corners(formula, ranks, upward)))

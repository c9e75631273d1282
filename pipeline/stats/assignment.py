"""Sharing groups out to parts so that every stratum meets its shares; pure, seeded, orderless."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Random orders tried, of which the one that meets the shares best is kept; with many groups
# any order meets them, and one is enough.
_DRAWS = 32
_MANY_GROUPS = 20_000
# Rows wanted where none are, so that a misfit stays a number.
_NO_ROWS = 1e-6


@dataclass(frozen=True)
class GroupedRows:
    """N rows to be shared out.

    Attributes:
        groups: (N,) int64, the group of each row.
        strata: (N,) int64 in [0, S).
        allowed: (N, P) bool, the parts that a row may go to; a group may go where all its rows
            may.
    """

    groups: np.ndarray
    strata: np.ndarray
    allowed: np.ndarray


@dataclass(frozen=True)
class Shares:
    """How S strata are shared out to P parts.

    Attributes:
        of_strata: (S, P) float64, each row sums to 1.
        coarser: (K, S) int64, K coarser stratifications: to what each stratum belongs there.
            Strata of two or three rows can't meet their shares, all of them together can.
    """

    of_strata: np.ndarray
    coarser: np.ndarray


@dataclass(frozen=True)
class Assignment:
    """Which part each row goes to.

    Attributes:
        parts: (N,) int64.
        rows: (S, P) int64 rows of each stratum in each part.
        wanted: (S, P) float64 rows that the shares ask for.
    """

    parts: np.ndarray
    rows: np.ndarray
    wanted: np.ndarray


def assign(rows: GroupedRows, shares: Shares, seed: int) -> Assignment:
    """Gives every group one part.

    Groups come in a random order, drawn from the seed and their ids alone, those with fewer
    choices first, and each goes to the part that is least full, measured by the rows that its
    strata, and the coarser ones, want there. Neither the order nor the choice looks at a group's
    size: large groups reach every part as often as small ones, and a part stays a fair sample.
    Of several orders the one with the smallest Σ (rows − wanted)² / wanted, Pearson's χ², is
    kept.

    Raises:
        ValueError: a group may go nowhere; names it.
    """
    ids, group_of = np.unique(rows.groups, return_inverse=True)
    choices = np.ones((len(ids), rows.allowed.shape[1]), bool)
    np.logical_and.at(choices, group_of, rows.allowed)
    if not choices.any(axis=1).all():
        raise ValueError(f"group {ids[~choices.any(axis=1)][0]} may go to no part")
    strata = len(shares.of_strata)
    wanted = shares.of_strata * np.bincount(rows.strata, minlength=strata)[:, None]
    places = _places(shares.coarser, strata)
    targets = _summed(wanted, places)
    contents = _contents(group_of, rows.strata, places, len(ids))
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for draw in range(_DRAWS if len(ids) < _MANY_GROUPS else 1):
        order = np.lexsort((ids, mixed(ids, seed, draw), choices.sum(axis=1)))
        parts = _share_out(order, contents, choices, targets)[group_of]
        counts = _count(parts, rows.strata, wanted.shape)
        misfit = _misfit(_summed(counts, places), targets)
        if best is None or misfit < best[0]:
            best = misfit, parts, counts
    assert best is not None  # noqa: S101 - at least one draw
    return Assignment(best[1], best[2], wanted)


def mixed(ids: np.ndarray, seed: int, draw: int = 0) -> np.ndarray:
    """A pseudo-random uint64 of each id, the same on every machine: SplitMix64's output function.

    Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195.
    """
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + draw * 0xD1B54A32D192ED03) % 2**64)
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) + start
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _places(coarser: np.ndarray, strata: int) -> np.ndarray:
    """(1 + K, S): where each stratum counts, its own place and one in each coarser level."""
    levels = [np.arange(strata)]
    for level in coarser:
        levels.append(level + levels[-1].max() + 1)
    return np.stack(levels)


def _summed(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (S, P) of strata, added up at every place."""
    sums = np.zeros((int(places.max()) + 1, values.shape[1]))
    for level in places:
        np.add.at(sums, level, values)
    return sums


def _contents(
    group_of: np.ndarray, strata: np.ndarray, places: np.ndarray, count: int
) -> list[list[tuple[int, int]]]:
    """Per group its (place, rows)."""
    pairs, rows = np.unique(np.stack([group_of, strata]), axis=1, return_counts=True)
    contents: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for group, stratum, number in zip(*pairs.tolist(), rows.tolist(), strict=True):
        contents[group] += [(place, number) for place in places[:, stratum].tolist()]
    return contents


def _share_out(
    order: np.ndarray,
    contents: list[list[tuple[int, int]]],
    choices: np.ndarray,
    wanted: np.ndarray,
) -> np.ndarray:
    """One pass over the groups in an order; the part of each."""
    targets: list[list[float]] = wanted.tolist()
    filled = [[0.0] * wanted.shape[1] for _ in targets]
    possible = [np.flatnonzero(row).tolist() for row in choices]
    parts = np.empty(len(order), np.int64)
    for group in order.tolist():
        content = contents[group]
        part = min((_fullness(content, filled, targets, p), p) for p in possible[group])[1]
        parts[group] = part
        for place, rows in content:
            filled[place][part] += rows
    return parts


def _fullness(
    content: list[tuple[int, int]], filled: list[list[float]], targets: list[list[float]], part: int
) -> float:
    """How full a part is of what a group holds; infinite where nothing of it is wanted."""
    total = 0.0
    for place, rows in content:
        target = targets[place][part]
        total += rows * filled[place][part] / target if target else math.inf
    return total


def _count(parts: np.ndarray, strata: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    counts: np.ndarray = np.bincount(strata * shape[1] + parts, minlength=shape[0] * shape[1])
    return counts.reshape(shape)


def _misfit(rows: np.ndarray, wanted: np.ndarray) -> float:
    return float(((rows - wanted) ** 2 / np.maximum(wanted, _NO_ROWS)).sum())

"""Pairs of images whose perceptual hashes are close, and the groups that such pairs make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# What is compared at once: small enough for a processor's cache.
ROW_CHUNK, COLUMN_CHUNK = 16, 4096
# Edges kept before they are thinned to a forest, which has at most one an image.
_MOST_EDGES = 1 << 20
# Images whose pairs stand for all pairs of a category: two million pairs.
_SAMPLE = 2048
# Fewer images say nothing about what is usual between two parts of a category.
_LEAST_IMAGES = 10
# A pair is unusually close where it lies this many spreads below the median of all pairs;
# the spread is the distance from the median down to the 16th percentile, a normal
# distribution's deviation. Three in a million pairs of unrelated images lie there by chance.
_SPREADS = 4.5
_SPREAD_PERCENTILE = 16


@dataclass(frozen=True)
class DistanceLimits:
    """Between which distances, in bits, a threshold is chosen.

    Attributes:
        closest: pairs at most this far apart always count as one image.
        farthest: pairs farther apart never do.
    """

    closest: int
    farthest: int


@dataclass(frozen=True)
class PairSearch:
    """What is looked for.

    Attributes:
        max_distance: bits; pairs at most this far apart are joined.
        look_to: bits; pairs up to here are kept as examples.
        per_distance: examples kept at each distance.
    """

    max_distance: int
    look_to: int
    per_distance: int


@dataclass(frozen=True)
class FoundPairs:
    """Close pairs among some rows and all rows after them.

    Attributes:
        edges: (E, 2) int64 rows; joins what the pairs within `max_distance` join.
        examples: (M, 3) int64: distance, row, row; by distance, the first ones found.
    """

    edges: np.ndarray
    examples: np.ndarray


def words(hashes: np.ndarray) -> np.ndarray:
    """Hashes (N, 32) uint8 as (N, 4) uint64, the shape in which they are compared."""
    return np.ascontiguousarray(hashes, np.uint8).reshape(len(hashes), -1).view(np.uint64)


def usual_distance(codes: np.ndarray, limits: DistanceLimits) -> int:
    """The distance below which a pair is unusually close for these images.

    Products lie alike before a camera: two good labels differ in fewer bits than two views of
    one tile. So the threshold follows from what is usual between images of the category; with
    too few images to tell, it is the farthest, the side on which nothing leaks.

    Args:
        codes: (N, W) uint64 hashes in an order that content alone decides.
        limits: what the threshold stays between.

    Returns:
        bits; pairs at most that far apart are near-duplicates.
    """
    if len(codes) < _LEAST_IMAGES:
        return limits.farthest
    sample = codes[:_SAMPLE]
    counts = np.zeros(codes.shape[1] * 64 + 1, np.int64)
    for row in range(len(sample) - 1):
        found = _distances(sample[row : row + 1], sample[row + 1 :])[0]
        counts += np.bincount(found, minlength=len(counts))
    below = np.cumsum(counts)
    low, middle = (
        int(np.searchsorted(below, below[-1] * share)) for share in (_SPREAD_PERCENTILE / 100, 0.5)
    )
    threshold = int(middle - _SPREADS * (middle - low))
    return min(max(threshold, limits.closest), limits.farthest)


def find_pairs(codes: np.ndarray, start: int, stop: int, search: PairSearch) -> FoundPairs:
    """Compares rows start to stop with all rows after each; exact, in bounded memory.

    Args:
        codes: (N, W) uint64 hashes.
        start: first row; a multiple of ROW_CHUNK, so that the examples are the same however
            the rows are shared out.
        stop: one past the last row.
        search: what is looked for.
    """
    edges: list[np.ndarray] = []
    examples: list[np.ndarray] = []
    seen = np.zeros(search.look_to + 1, np.int64)
    held = 0
    for first in range(start, stop, ROW_CHUNK):
        rows = codes[first : min(first + ROW_CHUNK, stop)]
        for column in range(first, len(codes), COLUMN_CHUNK):
            found = _close(rows, codes[column : column + COLUMN_CHUNK], search, first, column)
            joined = found[found[:, 0] <= search.max_distance, 1:]
            examples.append(_first_of_each(found, seen, search.per_distance))
            if len(joined):
                edges.append(joined)
                held += len(joined)
            if held > _MOST_EDGES:
                edges = [forest(np.concatenate(edges), len(codes))]
                held = len(edges[0])
    return FoundPairs(
        forest(np.concatenate([_NO_EDGES, *edges]), len(codes)),
        np.concatenate([_NO_EXAMPLES, *examples]),
    )


_NO_EDGES = np.empty((0, 2), np.int64)
_NO_EXAMPLES = np.empty((0, 3), np.int64)


def merge_found(parts: list[FoundPairs], search: PairSearch, count: int) -> FoundPairs:
    """What was found in parts, in the order of their rows, as if found at once."""
    seen = np.zeros(search.look_to + 1, np.int64)
    examples = [_first_of_each(part.examples, seen, search.per_distance) for part in parts]
    edges = forest(np.concatenate([_NO_EDGES, *(part.edges for part in parts)]), count)
    ordered = np.concatenate([_NO_EXAMPLES, *examples])
    return FoundPairs(edges, ordered[np.lexsort(ordered.T[::-1])])


def _distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Hamming distances (R, C) uint16."""
    total = np.zeros((len(rows), len(columns)), np.uint16)
    for ours, theirs in zip(rows.T, np.ascontiguousarray(columns.T), strict=True):
        total += np.bitwise_count(ours[:, None] ^ theirs)
    return total


def _close(
    rows: np.ndarray, columns: np.ndarray, search: PairSearch, first: int, column: int
) -> np.ndarray:
    """(M, 3) int64: distance, row, row of the pairs to look at, the second row the later one."""
    distances = _distances(rows, columns)
    a, b = np.nonzero(distances <= max(search.look_to, search.max_distance))
    later = b + column > a + first
    a, b = a[later], b[later]
    return np.stack([distances[a, b].astype(np.int64), a + first, b + column], axis=1)


def _first_of_each(found: np.ndarray, seen: np.ndarray, most: int) -> np.ndarray:
    """The pairs that are still wanted at their distance; counts them in `seen`."""
    found = found[found[:, 0] < len(seen)]
    found = found[seen[found[:, 0]] < most]
    order = np.argsort(found[:, 0], kind="stable")
    kinds, starts = np.unique(found[order, 0], return_index=True)
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found)) - starts[np.searchsorted(kinds, found[order, 0])]
    kept: np.ndarray = found[rank + seen[found[:, 0]] < most]
    np.add.at(seen, kept[:, 0], 1)
    return kept


def forest(edges: np.ndarray, count: int) -> np.ndarray:
    """At most `count` edges (E, 2) that join the same rows as the given ones."""
    if not len(edges):
        return _NO_EDGES
    touched = np.unique(edges)
    first = component_firsts(np.searchsorted(touched, edges), len(touched))
    joined = first != np.arange(len(touched))
    return np.stack([touched[first[joined]], touched[joined]], axis=1)


def component_firsts(edges: np.ndarray, count: int) -> np.ndarray:
    """Per row the first row that edges (E, 2) join it with, itself where there is none; (N,)."""
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    _, firsts = np.unique(labels, return_index=True)
    result: np.ndarray = firsts[labels]
    return result

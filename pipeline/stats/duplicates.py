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
        per_side: pairs kept as examples on either side of it, the nearest ones.
    """

    max_distance: int
    per_side: int


@dataclass(frozen=True)
class FoundPairs:
    """Close pairs among some rows and all rows after them.

    Attributes:
        edges: (E, 2) int64 rows; joins what the pairs within `max_distance` join.
        examples: (M, 3) int64: distance, row, row; sorted.
    """

    edges: np.ndarray
    examples: np.ndarray


def words(hashes: np.ndarray) -> np.ndarray:
    """Hashes (N, 32) uint8 as (N, 4) uint64, the shape in which they are compared."""
    return np.ascontiguousarray(hashes, np.uint8).view(np.uint64)


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
        start: first row.
        stop: one past the last row.
        search: what is looked for.
    """
    edges: list[np.ndarray] = []
    examples = _NO_EXAMPLES
    held, look_to = 0, codes.shape[1] * 64
    for first in range(start, stop, ROW_CHUNK):
        rows = codes[first : min(first + ROW_CHUNK, stop)]
        for column in range(first, len(codes), COLUMN_CHUNK):
            found = _close(rows, codes[column : column + COLUMN_CHUNK], look_to)
            found += (0, first, column)
            found = found[found[:, 2] > found[:, 1]]
            edges.append(found[found[:, 0] <= search.max_distance, 1:])
            examples, look_to = _nearest(np.concatenate([examples, found]), search, look_to)
            held += len(edges[-1])
            if held > _MOST_EDGES:
                edges = [forest(np.concatenate(edges), len(codes))]
                held = len(edges[0])
    return FoundPairs(forest(np.concatenate([_NO_EDGES, *edges]), len(codes)), examples)


_NO_EDGES = np.empty((0, 2), np.int64)
_NO_EXAMPLES = np.empty((0, 3), np.int64)


def merge_found(parts: list[FoundPairs], search: PairSearch, count: int) -> FoundPairs:
    """What was found in parts of `count` rows, as if found at once."""
    edges = np.concatenate([_NO_EDGES, *(part.edges for part in parts)])
    examples = np.concatenate([_NO_EXAMPLES, *(part.examples for part in parts)])
    return FoundPairs(forest(edges, count), _nearest(examples, search, 0)[0])


def _distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Hamming distances (R, C) uint16."""
    total = np.zeros((len(rows), len(columns)), np.uint16)
    for ours, theirs in zip(rows.T, np.ascontiguousarray(columns.T), strict=True):
        total += np.bitwise_count(ours[:, None] ^ theirs)
    return total


def _close(rows: np.ndarray, columns: np.ndarray, look_to: int) -> np.ndarray:
    """(M, 3) int64: distance, row, column of the pairs up to a distance."""
    distances = _distances(rows, columns)
    a, b = np.nonzero(distances <= look_to)
    return np.stack([distances[a, b].astype(np.int64), a, b], axis=1)


def _nearest(pairs: np.ndarray, search: PairSearch, look_to: int) -> tuple[np.ndarray, int]:
    """The pairs nearest to the threshold from either side, and how far to look from now on.

    Ties go to the pairs of the first rows, so that it doesn't matter in which order they came.
    """
    below = pairs[pairs[:, 0] <= search.max_distance]
    above = pairs[pairs[:, 0] > search.max_distance]
    below = below[np.lexsort((below[:, 2], below[:, 1], -below[:, 0]))][: search.per_side]
    above = above[np.lexsort((above[:, 2], above[:, 1], above[:, 0]))][: search.per_side]
    if len(above) == search.per_side:
        look_to = max(search.max_distance, int(above[-1, 0]) if len(above) else 0)
    kept = np.concatenate([below, above])
    return kept[np.lexsort((kept[:, 2], kept[:, 1], kept[:, 0]))], look_to


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

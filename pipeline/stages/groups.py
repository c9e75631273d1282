"""Groups of images that must stay together: near-duplicates, one part, or grouped before."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.config import NearDuplicatesConfig, SplitConfig
from pipeline.errors import InputError
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.fingerprints import Fingerprints, hash_images, search_pairs
from pipeline.stats.duplicates import (
    DistanceLimits,
    PairSearch,
    component_firsts,
    usual_distance,
    words,
)

# Bits of 256. Up to the first a picture is the same but for its encoding, whatever the category
# looks like; the second is the largest distance at which pairs of real surfaces were seen to
# show one part (docs/splits.md).
LIMITS = DistanceLimits(closest=4, farthest=76)
# Pairs on either side of the threshold that a contact sheet shows.
_PER_SIDE = 24


@dataclass(frozen=True)
class CategoryPairs:
    """What the search for near-duplicates found in a category.

    Attributes:
        category: the category; None where the manifest names none.
        images: images with a hash.
        max_distance: the threshold, bits.
        given: whether the config named it.
        edges: (E, 2) int64 manifest rows that belong together.
        examples: (M, 3) int64: distance, manifest row, manifest row; those nearest to the
            threshold, by distance.
    """

    category: str | None
    images: int
    max_distance: int
    given: bool
    edges: np.ndarray
    examples: np.ndarray


@dataclass(frozen=True)
class Grouping:
    """The groups of N manifest rows.

    Attributes:
        group_ids: (N,) int64, the smallest image id of each row's group.
        pairs: what was found in each category.
        readable: (N,) bool; nobody knows what an image that can't be read duplicates.
        unreadable: why the others can't, a line each.
        parts: rows that the pattern on the file name put together with others.
        kept: rows that the manifest's own groups put together with others.
    """

    group_ids: np.ndarray
    pairs: tuple[CategoryPairs, ...]
    readable: np.ndarray
    unreadable: tuple[str, ...]
    parts: int
    kept: int


def make_groups(rows: pa.Table, config: SplitConfig, options: PrepareOptions) -> Grouping:
    """Joins near-duplicates, images of one part, and what shared a group before.

    Args:
        rows: the manifest, sorted by image id within a category.
        config: the split's settings.
        options: how images are read.

    Raises:
        InputError: a threshold for a category that isn't there, a pattern that no file matches.
    """
    ids = rows.column("image_id").to_numpy()
    categories = rows.column("category").to_pylist()
    _require_known(config.near_duplicates, categories)
    part_edges = _part_edges(rows, config.part_pattern)
    kept_edges = _equal_edges(rows.column("group_id").to_pylist()) if config.keep_groups else _NONE
    pairs: list[CategoryPairs] = []
    readable, unreadable = np.ones(len(ids), bool), tuple[str, ...]()
    if config.near_duplicates.find:
        prints = hash_images(rows, options)
        readable, unreadable = prints.readable, prints.failures
        pairs = _near_duplicates(prints, categories, config.near_duplicates)
    edges = np.concatenate([_NONE, *(found.edges for found in pairs), part_edges, kept_edges])
    firsts = component_firsts(edges, len(ids))
    smallest = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(smallest, firsts, ids)
    return Grouping(
        smallest[firsts],
        tuple(pairs),
        readable,
        unreadable,
        len(np.unique(part_edges)),
        len(np.unique(kept_edges)),
    )


_NONE = np.empty((0, 2), np.int64)


def _require_known(config: NearDuplicatesConfig, categories: Sequence[str | None]) -> None:
    known = sorted({name for name in categories if name is not None})
    for name in sorted(config.by_category.keys() - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
        raise InputError(
            f"near_duplicates.by_category: the manifest has no category {name!r}; {hint}"
        )


def _near_duplicates(
    prints: Fingerprints, categories: Sequence[str | None], config: NearDuplicatesConfig
) -> list[CategoryPairs]:
    names = sorted(set(categories), key=lambda name: (name is None, name or ""))
    places: dict[str | None, list[int]] = {name: [] for name in names}
    for place, name in enumerate(categories):
        if prints.readable[place]:
            places[name].append(place)
    return [_search(prints, name, np.array(places[name], np.int64), config) for name in names]


def _search(
    prints: Fingerprints, name: str | None, places: np.ndarray, config: NearDuplicatesConfig
) -> CategoryPairs:
    codes = words(prints.hashes[places])
    given = config.by_category.get(name, config.max_distance) if name else config.max_distance
    threshold = usual_distance(codes, LIMITS) if given is None else given
    found = search_pairs(codes, PairSearch(threshold, _PER_SIDE))
    examples = found.examples.copy()
    examples[:, 1:] = places[examples[:, 1:]]
    return CategoryPairs(
        name, len(places), threshold, given is not None, places[found.edges], examples
    )


def _part_edges(rows: pa.Table, pattern: str | None) -> np.ndarray:
    """Rows of a category whose file names tell the same part."""
    if pattern is None:
        return _NONE
    uris = rows.column("uri").to_pylist()
    matches = [re.search(pattern, uri.rsplit("/", 1)[-1]) for uri in uris]
    if not any(matches):
        example = uris[0].rsplit("/", 1)[-1] if uris else "none"
        raise InputError(f"part_pattern: {pattern!r} matches no file name, such as {example!r}")
    categories = rows.column("category").to_pylist()
    return _equal_edges(
        [
            (category, *match.groups()) if match and any(match.groups()) else None
            for match, category in zip(matches, categories, strict=True)
        ]
    )


def _equal_edges(keys: Sequence[object]) -> np.ndarray:
    """Edges (E, 2) that join rows with equal keys; None joins nothing."""
    first: dict[object, int] = {}
    edges = [
        (first[key], place)
        for place, key in enumerate(keys)
        if key is not None and first.setdefault(key, place) != place
    ]
    return np.array(edges, np.int64).reshape(-1, 2)

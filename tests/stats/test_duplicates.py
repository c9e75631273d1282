"""The search for close pairs against comparing bit by bit, and the threshold it goes by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stats import duplicates
from pipeline.stats.duplicates import (
    DistanceLimits,
    FoundPairs,
    PairSearch,
    component_firsts,
    find_pairs,
    forest,
    merge_found,
    usual_distance,
    words,
)

LIMITS = DistanceLimits(closest=4, farthest=76)


def hashes(seed: int, count: int, parts: int, flips: int) -> np.ndarray:
    """`count` hashes of `parts` parts, each view with up to `flips` bits of its part changed."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (parts, 256), np.uint8)[rng.integers(0, parts, count)]
    for row in bits:
        row[rng.choice(256, rng.integers(0, flips + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def naive_pairs(packed: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """(distance, row, row) of all pairs up to a distance, bit by bit."""
    bits = np.unpackbits(packed, axis=1)
    pairs = itertools.combinations(range(len(bits)), 2)
    found = [(int((bits[a] != bits[b]).sum()), a, b) for a, b in pairs]
    return [pair for pair in found if pair[0] <= limit]


def naive_firsts(pairs: list[tuple[int, int, int]], count: int) -> list[int]:
    """The smallest row that each row is joined with, by painting until nothing changes."""
    first = list(range(count))
    changed = True
    while changed:
        changed = False
        for _, a, b in pairs:
            low = min(first[a], first[b])
            changed |= (first[a], first[b]) != (low, low)
            first[a] = first[b] = low
    return first


def naive_examples(pairs: list[tuple[int, int, int]], limit: int, most: int) -> list[tuple]:
    """The pairs nearest to a distance from either side, ties by their rows."""
    below = sorted((limit - d, a, b) for d, a, b in pairs if d <= limit)[:most]
    above = sorted(pair for pair in pairs if pair[0] > limit)[:most]
    return sorted([*((limit - gap, a, b) for gap, a, b in below), *above])


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 999), st.integers(1, 45), st.integers(1, 12), st.integers(0, 60),
    st.sampled_from([0, 1, 40, 76, 128]),
)  # fmt: skip
def test_groups_and_examples_equal_comparing_bit_by_bit(
    seed: int, count: int, parts: int, flips: int, limit: int
) -> None:
    packed = hashes(seed, count, parts, flips)
    found = find_pairs(words(packed), 0, count, PairSearch(limit, per_side=5))
    truth = naive_pairs(packed, 256)
    joined = [pair for pair in truth if pair[0] <= limit]
    assert component_firsts(found.edges, count).tolist() == naive_firsts(joined, count)
    assert len(found.edges) < count
    examples = [tuple(pair) for pair in found.examples.tolist()]
    assert examples == naive_examples(truth, limit, 5)


@pytest.mark.parametrize(("step", "per_side"), [(10, 15), (48, 20_000), (112, 15)])
def test_work_in_parts_finds_what_work_at_once_finds(
    step: int, per_side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "COLUMN_CHUNK", 32)
    monkeypatch.setattr(duplicates, "_MOST_EDGES", 50)  # thins while it goes
    packed = hashes(5, 150, 30, 30)
    codes = words(packed)
    search = PairSearch(70, per_side)  # 20,000: more than there are
    whole = merge_found([find_pairs(codes, 0, 150, search)], search, 150)
    starts = range(0, 150, step)
    parts = [find_pairs(codes, start, min(start + step, 150), search) for start in starts]
    found = merge_found(parts, search, 150)
    assert found.examples.tolist() == whole.examples.tolist()
    naive = naive_pairs(packed, 256)
    assert [tuple(pair) for pair in whole.examples.tolist()] == naive_examples(naive, 70, per_side)
    groups = component_firsts(whole.edges, 150)
    assert component_firsts(found.edges, 150).tolist() == groups.tolist()
    assert len(whole.examples) > 20 and len(whole.edges) > 100


def test_opposite_hashes_are_256_bits_apart() -> None:
    codes = words(np.array([[0] * 32, [255] * 32], np.uint8))
    found = find_pairs(codes, 0, 2, PairSearch(256, 1))
    assert found.examples.tolist() == [[256, 0, 1]]
    assert len(found.edges) == 1
    assert len(find_pairs(codes, 0, 2, PairSearch(255, 1)).edges) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_pair_is_no_group(count: int) -> None:
    search = PairSearch(76, 4)
    found = find_pairs(words(np.zeros((count, 32), np.uint8)), 0, count, search)
    merged = merge_found([found] * bool(count), search, count)
    assert isinstance(merged, FoundPairs)
    assert merged.edges.shape == (0, 2) and merged.examples.shape == (0, 3)
    assert component_firsts(merged.edges, count).tolist() == list(range(count))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=60))
def test_a_forest_joins_what_its_edges_join(pairs: list[tuple[int, int]]) -> None:
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    thin = forest(edges, 20)
    naive = naive_firsts([(0, a, b) for a, b in pairs], 20)
    assert component_firsts(thin, 20).tolist() == naive
    assert len(thin) == 20 - len(set(naive))


# --- the threshold ---


def naive_threshold(packed: np.ndarray) -> int:
    """The rule as the docs tell it, from numpy's percentiles of all distances."""
    distances = [d for d, _, _ in naive_pairs(packed, 256)]
    low, middle = np.percentile(distances, [16, 50], method="inverted_cdf")
    return int(np.clip(int(middle - 4.5 * (middle - low)), 4, 76))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99), st.integers(10, 40), st.integers(1, 40), st.integers(0, 90))
def test_the_threshold_follows_the_rule(seed: int, count: int, parts: int, flips: int) -> None:
    packed = hashes(seed, count, parts, flips)
    assert usual_distance(words(packed), LIMITS) == naive_threshold(packed)


def test_products_that_all_look_alike_are_not_one_group() -> None:
    alike = hashes(1, 200, 1, 60)  # one template, other details: half of the pairs within 60 bits
    threshold = usual_distance(words(alike), LIMITS)
    assert threshold < 20
    joined = [pair for pair in naive_pairs(alike[:60], 256) if pair[0] <= threshold]
    assert max(np.bincount(naive_firsts(joined, 60))) <= 6
    copies = np.concatenate([alike, alike[:1]])
    found = find_pairs(words(copies), 0, 201, PairSearch(LIMITS.closest, 0))
    assert component_firsts(found.edges, 201)[200] == component_firsts(found.edges, 201)[0]


def test_unlike_surfaces_have_the_largest_threshold() -> None:
    assert usual_distance(words(hashes(2, 100, 100, 0)), LIMITS) == LIMITS.farthest


def test_too_few_images_to_tell_keep_together_what_could_be_one() -> None:
    assert usual_distance(words(hashes(1, 9, 1, 20)), LIMITS) == LIMITS.farthest

"""Distributions in one pass: against all the numbers, in any order and any pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.stats.distribution import Distribution

SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
NUMBERS = arrays(np.float32, st.integers(0, 200), elements=FLOATS)
# The promise: one part in 2048; below it nothing is promised of numbers near 0.
CLOSE = 1 / 2048
TINY = float(np.finfo(np.float32).tiny)


def of(values: np.ndarray, kind: np.ndarray | None = None, kinds: int = 1) -> Distribution:
    found = Distribution(kinds)
    found.add(values, kind)
    return found


def naive(values: np.ndarray) -> list[float]:
    """The smallest number that so large a share isn't above, from all of them, sorted."""
    ordered = np.sort(values[np.isfinite(values)].astype(np.float64))
    ranks = [min(max(int(np.ceil(share * len(ordered))), 1), len(ordered)) for share in SHARES]
    return [float(ordered[rank - 1]) for rank in ranks]


@given(NUMBERS)
def test_quantiles_are_those_of_the_sorted_numbers(values: np.ndarray) -> None:
    found = of(values)
    finite = values[np.isfinite(values)]
    assert found.n == len(finite)
    assert found.missing == len(values) - len(finite)
    if not len(finite):
        assert found.quantiles(SHARES) == [None] * len(SHARES)
        assert found.least is None
        return
    assert (found.least, found.largest) == (float(finite.min()), float(finite.max()))
    for ours, exact in zip(found.quantiles(SHARES), naive(values), strict=True):
        assert ours == pytest.approx(exact, rel=CLOSE, abs=TINY)


def state(one: Distribution) -> tuple[object, ...]:
    counts = one.histogram(7)
    return (
        one.n,
        one.missing,
        one.least,
        one.largest,
        one.quantiles(SHARES),
        None if counts is None else counts.tolist(),
    )


@given(NUMBERS, st.lists(st.integers(0, 200), max_size=6), st.randoms(use_true_random=False))
def test_neither_order_nor_pieces_matter(
    values: np.ndarray, cuts: list[int], order: object
) -> None:
    kind = (np.arange(len(values)) % 3).astype(np.int64)
    whole = of(values, kind, 3)
    places = np.arange(len(values))
    order.shuffle(places)  # type: ignore[attr-defined]
    merged = Distribution(3)
    for piece in np.split(places, sorted(cut for cut in cuts if cut <= len(values))):
        merged.merge(of(values[piece], kind[piece], 3))
    assert state(merged) == state(whole)


def test_a_histogram_counts_each_number_of_each_kind_once() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(50, 9, 20_000).astype(np.float32)
    kind = rng.integers(0, 3, len(values))
    counts = of(values, kind, 3).histogram(40)
    assert counts is not None
    for which in range(3):
        mine = values[kind == which]
        exact, _ = np.histogram(mine, 40, (float(values.min()), float(values.max())))
        assert counts[:, which].sum() == len(mine)
        # Numbers within the promise of an edge may be counted on its other side.
        assert np.abs(np.cumsum(counts[:, which]) - np.cumsum(exact)).max() < len(mine) * 0.005


def test_zeros_and_negative_numbers_keep_their_places() -> None:
    values = np.array([-3.0, -0.5, 0.0, -0.0, 0.0, 1e-40, 0.25, 8.0], np.float32)
    found = of(values).quantiles([0.125, 0.25, 0.5, 0.75, 0.875, 1.0])
    assert found == pytest.approx([-3.0, -0.5, 0.0, 0.0, 0.25, 8.0], rel=CLOSE)
    assert found[2] == found[3] == 0.0


def test_numbers_at_the_very_end_stay_finite() -> None:
    end = np.finfo(np.float32).max
    found = of(np.array([-end, end, end], np.float32))
    assert found.quantiles([0.1, 0.5, 1.0]) == pytest.approx([-end, end, end], rel=CLOSE)
    assert np.isfinite(found.quantiles([0.5])[0])


def test_equal_numbers_have_no_histogram() -> None:
    assert of(np.full(9, 2.5, np.float32)).histogram(4) is None
    assert of(np.full(9, np.nan, np.float32)).histogram(4) is None


def test_memory_does_not_grow_with_the_numbers() -> None:
    rng = np.random.default_rng(0)
    found = Distribution()
    sizes = []
    for _ in range(20):
        found.add(rng.uniform(1, 1024, 50_000).astype(np.float32))
        sizes.append(len(found._codes))
    assert found.n == 1_000_000
    # 10 octaves of 1024 bins.
    assert sizes[-1] <= 10 * 1024 + 1
    assert sizes[-1] < 1.25 * sizes[4]

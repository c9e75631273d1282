"""What must hold for any features: order, scale, sharding, positive eigenvalues."""

import functools
import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from pipeline.stats.gaussian import (
    SOLVED_ROWS,
    fit_global_floor,
    fit_ledoit_wolf,
    grid_score,
    mahalanobis,
)
from pipeline.stats.moments import MomentAccumulator, Moments, merge, merge_in_order

Array = npt.NDArray[np.float64]

SUMS = ("first", "second", "third", "fourth")
FITS = (fit_ledoit_wolf, fit_global_floor)
quick = settings(max_examples=60, deadline=None)


@st.composite
def images(draw: st.DrawFn) -> Array:
    """Different images (n ≥ 2, G, D): full, of rank one, repeated, or of very uneven scales."""
    n, groups = draw(st.integers(2, 20)), draw(st.integers(1, 3))
    # Few features, or more than a solver takes at once.
    width = draw(st.integers(1, 24) | st.sampled_from([SOLVED_ROWS + 1, 2 * SOLVED_ROWS + 2]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x: Array = rng.standard_normal((n, groups, width))
    kind = draw(st.sampled_from(["full", "rank one", "repeated", "uneven"]))
    if kind == "rank one":
        x = x[:, :, :1] * np.linspace(1, 2, width)
    elif kind == "repeated":
        x = x[np.arange(n) % 2]
    elif kind == "uneven":
        x *= np.logspace(0, -6, width)
    return x + draw(st.sampled_from([0.0, 1.0, 100.0]))


def total(x: npt.NDArray[np.floating], shift: Array, leaf: int = 5) -> Moments:
    accumulator = MomentAccumulator(shift)
    for start in range(0, len(x), leaf):
        accumulator.add(x[start : start + leaf])
    return accumulator.moments()


def leaves(x: Array, leaf: int = 3) -> list[Moments]:
    return [total(x[start : start + leaf], x[0]) for start in range(0, len(x), leaf)]


def same_bits(a: Moments, b: Moments) -> bool:
    same = (getattr(a, s).tobytes() == getattr(b, s).tobytes() for s in ("shift", *SUMS))
    return a.count == b.count and all(same)


def assert_close(a: Moments, b: Moments) -> None:
    assert a.count == b.count
    # Each sum is bounded by the sum of its terms' norms, and that sets its rounding error.
    for name, power in zip(SUMS, (1, 2, 3, 4), strict=True):
        size = a.count * max(float(a.fourth.max()), 1e-300) ** (power / 4)
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=0, atol=1e-13 * size, err_msg=name
        )


@quick
@given(images())
def test_one_order_gives_one_result_to_the_bit(x: Array) -> None:
    with threadpool_limits(1):
        once = total(x, x[0], leaf=3)
        assert same_bits(once, total(x, x[0], leaf=3))
        assert same_bits(once, merge_in_order(iter(leaves(x))))
        assert same_bits(once, functools.reduce(merge, leaves(x)))


def test_one_order_gives_one_result_at_full_width() -> None:
    x = np.random.default_rng(0).standard_normal((48, 2, 384)).astype(np.float32)
    with threadpool_limits(1):
        assert same_bits(total(x, np.zeros((2, 384)), 16), total(x, np.zeros((2, 384)), 16))


@quick
@given(images())
def test_the_layout_of_the_features_does_not_matter(x: Array) -> None:
    with threadpool_limits(1):
        wanted = total(x, x[0])
        for other in (np.asfortranarray(x), x.transpose(0, 2, 1).copy().transpose(0, 2, 1)):
            assert same_bits(total(other, x[0]), wanted)
            gaussian = fit_global_floor(wanted)
            assert np.array_equal(mahalanobis(gaussian, other), mahalanobis(gaussian, x))


@pytest.mark.parametrize("width", [7, 64, 384])
def test_the_batch_changes_the_last_bits_only(width: int) -> None:
    x = np.random.default_rng(0).standard_normal((33, 2, width)).astype(np.float32)
    gaussian = fit_global_floor(total(x, np.zeros((2, width))))
    wanted = mahalanobis(gaussian, x)
    for batch in (1, 2, 3, 5, 16, 33):
        parts = [mahalanobis(gaussian, x[i : i + batch]) for i in range(0, len(x), batch)]
        np.testing.assert_allclose(np.concatenate(parts), wanted, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_features_are_summed_in_double(dtype: npt.DTypeLike) -> None:
    x = np.random.default_rng(0).standard_normal((20, 2, 5)).astype(dtype)
    shift = x[0].astype(np.float64)
    assert same_bits(total(x, shift), total(x.astype(np.float64), shift))


@quick
@given(images(), st.integers(0, 99))
def test_merge_order_changes_rounding_only(x: Array, seed: int) -> None:
    parts = leaves(x)
    shuffled = (parts[i] for i in np.random.default_rng(seed).permutation(len(parts)))
    assert_close(merge_in_order(shuffled), merge_in_order(parts))


@quick
@given(images(), st.integers(1, 20))
def test_sharding_changes_rounding_only(x: Array, leaf: int) -> None:
    assert_close(total(x, x[0], leaf), total(x, x[0], leaf=len(x)))


@quick
@given(images())
def test_permuted_images_and_features_give_the_same_distances(x: Array) -> None:
    rng = np.random.default_rng(len(x))
    rows, columns = rng.permutation(len(x)), rng.permutation(x.shape[2])
    wanted = mahalanobis(fit_global_floor(total(x, x[0])), x)
    permuted = x[rows][:, :, columns]
    found = mahalanobis(fit_global_floor(total(permuted, x[0][:, columns])), permuted)
    np.testing.assert_allclose(found, wanted[rows], rtol=1e-8, atol=1e-8)


@quick
@given(images(), st.sampled_from([1e-6, 1e-3, 0.3, 1e3, 1e6]))
def test_distances_do_not_change_with_the_unit(x: Array, scale: float) -> None:
    for fit in FITS:
        plain, scaled = fit(total(x, x[0])), fit(total(x * scale, x[0] * scale))
        assert scaled.regularisation == plain.regularisation
        np.testing.assert_allclose(scaled.mean, plain.mean * scale, rtol=1e-9)
        np.testing.assert_allclose(scaled.shrinkage, plain.shrinkage, rtol=1e-6, atol=1e-12)
        found, wanted = mahalanobis(scaled, x * scale), mahalanobis(plain, x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@quick
@given(images())
def test_eigenvalues_are_positive_for_any_two_images_or_more(x: Array) -> None:
    for fit in FITS:
        gaussian = fit(total(x, x[0]))
        assert np.isfinite(gaussian.factor).all()
        assert np.isfinite(gaussian.mean).all()
        assert ((gaussian.shrinkage >= 0) & (gaussian.shrinkage <= 1)).all()
        covariance = gaussian.factor @ gaussian.factor.transpose(0, 2, 1)
        assert (np.linalg.eigvalsh(covariance) > 0).all()
        assert np.array_equal(gaussian.factor, np.tril(gaussian.factor))
        assert np.isfinite(mahalanobis(gaussian, x)).all()


@quick
@given(st.integers(1, 30), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_grid_score_ignores_the_order_inside_a_grid(n: int, grids: list[int]) -> None:
    rng = np.random.default_rng(n)
    sizes = [side * side for side in grids]
    distances = rng.exponential(size=(n, sum(sizes)))
    starts = np.cumsum([0, *sizes])
    shuffled = [rng.permutation(np.arange(a, b)) for a, b in itertools.pairwise(starts)]
    found = grid_score(distances[:, np.concatenate(shuffled)], grids)
    assert np.array_equal(found, grid_score(distances, grids))


def test_moments_are_a_copy_and_empty_ones_change_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    accumulator = MomentAccumulator(x[0])
    empty = accumulator.moments()
    accumulator.add(x)
    before = accumulator.moments()
    accumulator.add(x[:0])
    accumulator.add_moments(empty)
    assert empty.count == 0
    assert not empty.second.any()
    assert same_bits(accumulator.moments(), before)
    assert same_bits(merge(before, empty), before)


def test_merge_in_order_lets_go_of_each_part() -> None:
    alive: list[weakref.ref[Moments]] = []

    def parts() -> Iterator[Moments]:
        for seed in range(4):
            assert not any(ref() for ref in alive)
            part = total(np.random.default_rng(seed).standard_normal((3, 1, 2)), np.zeros((1, 2)))
            alive.append(weakref.ref(part))
            yield part
            del part

    assert merge_in_order(parts()).count == 12
    assert len(alive) == 4

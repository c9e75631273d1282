"""p-values against scipy's, what dependent images are worth, and false alarms at their rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact, ks_2samp

from pipeline.stats.drift import (
    count,
    effective_images,
    holm,
    ks_chance,
    ks_distance,
    levels_chance,
    quantile_edges,
    rates_chance,
)


def chance_of(reference: np.ndarray, other: np.ndarray) -> float:
    edges = quantile_edges(reference)
    distance, _ = ks_distance(count(reference, edges), count(other, edges))
    return ks_chance(distance, (len(reference), len(other)))


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 500), (300, 200)])
def test_the_chance_of_a_distance_is_hardly_below_the_exact_one(n: int, m: int) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        first, second = rng.normal(size=n), rng.normal(seed / 40, size=m)
        exact = ks_2samp(first, second, method="exact").pvalue
        if exact > 1e-8:
            assert chance_of(first, second) > 0.95 * exact


def test_many_numbers_give_scipys_limit() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=20_000), rng.normal(0.02, size=30_000)
    exact = ks_2samp(first, second, method="asymp").pvalue
    assert chance_of(first, second) == pytest.approx(exact, rel=0.25)


@given(st.integers(0, 40), st.integers(0, 40))
def test_shares_are_compared_by_fishers_test(k: int, j: int) -> None:
    expected = fisher_exact([[k, 40 - k], [j, 60 - j]]).pvalue
    assert rates_chance((k, j), (40, 60)) == pytest.approx(expected)


def test_kinds_that_stay_and_kinds_that_come() -> None:
    same = np.array([90, 10]), np.array([45, 5])
    assert levels_chance(same, (100, 50)) == pytest.approx(1)
    assert levels_chance((np.array([100]), np.array([50])), (100, 50)) == 1
    turned = np.array([100, 0, 0]), np.array([0, 30, 20])
    assert levels_chance(turned, (100, 50)) < 1e-10
    # As dependent images, so many are no proof.
    assert levels_chance(turned, (4, 3)) > 0.05


# --- dependent images ---


def test_images_that_are_alone_count_and_copies_do_not() -> None:
    assert effective_images(np.ones(50)) == 50
    assert effective_images(np.full(10, 5)) == 10
    assert effective_images(np.array([], np.int64)) == 0


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_groups_are_worth_between_one_image_and_their_number(sizes: list[int]) -> None:
    found = effective_images(np.array(sizes))
    assert 1 - 1e-9 <= found <= len(sizes) + 1e-9


def test_a_share_over_copies_varies_as_that_of_the_effective_images() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 12, 40)
    shares = [np.repeat(rng.random(40) < 0.3, sizes).mean() for _ in range(4000)]
    assert np.var(shares) == pytest.approx(0.3 * 0.7 / effective_images(sizes), rel=0.1)


def alarms_over_copies(repeats: int, *, aware: bool) -> int:
    """Of 300 pairs without a change, each image there `repeats` times: how many p ≤ 0.05."""
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        first, second = (np.repeat(rng.normal(size=60), repeats) for _ in range(2))
        edges = quantile_edges(first)
        distance, _ = ks_distance(count(first, edges), count(second, edges))
        images = 60.0 if aware else 60.0 * repeats
        found += ks_chance(distance, (images, images)) <= 0.05
    return found


def test_copies_raise_false_alarms_unless_they_are_counted_as_one() -> None:
    # Three times in a thousand binomials of 5 % lie above this.
    most = binom.ppf(0.997, 300, 0.05)
    assert alarms_over_copies(6, aware=True) <= most
    assert alarms_over_copies(6, aware=False) > 3 * most


# --- many comparisons ---


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_written_out(chances: list[float]) -> None:
    found = holm(chances)
    for alpha in (0.001, 0.01, 0.05, 0.3):
        left, rejected = sorted(range(len(chances)), key=chances.__getitem__), set()
        while left and chances[left[0]] * len(left) <= alpha:
            rejected.add(left.pop(0))
        assert {n for n, value in enumerate(found) if value <= alpha} == rejected
    assert (found >= np.array(chances)).all()


def test_of_600_nights_without_a_change_a_share_of_alpha_at_most_alarms() -> None:
    """Twelve measures of a night, four of them nearly the same; any of them ≤ α is an alarm."""
    nights, least, first = 600, [], []
    for seed in range(nights):
        rng = np.random.default_rng(seed)
        numbers = [rng.normal(size=(9, n)) for n in (120, 80)]
        rows = [np.vstack([x, x[:1] + 0.05 * x[1:4]]) for x in numbers]
        chances = [chance_of(a, b) for a, b in zip(*rows, strict=True)]
        least.append(holm(chances).min())
        first.append(chances[0])
    for alpha in (0.01, 0.05):
        alarms, single = (int((np.array(found) <= alpha).sum()) for found in (least, first))
        most = binom.ppf(0.999, nights, alpha)
        print(f"α {alpha}: {alarms} of {nights} nights, {single} of one measure, at most {most:g}")
        assert alarms <= most
        # Not because nothing is ever found: one measure alone comes up nearly as often as it may.
        assert single >= binom.ppf(0.001, nights, 0.5 * alpha)

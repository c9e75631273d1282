"""The bound of `safe` holds as often as it says; one image of a group counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from pipeline.stats.bounds import miss_bound, one_per_group
from pipeline.stats.thresholds import conformal_threshold, safe_threshold

CALIBRATIONS = 100_000


@pytest.mark.parametrize(("n", "k"), list(itertools.product((10, 30, 60), (0, 1, 2))))
def test_the_bound_of_safe_covers_the_true_rate_as_often_as_it_says(n: int, k: int) -> None:
    """100,000 calibrations: each draws n defects, takes tau from them and states the bound."""
    scores = np.random.default_rng([n, k]).standard_normal((CALIBRATIONS, n))
    truth = norm.cdf(safe_threshold(scores, k))  # the rate at which the next defect is missed
    covered = np.mean(truth <= miss_bound(k, n, 0.95))
    assert 0.947 <= covered <= 0.953


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("n", "k"), [(1, 0), (10, 0), (10, 9), (59, 2), (2995, 0)])
def test_at_the_bound_so_few_misses_are_just_that_improbable(
    n: int, k: int, confidence: float
) -> None:
    """Clopper and Pearson's definition: P(at most k of n | rate = bound) = 1 − confidence."""
    assert binom.cdf(k, n, miss_bound(k, n, confidence)) == pytest.approx(1 - confidence, rel=1e-9)


def test_the_bounds_of_no_miss_are_the_known_ones() -> None:
    known = {10: 0.26, 20: 0.14, 29: 0.10, 59: 0.05, 149: 0.02, 299: 0.01, 2995: 0.001}
    for n, bound in known.items():
        assert miss_bound(0, n, 0.95) == pytest.approx(bound, abs=bound / 20)
        assert miss_bound(0, n, 0.95) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-12)


def test_all_missed_bounds_nothing() -> None:
    assert miss_bound(7, 7, 0.95) == 1
    assert miss_bound(0, 0, 0.95) == 1


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_counts_that_can_not_be(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{k} events in {n} trials"):
        miss_bound(k, n, 0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, float("nan")])
def test_a_confidence_outside_its_range(confidence: float) -> None:
    with pytest.raises(ValueError, match=f"confidence is {confidence}"):
        miss_bound(0, 5, confidence)


@pytest.mark.parametrize(("m", "target"), [(19, 0.05), (30, 0.05), (99, 0.01), (25, 0.2)])
def test_the_conformal_threshold_keeps_its_expected_rate(m: int, target: float) -> None:
    """Over many calibrations the mean true rate is ⌊(m+1) α⌋/(m+1), which is at most α."""
    scores = np.random.default_rng(m).standard_normal((20_000, m))
    rates = norm.sf([conformal_threshold(row, target) for row in scores])
    wanted = int((m + 1) * target + 1e-9) / (m + 1)
    assert wanted <= target
    assert np.mean(rates) == pytest.approx(wanted, abs=5 * np.std(rates) / np.sqrt(len(rates)))


groups = st.lists(st.integers(-3, 3), min_size=0, max_size=30)


@settings(deadline=None)
@given(groups, st.randoms(use_true_random=False))
def test_of_every_group_one_image_is_taken_whatever_the_order(
    numbers: list[int], random: object
) -> None:
    of = np.array(numbers, np.int64)
    ids = np.random.default_rng(len(numbers)).choice(2**62, len(of), replace=False)
    chosen = one_per_group(of, ids)
    assert sorted(of[chosen].tolist()) == sorted(set(numbers))
    order = list(range(len(of)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = one_per_group(of[order], ids[order])
    assert set(ids[order][again].tolist()) == set(ids[chosen].tolist())


def test_the_choice_favours_no_place_and_no_small_id() -> None:
    pairs = np.arange(4000, dtype=np.int64)
    chosen = one_per_group(pairs // 2, pairs)
    assert 0.45 < chosen[::2].mean() < 0.55

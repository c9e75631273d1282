"""Distances from bins against scipy's on the numbers themselves, and what they must not see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr
from scipy.stats import chi2, ks_2samp, wasserstein_distance

from pipeline.stats.drift import (
    Binned,
    count,
    ks_distance,
    psi,
    psi_of_bins,
    psi_of_chance,
    quantile_edges,
    total_variation,
    wasserstein,
)

# Few different values: ties, constant columns and gaps come up.
NUMBERS = st.one_of(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(-100, 100, width=32)),
    arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0, 1, 1.5, 7])),
)


def binned(reference: np.ndarray, other: np.ndarray, bins: int = 512) -> tuple[Binned, Binned]:
    edges = quantile_edges(reference, bins)
    return count(reference, edges), count(other, edges)


def samples(shift: float = 0.0, sizes: tuple[int, int] = (4000, 3000), seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [rng.normal(20, 4, sizes[0]), rng.normal(20 + 4 * shift, 4, sizes[1])]


def naive_ks(reference: np.ndarray, other: np.ndarray) -> float:
    return max(abs((reference <= x).mean() - (other <= x).mean()) for x in [*reference, *other])


# --- bins ---


@given(NUMBERS, st.integers(1, 20))
def test_every_number_lies_between_its_edges(values: np.ndarray, bins: int) -> None:
    edges = quantile_edges(values, bins)
    assert (np.diff(edges) > 0).all()
    found = count(values, edges)
    naive = [
        int(((values > low) & (values <= high)).sum())
        for low, high in zip([-np.inf, *edges], [*edges, np.inf], strict=True)
    ]
    assert found.counts.tolist() == naive
    assert found.counts[0] == found.counts[-1] == 0
    assert found.sums.sum() == pytest.approx(values.astype(np.float64).sum(), abs=1e-9)
    assert len(edges) <= 2 * bins + 1


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_counts_of_shards_add_up_in_any_order(shards: list[np.ndarray], random: object) -> None:
    edges = quantile_edges(shards[0], 16)
    whole = count(np.concatenate(shards), edges)
    order = list(range(len(shards)))
    random.shuffle(order)  # type: ignore[attr-defined]
    parts = [count(shards[n], edges) for n in order]
    found = sum(parts[1:], parts[0])
    assert np.array_equal(found.counts, whole.counts)
    assert found.sums == pytest.approx(whole.sums, abs=1e-9)


def test_a_number_that_many_images_have_gets_a_bin_of_its_own() -> None:
    confidences = np.concatenate([np.zeros(700), np.linspace(0.05, 0.9, 300)])
    edges = quantile_edges(confidences, 10)
    found = count(confidences, edges)
    assert found.counts.max() == 700
    assert count(np.array([-0.1, 0.01]), edges).counts[np.searchsorted(edges, 0.0)] == 0


def test_what_is_missing_is_counted_apart() -> None:
    values = np.array([1, np.nan, 2, np.inf, -np.inf], np.float32)
    edges = quantile_edges(values)
    found = count(values, edges)
    assert (found.present, found.missing, found.total, found.mean) == (2, 3, 5, 1.5)
    assert len(quantile_edges(np.array([np.nan]))) == 0


def test_counts_of_other_bins_do_not_add_up() -> None:
    one, other = count(np.ones(3), np.array([1.0])), count(np.ones(3), np.array([2.0]))
    with pytest.raises(ValueError, match="different bins"):
        one + other
    for distance in (ks_distance, wasserstein):
        with pytest.raises(ValueError, match="different bins"):
            distance(one, other)


# --- Kolmogorov–Smirnov ---


@given(NUMBERS, NUMBERS, st.integers(1, 60))
def test_ks_is_scipys_within_what_it_says_the_bins_leave_open(
    reference: np.ndarray, other: np.ndarray, bins: int
) -> None:
    low, high = ks_distance(*binned(reference, other, bins))
    exact = naive_ks(reference, other)
    assert low - 1e-9 <= exact <= high + 1e-9


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0, -3.0])
def test_ks_with_512_bins_is_scipys_to_two_thousandths(shift: float) -> None:
    reference, other = samples(shift)
    low, high = ks_distance(*binned(reference, other))
    exact = ks_2samp(reference, other).statistic
    assert low <= exact + 1e-12 <= high
    assert exact - low < 0.004


def test_ks_sees_that_scores_are_missing() -> None:
    reference, other = samples()
    other[:1500] = np.nan
    low, _ = ks_distance(*binned(reference, other))
    assert low == pytest.approx(0.5, abs=0.03)


# --- Wasserstein ---


@given(NUMBERS, NUMBERS, st.integers(1, 60))
def test_wasserstein_is_never_above_scipys(
    reference: np.ndarray, other: np.ndarray, bins: int
) -> None:
    found = wasserstein(*binned(reference, other, bins))
    assert found <= wasserstein_distance(reference, other) + 1e-6


@pytest.mark.parametrize("bins", [1, 4, 512])
@pytest.mark.parametrize("shift", [-25.0, 0.5, 3.0])
def test_wasserstein_of_a_shift_is_the_shift_with_any_number_of_bins(
    bins: int, shift: float
) -> None:
    reference, _ = samples()
    assert wasserstein(*binned(reference, reference + shift, bins)) == pytest.approx(abs(shift))


@pytest.mark.parametrize(("scale", "seed"), [(1.3, 1), (0.5, 2)])
def test_wasserstein_with_512_bins_is_scipys(scale: float, seed: int) -> None:
    reference, other = samples(seed=seed)
    other = 20 + scale * (other - 20)
    exact = wasserstein_distance(reference, other)
    assert wasserstein(*binned(reference, other)) == pytest.approx(exact, rel=1e-3)


def test_wasserstein_of_nothing_is_nothing() -> None:
    nothing = count(np.array([np.nan]), np.array([1.0]))
    assert np.isnan(wasserstein(count(np.ones(2), np.array([1.0])), nothing))


# --- PSI ---


def test_psi_is_the_sum_of_both_divergences() -> None:
    p, q = np.array([30, 20, 50]), np.array([5, 15, 180])
    a, b = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
    naive = rel_entr(a, b).sum() + rel_entr(b, a).sum()
    assert psi(p, q) == (pytest.approx(naive), 3)


def test_bins_that_are_empty_in_both_change_nothing() -> None:
    p, q = np.array([30, 20, 50]), np.array([5, 0, 180])
    assert psi(np.append(p, 0), np.append(q, 0)) == psi(p, q)


@pytest.mark.parametrize("shift", [0.3, 0.5, 1.0])
def test_psi_of_a_shifted_normal_is_the_square_of_the_shift(shift: float) -> None:
    found = psi_of_bins(*binned(*samples(shift, (200_000, 200_000))), 200_000)
    # Tenths lose some of it.
    assert 0.85 * shift**2 < found[0] < 1.02 * shift**2


@pytest.mark.parametrize("sizes", [(100, 100), (300, 2000), (2000, 300)])
def test_psi_without_a_change_is_distributed_as_it_is_said(sizes: tuple[int, int]) -> None:
    found = []
    for seed in range(400):
        value, bins = psi_of_bins(*binned(*samples(0, sizes, seed)), sizes[0])
        found.append(value / (1 / sizes[0] + 1 / sizes[1]))
        assert bins == 10
    mean = np.mean(found) * psi_of_chance(2, sizes)
    assert mean == pytest.approx(psi_of_chance(10, sizes), rel=0.1)
    assert np.quantile(found, 0.95) == pytest.approx(chi2.ppf(0.95, 9), rel=0.15)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_column_that_stays_has_no_distance_and_one_that_moves_has(value: float) -> None:
    same = binned(np.full(100, value), np.full(80, value))
    moved = binned(np.full(100, value), np.full(80, value - 1))
    assert psi_of_bins(*same, 100)[0] == ks_distance(*same)[0] == wasserstein(*same) == 0
    assert psi_of_bins(*moved, 100)[0] > 5
    assert ks_distance(*moved)[0] == wasserstein(*moved) == 1


def test_psi_sees_that_scores_are_missing() -> None:
    reference, other = samples()
    other[:1500] = np.nan
    assert psi_of_bins(*binned(reference, other), 4000)[0] > 1


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one in each"):
        psi(np.zeros(3), np.ones(3))
    nothing = count(np.zeros(0), np.array([1.0]))
    with pytest.raises(ValueError, match="0 numbers"):
        ks_distance(nothing, nothing)


# --- both ---


@given(NUMBERS, NUMBERS)
def test_psi_and_ks_do_not_depend_on_the_scale_of_a_score(
    reference: np.ndarray, other: np.ndarray
) -> None:
    # A strictly rising function that keeps all numbers apart, the smallest too: no rounding.
    def moved(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, 8 * values.astype(np.float64), values.astype(np.float64))

    plain = binned(reference, other, 16)
    other_scale = binned(moved(reference), moved(other), 16)
    assert psi_of_bins(*plain, len(reference)) == psi_of_bins(*other_scale, len(reference))
    assert ks_distance(*plain) == ks_distance(*other_scale)


@given(NUMBERS)
def test_a_run_has_no_distance_to_itself(values: np.ndarray) -> None:
    pair = binned(values, values)
    assert ks_distance(*pair)[0] == wasserstein(*pair) == psi_of_bins(*pair, 100)[0] == 0


def test_total_variation_is_the_part_that_would_have_to_change() -> None:
    assert total_variation(np.array([90, 10, 0]), np.array([35, 5, 10])) == pytest.approx(0.2)

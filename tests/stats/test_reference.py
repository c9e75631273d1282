"""The moments, fits and distances against the textbook formulas and scikit-learn."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import solve_triangular
from sklearn.covariance import LedoitWolf, empirical_covariance

from pipeline.stats.covariance import covariance, ledoit_wolf_shrinkage
from pipeline.stats.gaussian import (
    FALLBACK_SHRINKAGE,
    GLOBAL_FLOOR_WEIGHT,
    SOLVED_ROWS,
    Gaussian,
    fit_global_floor,
    fit_ledoit_wolf,
    grid_score,
    mahalanobis,
)
from pipeline.stats.moments import MomentAccumulator, Moments, merge_in_order

Array = npt.NDArray[np.float64]

TOLERANCE = 1e-12
SHARDS = 7
FITS = [fit_ledoit_wolf, fit_global_floor]


def correlated(n: int, groups: int, width: int, seed: int = 0) -> Array:
    """Skewed, correlated features with another mean and scale in each group."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((groups, width, width))
    latent = rng.exponential(size=(n, groups, width))
    scale = np.linspace(0.5, 4, groups)[:, None]
    x: Array = np.einsum("ngd,gde->nge", latent, mixing) * scale
    return x + 3 * rng.standard_normal(width)


def sharded(x: Array, shift: Array) -> Moments:
    parts = []
    for shard in np.array_split(x, SHARDS):
        accumulator = MomentAccumulator(shift)
        for leaf in np.array_split(shard, 2):
            accumulator.add(leaf)
        parts.append(accumulator.moments())
    return merge_in_order(iter(parts))


def near_mean(x: Array) -> Array:
    mean: Array = x[:5].mean(axis=0)
    return mean


def covariances(gaussian: Gaussian) -> Array:
    return gaussian.factor @ gaussian.factor.transpose(0, 2, 1)


def relative_error(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_sums_are_the_naive_ones() -> None:
    x = correlated(61, 3, 8)
    shift = near_mean(x)
    found = sharded(x, shift)
    first, second, third, fourth = (
        np.zeros_like(s) for s in (shift, found.second, shift, x[0, :, 0])
    )
    for image in x:
        for g, z in enumerate(image - shift):
            first[g] += z
            second[g] += np.outer(z, z)
            third[g] += np.sum(z**2) * z
            fourth[g] += np.sum(z**2) ** 2
    assert found.count == 61
    assert np.array_equal(found.shift, shift)
    assert relative_error(found.first, first) <= TOLERANCE
    assert relative_error(found.second, second) <= TOLERANCE
    assert relative_error(found.third, third) <= TOLERANCE
    assert relative_error(found.fourth, fourth) <= TOLERANCE
    assert found.nbytes == 8 * (3 * 3 * 8 + 3 * 8 * 8 + 3)


@pytest.mark.parametrize(("n", "width"), [(200, 12), (40, 1), (30, 60), (9, 25)])
def test_ledoit_wolf_is_scikit_learns_over_seven_shards(n: int, width: int) -> None:
    x = correlated(n, 3, width)
    found = fit_ledoit_wolf(sharded(x, near_mean(x)))
    assert found.regularisation == "ledoit_wolf"
    assert found.count == n
    for g in range(3):
        wanted = LedoitWolf().fit(x[:, g])
        assert found.shrinkage[g] == pytest.approx(wanted.shrinkage_, rel=TOLERANCE, abs=0)
        assert relative_error(covariances(found)[g], wanted.covariance_) <= TOLERANCE
        assert relative_error(found.mean[g], wanted.location_) <= TOLERANCE


def test_shrinkage_stops_at_one_as_scikit_learns() -> None:
    x = np.random.default_rng(1).standard_normal((6, 1, 4))
    assert LedoitWolf().fit(x[:, 0]).shrinkage_ == 1
    assert fit_ledoit_wolf(sharded(x, near_mean(x))).shrinkage == 1


def test_shrinkage_of_two_images_is_never_below_zero() -> None:
    for seed in range(50):
        moments = sharded(correlated(2, 1, 10, seed), np.zeros((1, 10)))
        shrinkage = ledoit_wolf_shrinkage(moments, 0, covariance(moments, 0))
        assert 0 <= shrinkage <= 1e-10


@pytest.mark.parametrize(("n", "width"), [(200, 12), (40, 1), (9, 25), (2, 10)])
def test_global_floor_is_the_written_formula(n: int, width: int) -> None:
    x = correlated(n, 3, width)
    found = fit_global_floor(sharded(x, near_mean(x)))
    biased = np.stack([empirical_covariance(x[:, g]) for g in range(3)])
    floor = x.var(axis=0).mean()
    wanted = (1 - GLOBAL_FLOOR_WEIGHT) * biased + GLOBAL_FLOOR_WEIGHT * floor * np.eye(width)
    assert relative_error(covariances(found), wanted) <= TOLERANCE
    assert found.regularisation == "global_floor"
    assert np.array_equal(found.shrinkage, np.full(3, GLOBAL_FLOOR_WEIGHT))


def test_two_images_fall_back_to_a_fixed_shrinkage() -> None:
    x = correlated(2, 2, 10)
    assert LedoitWolf().fit(x[:, 0]).shrinkage_ == pytest.approx(0, abs=TOLERANCE)
    found = fit_ledoit_wolf(sharded(x, near_mean(x)))
    biased = np.stack([empirical_covariance(x[:, g]) for g in range(2)])
    floor = x.var(axis=0).mean(axis=1)[:, None, None] * np.eye(10)
    wanted = (1 - FALLBACK_SHRINKAGE) * biased + FALLBACK_SHRINKAGE * floor
    assert found.regularisation == "ledoit_wolf_fallback"
    assert np.array_equal(found.shrinkage, np.full(2, FALLBACK_SHRINKAGE))
    assert relative_error(covariances(found), wanted) <= TOLERANCE


def test_only_the_singular_group_falls_back() -> None:
    x = correlated(40, 2, 6)
    x[:, 1] = np.where(np.arange(40)[:, None] < 20, x[0, 1], x[1, 1])
    found = fit_ledoit_wolf(sharded(x, near_mean(x)))
    healthy = LedoitWolf().fit(x[:, 0])
    assert found.regularisation == "ledoit_wolf_fallback"
    assert found.shrinkage[0] == pytest.approx(healthy.shrinkage_, rel=TOLERANCE)
    assert found.shrinkage[1] == FALLBACK_SHRINKAGE


@pytest.mark.parametrize("fit", FITS)
def test_distances_are_those_of_the_inverse(fit: Callable[[Moments], Gaussian]) -> None:
    x, probe = correlated(200, 3, 12), correlated(17, 3, 12, seed=1)
    gaussian = fit(sharded(x, near_mean(x)))
    found = mahalanobis(gaussian, probe)
    for g, matrix in enumerate(covariances(gaussian)):
        inverse = np.linalg.inv(matrix)
        for row, z in enumerate(probe[:, g] - x[:, g].mean(axis=0)):
            assert found[row, g] == pytest.approx(np.sqrt(z @ inverse @ z), rel=TOLERANCE)


@pytest.mark.parametrize("width", [1, SOLVED_ROWS, SOLVED_ROWS + 1, 3 * SOLVED_ROWS - 1])
@pytest.mark.parametrize("images", [1, 32])
def test_distances_are_those_of_a_solver_at_any_width(width: int, images: int) -> None:
    x, probe = correlated(400, 2, width), correlated(images, 2, width, seed=1)
    gaussian = fit_global_floor(sharded(x, near_mean(x)))
    found = mahalanobis(gaussian, probe)
    for g in range(2):
        z = solve_triangular(gaussian.factor[g], (probe[:, g] - gaussian.mean[g]).T, lower=True)
        assert relative_error(found[:, g], np.linalg.norm(z, axis=0)) <= TOLERANCE


def test_ledoit_wolf_distances_are_scikit_learns() -> None:
    x, probe = correlated(80, 2, 10), correlated(5, 2, 10, seed=1)
    found = mahalanobis(fit_ledoit_wolf(sharded(x, near_mean(x))), probe)
    for g in range(2):
        squared = LedoitWolf().fit(x[:, g]).mahalanobis(probe[:, g])
        assert relative_error(found[:, g] ** 2, squared) <= TOLERANCE


def test_distances_do_not_copy_a_factor_and_take_a_read_only_one() -> None:
    width = 256
    rng = np.random.default_rng(0)
    factor = np.tril(rng.standard_normal((2, width, width))) / width + np.eye(width)
    factor.flags.writeable = False
    gaussian = Gaussian(np.zeros((2, width)), factor, np.zeros(2), 9, "ledoit_wolf")
    probe = rng.standard_normal((4, 2, width))
    mahalanobis(gaussian, probe)
    tracemalloc.start()
    mahalanobis(gaussian, probe)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < factor[0].nbytes / 2


def test_a_leaf_costs_one_product_beyond_the_sums() -> None:
    groups, width = 12, 96
    accumulator = MomentAccumulator(np.zeros((groups, width)))
    leaf = correlated(4, groups, width)
    accumulator.add(leaf)
    tracemalloc.start()
    accumulator.add(leaf)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 8 * width * width


def test_grid_score_adds_the_largest_distance_of_each_grid() -> None:
    distances = np.random.default_rng(0).exponential(size=(5, 4 + 9 + 1))
    wanted = [max(row[:4]) + max(row[4:13]) + row[13] for row in distances]
    assert np.array_equal(grid_score(distances, [2, 3, 1]), wanted)
    assert np.array_equal(grid_score(distances[:, :1], (1,)), distances[:, 0])


def test_no_images_give_no_distances() -> None:
    x = correlated(9, 3, 4)
    gaussian = fit_global_floor(sharded(x, near_mean(x)))
    assert mahalanobis(gaussian, x[:0]).shape == (0, 3)
    assert grid_score(np.zeros((0, 4)), [2]).shape == (0,)

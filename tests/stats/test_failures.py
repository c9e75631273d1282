"""Every refusal says which value was found and what is needed."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.stats.gaussian import (
    Gaussian,
    fit_global_floor,
    fit_ledoit_wolf,
    grid_score,
    mahalanobis,
)
from pipeline.stats.moments import MomentAccumulator, Moments, merge, merge_in_order

Array = npt.NDArray[np.float64]
Fit = Callable[[Moments], Gaussian]

both_fits = pytest.mark.parametrize("fit", [fit_ledoit_wolf, fit_global_floor])


def sums(x: Array, shift: Array | None = None) -> Moments:
    accumulator = MomentAccumulator(np.zeros(x.shape[1:]) if shift is None else shift)
    accumulator.add(x)
    return accumulator.moments()


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_its_row_and_adds_nothing(value: float) -> None:
    x = noise(5, 2, 3)
    gaussian = fit_global_floor(sums(x))
    accumulator = MomentAccumulator(np.zeros((2, 3)))
    x[3, 1, 2] = value
    message = f"row 3 of 5: feature 2 of group 1 is {value}"
    with pytest.raises(ValueError, match=message):
        accumulator.add(x)
    assert accumulator.moments().count == 0
    assert not accumulator.moments().first.any()
    with pytest.raises(ValueError, match=message):
        mahalanobis(gaussian, x)


@pytest.mark.parametrize("shape", [(5, 2, 4), (5, 3, 3), (2, 3)])
def test_features_of_another_shape(shape: tuple[int, ...]) -> None:
    gaussian = fit_global_floor(sums(noise(5, 2, 3)))
    message = rf"features have shape \({str(shape)[1:-1]}\), need \('N images', 2, 3\)"
    with pytest.raises(ValueError, match=message):
        MomentAccumulator(np.zeros((2, 3))).add(noise(*shape))
    with pytest.raises(ValueError, match=message):
        mahalanobis(gaussian, noise(*shape))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0), (1, 2, 3)])
def test_a_shift_that_is_not_groups_by_features(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"shift has shape \({str(shape)[1:-1]}\)"):
        MomentAccumulator(np.zeros(shape))


@pytest.mark.parametrize("name", ["first", "second", "third", "fourth"])
def test_moments_of_unequal_shapes_or_of_float32(name: str) -> None:
    moments = sums(noise(5, 2, 3))
    array = getattr(moments, name)
    with pytest.raises(ValueError, match=rf"{name} is float64 \(1.*needs float64 \(2"):
        dataclasses.replace(moments, **{name: array[:1]})
    with pytest.raises(ValueError, match=f"{name} is float32 .*needs float64"):
        dataclasses.replace(moments, **{name: array.astype(np.float32)})


def test_a_negative_count() -> None:
    with pytest.raises(ValueError, match="count is -1, needs to be 0 or more"):
        dataclasses.replace(sums(noise(5, 2, 3)), count=-1)


@pytest.mark.parametrize("name", ["mean", "factor", "shrinkage"])
def test_a_gaussian_of_unequal_shapes(name: str) -> None:
    gaussian = fit_global_floor(sums(noise(5, 2, 3)))
    with pytest.raises(ValueError, match=r"is float64 \(.*needs float64 \("):
        dataclasses.replace(gaussian, **{name: getattr(gaussian, name)[:1]})


def test_merging_about_different_shifts_quotes_both() -> None:
    other = np.zeros((2, 3))
    other[1, 2] = 0.25
    a, b = sums(noise(4, 2, 3)), sums(noise(4, 2, 3), other)
    message = r"group 1, feature 2 is 0\.0 in one and 0\.25 in the other"
    with pytest.raises(ValueError, match=message):
        merge(a, b)
    with pytest.raises(ValueError, match=message):
        merge_in_order([a, b])
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and \(2, 4\) do not add"):
        merge(a, sums(noise(4, 2, 4)))


def test_merging_nothing() -> None:
    with pytest.raises(ValueError, match="0 moments to merge, needs at least 1"):
        merge_in_order([])


@both_fits
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images(fit: Fit, count: int) -> None:
    with pytest.raises(ValueError, match=rf"^{count} image.*needs at least 2 different images"):
        fit(sums(noise(count, 2, 3)))


@both_fits
@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
def test_images_that_do_not_differ(fit: Fit, value: float) -> None:
    message = "^6 images with a mean variance of .* needs at least 2 different images"
    with pytest.raises(ValueError, match=message):
        fit(sums(np.full((6, 2, 3), value)))


def test_ledoit_wolf_names_the_constant_group() -> None:
    x = noise(6, 3, 4)
    x[:, 2] = 0.1
    with pytest.raises(ValueError, match=r"^6 images .* in group 2: "):
        fit_ledoit_wolf(sums(x))
    assert np.isfinite(mahalanobis(fit_global_floor(sums(x)), x)).all()


@both_fits
def test_features_too_large_for_the_sums(fit: Fit) -> None:
    x = noise(6, 3, 4)
    x[:, 1] *= 1e100
    with np.errstate(over="ignore"):
        moments = sums(x)
    with pytest.raises(ValueError, match="fourth moment of group 1 over 6 images is not finite"):
        fit(moments)


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.5, float("nan")])
def test_a_floor_weight_outside_its_range(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"weight of the global floor is {weight}, needs"):
        fit_global_floor(sums(noise(5, 2, 3)), weight)


def test_a_floor_weight_too_small_for_a_singular_covariance() -> None:
    with pytest.raises(ValueError, match="group 0 is singular with 1e-20 of the mean variance"):
        fit_global_floor(sums(noise(3, 2, 9)), 1e-20)


def test_grids_that_do_not_match_the_distances() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 79\), but grids \[4, 8\] have 80 cells"):
        grid_score(np.zeros((3, 79)), [4, 8])
    with pytest.raises(ValueError, match=r"shape \(16,\), but grids \[4\] have 16 cells"):
        grid_score(np.zeros(16), [4])


@pytest.mark.parametrize("grids", [[], [0], [4, -4]])
def test_grids_without_cells(grids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"grids are \[.*need at least one side of 1 or more"):
        grid_score(np.zeros((3, 16)), grids)

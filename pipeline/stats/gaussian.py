"""One Gaussian a group, fitted to moments, and the distances to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.blas import dtrsm

from pipeline.stats.checks import (
    Array,
    Features,
    centred,
    require_features,
    require_float64,
    require_groups,
)
from pipeline.stats.covariance import covariance, ledoit_wolf_shrinkage, mean_variance
from pipeline.stats.moments import Moments

GLOBAL_FLOOR_WEIGHT = 0.1
"""Share of the category's mean variance in every cell: with a floor per cell a flat background
explodes (pixel AUROC .66 instead of .97)."""

FALLBACK_SHRINKAGE = 0.1
"""Shrinkage where Ledoit–Wolf's own leaves the matrix singular: the share the floor takes."""

SMALLEST_PIVOT = 1e-10
"""Share of the mean variance below which a pivot is rounding error: above it, a distance keeps
at least 6 of its 16 digits."""


SOLVED_ROWS = 64
"""Rows of a factor that are solved at once: for a few images a solver takes them all more slowly
than products between blocks do, by 1.4 times at 384 features."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian for each of G groups in D features; the arrays may be read-only memory maps."""

    mean: Array
    """(G, D), feature units"""
    factor: Array
    """(G, D, D): L, lower triangular, L Lᵀ = the regularised covariance"""
    shrinkage: Array
    """(G,): weight of t·I in the covariance, 0 to 1"""
    count: int
    """Images fitted"""
    regularisation: str
    """`global_floor` or `ledoit_wolf`, with `_fallback` if a group had to leave that rule"""

    def __post_init__(self) -> None:
        groups, features = require_groups("mean", self.mean)
        require_float64("mean", self.mean, (groups, features))
        require_float64("factor", self.factor, (groups, features, features))
        require_float64("shrinkage", self.shrinkage, (groups,))


def fit_ledoit_wolf(moments: Moments) -> Gaussian:
    """Fit scikit-learn's `LedoitWolf` in each group.

    A group that its shrinkage leaves singular (2 images: it is 0) takes FALLBACK_SHRINKAGE.

    Raises:
        ValueError: fewer than 2 images, a group without variance, or sums that overflowed.
    """
    _require_fittable(moments)
    factor = np.empty_like(moments.second)
    shrinkage = np.empty(len(factor))
    rule = "ledoit_wolf"
    for group in range(len(factor)):
        floor = mean_variance(moments, slice(group, group + 1))
        C = covariance(moments, group)
        shrinkage[group] = ledoit_wolf_shrinkage(moments, group, C)
        L = _factorise(C, shrinkage[group], floor)
        if L is None:
            rule, shrinkage[group] = "ledoit_wolf_fallback", FALLBACK_SHRINKAGE
            L = _require_factor(_factorise(C, FALLBACK_SHRINKAGE, floor), FALLBACK_SHRINKAGE, group)
        factor[group] = L
    return Gaussian(_mean(moments), factor, shrinkage, moments.count, rule)


def fit_global_floor(moments: Moments, weight: float = GLOBAL_FLOOR_WEIGHT) -> Gaussian:
    """Fit (1 − weight) C + weight·t·I in each group, t = mean variance over all of them.

    C and t are normalised by n, biased as scikit-learn's `empirical_covariance`.

    Raises:
        ValueError: fewer than 2 different images, a weight outside (0, 1] or too small for a
            singular C, or sums that overflowed.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"weight of the global floor is {weight}, needs to be in (0, 1]")
    _require_fittable(moments)
    floor = mean_variance(moments)
    factor = np.empty_like(moments.second)
    for group in range(len(factor)):
        L = _factorise(covariance(moments, group), weight, floor)
        factor[group] = _require_factor(L, weight, group)
    shrinkage = np.full(len(factor), weight)
    return Gaussian(_mean(moments), factor, shrinkage, moments.count, "global_floor")


def mahalanobis(gaussian: Gaussian, features: Features) -> Array:
    """Distance ‖L⁻¹(x − μ)‖ of each image to each group: (N, G, D) to (N, G).

    The same batch gives the same bits; another batch around an image may change the last one,
    as BLAS has other kernels for other numbers of columns.

    Raises:
        ValueError: features of another shape, or not finite (the message names the row).
    """
    groups, width = gaussian.mean.shape
    require_features(features, (groups, width))
    distances = np.empty((len(features), groups))
    for group in range(groups):
        z = np.ascontiguousarray(centred(features, group, gaussian.mean[group]).T)
        _solve(gaussian.factor[group], z)
        distances[:, group] = np.sqrt(np.einsum("dn,dn->n", z, z))
    return distances


def grid_score(distances: Array, grids: Sequence[int]) -> Array:
    """Sum over grids of the largest distance in each: (N, G) to (N,).

    `grids` holds sides; the cells are ordered grid by grid, each row-major.
    """
    cells = [side * side for side in grids]
    if not cells or min(grids) < 1:
        raise ValueError(f"grids are {list(grids)}, need at least one side of 1 or more")
    if distances.ndim != 2 or distances.shape[1] != sum(cells):
        raise ValueError(
            f"distances have shape {distances.shape}, but grids {list(grids)} have {sum(cells)} "
            "cells; use the grids of the fit"
        )
    starts = np.cumsum([0, *cells[:-1]])
    score: Array = np.maximum.reduceat(distances, starts, axis=1).sum(axis=1)
    return score


def _solve(L: Array, b: Array) -> None:
    """Turns b into L⁻¹ b, in place: L (D, D) lower triangular, b (D, N) row-major.

    Forward substitution by blocks: Golub and Van Loan, Matrix Computations, 4th edition, 3.1.
    """
    product = np.empty((SOLVED_ROWS, b.shape[1]))
    for start in range(0, len(L), SOLVED_ROWS):
        rows = slice(start, start + SOLVED_ROWS)
        block = b[rows]
        if start:
            known = product[: len(block)]
            block -= np.matmul(L[rows, :start], b[:start], out=known)
        # As bᵀ L⁻ᵀ: the transpose of row-major rows is what BLAS overwrites without a copy.
        block[:] = dtrsm(1.0, L[rows, rows].T, block.T, side=1, lower=0, overwrite_b=1).T


def _mean(moments: Moments) -> Array:
    return moments.shift + moments.first / moments.count


def _require_fittable(moments: Moments) -> None:
    if moments.count < 2:
        raise ValueError(
            f"{moments.count} image(s) to fit: a Gaussian needs at least 2 different images"
        )
    for name in ("shift", "first", "second", "third", "fourth"):
        sums: Array = getattr(moments, name)
        if not np.isfinite(sums).all():
            group = int(np.argwhere(~np.isfinite(sums))[0][0])
            raise ValueError(
                f"the {name} moment of group {group} over {moments.count} images is not finite; "
                "the features are too large for float64 sums, scale them down"
            )


def _factorise(C: Array, shrinkage: float, floor: float) -> Array | None:
    """Lower Cholesky factor of (1 − shrinkage) C + shrinkage·floor·I; None if singular."""
    shrunk = (1 - shrinkage) * C
    shrunk.flat[:: len(C) + 1] += shrinkage * floor
    try:
        L: Array = cholesky(shrunk, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return None
    smallest = float(np.diagonal(L).min()) ** 2
    return L if smallest > SMALLEST_PIVOT * floor else None


def _require_factor(L: Array | None, weight: float, group: int) -> Array:
    if L is None:
        raise ValueError(
            f"the covariance of group {group} is singular with {weight:g} of the mean variance "
            "added; raise the weight, or take a shift nearer to the mean"
        )
    return L

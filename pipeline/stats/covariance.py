"""Covariance of one group and its Ledoit–Wolf shrinkage, from moment sums alone."""

import numpy as np

from pipeline.stats.checks import Array
from pipeline.stats.moments import Moments

RESOLVABLE_VARIANCE = 1e-12
"""Share of the mean square about the shift below which a variance is rounding error: the sums
carry 16 digits, and the difference that leaves the variance would have lost 12 of them."""


def covariance(moments: Moments, group: int) -> Array:
    """C = S/n − μμᵀ (D, D), normalised by n as scikit-learn's `empirical_covariance`."""
    mean = moments.first[group] / moments.count
    scatter: Array = moments.second[group] / moments.count
    scatter -= np.outer(mean, mean)
    return scatter


def mean_variance(moments: Moments, groups: slice = slice(None)) -> float:
    """Mean over `groups` and features of the variance, normalised by n.

    Raises:
        ValueError: the images do not differ, so that no covariance can be scaled by it.
    """
    squares = np.einsum("gdd->gd", moments.second[groups]) / moments.count
    variance = float(np.mean(squares - (moments.first[groups] / moments.count) ** 2))
    if not variance > RESOLVABLE_VARIANCE * float(np.mean(squares)):
        where = "all groups" if groups == slice(None) else f"group {groups.start}"
        raise ValueError(
            f"{moments.count} images with a mean variance of {variance:.3g} in {where}: a Gaussian "
            "needs at least 2 different images, and a shift near their mean"
        )
    return variance


def ledoit_wolf_shrinkage(moments: Moments, group: int, C: Array) -> float:
    """Weight of t·I in [0, 1], t = tr C / D, as `sklearn.covariance.ledoit_wolf_shrinkage`.

    Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance
    matrices": min(β, δ)/δ with δ = ‖C − t I‖²_F and β = (Σ‖x−μ‖⁴/n − ‖C‖²_F)/n.
    """
    n, width = moments.count, len(C)
    spread = C.copy()
    spread.flat[:: width + 1] -= np.trace(C) / width
    delta = float(np.vdot(spread, spread))
    if delta == 0:
        return 0.0
    beta = (_central_fourth(moments, group) / n - float(np.vdot(C, C))) / n
    return min(max(beta, 0.0), delta) / delta


def _central_fourth(moments: Moments, group: int) -> float:
    """Σ‖x−μ‖⁴ = Σy² + 4 μᵀSμ − 4 μᵀq + 2 m Σy − 3 n m², with y = ‖z‖², q = Σyz, m = ‖μ‖²."""
    n, S = moments.count, moments.second[group]
    mean = moments.first[group] / n
    m = float(mean @ mean)
    quadratic = float(mean @ S @ mean)
    cubic = float(mean @ moments.third[group])
    total_square = float(np.trace(S))
    fourth = float(moments.fourth[group])
    return fourth + 4 * quadratic - 4 * cubic + 2 * m * total_square - 3 * n * m * m

"""Distances of two distributions from counts in the same bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.stats.drift.bins import Binned, Counts, Floats

# Coarse bins of the PSI: tenths of the reference, as its users' rules of thumb take it.
PSI_BINS = 10
# A coarse bin needs so many images of the reference, or its share is mostly noise.
_IMAGES_A_BIN = 10
# Added to every count (Krichevsky and Trofimov 1981), so that an empty bin has a logarithm.
_PSEUDO_COUNT = 0.5


def psi(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[float, int]:
    """Population stability index of two rows of counts: Σ (p − q) ln (p / q).

    It is the sum of both Kullback–Leibler divergences; a shift of a normal distribution by d
    standard deviations gives d². Half an image is added to each count; bins that are empty in both
    take no part.

    Args:
        reference: (B,) counts.
        other: (B,) counts.

    Returns:
        The index, and the bins that took part.

    Raises:
        ValueError: one of both counts nothing.
    """
    _require_images(reference, other)
    there = (reference > 0) | (other > 0)
    p, q = (counts[there] + _PSEUDO_COUNT for counts in (reference, other))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q))), int(there.sum())


def psi_of_chance(bins: int, images: tuple[float, float]) -> float:
    """The index that two samples of one distribution have on average: (B − 1)(1/n + 1/m).

    In units of 1/n + 1/m it is distributed as χ² with B − 1 degrees of freedom (Yurdakul and
    Naranjo 2020, Journal of Risk Model Validation 14).

    Args:
        bins: that took part.
        images: of both, independent ones.
    """
    return (bins - 1) * (1 / images[0] + 1 / images[1])


def psi_of_bins(reference: Binned, other: Binned, images: float) -> tuple[float, int]:
    """The index over tenths of the reference; what is missing is a bin of its own.

    Args:
        reference: whose counts make the tenths out of the bins.
        other: in the same bins.
        images: independent ones of the reference: with fewer than a hundred there are fewer bins.

    Returns:
        The index, and the bins that took part.

    Raises:
        ValueError: other bins, or one of both counts nothing.
    """
    _require_same(reference, other)
    wanted = int(np.clip(images // _IMAGES_A_BIN, 2, PSI_BINS))
    coarse = _coarse(reference.counts, wanted)
    rows = [
        np.append(np.bincount(coarse, weights=one.counts, minlength=wanted), one.missing)
        for one in (reference, other)
    ]
    return psi(*rows)


def _coarse(counts: Counts, wanted: int) -> Counts:
    """(E + 1,) the coarse bin of each: by the middle of its place among the reference's images."""
    middle = np.cumsum(counts) - counts / 2
    total = max(int(counts.sum()), 1)
    return np.minimum((middle * wanted / total).astype(np.int64), wanted - 1)


def ks_distance(reference: Binned, other: Binned) -> tuple[float, float]:
    """Kolmogorov and Smirnov's distance, the largest difference of cumulative shares.

    What is missing counts as larger than every number. At the bins' edges cumulative shares are
    exact, so that the distance of the numbers themselves is never below what is found here.

    Returns:
        What it is at the edges, and what it can be at most between them.

    Raises:
        ValueError: other bins, or one of both counts nothing.
    """
    _require_same(reference, other)
    f, g = (np.cumsum([0, *one.counts, one.missing]) / one.total for one in (reference, other))
    found = float(np.abs(f - g).max())
    between = np.maximum(np.abs(f[1:] - g[:-1]), np.abs(f[:-1] - g[1:]))
    return found, float(max(found, between.max()))


def wasserstein(reference: Binned, other: Binned) -> float:
    """Wasserstein's distance of first order: the area between both cumulative shares.

    In the numbers' unit; of those that are there. The area in a bin is exact, from its sum, unless
    the curves cross in it: then it is below by at most the bin's width times the larger share.

    Returns:
        NaN where one of both has no number.

    Raises:
        ValueError: other bins.
    """
    if not np.array_equal(reference.edges, other.edges):
        raise ValueError("counts of different bins can't be compared")
    if not reference.present or not other.present or not len(reference.edges):
        return float("nan")
    areas = _areas(reference) - _areas(other)
    return float(np.abs(areas).sum())


def _areas(one: Binned) -> Floats:
    """(E + 1,) area under the cumulative share in each bin; in the last, minus that above it."""
    edges, n = one.edges, one.present
    below = np.cumsum(one.counts)[:-1] / n
    inside = np.append(edges * one.counts[:-1] - one.sums[:-1], 0.0) / n
    inside[1:-1] += below[:-1] * np.diff(edges)
    inside[-1] = -(one.sums[-1] - edges[-1] * one.counts[-1]) / n
    return inside


def total_variation(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Half the sum of differences of shares: the part of the images that would have to change.

    Raises:
        ValueError: one of both counts nothing.
    """
    _require_images(reference, other)
    return float(np.abs(reference / reference.sum() - other / other.sum()).sum() / 2)


def _require_images(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    if reference.shape != other.shape or not reference.sum() or not other.sum():
        raise ValueError(
            f"{reference.sum():g} in {reference.shape} against {other.sum():g} in {other.shape}: "
            "need the same bins, and at least one in each"
        )


def _require_same(reference: Binned, other: Binned) -> None:
    if not np.array_equal(reference.edges, other.edges):
        raise ValueError("counts of different bins can't be compared")
    if not reference.total or not other.total:
        raise ValueError(f"{reference.total} numbers against {other.total}: need one of each")

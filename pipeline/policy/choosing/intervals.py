"""Intervals of binomial shares, for arrays: Wilson's to look at, Clopper–Pearson's to claim.

All assume independent images. Near-duplicates and photographs of one part are one image: count one
of each group, or the intervals are too narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtri

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.integer[Any]]

CONFIDENCE = 0.95


def share(hits: Counts, of: Counts) -> Floats:
    """The rate hits / of; NaN where there is nothing to divide by."""
    hits, of = np.broadcast_arrays(hits, of)
    found: Floats = np.divide(hits, of, out=np.full(hits.shape, np.nan), where=of > 0)
    return found


def wilson(hits: Counts, of: Counts, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Wilson's score interval (1927), two-sided: close to its confidence on average.

    Args:
        hits: (…) of them.
        of: (…) trials.
        confidence: in (0, 1).

    Returns:
        Lower and upper ends (…), NaN without trials.

    Raises:
        ValueError: more hits than trials, a count below 0, a confidence outside (0, 1).
    """
    hits, of = _checked(hits, of, confidence)
    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    rate = share(hits, of)
    n = np.where(of > 0, of, np.nan)
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = np.where(hits == 0, 0.0, np.maximum(middle - half, 0))
    high = np.where(hits == of, 1.0, np.minimum(middle + half, 1))
    return np.where(of > 0, low, np.nan), np.where(of > 0, high, np.nan)


def clopper_pearson(
    hits: Counts, of: Counts, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """The exact two-sided interval (Clopper and Pearson 1934): at least its confidence, always.

    Args, returns and errors are those of `wilson`.
    """
    hits, of = _checked(hits, of, confidence)
    tail = (1 - confidence) / 2
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), of - hits + 1, tail), 0.0)
    return np.where(of > 0, low, np.nan), upper_bound(hits, of, 1 - tail)


def upper_bound(hits: Counts, of: Counts, confidence: float = CONFIDENCE) -> Floats:
    """Clopper and Pearson's one-sided upper bound (…): the claim `the rate is at most …`.

    Args and errors are those of `wilson`; NaN without trials.
    """
    hits, of = _checked(hits, of, confidence)
    high = betaincinv(hits + 1, np.maximum(of - hits, 1), confidence)
    return np.where(of > 0, np.where(hits < of, high, 1.0), np.nan)


def _checked(hits: Counts, of: Counts, confidence: float) -> tuple[Counts, Counts]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, needs to be in (0, 1)")
    hits, of = np.broadcast_arrays(np.asarray(hits), np.asarray(of))
    wrong = (hits < 0) | (hits > of)
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{hits.flat[place]} hits of {of.flat[place]}: needs 0 <= hits <= trials")
    return hits, of

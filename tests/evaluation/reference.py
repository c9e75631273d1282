"""Intervals by the words that define them."""

from __future__ import annotations

from scipy.optimize import brentq
from scipy.stats import binom, norm

# The share itself is a root where it is 0 or 1.
TINY = 1e-12


def score_interval(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson: where |p̂ − p| = z √(p (1 − p) / n), by search rather than by the closed form."""
    z, share = norm.ppf((1 + confidence) / 2), hits / of

    def beyond(rate: float) -> float:
        return (share - rate) ** 2 - z**2 * rate * (1 - rate) / of

    low = 0.0 if hits == 0 else brentq(beyond, 0, share - TINY)
    high = 1.0 if hits == of else brentq(beyond, share + TINY, 1)
    return low, high


def exact(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson: the rates at which so many, or so few, are just unlikely enough."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else brentq(lambda p: binom.sf(hits - 1, of, p) - tail, 0, 1)
    high = 1.0 if hits == of else brentq(lambda p: binom.cdf(hits, of, p) - tail, 0, 1)
    return low, high

"""Counts of numbers in bins that a reference fixed once: shards and runs add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# Each holds a five-hundredth of the reference: as fine as a distance of cumulative shares needs.
FINE_BINS = 512
# From the distance of a normal distribution's quartiles to its standard deviation.
_QUARTILES_PER_DEVIATION = 1.349


@dataclass(frozen=True)
class Binned:
    """Numbers counted in the bins (-inf, e0], (e0, e1], …, (e_last, inf).

    Attributes:
        edges: (E,) rising.
        counts: (E + 1,) int64.
        sums: (E + 1,) of the numbers in each bin.
        missing: numbers that are not there: null, NaN, infinite.
    """

    edges: Floats
    counts: Counts
    sums: Floats
    missing: int

    def __post_init__(self) -> None:
        shape = (len(self.edges) + 1,)
        if self.counts.shape != shape or self.sums.shape != shape:
            raise ValueError(
                f"{len(self.edges)} edges with counts {self.counts.shape} and sums "
                f"{self.sums.shape}, need {shape}"
            )

    @property
    def present(self) -> int:
        """Numbers that are there."""
        return int(self.counts.sum())

    @property
    def total(self) -> int:
        """All, with those that are missing."""
        return self.present + self.missing

    @property
    def mean(self) -> float:
        """Of the numbers that are there; NaN: there is none."""
        return float(self.sums.sum() / self.present) if self.present else float("nan")

    def __add__(self, other: Binned) -> Binned:
        """Both together.

        Raises:
            ValueError: other bins.
        """
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("counts of different bins don't add up")
        return Binned(
            self.edges,
            self.counts + other.counts,
            self.sums + other.sums,
            self.missing + other.missing,
        )


def quantile_edges(values: npt.NDArray[Any], bins: int = FINE_BINS) -> Floats:
    """Edges at the quantiles of a reference, each a number that occurs in it.

    A number that fills a bin and more, such as 0 boxes, gets a bin of its own. The first and the
    last bin are open and hold nothing of these values.

    Args:
        values: (N,); what is missing is left out.
        bins: how many at most, without those of single numbers.

    Returns:
        (E,) float64, rising; none where no value is there.
    """
    there = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
    if not len(there):
        return np.zeros(0)
    wanted = min(bins, len(there))
    places = -(-np.arange(1, wanted + 1) * len(there) // wanted) - 1
    chosen, times = np.unique(there[places], return_counts=True)
    alone = chosen[times > 1]
    below = np.nextafter(np.concatenate([there[:1], alone]), -np.inf)
    edges: Floats = np.unique(np.concatenate([chosen, below]))
    return edges


def count(values: npt.NDArray[Any], edges: Floats) -> Binned:
    """Counts numbers (N,) in bins with these edges (E,)."""
    numbers = np.asarray(values, np.float64)
    there = numbers[np.isfinite(numbers)]
    places = np.searchsorted(edges, there, side="left")
    shape = len(edges) + 1
    counts = np.bincount(places, minlength=shape)
    sums = np.bincount(places, weights=there, minlength=shape).astype(np.float64)
    return Binned(edges, counts.astype(np.int64), sums, len(numbers) - len(there))


def spread(values: npt.NDArray[Any]) -> float:
    """A standard deviation that outliers don't move: the quartiles' distance / 1.349.

    The usual one where half of the numbers are the same; NaN where none is there.
    """
    there = np.asarray(values, np.float64)[np.isfinite(values)]
    if not len(there):
        return float("nan")
    low, high = np.quantile(there, [0.25, 0.75])
    return float((high - low) / _QUARTILES_PER_DEVIATION or there.std())

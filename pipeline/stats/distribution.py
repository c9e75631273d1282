"""How float32 numbers are distributed, in one pass and in memory that doesn't grow with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Bits of a float32 that make its bin: the sign, 8 of the exponent, 10 of the fraction. All
# numbers of a bin are the same to one part in 1024, its middle to one in 2048.
_DROPPED = 13
_SIGN = np.uint32(0x80000000)

Floats = npt.NDArray[np.float32]


class Distribution:
    """Counts of numbers by narrow bins and by kind; least and largest are kept exactly.

    Bins are relative: a number is known to one part in 2048, however large or small. They add up,
    so that neither the order nor the pieces in which numbers come matter.

    Attributes:
        kinds: K, how many kinds are told apart.
        n: finite numbers.
        missing: NaN and infinities.
        least: smallest number; None: there is none.
        largest: largest number; None: there is none.
    """

    def __init__(self, kinds: int = 1) -> None:
        self.kinds = kinds
        self.n = self.missing = 0
        self.least: float | None = None
        self.largest: float | None = None
        self._codes = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)

    def add(self, values: Floats, kind: npt.NDArray[np.int64] | None = None) -> None:
        """Counts (N,) numbers, with (N,) kinds from 0 to K-1; None: all of kind 0."""
        there = np.isfinite(values)
        found = np.ascontiguousarray(values[there], np.float32)
        self.missing += len(values) - len(found)
        if not len(found):
            return
        codes = _bins(found) * self.kinds + (0 if kind is None else kind[there])
        self._merge(*np.unique(codes, return_counts=True))
        self._extend(len(found), float(found.min()), float(found.max()))

    def merge(self, other: Distribution) -> None:
        """Adds what another one, of as many kinds, has counted."""
        self.missing += other.missing
        if other.least is not None and other.largest is not None:
            self._merge(other._codes, other._counts)
            self._extend(other.n, other.least, other.largest)

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """The smallest number that so large a share isn't above, to one part in 2048."""
        if self.least is None or self.largest is None:
            return [None] * len(shares)
        until = np.cumsum(self._counts)
        ranks = np.clip(np.ceil(np.asarray(shares) * self.n), 1, self.n)
        middles = _middles(self._codes[np.searchsorted(until, ranks)] // self.kinds)
        exact = np.where(ranks == 1, self.least, np.where(ranks == self.n, self.largest, middles))
        return [float(value) for value in np.clip(exact, self.least, self.largest)]

    def histogram(self, bins: int) -> npt.NDArray[np.int64] | None:
        """(bins, K) counts in equal bins from the least to the largest; None: no two differ.

        A number that lies within one part in 2048 of an edge may be counted beside it.
        """
        if self.least is None or self.largest is None or self.least == self.largest:
            return None
        width = (self.largest - self.least) / bins
        middles = np.clip(_middles(self._codes // self.kinds), self.least, self.largest)
        places = np.minimum(((middles - self.least) / width).astype(np.int64), bins - 1)
        counts = np.zeros((bins, self.kinds), np.int64)
        np.add.at(counts, (places, self._codes % self.kinds), self._counts)
        return counts

    def _merge(self, codes: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        both, place = np.unique(np.concatenate([self._codes, codes]), return_inverse=True)
        sums = np.zeros(len(both), np.int64)
        np.add.at(sums, place, np.concatenate([self._counts, counts]))
        self._codes, self._counts = both, sums

    def _extend(self, n: int, least: float, largest: float) -> None:
        self.n += n
        self.least = least if self.least is None else min(self.least, least)
        self.largest = largest if self.largest is None else max(self.largest, largest)


def _bins(values: Floats) -> npt.NDArray[np.int64]:
    """(N,) bins in the order of the numbers: negative ones have their bits turned round."""
    bits = values.view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> _DROPPED).astype(np.int64)


def _middles(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(N,) middles of bins."""
    first = (bins << _DROPPED).astype(np.uint32)
    last = first | np.uint32((1 << _DROPPED) - 1)
    low, high = (_number(ordered) for ordered in (first, last))
    # Next to nothing is nothing: the bins on either side of 0 hold it and numbers too small to
    # be normal ones.
    tiny = np.abs(low + high) < np.finfo(np.float32).tiny
    return np.where(tiny, 0.0, (low + high) / 2)


def _number(ordered: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    bits = np.where(ordered & _SIGN, ordered & ~_SIGN, ~ordered).astype(np.uint32)
    found = bits.view(np.float32).astype(np.float64)
    # A bin at the very end of the numbers reaches into what is none.
    end = float(np.finfo(np.float32).max)
    return np.nan_to_num(found, nan=end, posinf=end, neginf=-end)

"""The bin of each score among thresholds: exact, in the column's own type, fast.

Bin 0: missing. Bin 1 + k: at or above k of the thresholds. The bin of a score that is itself the
k-th threshold, counted from 0, is k + 2, so a row is at or above that threshold if and only if
its bin is at least k + 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.unsignedinteger]
Scores = npt.NDArray[np.floating]

MISSING = 0
PRESENT = 1

# Up to so many thresholds comparing with each of them is faster than a table (measured).
_COMPARED = 28
# Scores at a time: the scratch arrays of one round stay in a core's cache.
_CHUNK = 1 << 16
_TABLE_BITS = (12, 14, 16)
# More thresholds in one bucket of the finest table than this: a binary search is faster.
_ROUNDS = 32


class Bins:
    """Bins among T thresholds.

    Args:
        thresholds: (T,) float64, increasing, none NaN.
        dtype: the column's type; every threshold is exactly a number of it.
    """

    def __init__(self, thresholds: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> None:
        self._thresholds: Scores = thresholds.astype(dtype)
        self.count = len(thresholds) + 2
        self.type = np.min_scalar_type(self.count - 1)
        self._table = _table(self._thresholds) if len(thresholds) > _COMPARED else None
        # NaN after the last: no score is at or above it.
        self._next = np.append(self._thresholds, self._thresholds.dtype.type(np.nan))

    def codes(self, scores: Scores) -> Codes:
        """Bins (N,) of scores (N,), of the smallest unsigned type that holds them."""
        found = np.empty(len(scores), self.type)
        for start in range(0, len(scores), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._fill(scores[part], found[part])
        return found

    def _fill(self, scores: Scores, found: Codes) -> None:
        flag = scores == scores  # false for NaN alone
        if len(self._thresholds) <= _COMPARED:
            found[:] = flag
            for threshold in self._thresholds:
                np.greater_equal(scores, threshold, out=flag)
                np.add(found, flag.view(np.uint8), out=found)
            return
        if self._table is None:
            found[:] = np.searchsorted(self._thresholds, scores, side="right")
        else:
            self._look_up(self._table, scores, found)
        np.add(found, 1, out=found)
        np.multiply(found, flag.view(np.uint8), out=found)

    def _look_up(self, table: _Table, scores: Scores, found: Codes) -> None:
        """How many thresholds lie in lower buckets, then how many of the score's own bucket."""
        np.take(table.below, table.buckets(scores), out=found, mode="clip")
        following = np.empty(len(scores), scores.dtype)
        flag = np.empty(len(scores), np.bool_)
        for _ in range(table.rounds):
            np.take(self._next, found, out=following, mode="clip")
            np.greater_equal(scores, following, out=flag)
            np.add(found, flag.view(np.uint8), out=found)


class _Table:
    """Buckets that keep the order of scores: what thresholds lie in lower ones needs no search.

    A float's bits, read as an integer, order as the float does (negative ones reversed); the
    highest bits of their distance from the lowest threshold number the bucket.
    """

    def __init__(self, thresholds: Scores, bits: int) -> None:
        self._signed = bool(thresholds[0] < 0)
        keys = _ordered(thresholds, signed=self._signed)
        self._low, self._high = int(keys[0]) - 1, int(keys[-1])
        self._shift = max((self._high - self._low).bit_length() - bits, 0)
        buckets = self.buckets(thresholds)
        last = (self._high - self._low) >> self._shift
        kind = np.min_scalar_type(len(thresholds) + 1)
        self.below = np.searchsorted(buckets, np.arange(last + 1)).astype(kind)
        self.rounds = int(np.bincount(buckets).max())

    def buckets(self, scores: Scores) -> npt.NDArray[np.intp]:
        keys = _ordered(scores, signed=self._signed)
        np.clip(keys, self._low, self._high, out=keys)
        # The distance may need the sign's bit: the difference wraps, and is read as unsigned.
        np.subtract(keys, keys.dtype.type(self._low), out=keys)
        distance = keys.view(f"u{keys.dtype.itemsize}")
        found = np.empty(len(scores), np.intp)
        np.right_shift(distance, distance.dtype.type(self._shift), out=found, casting="same_kind")
        return found


def table_bytes(count: int) -> int:
    """What the table of so many thresholds takes at most."""
    return np.min_scalar_type(count + 1).itemsize << _TABLE_BITS[-1] if count > _COMPARED else 0


def _table(thresholds: Scores) -> _Table | None:
    """The smallest table with few thresholds in a bucket; None: they lie too close together."""
    table = None
    for bits in _TABLE_BITS:
        table = _Table(thresholds, bits)
        if table.rounds <= 1:
            break
    return table if table is not None and table.rounds <= _ROUNDS else None


def _ordered(scores: Scores, *, signed: bool) -> npt.NDArray[Any]:
    """Integers (N,) that order as the scores; without `signed` all negative ones lie below 0."""
    # Adding 0 makes 0 of -0, which equals it and must lie in the same bucket.
    keys = (scores + scores.dtype.type(0)).view(f"i{scores.dtype.itemsize}")
    if signed:
        bits = 8 * keys.dtype.itemsize - 1
        mask = keys >> bits
        np.bitwise_and(mask, (1 << bits) - 1, out=mask)
        np.bitwise_xor(keys, mask, out=keys)
    return keys

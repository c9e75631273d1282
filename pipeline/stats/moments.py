"""Sums over images, about a fixed shift, that add exactly from shard to shard.

G groups (the cells of the grids; 1 for a pooled feature), D features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.stats.checks import (
    Array,
    Features,
    centred,
    require_features,
    require_float64,
    require_groups,
)


@dataclass(frozen=True, eq=False)
class Moments:
    """Additive statistics of `count` images; z = x − shift, in feature units.

    The shift is one for all shards and lies near the mean: the sums lose as many digits as
    (distance of the shift / spread)² has.
    """

    count: int
    shift: Array
    """(G, D)"""
    first: Array
    """(G, D): Σ z"""
    second: Array
    """(G, D, D): Σ z zᵀ"""
    third: Array
    """(G, D): Σ ‖z‖² z"""
    fourth: Array
    """(G,): Σ ‖z‖⁴"""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count is {self.count}, needs to be 0 or more")
        groups, features = require_groups("shift", self.shift)
        require_float64("shift", self.shift, (groups, features))
        require_float64("first", self.first, (groups, features))
        require_float64("second", self.second, (groups, features, features))
        require_float64("third", self.third, (groups, features))
        require_float64("fourth", self.fourth, (groups,))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, shift included."""
        return sum(a.nbytes for a in (self.shift, self.first, self.second, self.third, self.fourth))


class MomentAccumulator:
    """Moments that grow in place, one leaf (a fixed chunk of images) at a time.

    The same leaves in the same order give the same bits, and the same bits as merging the
    moments of the single leaves in that order. BLAS may round differently with another number
    of threads: the caller fixes it (threadpoolctl), as it fixes the leaves.
    """

    def __init__(self, shift: Array) -> None:
        groups, features = require_groups("shift", shift)
        self._count = 0
        self._shift = np.array(shift, dtype=np.float64, order="C")
        self._first = np.zeros((groups, features))
        self._second = np.zeros((groups, features, features))
        self._third = np.zeros((groups, features))
        self._fourth = np.zeros(groups)
        # Kept from leaf to leaf: fresh memory costs as much as what is written to it.
        self._z = np.empty((0, features))

    def add(self, features: Features) -> None:
        """Add one leaf (N, G, D); the extra memory is one (D, D) product and one (N, D) matrix.

        Raises:
            ValueError: another shape, or a value that is not finite; nothing has been added.
        """
        groups, width = self._shift.shape
        require_features(features, (groups, width))
        if len(self._z) != len(features):
            self._z = np.empty((len(features), width))
        for group in range(groups):
            z = centred(features, group, self._shift[group], self._z)
            squares = np.einsum("ij,ij->i", z, z)
            self._first[group] += z.sum(axis=0)
            self._second[group] += z.T @ z
            self._third[group] += squares @ z
            self._fourth[group] += squares @ squares
        self._count += len(features)

    def add_moments(self, part: Moments) -> None:
        """Add the sums of other images; ValueError if they are about another shift."""
        _require_same_shift(self._shift, part.shift)
        self._count += part.count
        self._first += part.first
        self._second += part.second
        self._third += part.third
        self._fourth += part.fourth

    def moments(self) -> Moments:
        """Return a copy of the sums so far."""
        return Moments(
            count=self._count,
            shift=self._shift.copy(),
            first=self._first.copy(),
            second=self._second.copy(),
            third=self._third.copy(),
            fourth=self._fourth.copy(),
        )


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the images of both; ValueError if the shifts differ."""
    _require_same_shift(a.shift, b.shift)
    return Moments(
        count=a.count + b.count,
        shift=a.shift,
        first=a.first + b.first,
        second=a.second + b.second,
        third=a.third + b.third,
        fourth=a.fourth + b.fourth,
    )


def merge_in_order(parts: Iterable[Moments]) -> Moments:
    """Left fold of `parts`; two Moments are alive at a time if `parts` is an iterator.

    The order is part of the result's bits: pass the shards in a fixed one.
    """
    remaining = iter(parts)
    part = next(remaining, None)
    if part is None:
        raise ValueError("0 moments to merge, needs at least 1")
    total = MomentAccumulator(part.shift)
    while part is not None:
        total.add_moments(part)
        # Let go before the iterator makes the next one, or three would be alive.
        part = None
        part = next(remaining, None)
    return total.moments()


def _require_same_shift(a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"moments about shifts of shape {a.shape} and {b.shape} do not add")
    if not np.array_equal(a, b):
        group, feature = np.argwhere(a != b)[0].tolist()
        raise ValueError(
            f"moments about different shifts do not add: group {group}, feature {feature} is "
            f"{float(a[group, feature])!r} in one and {float(b[group, feature])!r} in the other; "
            "fit all shards with one shift"
        )

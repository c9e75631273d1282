"""The axes of a cube: per part the thresholds in use of every score, and the part's groups."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.cube.bins import Bins
from pipeline.policy.cube.rules import Groups, Rules, slots_of

Thresholds = npt.NDArray[np.float64]
# Keys of cells are int64; beyond this a part's own keys would not fit, let alone the sum.
_MOST_CELLS = 1 << 62


@dataclass(frozen=True, eq=False)
class Grid:
    """The thresholds that rules use.

    Attributes:
        thresholds: by part and score, (T,) float64, increasing.
    """

    thresholds: Mapping[int, Mapping[str, Thresholds]]

    @classmethod
    def of(cls, rules: Sequence[Rules]) -> Grid:
        """The scores and thresholds that these rules use, in each part for itself."""
        used: dict[int, dict[str, list[Thresholds]]] = {}
        for shape in rules:
            slots = slots_of(shape.formula)
            for part, thresholds in zip(shape.parts.tolist(), shape.thresholds, strict=True):
                scores = used.setdefault(part, {})
                for score, own in slots.items():
                    lists = scores.setdefault(score, [])
                    lists.extend(_distinct(thresholds[:, slot]) for slot in own)
        return cls(
            {
                part: {
                    score: _distinct(np.concatenate([np.zeros(0), *lists]))
                    for score, lists in sorted(scores.items())
                }
                for part, scores in sorted(used.items())
            }
        )

    def only(self, parts: Iterable[int]) -> Grid:
        """The grid of some of its parts."""
        return Grid({part: self.thresholds[part] for part in sorted(parts)})

    @classmethod
    def union(cls, grids: Sequence[Grid]) -> Grid:
        """Every threshold of any of them."""
        found: dict[int, dict[str, Thresholds]] = {}
        for grid in grids:
            for part, scores in grid.thresholds.items():
                own = found.setdefault(part, {})
                for score, thresholds in scores.items():
                    both = [own.get(score, np.zeros(0)), thresholds]
                    own[score] = _distinct(np.concatenate(both))
        return cls({part: dict(sorted(found[part].items())) for part in sorted(found)})

    @property
    def nbytes(self) -> int:
        """Bytes of the thresholds."""
        return sum(t.nbytes for scores in self.thresholds.values() for t in scores.values())

    @cached_property
    def digest(self) -> str:
        """sha256 over parts, scores and thresholds: equal digests have equal cells."""
        found = hashlib.sha256()
        for part, scores in self.thresholds.items():
            for score, thresholds in scores.items():
                found.update(f"{part}\0{score}\0{len(thresholds)}\0".encode())
                found.update(thresholds.astype("<f8").tobytes())
        return found.hexdigest()


def _distinct(values: Thresholds) -> Thresholds:
    """Sorted, each once; -0 counts as 0."""
    ordered = np.sort(values)
    ordered += 0.0
    keep = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=keep[1:])
    return ordered[keep]


@dataclass(frozen=True, eq=False)
class Axes:
    """The cube of one part: an axis per score, and its groups.

    Attributes:
        part: its number.
        scores: names, an axis each, in order.
        thresholds: (T,) float64 of each score.
        groups: (g,) codes of the groups that lie in it.
        offset: of its keys among those of all parts.
    """

    part: int
    scores: tuple[str, ...]
    thresholds: tuple[Thresholds, ...]
    groups: npt.NDArray[np.int64]
    offset: int
    _bins: dict[tuple[int, str], Bins] = field(default_factory=dict, repr=False)

    @cached_property
    def bins(self) -> tuple[int, ...]:
        """Bins of each axis: the thresholds', one below them all, and one for missing."""
        return tuple(len(thresholds) + 2 for thresholds in self.thresholds)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """How many cells of one group lie between neighbouring bins of each axis."""
        return tuple(math.prod(self.bins[axis + 1 :]) for axis in range(len(self.bins)))

    @property
    def cells(self) -> int:
        """Cells of one group."""
        return math.prod(self.bins)

    @property
    def size(self) -> int:
        """Cells of all its groups."""
        return self.cells * len(self.groups)

    def bins_of(self, axis: int, dtype: np.dtype[np.floating]) -> Bins:
        """What finds the bins of a column of this type.

        Raises:
            InputError: a threshold is not exactly a number of the type.
        """
        key = (axis, dtype.str)
        if key not in self._bins:
            self._check(axis, dtype)
            self._bins[key] = Bins(self.thresholds[axis], dtype)
        return self._bins[key]

    def _check(self, axis: int, dtype: np.dtype[np.floating]) -> None:
        thresholds = self.thresholds[axis]
        with np.errstate(over="ignore"):
            rounded = thresholds.astype(dtype).astype(np.float64)
        if (rounded != thresholds).any():
            value = thresholds[rounded != thresholds][0]
            raise InputError(
                f"threshold {float(value)!r} of {self.scores[axis]!r} in part {self.part} is no "
                f"{dtype} number, and the column is {dtype}: round thresholds to the column's "
                "type once (formula.settled)"
            )


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the cells of a grid lie, for given groups.

    Attributes:
        grid: the thresholds.
        groups: what rows are counted by.
    """

    grid: Grid
    groups: Groups

    @cached_property
    def axes(self) -> dict[int, Axes]:
        """The cube of each part that has both thresholds in use and groups."""
        found: dict[int, Axes] = {}
        offset = 0
        for part, scores in self.grid.thresholds.items():
            groups = np.flatnonzero(self.groups.part_of_group == part)
            if len(groups):
                axes = Axes(part, tuple(scores), tuple(scores.values()), groups, offset)
                found[part] = axes
                offset += axes.size
        return found

    @cached_property
    def place(self) -> npt.NDArray[np.int64]:
        """(G,) the place of each group among its part's."""
        found = np.zeros(self.groups.count, np.int64)
        for axes in self.axes.values():
            found[axes.groups] = np.arange(len(axes.groups))
        return found

    @property
    def size(self) -> int:
        """Cells of all parts and groups."""
        return sum(axes.size for axes in self.axes.values())

    @property
    def countable(self) -> bool:
        """Whether int64 keys can number the cells."""
        return self.size < _MOST_CELLS

    @cached_property
    def digest(self) -> str:
        """sha256 of the grid and the groups: cells add up only where it is equal."""
        groups = self.groups.part_of_group.astype("<i8").tobytes()
        return hashlib.sha256(self.grid.digest.encode() + groups).hexdigest()

"""Where rows of pieces are counted by cell: dense arrays, or sparse keys with counts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.policy.cube.corners import Upward
from pipeline.policy.cube.grid import Axes, Layout
from pipeline.policy.cube.lookup import Cube, Target, cumulated, directions, look_up
from pipeline.policy.cube.pieces import Piece, keys_of
from pipeline.policy.cube.rules import Counts
from pipeline.policy.cube.sparse import Cells, added, tallied

# New keys that are gathered before they are merged into a part's cells.
PENDING_KEYS = 1 << 20


def count_type(rows: int) -> type[np.signedinteger]:
    """The smallest type that counts so many rows; half of int64's memory where it does."""
    return np.int32 if rows <= np.iinfo(np.int32).max else np.int64


class Tally(Protocol):
    """Takes pieces, from any thread, in any order."""

    @property
    def layout(self) -> Layout:
        """The parts that it wants, and their axes."""
        ...

    def add(self, piece: Piece) -> None:
        """Counts the rows of a piece whose part it wants."""
        ...


class Source(Protocol):
    """Has the counts of every part as a cube."""

    def cube(self, axes: Axes, groups: slice, *, final: bool) -> Cube:
        """(bins of each axis…, w) of some groups, the caller's own.

        Args:
            axes: the part's.
            groups: which of its groups.
            final: whether nobody asks for these again.
        """
        ...


class DenseTally:
    """An entry for every cell.

    Args:
        layout: of the cells.
        rows: how many come at most.
    """

    def __init__(self, layout: Layout, rows: int) -> None:
        self.layout = layout
        self._type = count_type(rows)
        self._counts = {part: np.zeros(axes.size, self._type) for part, axes in layout.axes.items()}
        self._lock = threading.Lock()

    def add(self, piece: Piece) -> None:
        """Counts the rows of a piece."""
        keys = keys_of(piece, self.layout.axes[piece.part], self.layout)
        with self._lock:
            np.add.at(self._counts[piece.part], keys, self._type(1))

    def cube(self, axes: Axes, groups: slice, *, final: bool) -> Cube:
        """The part's cube; see `Source`."""
        counts: Cube = self._counts[axes.part].reshape(*axes.bins, len(axes.groups))
        whole = groups == slice(0, len(axes.groups))
        if final and whole:
            del self._counts[axes.part]
            return counts
        return counts[..., groups].copy()

    def source(self) -> Source:
        """Itself; its arrays are handed out, so that nothing may be added after."""
        return self

    def cells(self) -> Cells:
        """The cells that hold rows."""
        keys, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part, axes in self.layout.axes.items():
            held = np.flatnonzero(self._counts[part])
            keys.append(held + axes.offset)
            counts.append(self._counts[part][held].astype(np.int64))
        return Cells(self.layout.digest, np.concatenate(keys), np.concatenate(counts))


class SparseTally:
    """An entry for every cell that holds rows.

    Args:
        layout: of the cells.
        rows: how many come at most.
    """

    def __init__(self, layout: Layout, rows: int) -> None:
        self.layout = layout
        self._rows = rows
        self._keys = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._pending: list[tuple[npt.NDArray[np.int64], Counts]] = []
        self._waiting = 0
        self._lock = threading.Lock()

    def add(self, piece: Piece) -> None:
        """Counts the rows of a piece."""
        axes = self.layout.axes[piece.part]
        keys = keys_of(piece, axes, self.layout)
        if axes.size <= np.iinfo(np.int32).max:
            keys, counts = tallied(keys.astype(np.int32))
        else:
            keys, counts = tallied(keys)
        keys = keys + np.int64(axes.offset)
        with self._lock:
            self._pending.append((keys, counts))
            self._waiting += len(keys)
            if self._waiting >= PENDING_KEYS:
                self._merge()

    def _merge(self) -> None:
        """Puts what waits among the cells, with one copy of them at most."""
        if not self._pending:
            return
        keys, counts = added(
            np.concatenate([own for own, _ in self._pending]),
            np.concatenate([own for _, own in self._pending]),
        )
        self._pending, self._waiting = [], 0
        place = np.searchsorted(self._keys, keys)
        known = np.take(self._keys, place, mode="clip") == keys if len(self._keys) else place < 0
        self._counts[place[known]] += counts[known]
        self._keys = np.insert(self._keys, place[~known], keys[~known])
        self._counts = np.insert(self._counts, place[~known], counts[~known])

    def cells(self) -> Cells:
        """The cells that hold rows."""
        with self._lock:
            self._merge()
        return Cells(self.layout.digest, self._keys, self._counts)

    def source(self) -> Source:
        """Cubes from its cells."""
        return CellSource(self.cells(), self._rows)


@dataclass(frozen=True, eq=False)
class CellSource:
    """Cubes of parts made from sparse cells, one at a time."""

    cells: Cells
    rows: int

    def cube(self, axes: Axes, groups: slice, *, final: bool) -> Cube:
        """The part's cube; see `Source`."""
        keys = self.cells.keys
        first, last = np.searchsorted(keys, [axes.offset, axes.offset + axes.size])
        cell, group = np.divmod(keys[first:last] - axes.offset, len(axes.groups))
        inside = (group >= groups.start) & (group < groups.stop)
        width = groups.stop - groups.start
        found = np.zeros((axes.cells, width), count_type(self.rows))
        found[cell[inside], group[inside] - groups.start] = self.cells.counts[first:last][inside]
        return found.reshape(*axes.bins, width)


@dataclass(frozen=True)
class Pace:
    """How much is looked up at a time.

    Attributes:
        threads: parts at a time.
        groups: of a part at a time.
    """

    threads: int
    groups: int


def fill(source: Source, layout: Layout, targets: Sequence[Target], pace: Pace) -> None:
    """Fills in the counts of all rules from the cubes of all parts."""

    def of_part(axes: Axes) -> None:
        wanted: dict[Upward, list[Target]] = {}
        for target in targets:
            if axes.part in target.rules.parts:
                wanted.setdefault(directions(target.rules, axes), []).append(target)
        for start in range(0, len(axes.groups), pace.groups):
            groups = slice(start, min(start + pace.groups, len(axes.groups)))
            for number, (upward, own) in enumerate(wanted.items(), start=1):
                cube = cumulated(source.cube(axes, groups, final=number == len(wanted)), upward)
                for target in own:
                    look_up(cube, axes, upward, target, groups)

    with ThreadPoolExecutor(pace.threads) as pool:
        list(pool.map(of_part, layout.axes.values()))

"""A batch of rows cut into pieces of one part each, without copying where rows lie in runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.cube.grid import Axes, Layout
from pipeline.policy.cube.rules import Groups, Rows

# More runs than this in a block: sorting it by part costs less than the many small pieces.
_RUNS = 64
_NO_PART = -1


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one part.

    Attributes:
        part: which.
        scores: columns (N,).
        group: (N,) codes of groups.
    """

    part: int
    scores: Mapping[str, npt.NDArray[np.floating]]
    group: npt.NDArray[np.integer]


class Cutter:
    """Cuts batches by part.

    Args:
        groups: of the rows.
        parts: that are wanted; rows of others are left out.
        scores: that are wanted.
    """

    def __init__(self, groups: Groups, parts: Iterable[int], scores: Iterable[str]) -> None:
        self._parts = sorted(set(parts))
        self._scores = sorted(set(scores))
        numbers = {part: number for number, part in enumerate(self._parts)}
        kind = np.int16 if len(numbers) < np.iinfo(np.int16).max else np.int32
        self._number = np.array(
            [numbers.get(part, _NO_PART) for part in groups.part_of_group.tolist()], kind
        )

    def pieces(self, rows: Rows) -> Iterator[Piece]:
        """The rows of the wanted parts, each once.

        Raises:
            InputError: a wanted score has no column.
            ValueError: a code of no group.
        """
        if not len(rows.group):
            return
        self._require(rows)
        number = self._number[rows.group]
        edges = np.flatnonzero(number[1:] != number[:-1]) + 1
        if len(edges) >= _RUNS:
            order = np.argsort(number, kind="stable")
            scores = {name: rows.scores[name][order] for name in self._scores}
            rows = Rows(scores, rows.group[order])
            number = number[order]
            edges = np.flatnonzero(number[1:] != number[:-1]) + 1
        starts = [0, *edges.tolist()]
        for start, end in zip(starts, [*starts[1:], len(number)], strict=True):
            if number[start] != _NO_PART:
                scores = {name: rows.scores[name][start:end] for name in self._scores}
                yield Piece(self._parts[number[start]], scores, rows.group[start:end])

    def _require(self, rows: Rows) -> None:
        low, high = int(rows.group.min()), int(rows.group.max())
        if low < 0 or high >= len(self._number):
            raise ValueError(f"groups {low} to {high} in the rows, known: {len(self._number)}")
        for score in self._scores:
            if score not in rows.scores:
                known = ", ".join(sorted(rows.scores)) or "none"
                raise InputError(f"the rows have no score {score!r}; they have: {known}")


def blocks(batches: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Batches cut into blocks of `size` rows at most, as views."""
    for batch in batches:
        for start in range(0, len(batch.group), size):
            part = slice(start, start + size)
            scores = {name: column[part] for name, column in batch.scores.items()}
            yield Rows(scores, batch.group[part])


def keys_of(piece: Piece, axes: Axes, layout: Layout) -> npt.NDArray[np.int64]:
    """The cell (N,) int64 of each row among its part's: bins in order of axes, the group last."""
    key = np.zeros(len(piece.group), np.int64)
    for axis, score in enumerate(axes.scores):
        column = piece.scores[score]
        if axis:
            np.multiply(key, axes.bins[axis], out=key)
        np.add(key, axes.bins_of(axis, column.dtype).codes(column), out=key)
    np.multiply(key, len(axes.groups), out=key)
    np.add(key, layout.place[piece.group], out=key)
    return key

"""Counting without a cube: a bitmap of rows per threshold, a rule's formula on whole words.

For many thresholds and few rules, where a cube would have more cells than memory holds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.policy.cube.bins import MISSING, PRESENT
from pipeline.policy.cube.grid import Axes, Layout
from pipeline.policy.cube.lookup import MOST_RULES, Index, Target, threshold_bins
from pipeline.policy.cube.pieces import Piece
from pipeline.policy.cube.rules import Counts
from pipeline.policy.formula import All, AnyOf, AtLeast, Cut, Formula, Missing, Not

Words = npt.NDArray[np.uint64]

WORD = 64
# Words of one intermediate result: it stays in a core's cache.
CHUNK_WORDS = 1 << 15


class BitmapTally:
    """Counts every rule on the rows of each piece.

    Args:
        layout: parts, thresholds and groups.
        targets: the rules and where their counts are added.
        rows: of a piece at a time.
    """

    def __init__(self, layout: Layout, targets: Sequence[Target], rows: int) -> None:
        self.layout = layout
        self._targets = targets
        self._rows = rows
        self._lock = threading.Lock()

    def add(self, piece: Piece) -> None:
        """Counts all rules of the piece's part on its rows."""
        axes = self.layout.axes[piece.part]
        for start in range(0, len(piece.group), self._rows):
            part = slice(start, start + self._rows)
            scores = {name: piece.scores[name][part] for name in axes.scores}
            # Bitmaps are let go of at the end of the call, before the next are made.
            self._add(Piece(piece.part, scores, self.layout.place[piece.group[part]]), axes)

    def _add(self, piece: Piece, axes: Axes) -> None:
        bits = _bits(piece, axes)
        for target in self._targets:
            self._count(target, axes, bits)

    def _count(self, target: Target, axes: Axes, bits: _Bits) -> None:
        rules = target.rules
        row = np.flatnonzero(rules.parts == axes.part)
        if not len(row):
            return
        for start in range(0, rules.count, MOST_RULES):
            chunk = slice(start, min(start + MOST_RULES, rules.count))
            codes = threshold_bins(rules, rules.thresholds[int(row[0]), chunk], axes)
            sums = _sums(rules.formula, bits, codes, chunk.stop - start)
            with self._lock:
                target.result[chunk, axes.groups[bits.groups]] += sums


def _sums(formula: Formula, bits: _Bits, codes: Mapping[int, Index], count: int) -> Counts:
    """(count, groups that have rows) how many rows satisfy each rule."""
    found = np.empty((count, len(bits.groups)), np.int64)
    step = max(CHUNK_WORDS // len(bits.valid), 1)
    for start in range(0, count, step):
        chunk = slice(start, min(start + step, count))
        own = {slot: bins[chunk] for slot, bins in codes.items()}
        held = _Held(bits, own, chunk.stop - start).of(formula)
        np.bitwise_and(held, bits.valid, out=held)
        ones = np.bitwise_count(held)
        np.add.reduceat(ones, bits.starts, axis=1, dtype=np.int64, out=found[chunk])
    return found


@dataclass(frozen=True, eq=False)
class _Bits:
    """Bitmaps of rows in order of their groups, each group from a word of its own on.

    Attributes:
        scores: per score (1 + T, W): missing, at or above each threshold.
        valid: (W,) the bits that are rows.
        starts: the first word of each group.
        groups: places of the groups that have rows.
    """

    scores: Mapping[str, Words]
    valid: Words
    starts: Index
    groups: Index


def _bits(piece: Piece, axes: Axes) -> _Bits:
    """Bitmaps of a piece, whose `group` holds places among the part's groups."""
    rows = np.bincount(piece.group, minlength=len(axes.groups))
    groups = np.flatnonzero(rows)
    words = -(-rows[groups] // WORD)
    starts = np.cumsum(words) - words
    order = np.argsort(piece.group, kind="stable")
    shift = starts * WORD - (np.cumsum(rows[groups]) - rows[groups])
    place = np.arange(len(order)) + np.repeat(shift, rows[groups])
    size = int(words.sum()) * WORD
    valid = np.zeros(size, np.bool_)
    valid[place] = True
    scores = {}
    for axis, score in enumerate(axes.scores):
        column = np.zeros(size, piece.scores[score].dtype)
        column[place] = piece.scores[score][order]
        # Checks that the thresholds are numbers of the column's type.
        axes.bins_of(axis, column.dtype)
        scores[score] = _above(column, axes.thresholds[axis].astype(column.dtype))
    return _Bits(scores, _packed(valid), starts, groups)


def _above(column: npt.NDArray[np.floating], thresholds: npt.NDArray[np.floating]) -> Words:
    found = np.empty((1 + len(thresholds), len(column) // WORD), np.uint64)
    found[MISSING] = _packed(np.isnan(column))
    flag = np.empty(len(column), np.bool_)
    for number, threshold in enumerate(thresholds):
        found[1 + number] = _packed(np.greater_equal(column, threshold, out=flag))
    return found


def _packed(flags: npt.NDArray[np.bool_]) -> Words:
    return np.packbits(flags).view(np.uint64)


@dataclass(frozen=True, eq=False)
class _Held:
    """Evaluates a formula on words, for `count` rules at a time."""

    bits: _Bits
    codes: Mapping[int, Index]
    count: int

    def of(self, formula: Formula) -> Words:
        """(count, W) the rows that satisfy it; bits that are no rows are arbitrary."""
        match formula:
            case Cut(score, slot):
                # The bins between are of scores that are present, below all thresholds.
                return np.take(self.bits.scores[score], self.codes[slot] - PRESENT, axis=0)
            case Missing(score):
                return np.repeat(self.bits.scores[score][MISSING][None], self.count, axis=0)
            case Not(part):
                found = self.of(part)
                return np.invert(found, out=found)
            case All(parts):
                return self._folded(np.bitwise_and, parts, ~np.uint64(0))
            case AnyOf(parts):
                return self._folded(np.bitwise_or, parts, np.uint64(0))
            case AtLeast(least, parts):
                return self._at_least(least, parts)

    def _full(self, word: np.uint64) -> Words:
        return np.full((self.count, len(self.bits.valid)), word)

    def _folded(self, operation: np.ufunc, parts: Sequence[Formula], empty: np.uint64) -> Words:
        if not parts:
            return self._full(empty)
        found = self.of(parts[0])
        for part in parts[1:]:
            operation(found, self.of(part), out=found)
        return found

    def _at_least(self, least: int, parts: Sequence[Formula]) -> Words:
        """`reached[k]`: more than k of the parts so far hold."""
        if least <= 0:
            return self._full(~np.uint64(0))
        if least > len(parts):
            return self._full(np.uint64(0))
        reached = [self._full(np.uint64(0)) for _ in range(least)]
        for part in parts:
            held = self.of(part)
            for k in range(least - 1, 0, -1):
                np.bitwise_or(reached[k], reached[k - 1] & held, out=reached[k])
            np.bitwise_or(reached[0], held, out=reached[0])
        return reached[-1]

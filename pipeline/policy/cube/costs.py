"""What each way of counting takes, in bytes and in roughly estimated nanoseconds.

The nanoseconds are of one core, measured once; only their proportions matter, and only for which
way is chosen, never for a count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.policy.cube.bins import table_bytes
from pipeline.policy.cube.bitmaps import CHUNK_WORDS, WORD
from pipeline.policy.cube.corners import MOST_POSITIONS, best_directions, corners, positions
from pipeline.policy.cube.grid import Axes, Grid, Layout
from pipeline.policy.cube.lookup import MOST_RULES, directions
from pipeline.policy.cube.rules import Rules, slots_of
from pipeline.policy.cube.tallies import PENDING_KEYS, count_type
from pipeline.policy.formula import leaves

# Bytes of a sparse cell, the copy while others are put in included; and of a waiting key.
_SPARSE_CELL_BYTES = 34
_PENDING_BYTES = 80

# Reading a row from Parquet, for each scan.
READ_ROW = 25.0
_BIN_ROW = 3.0
_COUNT_ROW = 6.0
_SORT_ROW = 15.0
_CUMULATE_CELL = 1.5
_COMPILE_ORDER = 300_000.0
_ROUND = 40_000.0
_GATHER = 4.0
_GATHER_GROUP = 1.5
_WORD = 0.7
_BITMAP_ROW = 10.0
_BITMAP_THRESHOLD_ROW = 0.2


@dataclass(frozen=True)
class Load:
    """What is to be counted.

    Attributes:
        rows: how many come at most.
        threads: that work.
        block_rows: rows of a block.
    """

    rows: int
    threads: int
    block_rows: int


def block_row_bytes(scores: int) -> int:
    """For a row of a block that is worked on: its columns sorted by part, bins, keys, order."""
    return 104 + 10 * scores


def grid_bytes(grid: Grid) -> int:
    """Of thresholds, of the copies that bins are found with, and of the bins' tables."""
    counts = [len(t) for scores in grid.thresholds.values() for t in scores.values()]
    # A table for the column's type and one for the thresholds', which are float64.
    return 4 * grid.nbytes + 2 * sum(table_bytes(count) for count in counts)


def compilable(rules: Sequence[Rules]) -> bool:
    """Whether corners of all formulas can be found."""
    return all(positions(shape.formula) <= MOST_POSITIONS for shape in rules)


def axes_bytes(axes: Axes, rows: int) -> int:
    """Of a part's dense cube."""
    return axes.size * np.dtype(count_type(rows)).itemsize


def look_up_bytes(layout: Layout, rules: Sequence[Rules], load: Load) -> int:
    """Of what one round of look-ups holds, beside the cubes."""
    slots = max((sum(map(len, slots_of(shape.formula).values())) for shape in rules), default=0)
    groups = max((len(axes.groups) for axes in layout.axes.values()), default=0)
    most = min(max((shape.count for shape in rules), default=0), MOST_RULES)
    return load.threads * most * (slots * 48 + groups * 32 + 64)


def dense_bytes(layout: Layout, rules: Sequence[Rules], load: Load) -> int:
    """Of all cubes, and of copies where rules need more than one direction."""
    sizes = sorted((axes_bytes(axes, load.rows) for axes in layout.axes.values()), reverse=True)
    copies = sum(sizes[: load.threads]) if _most_directions(layout, rules) > 1 else 0
    return sum(sizes) + copies + look_up_bytes(layout, rules, load)


def sparse_bytes(layout: Layout, rules: Sequence[Rules], load: Load, groups: int) -> int:
    """Of the cells, and of the cubes made of them, so many groups of a part at a time."""
    cells = min(load.rows, layout.size) * _SPARSE_CELL_BYTES
    pending = (min(load.rows, PENDING_KEYS) + load.threads * load.block_rows) * _PENDING_BYTES
    item = np.dtype(count_type(load.rows)).itemsize
    cubes = sorted(
        (axes.cells * min(groups, len(axes.groups)) * item for axes in layout.axes.values()),
        reverse=True,
    )
    looked = sum(cubes[: load.threads]) + look_up_bytes(layout, rules, load)
    # Keys and counts of a part are picked from all cells for its cube.
    return max(cells + pending, cells + cells // 2 + looked)


def bitmap_bytes(layout: Layout, rules: Sequence[Rules], load: Load, rows: int) -> int:
    """Of bitmaps of so many rows, and of what a formula's evaluation holds."""
    thresholds = max((sum(axes.bins) for axes in layout.axes.values()), default=0)
    groups = max((len(axes.groups) for axes in layout.axes.values()), default=0)
    words = rows // WORD + groups + 1
    held = max((1 + sum(1 for _ in leaves(shape.formula)) for shape in rules), default=1)
    work = max(CHUNK_WORDS, words) * 8 * (held + 2)
    own = load.threads * (thresholds * words * 8 + work + rows * 40)
    return own + look_up_bytes(layout, rules, load)


def cube_cost(layout: Layout, rules: Sequence[Rules], load: Load) -> float:
    """Nanoseconds of counting by cell and looking up."""
    axes = list(layout.axes.values())
    scores = max((len(one.scores) for one in axes), default=0)
    row = _BIN_ROW * scores + _COUNT_ROW
    cumulate = layout.size * _CUMULATE_CELL * (1 + scores * _most_directions(layout, rules))
    return load.rows * row + cumulate + sum(_look_up_cost(layout, shape) for shape in rules)


def sparse_cost(layout: Layout, rules: Sequence[Rules], load: Load) -> float:
    """Nanoseconds of counting sparse cells and looking up."""
    return cube_cost(layout, rules, load) + load.rows * _SORT_ROW


def bitmap_cost(layout: Layout, rules: Sequence[Rules], load: Load, rows: int) -> float:
    """Nanoseconds of evaluating every rule on bitmaps of so many rows."""
    parts = max(len(layout.axes), 1)
    thresholds = sum(sum(one.bins) for one in layout.axes.values()) / parts
    words = load.rows / WORD + math.ceil(load.rows / rows) * layout.groups.count
    rules_cost = 0.0
    for shape in rules:
        share = len(set(shape.parts.tolist()) & set(layout.axes)) / parts
        terms = 2 + sum(1 for _ in leaves(shape.formula))
        rounds = math.ceil(load.rows / rows) * parts * _ROUND
        rules_cost += share * (shape.count * words * terms * _WORD + rounds)
    row = _BITMAP_ROW + _BITMAP_THRESHOLD_ROW * thresholds
    return load.rows * row + rules_cost


def _most_directions(layout: Layout, rules: Sequence[Rules]) -> int:
    return max(
        (
            len({directions(shape, axes) for shape in rules if axes.part in shape.parts})
            for axes in layout.axes.values()
        ),
        default=1,
    )


def _look_up_cost(layout: Layout, rules: Rules) -> float:
    formula = rules.formula
    slots = slots_of(formula)
    ranks = tuple(tuple(range(len(own))) for own in slots.values())
    signed = len(corners(formula, ranks, best_directions(formula)))
    orders = math.prod(_weak_orders(len(own), rules.count) for own in slots.values())
    cost = 0.0
    for axes in layout.axes.values():
        if axes.part in rules.parts:
            kinds = min(orders, rules.count)
            cost += kinds * (_COMPILE_ORDER / 10 + _ROUND)
            cost += rules.count * signed * (_GATHER + _GATHER_GROUP * len(axes.groups))
    return cost + min(orders, rules.count * max(len(layout.axes), 1)) * _COMPILE_ORDER


def _weak_orders(count: int, most: int) -> int:
    """Orders of so many thresholds, ties included (the Fubini numbers), `most` at most."""
    found = [1]
    for n in range(1, count + 1):
        found.append(sum(math.comb(n, k) * found[n - k] for k in range(1, n + 1)))
        if found[-1] >= most:
            return max(most, 1)
    return found[-1]

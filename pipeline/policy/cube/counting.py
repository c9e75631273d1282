"""Counting by plan: scans of the rows shared by threads, whose number changes no count."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError
from pipeline.policy.cube.bitmaps import BitmapTally
from pipeline.policy.cube.grid import Layout
from pipeline.policy.cube.lookup import Target
from pipeline.policy.cube.pieces import Cutter, blocks
from pipeline.policy.cube.plans import Plan, Settings, Step
from pipeline.policy.cube.rules import Counts, Groups, Rows, Rules, conjunction
from pipeline.policy.cube.sparse import Cells, require_layout
from pipeline.policy.cube.tallies import (
    CellSource,
    DenseTally,
    Pace,
    SparseTally,
    Tally,
    fill,
)

# Blocks that wait for a thread, per thread: none idles, and few batches are held.
_WAITING = 2
# Cells up to here are counted in a dense array: faster than sorting keys.
_DENSE_CELLS = 1 << 22


def count(plan: Plan, batches: Callable[[], Iterable[Rows]]) -> list[Counts]:
    """The rows of each group that satisfy each rule.

    Args:
        plan: what is counted, and how.
        batches: the rows, from the start at every call; called `plan.scans` times.

    Returns:
        (P, G) int64 of each shape, in the plan's order; 0 for groups outside a shape's parts.

    Raises:
        InputError: a score has no column or another type than its thresholds, or more rows come
            than planned.
    """
    results = [np.zeros((shape.count, plan.groups.count), np.int64) for shape in plan.rules]
    targets = [Target(*pair) for pair in zip(plan.rules, results, strict=True)]
    reading = _Reading(plan.groups, plan.block_rows, plan.settings.threads, plan.rows)
    for steps in plan.passes:
        tallies = [_tally(step, [targets[i] for i in step.rules], plan.rows) for step in steps]
        _scan(tallies, batches(), reading)
        for step in steps:
            # Let go of each before the next is looked up.
            tally = tallies.pop(0)
            if not isinstance(tally, BitmapTally):
                pace = Pace(plan.settings.threads, step.at_once)
                fill(tally.source(), step.layout, [targets[i] for i in step.rules], pace)
            del tally
    return results


def _tally(
    step: Step, targets: Sequence[Target], rows: int
) -> DenseTally | SparseTally | BitmapTally:
    if step.kind == "dense":
        return DenseTally(step.layout, rows)
    if step.kind == "sparse":
        return SparseTally(step.layout, rows)
    return BitmapTally(step.layout, targets, step.at_once)


@dataclass(frozen=True, eq=False)
class _Reading:
    """How rows are read: by which groups, how many at a time, how many at most."""

    groups: Groups
    block_rows: int
    threads: int
    most: int


class _Work:
    """Cuts a block by part and gives every tally its pieces; runs in any thread."""

    def __init__(self, tallies: Sequence[Tally], groups: Groups) -> None:
        self._tallies = tallies
        axes = [own for tally in tallies for own in tally.layout.axes.values()]
        scores = {score for own in axes for score in own.scores}
        self._cutter = Cutter(groups, {own.part for own in axes}, scores)

    def __call__(self, block: Rows) -> None:
        for piece in self._cutter.pieces(block):
            for tally in self._tallies:
                if piece.part in tally.layout.axes:
                    tally.add(piece)


def _scan(tallies: Sequence[Tally], batches: Iterable[Rows], reading: _Reading) -> None:
    """Gives every tally the pieces of the parts that it wants."""
    work = _Work(tallies, reading.groups)
    waiting: deque[Future[None]] = deque()
    rows = 0
    with ThreadPoolExecutor(reading.threads) as pool:
        for block in blocks(batches, reading.block_rows):
            rows += len(block.group)
            if rows > reading.most:
                raise InputError(f"more rows came than the {reading.most:,} planned for: plan anew")
            waiting.append(pool.submit(work, block))
            if len(waiting) > _WAITING * reading.threads:
                waiting.popleft().result()
        for future in waiting:
            future.result()


def cells(layout: Layout, batches: Iterable[Rows], settings: Settings | None = None) -> Cells:
    """The cells of some rows, to be kept, sent and merged.

    Args:
        layout: thresholds and groups.
        batches: the rows, read once.
        settings: threads and rows at a time; memory grows with the cells that hold rows.

    Raises:
        InputError: a score has no column or another type than its thresholds; too many cells to
            be numbered.
    """
    if not layout.countable:
        raise InputError(
            f"{layout.size:.3g} cells can't be numbered in 64 bits: use fewer scores or thresholds"
        )
    limits = settings or Settings()
    most = np.iinfo(np.int64).max
    kind = DenseTally if layout.size <= _DENSE_CELLS else SparseTally
    tally = kind(layout, most)
    _scan([tally], batches, _Reading(layout.groups, limits.block_rows, limits.threads, most))
    return tally.cells()


def counts(held: Cells, layout: Layout, rules: Sequence[Rules]) -> list[Counts]:
    """As `count`, from cells instead of rows.

    Args:
        held: of the layout.
        layout: whose thresholds have all of the rules' among them.
        rules: what is counted.

    Raises:
        InputError: cells of another layout, or thresholds that the layout lacks.
    """
    require_layout(held, layout)
    for shape in rules:
        _require_parts(shape, layout)
    results = [np.zeros((shape.count, layout.groups.count), np.int64) for shape in rules]
    targets = [Target(*pair) for pair in zip(rules, results, strict=True)]
    fill(CellSource(held, held.rows), layout, targets, Pace(threads=1, groups=1 << 30))
    return results


def _require_parts(rules: Rules, layout: Layout) -> None:
    lacking = set(rules.parts.tolist()) - set(layout.grid.thresholds)
    if lacking:
        raise InputError(f"part {min(lacking)} is not among the cells: count the rows again")


def crossed(held: Cells, layout: Layout, a: Rules, b: Rules) -> Counts:
    """The rows (P, G) of each group that satisfy both, pair by pair; one goes with each of many.

    Where `a` flags and `b` does not: the count of `a` less this.
    """
    return counts(held, layout, [conjunction(a, b)])[0]

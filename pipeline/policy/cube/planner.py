"""Choosing how to count: the fastest way, by estimate, whose arrays fit in the memory given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import InputError
from pipeline.policy.cube.costs import (
    READ_ROW,
    Load,
    bitmap_bytes,
    bitmap_cost,
    block_row_bytes,
    compilable,
    cube_cost,
    dense_bytes,
    grid_bytes,
    sparse_bytes,
    sparse_cost,
)
from pipeline.policy.cube.grid import Grid, Layout
from pipeline.policy.cube.plans import Plan, Settings, Step, megabytes
from pipeline.policy.cube.rules import Groups, Rules, slots_of

_LEAST_ROWS = 4096
# Of what is left beside the result, the share that blocks being worked on may take.
_BLOCK_SHARE = 4

Way = list[Step]
Passes = tuple[tuple[Step, ...], ...]


def plan(
    rules: Sequence[Rules], groups: Groups, rows: int, settings: Settings | None = None
) -> Plan:
    """Chooses how to count.

    Args:
        rules: shapes of rules.
        groups: what they are counted by.
        rows: how many rows come at most.
        settings: the limits.

    Returns:
        The plan; `says` explains it.

    Raises:
        InputError: no way fits in the memory.
    """
    limits = settings or Settings()
    grids = tuple(Grid.of([shape]) for shape in rules)
    overhead, block_rows = _overhead(rules, grids, groups, limits)
    load = Load(rows, limits.threads, block_rows)
    chooser = _Chooser(tuple(rules), grids, groups, load, limits, limits.memory_bytes - overhead)
    # The cheaper of two: all rules in one cube, or a smaller one for each set of scores.
    ways = [way for units in _unions(rules) if (way := chooser.steps(units)) is not None]
    if not ways:
        raise _refused(chooser, overhead)
    passes = min((_passes(way, chooser.room) for way in ways), key=chooser.cost)
    why = chooser.why(_unions(rules)[0])
    return Plan(tuple(rules), groups, rows, limits, passes, block_rows, overhead, why)


def _overhead(
    rules: Sequence[Rules], grids: Sequence[Grid], groups: Groups, limits: Settings
) -> tuple[int, int]:
    """Bytes that every way takes, and the rows of a block."""
    result = sum(shape.count for shape in rules) * groups.count * 8
    thresholds = sum(grid_bytes(grid) for grid in grids)
    room = max(limits.memory_bytes - result - thresholds, 0)
    scores = {score for shape in rules for score in slots_of(shape.formula)}
    row_bytes = limits.threads * block_row_bytes(len(scores))
    block_rows = min(limits.block_rows, max(room // _BLOCK_SHARE // row_bytes, _LEAST_ROWS))
    return result + thresholds + row_bytes * block_rows, block_rows


def _unions(rules: Sequence[Rules]) -> list[list[tuple[int, ...]]]:
    """All rules together, and by the set of scores that they use."""
    everything = tuple(index for index, shape in enumerate(rules) if shape.count)
    by_scores: dict[tuple[str, ...], list[int]] = {}
    for index in everything:
        by_scores.setdefault(tuple(slots_of(rules[index].formula)), []).append(index)
    apart = [tuple(indices) for indices in by_scores.values()]
    return [[everything], apart] if len(apart) > 1 else [[everything]]


def _passes(way: Sequence[Step], room: int) -> Passes:
    """Steps that fit together share a scan; the largest first, each where it first fits."""
    bins: list[list[Step]] = []
    for step in sorted(way, key=lambda step: -step.nbytes):
        fitting = (own for own in bins if sum(s.nbytes for s in own) + step.nbytes <= room)
        own = next(fitting, None)
        if own is None:
            bins.append([step])
        else:
            own.append(step)
    return tuple(tuple(own) for own in bins)


def _refused(chooser: _Chooser, overhead: int) -> InputError:
    counts = sum(shape.count for shape in chooser.rules)
    result = counts * chooser.groups.count * 8
    return InputError(
        f"memory_bytes is {megabytes(chooser.limits.memory_bytes)}, too little for {counts:,} "
        f"rules in {chooser.groups.count:,} groups: their counts alone take {megabytes(result)}, "
        f"with thresholds and blocks of rows {megabytes(overhead)} "
        f"({chooser.why(_unions(chooser.rules)[0])}); give more memory, or count fewer rules or "
        "groups at a time"
    )


@dataclass(frozen=True, eq=False)
class _Chooser:
    """Knows the ways of counting some of the rules, and what fits in the `room`."""

    rules: tuple[Rules, ...]
    grids: tuple[Grid, ...]
    groups: Groups
    load: Load
    limits: Settings
    room: int

    def cost(self, passes: Passes) -> float:
        steps = sum(step.cost for own in passes for step in own)
        return steps + len(passes) * self.load.rows * READ_ROW

    def steps(self, units: Iterable[tuple[int, ...]]) -> Way | None:
        """The steps of each unit's best way; None: one has none that fits."""
        found: Way = []
        for unit in units:
            ways = [way for _, way in self._ways(unit) if self._fits(way)]
            if not ways:
                return None
            best: Way = min(ways, key=self._way_cost)
            found += best
        return found

    def why(self, units: Iterable[tuple[int, ...]]) -> str:
        """What each way for all rules together would take."""
        ways = [way for unit in units for way in self._ways(unit)]
        costs = {name: self._way_cost(way) for name, way in ways if self._fits(way)}
        least = max(min(costs.values(), default=1), 1)
        fitting = ", ".join(f"{name} {cost / least:.3g}" for name, cost in costs.items())
        too_big = ", ".join(
            f"{name} {megabytes(max(step.nbytes for step in way))}"
            for name, way in ways
            if name not in costs
        )
        said = [f"estimated times as {fitting}"] if fitting else []
        return "; ".join([*said, f"too big beside the rest: {too_big}"] if too_big else said)

    def _way_cost(self, way: Way) -> float:
        return self.cost(_passes(way, self.room))

    def _fits(self, way: Way) -> bool:
        return all(step.nbytes <= self.room for step in way)

    def _ways(self, unit: tuple[int, ...]) -> list[tuple[str, Way]]:
        """Each way's name and steps."""
        layout = Layout(Grid.union([self.grids[index] for index in unit]), self.groups)
        if not layout.axes:
            return [("nothing", [])]
        chosen = [self.rules[index] for index in unit]
        base = Step("", unit, layout, 0, 0.0)
        ways: list[tuple[str, Way]] = []
        if layout.countable and compilable(chosen):
            ways += self._dense(base, chosen) + self._sparse(base, chosen)
        ways += self._bitmaps(base, chosen)
        return [(name, way) for name, way in ways if way[0].kind in self.limits.kinds]

    def _dense(self, base: Step, chosen: list[Rules]) -> list[tuple[str, Way]]:
        """One step, or a step for each part."""
        layout, load = base.layout, self.load
        whole = replace(
            base,
            kind="dense",
            nbytes=dense_bytes(layout, chosen, load),
            cost=cube_cost(layout, chosen, load),
        )
        if whole.nbytes <= self.room or len(layout.axes) == 1:
            return [("dense", [whole])]
        share = replace(load, rows=load.rows // len(layout.axes), threads=1)
        steps = []
        for part in layout.axes:
            own = Layout(layout.grid.only([part]), self.groups)
            # All rows may lie in this part, whatever its share.
            nbytes = dense_bytes(own, chosen, replace(load, threads=1))
            cost = cube_cost(own, chosen, share)
            steps.append(replace(whole, layout=own, nbytes=nbytes, cost=cost))
        return [("dense", [whole]), ("some parts at a time", steps)]

    def _sparse(self, base: Step, chosen: list[Rules]) -> list[tuple[str, Way]]:
        """Looked up with all groups of a part at a time; where that doesn't fit, with one."""
        most = max(len(axes.groups) for axes in base.layout.axes.values())
        for groups in sorted({most, 1}, reverse=True):
            nbytes = sparse_bytes(base.layout, chosen, self.load, groups)
            if nbytes <= self.room:
                break
        cost = sparse_cost(base.layout, chosen, self.load) * (1 + (groups < most))
        step = replace(base, kind="sparse", nbytes=nbytes, cost=cost, at_once=groups)
        return [("sparse", [step])]

    def _bitmaps(self, base: Step, chosen: list[Rules]) -> list[tuple[str, Way]]:
        """On as many rows at a time as fit."""
        rows = self.load.block_rows
        while rows > _LEAST_ROWS and bitmap_bytes(base.layout, chosen, self.load, rows) > self.room:
            rows //= 2
        nbytes = bitmap_bytes(base.layout, chosen, self.load, rows)
        cost = bitmap_cost(base.layout, chosen, self.load, rows)
        step = replace(base, kind="bitmaps", nbytes=nbytes, cost=cost, at_once=rows)
        return [("bitmaps", [step])]

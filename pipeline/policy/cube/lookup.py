"""Counts of rules, looked up at the corners of one part's cumulated cube."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.cube.corners import Place, Ranks, Upward, best_directions, corners
from pipeline.policy.cube.grid import Axes
from pipeline.policy.cube.rules import Counts, Rules, slots_of

Cube = npt.NDArray[np.signedinteger]
Index = npt.NDArray[np.int64]
# Rules at a time at most: what one round gathers stays in a core's cache.
MOST_RULES = 1 << 14


@dataclass(frozen=True, eq=False)
class Target:
    """Where counts go: columns of the (P, G) result of one shape of rules."""

    rules: Rules
    result: Counts


def cumulated(cube: Cube, upward: Upward) -> Cube:
    """The cube (bins of each axis…, groups) summed along its axes, in place."""
    for axis, up in enumerate(upward):
        view = np.flip(cube, axis) if up else cube
        np.cumsum(view, axis=axis, dtype=cube.dtype, out=view)
    return cube


def directions(rules: Rules, axes: Axes) -> Upward:
    """The directions of the axes that need the fewest corners; unused axes go upward."""
    best = dict(zip(slots_of(rules.formula), best_directions(rules.formula), strict=True))
    return tuple(best.get(score, True) for score in axes.scores)


def look_up(cube: Cube, axes: Axes, upward: Upward, target: Target, groups: slice) -> None:
    """Fills in the counts of one shape of rules for groups of one part.

    Args:
        cube: (bins of each axis…, w) cumulated in the directions `upward`.
        axes: the part's.
        upward: a direction per axis.
        target: the rules, whose counts are filled in.
        groups: which w of the part's groups the cube holds.
    """
    rules = target.rules
    row = np.flatnonzero(rules.parts == axes.part)
    if not len(row):
        return
    flat = cube.reshape(axes.cells, -1)
    columns = _run(axes.groups[groups])
    for start in range(0, rules.count, MOST_RULES):
        chunk = slice(start, start + MOST_RULES)
        codes = threshold_bins(rules, rules.thresholds[int(row[0]), chunk], axes)
        for ranks, chosen in orders(rules, codes):
            counts = _counted(flat, _Look(axes, upward, rules, ranks), codes, chosen)
            if isinstance(chosen, slice):
                target.result[chunk, columns] = counts
            else:
                where = start + chosen
                target.result[where[:, None], axes.groups[groups]] = counts


def _run(groups: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Codes as a slice where they follow each other: writing a slice is faster."""
    first, last = int(groups[0]), int(groups[-1])
    return slice(first, last + 1) if last - first + 1 == len(groups) else groups


def threshold_bins(
    rules: Rules, thresholds: npt.NDArray[np.float64], axes: Axes
) -> dict[int, Index]:
    """The bin (n,) of each used slot's thresholds.

    Args:
        rules: whose formula says which slots belong to which score.
        thresholds: (n, slots) of the axes' part.
        axes: whose thresholds have these among them.

    Raises:
        InputError: one is not among them.
    """
    found: dict[int, Index] = {}
    for score, slots in slots_of(rules.formula).items():
        if slots and score not in axes.scores:
            raise InputError(f"part {axes.part} was not counted by {score!r}: count the rows again")
        for slot in slots:
            axis = axes.scores.index(score)
            values = np.ascontiguousarray(thresholds[:, slot])
            codes = axes.bins_of(axis, np.dtype(np.float64)).codes(values).astype(np.int64)
            _require_known(values, codes, axes, axis)
            found[slot] = codes
    return found


def _require_known(values: npt.NDArray[np.float64], codes: Index, axes: Axes, axis: int) -> None:
    known = np.concatenate([[np.nan, np.nan], axes.thresholds[axis]])
    unknown = np.take(known, codes) != values
    if unknown.any():
        raise InputError(
            f"threshold {float(values[unknown][0])!r} of {axes.scores[axis]!r} in part {axes.part} "
            "is none of those that the rows were counted by: count the rows again with these rules"
        )


def orders(
    rules: Rules, codes: dict[int, Index]
) -> Iterator[tuple[Ranks, slice | npt.NDArray[np.int64]]]:
    """Rules with the same order of thresholds, ties included, score by score."""
    slots = list(slots_of(rules.formula).values())
    count = len(next(iter(codes.values()))) if codes else 0
    first, members = _split(_order_numbers(slots, codes, count))
    for one, chosen in zip(first, members, strict=True):
        ranks = tuple(_ranked([int(codes[slot][one]) for slot in own]) for own in slots)
        yield ranks, chosen


def _ranked(bins: Sequence[int]) -> tuple[int, ...]:
    different = sorted(set(bins))
    return tuple(different.index(one) for one in bins)


def _order_numbers(
    slots: Sequence[tuple[int, ...]], codes: dict[int, Index], count: int
) -> Index | None:
    """(n,) a number for each order of thresholds; None: there is only one."""
    numbers, span = None, 1
    for own in slots:
        for slot in own if len(own) > 1 else ():
            rank = np.zeros(count, np.int64)
            for other in own:
                rank += codes[other] < codes[slot]
            if numbers is None:
                numbers = np.zeros(count, np.int64)
            if span * len(own) > np.iinfo(np.int64).max // 2:
                _, numbers = np.unique(numbers, return_inverse=True)
                span = count
            numbers = numbers * len(own) + rank
            span *= len(own)
    return numbers


def _split(numbers: Index | None) -> tuple[list[int], list[slice | npt.NDArray[np.int64]]]:
    """The first of each number, and all of it."""
    if numbers is None or (numbers == numbers[0]).all():
        return [0], [slice(None)]
    order = np.argsort(numbers, kind="stable")
    edges = np.flatnonzero(np.diff(numbers[order])) + 1
    members: list[slice | npt.NDArray[np.int64]] = list(np.split(order, edges))
    return [int(order[start]) for start in (0, *edges.tolist())], members


@dataclass(frozen=True, eq=False)
class _Look:
    """What a look-up needs to know beside the codes."""

    axes: Axes
    upward: Upward
    rules: Rules
    ranks: Ranks


def _counted(
    flat: Cube, look: _Look, codes: dict[int, Index], chosen: slice | npt.NDArray[np.int64]
) -> Counts:
    """(n, w) counts, or (1, w) where no threshold is used."""
    axes = look.axes
    strides = dict(zip(axes.scores, axes.strides, strict=True))
    last = dict(zip(axes.scores, axes.bins, strict=True))
    up = dict(zip(axes.scores, look.upward, strict=True))
    slots = slots_of(look.rules.formula)
    steps = {
        slot: codes[slot][chosen] * strides[score] for score, own in slots.items() for slot in own
    }
    count = len(next(iter(steps.values()))) if steps else 1
    total = np.zeros((count, flat.shape[1]), np.int64)
    signed = corners(look.rules.formula, look.ranks, tuple(up[score] for score in slots))
    for corner in signed:
        # An axis that the formula does not use goes upward, and counts in full at 0.
        index = np.zeros(count, np.int64)
        for score, place in zip(slots, corner.places, strict=True):
            _move(index, place, steps, (strides[score], last[score]))
        taken = np.take(flat, index, axis=0)
        if corner.sign == 1:
            np.add(total, taken, out=total)
        else:
            np.add(total, corner.sign * taken.astype(np.int64), out=total)
    return total


def _move(index: Index, place: Place, steps: dict[int, Index], axis: tuple[int, int]) -> None:
    stride, bins = axis
    if place.slot is not None:
        index += steps[place.slot]
        index += place.step * stride
    else:
        index += (place.step % bins) * stride

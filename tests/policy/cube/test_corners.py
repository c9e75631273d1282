"""Corners: few for the formulas that people write, and the differences add up to the truth."""

from __future__ import annotations

import itertools

import numpy as np

from pipeline.policy.cube.corners import best_directions, corners
from pipeline.policy.cube.rules import slots_of
from pipeline.policy.formula import All, AnyOf, Cut, Formula, Missing, Not

A, B, C = Cut("a", 0), Cut("b", 1), Cut("c", 2)


def needed(formula: Formula) -> int:
    ranks = tuple(tuple(range(len(own))) for own in slots_of(formula).values())
    return len(corners(formula, ranks, best_directions(formula)))


def test_plain_rules_need_few_corners() -> None:
    assert needed(All((A, B, C))) == 1
    # All rows less those below all three.
    assert needed(AnyOf((A, B, C))) == 2
    assert needed(AnyOf((A, All((B, C))))) <= 3
    assert needed(Missing("a")) == 1
    assert needed(All(())) == 1
    assert needed(AnyOf(())) == 0


def test_equal_thresholds_are_one_position() -> None:
    band = All((Cut("a", 0), Not(Cut("a", 1))))
    assert corners(band, ((0, 0),), (True,)) == ()
    assert corners(band, ((1, 0),), (True,)) == ()
    assert [corner.sign for corner in corners(band, ((0, 1),), (True,))] == [1, -1]


def test_every_direction_gives_the_same_count() -> None:
    """By hand on a cube of one row a cell: the formula's own count of cells."""
    formula = AnyOf((All((A, Not(B))), Missing("b")))
    cube = np.ones((3, 3), np.int64)
    for upward in itertools.product((True, False), repeat=2):
        summed = cube
        for axis, up in enumerate(upward):
            view = np.flip(summed, axis) if up else summed
            summed = np.cumsum(view, axis=axis)
            summed = np.flip(summed, axis) if up else summed
        total = 0
        for corner in corners(formula, ((0,), (0,)), upward):
            # The only threshold of each axis is its bin 2.
            where = tuple(
                (place.step % 3 if place.slot is None else 2 + place.step)
                for place in corner.places
            )
            total += corner.sign * int(summed[where])
        # a in bin 2 and b in bin 1, or b missing.
        assert total == 1 + 3, upward

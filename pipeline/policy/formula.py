"""What a policy becomes before anything is counted: Boolean formulas over numbered thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Scores = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Cut:
    """`score >= threshold`; false where the score is missing.

    Attributes:
        score: the column's name.
        slot: which threshold of the rule it compares with.
    """

    score: str
    slot: int


@dataclass(frozen=True)
class Missing:
    """The row has no such score."""

    score: str


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Formula


@dataclass(frozen=True)
class All:
    """Every part holds; of no parts: always true."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class AnyOf:
    """One part or more holds; of no parts: never true."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class AtLeast:
    """So many of the parts hold."""

    least: int
    parts: tuple[Formula, ...]


Formula = Cut | Missing | Not | All | AnyOf | AtLeast


def holds(formula: Formula, scores: Scores, thresholds: npt.NDArray[np.float64]) -> Flags:
    """Whether a formula holds, row by row: the plain meaning that every count must equal.

    Args:
        formula: over the slots of `thresholds`.
        scores: at least one column (N,), each of a float type; NaN where a score is missing.
        thresholds: (slots,), each exactly a number of its column's type (`settled`).

    Returns:
        (N,) bool.
    """
    if isinstance(formula, Cut):
        return np.asarray(scores[formula.score] >= thresholds[formula.slot])
    if isinstance(formula, Missing):
        return np.isnan(scores[formula.score])
    if isinstance(formula, Not):
        return ~holds(formula.part, scores, thresholds)
    held = np.zeros(len(next(iter(scores.values()))), np.int64)
    for part in formula.parts:
        held += holds(part, scores, thresholds)
    return held >= _least(formula)


def _least(formula: All | AnyOf | AtLeast) -> int:
    if isinstance(formula, AtLeast):
        return formula.least
    return len(formula.parts) if isinstance(formula, All) else 1


def leaves(formula: Formula) -> Iterator[Cut | Missing]:
    """Its comparisons and tests for missing scores, in order, repeated as they are."""
    if isinstance(formula, Cut | Missing):
        yield formula
        return
    for part in (formula.part,) if isinstance(formula, Not) else formula.parts:
        yield from leaves(part)


def settled(threshold: float, dtype: npt.DTypeLike, *, strict: bool = False) -> float:
    """A threshold as the column's own type holds it, so that `>=` means the same everywhere.

    The number is rounded once to the column's type. A strict comparison (`>`) becomes `>=` with
    the next larger number of that type.
    """
    rounded = np.asarray(threshold, dtype)
    return float(np.nextafter(rounded, np.asarray(np.inf, dtype)) if strict else rounded)

"""What is counted and over what: rules of one shape, batches of rows, groups of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.formula import (
    All,
    AnyOf,
    AtLeast,
    Cut,
    Formula,
    Missing,
    Not,
    leaves,
)

Whole = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]


@lru_cache(maxsize=1024)
def slots_of(formula: Formula) -> dict[str, tuple[int, ...]]:
    """The slots that each score of a formula is compared with, in order; scores sorted by name."""
    found: dict[str, set[int]] = {}
    for leaf in leaves(formula):
        slots = found.setdefault(leaf.score, set())
        if isinstance(leaf, Cut):
            slots.add(leaf.slot)
    return {score: tuple(sorted(found[score])) for score in sorted(found)}


@dataclass(frozen=True, eq=False)
class Rules:
    """P rules of one shape.

    Attributes:
        formula: over the slots.
        parts: (C,) the parts that they are for, each once; a part is what has thresholds of its
            own: a category, or a category and a defect type.
        thresholds: (C, P, slots) float64, each exactly a number of its column's type.

    Raises:
        InputError: a threshold is NaN.
        ValueError: shapes or slots that don't fit together.
    """

    formula: Formula
    parts: npt.NDArray[np.int64]
    thresholds: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = self.thresholds.shape
        if self.parts.ndim != 1 or len(shape) != 3 or len(self.parts) != shape[0]:
            raise ValueError(
                f"parts {self.parts.shape} and thresholds {shape}: need (C,) and (C, P, slots)"
            )
        if len(np.unique(self.parts)) != len(self.parts):
            raise ValueError(f"a part is listed twice in {self.parts.tolist()}")
        wanted = [slot for slots in slots_of(self.formula).values() for slot in slots]
        if wanted and not 0 <= min(wanted) <= max(wanted) < shape[2]:
            raise ValueError(f"the formula uses slots {sorted(wanted)}, thresholds have {shape[2]}")
        if self.thresholds.size and np.isnan(self.thresholds.min()):
            part, rule, slot = np.argwhere(np.isnan(self.thresholds))[0].tolist()
            raise InputError(
                f"threshold {slot} of rule {rule} in part {self.parts[part]} is NaN: "
                "give a number, or inf for a comparison that never holds"
            )

    @property
    def count(self) -> int:
        """P."""
        return int(self.thresholds.shape[1])


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch of N rows.

    Attributes:
        scores: columns (N,) of a float type, NaN where a score is missing.
        group: (N,) codes of the groups, 0 to G − 1.
    """

    scores: Mapping[str, npt.NDArray[np.floating]]
    group: Whole

    def __post_init__(self) -> None:
        if self.group.ndim != 1 or self.group.dtype.kind not in "iu":
            raise ValueError(f"group is {self.group.dtype} {self.group.shape}, needs integers (N,)")
        for name, column in self.scores.items():
            if column.shape != self.group.shape:
                raise ValueError(f"{name} has shape {column.shape}, group {self.group.shape}")
            if column.dtype not in (np.float32, np.float64):
                raise InputError(
                    f"column {name!r} is {column.dtype}: scores are float32 or float64"
                )


@dataclass(frozen=True, eq=False)
class Groups:
    """What rows are counted by, such as (category, defect type, label, role, fold).

    Attributes:
        part_of_group: (G,) the part that each group lies in.
    """

    part_of_group: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """G."""
        return len(self.part_of_group)


def conjunction(a: Rules, b: Rules) -> Rules:
    """Rules that hold where both do, row of thresholds by row; one rule goes with each of many.

    Raises:
        ValueError: other parts, or numbers of rules that differ and are not 1.
    """
    return _joined(All((a.formula, shifted(b.formula, a.thresholds.shape[2]))), a, b)


def exception(a: Rules, b: Rules) -> Rules:
    """Rules that hold where `a` does and `b` does not; else as `conjunction`."""
    return _joined(All((a.formula, Not(shifted(b.formula, a.thresholds.shape[2])))), a, b)


def _joined(formula: Formula, a: Rules, b: Rules) -> Rules:
    if not np.array_equal(a.parts, b.parts):
        raise ValueError(f"parts {a.parts.tolist()} and {b.parts.tolist()} differ")
    count = max(a.count, b.count)
    if {a.count, b.count} - {1, count}:
        raise ValueError(f"{a.count} rules and {b.count} rules can't be paired")
    sides = [
        np.broadcast_to(side.thresholds, (len(a.parts), count, side.thresholds.shape[2]))
        for side in (a, b)
    ]
    return Rules(formula, a.parts, np.concatenate(sides, axis=2))


def shifted(formula: Formula, by: int) -> Formula:
    """The same formula over slots that start at `by`."""
    match formula:
        case Cut(score, slot):
            return Cut(score, slot + by)
        case Missing():
            return formula
        case Not(part):
            return Not(shifted(part, by))
        case AtLeast(least, parts):
            return AtLeast(least, tuple(shifted(part, by) for part in parts))
        case All(parts) | AnyOf(parts):
            return type(formula)(tuple(shifted(part, by) for part in parts))

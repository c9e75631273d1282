"""A sweep becomes numbers: every combination of its variables that the constraints leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.sweeps.document import Constraint, Sweep, Template
from pipeline.policy.sweeps.variables import Floats, Tuning

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]

_COMPARE = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}


@dataclass(frozen=True)
class Expansion:
    """The P policies of one template.

    A policy is kept as the places of its values, which takes a fraction of the values' memory
    where these differ by category.

    Attributes:
        template: whose.
        names: V variables.
        levels: for each variable its values (1, n), or (C, n) where each category has its own.
        places: (P, V) which of them.
        categories: C names.
        dropped_duplicates: combinations that equal an earlier one in every category.
        dropped_by_constraints: other combinations that break a constraint in some category.
    """

    template: Template
    names: tuple[str, ...]
    levels: tuple[Floats, ...]
    places: Places
    categories: tuple[str, ...]
    dropped_duplicates: int
    dropped_by_constraints: int

    @property
    def count(self) -> int:
        """P."""
        return len(self.places)

    def column(self, name: str) -> Floats:
        """A variable's value in every policy: (1, P), or (C, P) where categories differ."""
        at = self.names.index(name)
        return self.levels[at][:, self.places[:, at]]

    @property
    def values(self) -> Floats:
        """(1, P, V), or (C, P, V) where categories differ in any variable."""
        columns = [self.column(name) for name in self.names]
        width = max(len(column) for column in columns)
        return np.stack([np.broadcast_to(c, (width, self.count)) for c in columns], axis=2)

    def policy(self, index: int) -> dict[str, float | dict[str, float]]:
        """One policy's variables: a number, or a number for each category."""
        found: dict[str, float | dict[str, float]] = {}
        for at, name in enumerate(self.names):
            column = self.levels[at][:, self.places[index, at]].tolist()
            found[name] = (
                column[0] if len(column) == 1 else dict(zip(self.categories, column, strict=True))
            )
        return found


def expand(sweep: Sweep, tuning: Tuning) -> tuple[Expansion, ...]:
    """Every template's policies, in the order of its variables, the last one fastest.

    Args:
        sweep: read.
        tuning: images and thresholds that values are taken from: never those that judge.

    Raises:
        InputError: a score, threshold or category without what a variable needs; constraints that
            leave nothing.
    """
    levels = {name: variable.values(tuning) for name, variable in sweep.variables.items()}
    return tuple(_expanded(sweep, template, levels, tuning) for template in sweep.templates)


def _expanded(
    sweep: Sweep, template: Template, all_levels: dict[str, Floats], tuning: Tuning
) -> Expansion:
    # Combinations repeat exactly where a variable's values do, so that no combination is compared.
    levels = {name: _distinct(all_levels[name]) for name in template.names}
    lengths = [levels[name].shape[1] for name in template.names]
    before = int(np.prod([all_levels[name].shape[1] for name in template.names]))
    flat = np.arange(int(np.prod(lengths)))
    kept = np.ones(len(flat), bool)
    places = np.stack(np.unravel_index(flat, lengths), axis=1).astype(np.int32)
    for constraint in sweep.constraints:
        if set(constraint.names) <= set(template.names):
            kept &= _fulfilled(constraint, template.names, levels, places)
    if not kept.any():
        broken = ", ".join(constraint.path for constraint in sweep.constraints)
        raise InputError(
            f"{template.path}: none of {len(flat):,} policies fulfils {broken} in every category; "
            "give variables other values"
        )
    return Expansion(
        template=template,
        names=template.names,
        levels=tuple(levels[name] for name in template.names),
        places=places[kept],
        categories=tuning.categories,
        dropped_duplicates=before - len(flat),
        dropped_by_constraints=int((~kept).sum()),
    )


def _distinct(levels: Floats) -> Floats:
    """The different columns of (C, n), in the order of their first."""
    _, first = np.unique(levels, axis=1, return_index=True)
    return levels[:, np.sort(first)]


def _fulfilled(
    constraint: Constraint, names: tuple[str, ...], levels: dict[str, Floats], places: Places
) -> Flags:
    """(P,) whether each policy fulfils it in every category: looked up by pairs of values."""
    left, at_left = _side(constraint.left, names, levels, places)
    right, at_right = _side(constraint.right, names, levels, places)
    allowed = np.ones((left.shape[1], right.shape[1]), bool)
    for category in range(max(len(left), len(right))):
        one, other = left[category % len(left)], right[category % len(right)]
        allowed &= _COMPARE[constraint.kind](one[:, None], other[None])
    return np.asarray(allowed[at_left, at_right])


def _side(
    side: str | float, names: tuple[str, ...], levels: dict[str, Floats], places: Places
) -> tuple[Floats, npt.NDArray[Any]]:
    """Values (C or 1, n) of a constraint's side, and each policy's place among them."""
    if isinstance(side, str):
        return levels[side], places[:, names.index(side)]
    return np.array([[side]]), np.zeros(len(places), np.int32)

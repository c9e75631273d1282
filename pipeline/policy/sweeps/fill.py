"""Thresholds of a sweep's policies: each slot's number, in its column's own type."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

Floats = npt.NDArray[np.float64]


class OpenSlot(Protocol):
    """One threshold of a rule, not yet a number, as the policy language has it."""

    @property
    def score(self) -> str:
        """The column that is compared."""

    @property
    def strict(self) -> bool:
        """Whether the comparison is `>`, else `>=`."""

    @property
    def value(self) -> Any:
        """A number, or something hashable that stands for one: a reference, a variable."""

    @property
    def path(self) -> str:
        """Where it stands in the document."""


@dataclass(frozen=True)
class Known:
    """What slots are filled from.

    Attributes:
        numbers: for a slot's `value` its numbers: (1, P) or (C, P) of a variable, (C, 1) of a
            reference, NaN where a category has none.
        dtypes: of each score's column.
        categories: C names.
        policies: P.
    """

    numbers: Mapping[Hashable, Floats]
    dtypes: Mapping[str, npt.DTypeLike]
    categories: tuple[str, ...]
    policies: int


def fill(slots: Sequence[OpenSlot], known: Known) -> Floats:
    """The threshold of every slot, in every category and policy.

    Args:
        slots: of one rule.
        known: what their values stand for.

    Returns:
        (C, P, slots) float64, each a number of its column's type; a read-only view of one
        category where all are alike.

    Raises:
        InputError: a value that stands for nothing, a category without a number, a score without
            a column, or a number beyond its type.
    """
    filled = [_filled(slot, known) for slot in slots]
    width = max((len(numbers) for numbers in filled), default=1)
    result = np.empty((width, known.policies, len(slots)))
    for at, numbers in enumerate(filled):
        result[:, :, at] = numbers
    return np.broadcast_to(result, (len(known.categories), known.policies, len(slots)))


def settled_all(numbers: Floats, dtype: npt.DTypeLike, strict: bool) -> Floats:
    """`formula.settled` for arrays: rounded once to the type; strict: the next number above."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(dtype)
        above = np.nextafter(rounded, np.asarray(np.inf, dtype)) if strict else rounded
    return above.astype(np.float64)


def _filled(slot: OpenSlot, known: Known) -> Floats:
    """(1 or C, 1 or P) settled numbers of one slot."""
    if slot.score not in known.dtypes:
        names = ", ".join(known.dtypes)
        raise InputError(f"{slot.path}: {slot.score!r} is no score; known are {names}")
    numbers = _numbers(slot, known)
    lacking = [bool(np.isnan(row).any()) for row in numbers]
    if any(lacking):
        wanting = known.categories if len(lacking) > 1 else ("all categories",)
        missing = ", ".join(name for name, none in zip(wanting, lacking, strict=True) if none)
        raise InputError(f"{slot.path}: {slot.value!r} has no value for {missing}; take another")
    settled = settled_all(numbers, known.dtypes[slot.score], slot.strict)
    if not np.isfinite(settled).all():
        worst = float(numbers[~np.isfinite(settled)][0])
        raise InputError(
            f"{slot.path}: {worst:g} is beyond {np.dtype(known.dtypes[slot.score])}, the type of "
            f"{slot.score!r}"
        )
    return settled


def _numbers(slot: OpenSlot, known: Known) -> Floats:
    if isinstance(slot.value, int | float):
        return np.array([[float(slot.value)]])
    if slot.value not in known.numbers:
        names = ", ".join(map(str, known.numbers)) or "none"
        raise InputError(f"{slot.path}: {slot.value!r} stands for no number; known are {names}")
    return known.numbers[slot.value]

"""A sweep's variables: what is written, how many values that makes, and the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.sweeps.checks import (
    a_count,
    a_list,
    a_number,
    a_text,
    an_object,
    needed,
    one_key,
)

Floats = npt.NDArray[np.float64]
KINDS = ("good", "defect", "all")


@dataclass(frozen=True)
class Tuning:
    """What a sweep may take numbers from: tuning images, and thresholds that have a name.

    Attributes:
        categories: C names.
        category: (N,) the place of each tuning image's category among them.
        defect: (N,) 1 defects, 0 good images, -1 nobody knows.
        scores: (N,) of each score by name, NaN where missing.
        thresholds: (C,) by name, NaN where a category has none.
    """

    categories: tuple[str, ...]
    category: npt.NDArray[np.integer[Any]] = field(default_factory=lambda: np.zeros(0, np.int64))
    defect: npt.NDArray[np.integer[Any]] = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: Mapping[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    thresholds: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Variable:
    """A variable that is not yet numbers.

    Attributes:
        count: how many values, duplicates included.
        values: makes them: (1, n), or (C, n) where each category has its own.
        score: whose quantiles it needs; None: it needs no image.
    """

    count: int
    values: Callable[[Tuning], Floats]
    score: str | None = None


def parse_variable(value: object, path: str) -> Variable:
    """Reads one variable.

    Args:
        value: an object with exactly one of values, linspace, logspace, quantiles, refs.
        path: where it stands.

    Raises:
        InputError: another form, or a value that is no finite number.
    """
    kind, given = one_key(value, path, _READERS)
    return _READERS[kind](given, f"{path}.{kind}")


def _listed(given: object, path: str) -> Variable:
    numbers = [a_number(item, f"{path}[{i}]") for i, item in enumerate(a_list(given, path))]
    return Variable(len(numbers), lambda _: np.array([numbers]))


def _linspace(given: object, path: str) -> Variable:
    start, stop, number = _span(given, path)
    return Variable(number, lambda _: np.linspace(start, stop, number)[None])


def _logspace(given: object, path: str) -> Variable:
    """Equal ratios; start and stop are the values themselves, not exponents."""
    start, stop, number = _span(given, path)
    if min(start, stop) <= 0:
        raise InputError(f"{path}: goes from {start:g} to {stop:g}; both need to be above 0")
    return Variable(number, lambda _: np.geomspace(start, stop, number)[None])


def _span(given: object, path: str) -> tuple[float, float, int]:
    parts = an_object(given, path, ("start", "stop", "num"))
    needed(parts, path, "start", "stop", "num")
    start, stop = (a_number(parts[key], f"{path}.{key}") for key in ("start", "stop"))
    return start, stop, a_count(parts["num"], f"{path}.num", 2)


def _refs(given: object, path: str) -> Variable:
    names = [a_text(item, f"{path}[{i}]") for i, item in enumerate(a_list(given, path))]

    def values(tuning: Tuning) -> Floats:
        for index, name in enumerate(names):
            where = f"{path}[{index}]"
            if name not in tuning.thresholds:
                known = ", ".join(tuning.thresholds) or "none: there is no table of thresholds"
                raise InputError(f"{where}: {name!r} is no threshold; known are {known}")
            lacking = np.isnan(tuning.thresholds[name])
            if lacking.any():
                missing = _named(tuning.categories, lacking)
                raise InputError(f"{where}: {name!r} has no value for {missing}; take another")
        return np.stack([tuning.thresholds[name] for name in names], axis=1)

    return Variable(len(names), values)


@dataclass(frozen=True)
class _Quantiles:
    score: str
    of: str
    levels: tuple[float, ...] | int
    per_category: bool
    path: str

    def values(self, tuning: Tuning) -> Floats:
        """(C, n) or (1, n) scores of tuning images: numbers of the column's own type."""
        if self.score not in tuning.scores:
            known = ", ".join(tuning.scores) or "none"
            raise InputError(f"{self.path}.score: {self.score!r} is no score; known are {known}")
        scores = tuning.scores[self.score]
        chosen = ~np.isnan(scores)
        if self.of != "all":
            chosen &= tuning.defect == KINDS.index(self.of)
        names: Sequence[str] = tuning.categories if self.per_category else ("all categories",)
        rows = [
            chosen & (tuning.category == place) if self.per_category else chosen
            for place in range(len(names))
        ]
        empty = np.array([not row.any() for row in rows])
        if empty.any():
            images = {"good": "good ", "defect": "defective ", "all": ""}[self.of]
            raise InputError(
                f"{self.path}: no {images}tuning image of {_named(names, empty)} has the score "
                f"{self.score!r}; take quantiles of other images, or of all categories together"
            )
        # One of the scores themselves, never a number between two of them.
        return np.stack(
            [np.quantile(scores[row], self.q, method="inverted_cdf") for row in rows]
        ).astype(np.float64)

    @property
    def q(self) -> Floats:
        """(n,) levels."""
        if isinstance(self.levels, int):
            return np.linspace(0, 1, self.levels)
        return np.array(self.levels)


def _quantiles(given: object, path: str) -> Variable:
    parts = an_object(given, path, ("score", "of", "q", "num", "per_category"))
    needed(parts, path, "score", "of")
    if ("q" in parts) == ("num" in parts):
        raise InputError(f"{path}: needs exactly one of q, num")
    levels: tuple[float, ...] | int
    if "num" in parts:
        count = levels = a_count(parts["num"], f"{path}.num", 2)
    else:
        levels = tuple(
            _level(item, f"{path}.q[{i}]") for i, item in enumerate(a_list(parts["q"], f"{path}.q"))
        )
        count = len(levels)
    per_category = parts.get("per_category", False)
    if not isinstance(per_category, bool):
        raise InputError(f"{path}.per_category: is {per_category!r}, needs to be true or false")
    score, of = a_text(parts["score"], f"{path}.score"), a_text(parts["of"], f"{path}.of", KINDS)
    return Variable(count, _Quantiles(score, of, levels, per_category, path).values, score)


def _level(value: object, path: str) -> float:
    level = a_number(value, path)
    if not 0 <= level <= 1:
        raise InputError(f"{path}: is {level:g}, needs to be from 0 to 1")
    return level


def _named(names: Sequence[str], chosen: npt.NDArray[np.bool_]) -> str:
    return ", ".join(name for name, yes in zip(names, chosen.tolist(), strict=True) if yes)


_READERS: dict[str, Callable[[object, str], Variable]] = {
    "values": _listed,
    "linspace": _linspace,
    "logspace": _logspace,
    "quantiles": _quantiles,
    "refs": _refs,
}

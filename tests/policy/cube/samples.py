"""Formulas, rows and rules drawn at random, and the plain count that every way must equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from pipeline.policy.cube import Groups, Rows, Rules
from pipeline.policy.formula import All, AnyOf, AtLeast, Cut, Formula, Missing, Not, holds

SLOTS = {"a": (0, 3), "b": (1, 4), "c": (2,)}
# Few values, so that scores and thresholds tie; both zeros, which are equal.
VALUES = np.array([-np.inf, -1.0, -0.5, -0.0, 0.0, 0.1, 0.5, 0.7, 2.0, np.inf])
PARTS = 3


@dataclass(frozen=True, eq=False)
class Case:
    """What is counted."""

    rules: list[Rules]
    groups: Groups
    rows: Rows


@st.composite
def formulas(draw: st.DrawFn, depth: int = 4) -> Formula:
    """Any shape up to a depth; parts may be none."""
    kind = draw(st.sampled_from(["cut", "cut", "missing", "not", "all", "any", "at_least"]))
    if depth == 0 or kind in {"cut", "missing"}:
        score = draw(st.sampled_from(sorted(SLOTS)))
        if kind == "missing":
            return Missing(score)
        return Cut(score, draw(st.sampled_from(SLOTS[score])))
    if kind == "not":
        return Not(draw(formulas(depth - 1)))
    parts = tuple(draw(st.lists(formulas(depth - 1), max_size=3)))
    if kind == "at_least":
        return AtLeast(draw(st.integers(-1, 4)), parts)
    return All(parts) if kind == "all" else AnyOf(parts)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Rules of up to three shapes, groups in parts (some empty), scores with ties and gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    values = VALUES.astype(dtype)
    count = draw(st.sampled_from([0, 1, 40, 200]))
    groups = draw(st.sampled_from([1, 4, 9]))
    rows = Rows(
        {name: rng.choice(np.append(values, np.nan), count).astype(dtype) for name in SLOTS},
        rng.integers(0, groups, count),
    )
    rules = [
        random_rules(draw(formulas()), rng, values.astype(np.float64))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return Case(rules, Groups(rng.integers(0, PARTS, groups)), rows)


def random_rules(
    formula: Formula, rng: np.random.Generator, values: npt.NDArray[np.float64]
) -> Rules:
    """Some thresholds for some of the parts, in any order."""
    parts = rng.permutation(PARTS)[: rng.integers(1, PARTS + 1)]
    shape = (len(parts), int(rng.choice([0, 1, 7, 30])), 5)
    return Rules(formula, parts, rng.choice(values, shape))


def plain_counts(rules: Rules, rows: Rows, groups: Groups) -> npt.NDArray[np.int64]:
    """(P, G) rule by rule, with the formula's own meaning."""
    found = np.zeros((rules.count, groups.count), np.int64)
    for part, thresholds in zip(rules.parts, rules.thresholds, strict=True):
        inside = groups.part_of_group[rows.group] == part
        for rule, own in enumerate(thresholds):
            held = holds(rules.formula, rows.scores, own) & inside
            found[rule] += np.bincount(rows.group[held], minlength=groups.count)
    return found


def cut_up(rows: Rows, sizes: Iterable[int]) -> list[Rows]:
    """The rows in batches of these sizes, and the rest."""
    found, start = [], 0
    for size in [*sizes, len(rows.group)]:
        part = slice(start, start + size)
        scores = {name: column[part] for name, column in rows.scores.items()}
        found.append(Rows(scores, rows.group[part]))
        start += size
    return found

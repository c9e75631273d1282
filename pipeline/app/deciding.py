"""What a policy makes of every row held in memory, fast enough to follow a threshold that moves.

Rows of one part whose comparisons come out alike are decided alike. So every row gets the number
of its cell (its part, and which of the policy's thresholds it reaches), and the policy decides one
row of each cell, by its own meaning (`policy.language.decide`): a comparison and a lookup a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.app.held import Held
from pipeline.evaluation.counting import parts_of
from pipeline.evaluation.figures import Judged, figures_table, named, population
from pipeline.policy.choosing.confusion import Decided
from pipeline.policy.language import OUTCOMES, Part, Resolved, Rows, decide

GOOD, REVIEW, DEFECT = range(len(OUTCOMES))
# Beyond so many cells, a table of them is no shorter than the rows.
_MOST_CELLS = 1 << 22
CONFIDENCE = 0.95

Outcome = npt.NDArray[np.int8]


@dataclass(frozen=True)
class _Cells:
    """The cell of each row so far: `number` (N,) of `count`."""

    number: npt.NDArray[np.intp]
    count: int

    def and_flag(self, flag: npt.NDArray[np.bool_]) -> _Cells:
        """Cells that a flag (N,) tells apart too."""
        return _Cells(self.number * 2 + flag, self.count * 2)


def outcomes(policy: Resolved, held: Held) -> Outcome:
    """(N,) 0 for good, 1 for review, 2 for defect: what `decide` says of each row.

    Raises:
        InputError: a row lacks a score that the policy can't do without.
    """
    parts, part_of_group = parts_of(held.groups, by_type=policy.policy.oracle)
    part = part_of_group[held.group]
    cells = _cells(policy, held, parts, part)
    if cells is None:
        return decide(policy, _rows(policy, held, parts, part, None))
    first = np.full(cells.count, -1, np.intp)
    first[cells.number[::-1]] = np.arange(len(part) - 1, -1, -1)
    there = np.flatnonzero(first >= 0)
    found = np.zeros(cells.count, np.int8)
    found[there] = decide(policy, _rows(policy, held, parts, part, first[there]))
    result: Outcome = found[cells.number]
    return result


def _rows(
    policy: Resolved,
    held: Held,
    parts: tuple[Part, ...],
    part: npt.NDArray[np.integer],
    places: npt.NDArray[np.intp] | None,
) -> Rows:
    scores = {name: held.scores[name] for name in policy.dtypes}
    if places is None:
        return Rows(scores, parts, part)
    return Rows({name: column[places] for name, column in scores.items()}, parts, part[places])


def _cells(
    policy: Resolved, held: Held, parts: tuple[Part, ...], part: npt.NDArray[np.integer]
) -> _Cells | None:
    """The cell of each row; None: there are too many."""
    cells = _Cells(part.astype(np.intp, copy=False), len(parts))
    for score in policy.dtypes:
        values = held.scores[score]
        tests = list(_thresholds(policy, parts, score))
        flags = len(tests) + (score in held.lacking)
        if cells.count << flags > _MOST_CELLS:
            return None
        for limits in tests:
            same = len(set(limits.tolist())) == 1
            cells = cells.and_flag(values >= (limits[0] if same else limits[part]))
        if score in held.lacking:
            cells = cells.and_flag(np.isnan(values))
    return cells


def _thresholds(
    policy: Resolved, parts: tuple[Part, ...], score: str
) -> Iterator[npt.NDArray[np.floating]]:
    """(parts,) the first, second, … threshold of a score in each part, in the score's type."""
    rulings = [policy.ruling_of(part) for part in parts]
    of_part = [
        sorted(
            {n.value for s, n in zip(r.ruling.slots, r.numbers, strict=True) if s.score == score}
        )
        for r in rulings
    ]
    for place in range(max(map(len, of_part), default=0)):
        # A part with fewer thresholds reaches infinity never, but for an infinite score, whose
        # cell is then finer than it needs to be.
        limits = [found[place] if place < len(found) else np.inf for found in of_part]
        yield np.array(limits, policy.dtypes[score])


def counted(policy: Resolved, held: Held, outcome: Outcome) -> Decided:
    """The outcomes counted by group."""
    groups = len(held.groups)
    key = held.group * len(OUTCOMES) + outcome
    counts = np.bincount(key, minlength=groups * len(OUTCOMES)).reshape(groups, len(OUTCOMES))
    people = population(held.groups, counts.sum(axis=1))
    review = counts[None, :, REVIEW]
    return Decided(counts[None, :, DEFECT], review if review.any() else None, people)


def figures(policy: Resolved, held: Held, outcome: Outcome) -> list[dict[str, object]]:
    """The policy's figures, as the `figures` table of an evaluation has them."""
    judged = Judged(named([policy]), held.says, CONFIDENCE)
    rows: list[dict[str, object]] = figures_table(
        counted(policy, held, outcome), judged
    ).to_pylist()
    return rows

"""Policies as the engine's rules, and its counts as outcomes by policy and group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.alike import AlikeOf, alike
from pipeline.evaluation.groups import Codes, Group, Grouping, Sides
from pipeline.evaluation.overlap import OverlapOf, overlaps
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.cube import Groups, Plan, Rows, Rules, Settings, count, plan
from pipeline.policy.formula import Cut, Formula, Missing, leaves
from pipeline.policy.language import Part, Policy, Resolved
from pipeline.policy.language.deciding import missing_error

DEFECT, REVIEW, LACKING = "defect", "review", "lacking"


@dataclass(frozen=True)
class Outcomes:
    """What P policies make of G groups.

    Attributes:
        defect: (P, G) int64 rows that are flagged.
        review: (P, G) int64 rows that a person sees.
        plan: how they were counted, in words.
    """

    defect: Codes
    review: Codes
    plan: str


@dataclass(frozen=True)
class _Batch:
    """Rules of one shape, and the (policy, outcome) each of them is."""

    rules: Rules
    members: tuple[tuple[int, str], ...]
    score: str = ""


def parts_of(groups: Sequence[Group], *, by_type: bool) -> tuple[tuple[Part, ...], Codes]:
    """The parts that rulings tell apart, and the part (G,) of each group.

    Args:
        groups: of the table.
        by_type: some policy reads the true defect type.
    """
    keys = [Part(g.category, g.defect_type if by_type else None) for g in groups]
    parts = tuple(dict.fromkeys(keys))
    numbers = {part: number for number, part in enumerate(parts)}
    return parts, np.array([numbers[key] for key in keys], np.int64)


@dataclass(frozen=True)
class Counting:
    """Rules and the rows that they are counted on.

    Attributes:
        rules: for the parts of the groups.
        groups: what is counted by.
        table: the rows.
        grouping: of the table.
        memory_bytes: for counting.
    """

    rules: Sequence[Rules]
    groups: Groups
    table: ScoredTable
    grouping: Grouping
    memory_bytes: int

    @property
    def scores(self) -> list[str]:
        """Names of the scores that the rules read, sorted."""
        return sorted({leaf.score for one in self.rules for leaf in leaves(one.formula)})


# Counts (P, G) of each of the rules, and how they came about, in words.
Counter = Callable[[Counting], tuple[list[Codes], str]]


def scanned(work: Counting) -> tuple[list[Codes], str]:
    """Counts rows in this process, in as few scans as memory allows.

    Raises:
        InputError: not enough memory for any way of counting.
    """
    rows = int(work.grouping.counts.sum())
    chosen: Plan = plan(work.rules, work.groups, rows, Settings(work.memory_bytes))
    scores = work.scores
    return count(chosen, lambda: engine_rows(work.table, work.grouping, scores)), chosen.says


class GroupingOf(Protocol):
    """How the groups of a table are found."""

    def __call__(self, table: ScoredTable, sides: Sides, *, types: bool = True) -> Grouping:
        """As `Grouping.of`."""


@dataclass(frozen=True)
class Way:
    """How a table is counted.

    Attributes:
        count: counts of rules.
        grouping: the groups of its rows.
        overlaps: how many of its rows are of given images.
        alike: which of a run's images are near-duplicates of given ones.
    """

    count: Counter = scanned
    grouping: GroupingOf = Grouping.of
    overlaps: OverlapOf = overlaps
    alike: AlikeOf = alike


SCAN = Way()


def outcomes(
    policies: Sequence[Resolved],
    table: ScoredTable,
    grouping: Grouping,
    memory_bytes: int,
    counter: Counter = scanned,
) -> Outcomes:
    """Counts every policy on every row.

    Args:
        policies: resolved for all parts of the table.
        table: the rows.
        grouping: of the table.
        memory_bytes: for counting.
        counter: how rows are counted.

    Raises:
        InputError: a score is missing where a policy doesn't say what that means.
    """
    by_type = any(policy.policy.oracle for policy in policies)
    parts, part_of_group = parts_of(grouping.groups, by_type=by_type)
    batches = [*_batches(policies, parts), *_required(policies, parts)]
    shape = (len(policies), len(grouping.groups))
    found = {kind: np.zeros(shape, np.int64) for kind in (DEFECT, REVIEW)}
    rules = [batch.rules for batch in batches]
    work = Counting(rules, Groups(part_of_group), table, grouping, memory_bytes)
    counted, says = counter(work)
    for batch, counts in zip(batches, counted, strict=True):
        for row, (policy, kind) in zip(counts, batch.members, strict=True):
            if kind == LACKING:
                refuse_lacking(policies[policy].policy, batch.score, row, grouping.groups)
            else:
                found[kind][policy] += row
    return Outcomes(found[DEFECT], found[REVIEW], says)


def _batches(policies: Sequence[Resolved], parts: Sequence[Part]) -> Iterator[_Batch]:
    """Formulas that are alike and hold for the same parts are counted together."""
    alike: dict[tuple[Formula, tuple[int, ...]], list[tuple[int, str, npt.NDArray[np.float64]]]]
    alike = {}
    for number, policy in enumerate(policies):
        mine: dict[tuple[str, Formula], dict[int, npt.NDArray[np.float64]]] = {}
        for place, part in enumerate(parts):
            one = policy.ruling_of(part)
            for kind, formula in ((DEFECT, one.ruling.defect), (REVIEW, one.ruling.review)):
                if formula is not None:
                    used = 1 + max((cut.slot for cut in _cuts(formula)), default=-1)
                    mine.setdefault((kind, formula), {})[place] = one.thresholds[:used]
        for (kind, formula), at in mine.items():
            stacked = np.stack(list(at.values()))
            alike.setdefault((formula, tuple(at)), []).append((number, kind, stacked))
    for (formula, places), members in alike.items():
        thresholds = np.stack([stacked for _, _, stacked in members], axis=1)
        yield _Batch(
            Rules(formula, np.array(places, np.int64), thresholds),
            tuple((number, kind) for number, kind, _ in members),
        )


def _cuts(formula: Formula) -> Iterator[Cut]:
    return (leaf for leaf in leaves(formula) if isinstance(leaf, Cut))


def _required(policies: Sequence[Resolved], parts: Sequence[Part]) -> Iterator[_Batch]:
    """Counts of the rows that lack a score which some policy can't do without."""
    needed: dict[str, dict[int, int]] = {}
    for number, policy in enumerate(policies):
        for place, part in enumerate(parts):
            for score in policy.ruling_of(part).ruling.required:
                needed.setdefault(score, {}).setdefault(place, number)
    for score, first in needed.items():
        for number in sorted(set(first.values())):
            places = np.array([p for p, n in first.items() if n == number], np.int64)
            blank = np.zeros((len(places), 1, 0))
            yield _Batch(Rules(Missing(score), places, blank), ((number, LACKING),), score)


def refuse_lacking(policy: Policy, score: str, counts: Codes, groups: Sequence[Group]) -> None:
    """Refuses rows without a score that the policy can't do without.

    Raises:
        InputError: with the policy, the score and how many rows.
    """
    if not counts.any():
        return
    category = groups[int(np.flatnonzero(counts)[0])].category
    raise missing_error(
        policy, score, f"{int(counts.sum())} rows, the first of them of {Part(category)}"
    )


def engine_rows(table: ScoredTable, grouping: Grouping, scores: Sequence[str]) -> Iterator[Rows]:
    """The rows that take part, with some scores, as the engine counts them."""
    for columns in table.batches(grouping.meanings, scores):
        codes = grouping.codes(columns)
        kept = codes >= 0
        values = {name: numbers(columns[name]) for name in scores}
        if not kept.all():
            codes, values = codes[kept], {name: v[kept] for name, v in values.items()}
        yield Rows(values, codes)


def numbers(column: pa.Array) -> npt.NDArray[np.floating]:
    """A score column (N,) in its own type; NaN where it is null."""
    values: npt.NDArray[np.floating] = column.to_numpy(zero_copy_only=False)
    return values

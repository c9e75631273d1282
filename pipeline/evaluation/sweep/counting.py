"""The policies of a sweep as the engine's rules, counted on every group of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.counting import (
    Counter,
    Counting,
    engine_rows,
    parts_of,
    refuse_lacking,
    scanned,
)
from pipeline.evaluation.figures import NO_CATEGORY, population
from pipeline.evaluation.groups import LABEL_CODES, Grouping
from pipeline.evaluation.sweep.document import SweepFile
from pipeline.evaluation.sweep.sides import NAMES, TUNING
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.choosing.confusion import Decided
from pipeline.policy.cube import Groups, Rules
from pipeline.policy.formula import Formula, Missing
from pipeline.policy.language import Part, Policy, Ref, Ruling, Thresholds, Var, rulings
from pipeline.policy.language.folding import part_of
from pipeline.policy.language.where import Where
from pipeline.policy.sweeps.fill import Known, fill
from pipeline.policy.sweeps.grid import Expansion, expand
from pipeline.policy.sweeps.variables import Tuning

Codes = npt.NDArray[np.int64]
DEFECT, REVIEW = 0, 1


@dataclass(frozen=True)
class Sweeping:
    """A sweep on a table.

    Attributes:
        file: the sweep.
        table: the rows.
        grouping: of them, with sides.
        thresholds: that references name.
        memory_bytes: for counting.
        counter: how rows are counted.
    """

    file: SweepFile
    table: ScoredTable
    grouping: Grouping
    thresholds: Thresholds
    memory_bytes: int
    counter: Counter = scanned

    @property
    def categories(self) -> tuple[str, ...]:
        """As variables may differ by them; rows without a category go under the empty name."""
        return tuple(NO_CATEGORY if c is None else c for c in self.grouping.categories)


@dataclass(frozen=True)
class Swept:
    """What P policies decided.

    Attributes:
        expansions: the policies of each template.
        first: the number of each template's first policy.
        decided: by all of them.
        plan: how they were counted, in words.
    """

    expansions: tuple[Expansion, ...]
    first: tuple[int, ...]
    decided: Decided
    plan: str

    @property
    def policies(self) -> int:
        """P."""
        return sum(one.count for one in self.expansions)

    def place(self, policy: int) -> tuple[int, int]:
        """Template and number within it of a policy."""
        template = int(np.searchsorted(self.first, policy, side="right")) - 1
        return template, policy - self.first[template]


def tuning_rows(sweeping: Sweeping) -> Tuning:
    """What the variables may be quantiles of: scores of the rows that choose, and no others."""
    needs = sorted(sweeping.file.sweep.needs)
    grouping, names = sweeping.grouping, sweeping.categories
    thresholds = _by_category(sweeping)
    if not needs:
        return Tuning(names, thresholds=thresholds)
    place = {name: number for number, name in enumerate(grouping.categories)}
    category = np.array([place[g.category] for g in grouping.groups], np.int64)
    label = np.array([LABEL_CODES[g.is_defect] for g in grouping.groups], np.int64)
    chooses = np.array([g.side == NAMES[TUNING] for g in grouping.groups])
    groups: list[Codes] = []
    scores: dict[str, list[npt.NDArray[np.floating]]] = {name: [] for name in needs}
    for rows in engine_rows(sweeping.table, grouping, needs):
        mine = chooses[rows.group]
        groups.append(rows.group[mine].astype(np.int64))
        for name in needs:
            scores[name].append(rows.scores[name][mine])
    codes = np.concatenate([np.zeros(0, np.int64), *groups])
    joined = {name: np.concatenate(parts) for name, parts in scores.items()}
    return Tuning(names, category[codes], label[codes], joined, thresholds)


def _by_category(sweeping: Sweeping) -> dict[str, npt.NDArray[np.float64]]:
    """Thresholds by name, (C,) each, NaN where a category has none."""
    known = sweeping.thresholds
    return {
        name: np.array([known.value(name, c) for c in sweeping.grouping.categories], np.float64)
        for name in known.names
    }


def swept(sweeping: Sweeping, expansions: Sequence[Expansion]) -> Swept:
    """Counts all policies in as few scans as memory allows.

    Raises:
        InputError: a threshold that a category lacks, a score that rows lack, too little memory.
    """
    policies, groups = sweeping.file.policies, sweeping.grouping.groups
    by_type = any(policy.oracle for policy in policies)
    parts, part_of_group = parts_of(groups, by_type=by_type)
    batches = [
        (number, kind, rules)
        for number, policy in enumerate(policies)
        for kind, rules in _rules(sweeping, policy, expansions[number], parts)
    ]
    lacking = list(_lacking(policies, parts))
    rules = [batch[2] for batch in batches] + [one[2] for one in lacking]
    work = Counting(
        rules, Groups(part_of_group), sweeping.table, sweeping.grouping, sweeping.memory_bytes
    )
    counted, says = sweeping.counter(work)
    for (policy, score, _), found in zip(lacking, counted[len(batches) :], strict=True):
        refuse_lacking(policies[policy], score, found[0], groups)
    first = np.cumsum([0, *(one.count for one in expansions)]).tolist()
    totals = [np.zeros((first[-1], len(groups)), np.int64) for _ in (DEFECT, REVIEW)]
    for (number, kind, _), found in zip(batches, counted, strict=False):
        totals[kind][first[number] : first[number + 1]] += found
    review = totals[REVIEW] if any(kind == REVIEW for _, kind, _ in batches) else None
    people = population(groups, sweeping.grouping.counts, sweeping.grouping.sides)
    return Swept(
        tuple(expansions), tuple(first[:-1]), Decided(totals[DEFECT], review, people), says
    )


def _rules(
    sweeping: Sweeping, policy: Policy, expansion: Expansion, parts: Sequence[Part]
) -> Iterator[tuple[int, Rules]]:
    """Rules of one template; parts with the same ruling are counted together."""
    found = rulings(policy, parts)
    alike: dict[Ruling, list[int]] = {}
    for number, part in enumerate(parts):
        alike.setdefault(found[part_of(policy, part)], []).append(number)
    for ruling, numbers in alike.items():
        known = _known(sweeping, ruling, expansion, [parts[n] for n in numbers])
        thresholds = fill(ruling.slots, known)
        for kind, formula in ((DEFECT, ruling.defect), (REVIEW, ruling.review)):
            if formula is not None:
                yield kind, Rules(formula, np.array(numbers, np.int64), thresholds)


def _known(
    sweeping: Sweeping, ruling: Ruling, expansion: Expansion, parts: Sequence[Part]
) -> Known:
    """What the slots of a ruling stand for, in the categories of some parts."""
    names = [NO_CATEGORY if part.category is None else part.category for part in parts]
    rows = np.array([expansion.categories.index(name) for name in names])
    numbers: dict[Hashable, npt.NDArray[np.float64]] = {}
    for slot in ruling.slots:
        if isinstance(slot.value, Var):
            column = expansion.column(slot.value.name)
            numbers[slot.value] = column if len(column) == 1 else column[rows]
        elif isinstance(slot.value, Ref):
            where = Where(sweeping.file.uri, slot.path)
            found = [
                sweeping.thresholds.find(slot.value.name, part.category, where).value
                for part in parts
            ]
            numbers[slot.value] = np.array(found, np.float64)[:, None]
    return Known(numbers, sweeping.table.scores, tuple(names), expansion.count)


def _lacking(policies: Sequence[Policy], parts: Sequence[Part]) -> Iterator[tuple[int, str, Rules]]:
    """Counts of rows that lack a score which a template can't do without."""
    for number, policy in enumerate(policies):
        found = rulings(policy, parts)
        needed: dict[str, list[int]] = {}
        for place, part in enumerate(parts):
            for score in found[part_of(policy, part)].required:
                needed.setdefault(score, []).append(place)
        for score, places in needed.items():
            formula: Formula = Missing(score)
            blank = np.zeros((len(places), 1, 0))
            yield number, score, Rules(formula, np.array(places, np.int64), blank)


def expanded(sweeping: Sweeping) -> tuple[Expansion, ...]:
    """The policies of every template, from the tuning rows alone.

    Raises:
        InputError: no policy is left, or a variable has no value in a category.
    """
    return expand(sweeping.file.sweep, tuning_rows(sweeping))

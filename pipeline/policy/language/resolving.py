"""A policy with its numbers: what is counted, decided and explained, under one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.policy.formula import All, AnyOf, AtLeast, Cut, Formula, Missing, Not, settled
from pipeline.policy.language.compiling import Ruling, Slot, SlotKey, ruling
from pipeline.policy.language.document import VERSION, Policy, Ref, Var
from pipeline.policy.language.folding import FoldedRule, Part, folded_rule, part_of
from pipeline.policy.language.thresholds import Threshold, Thresholds
from pipeline.policy.language.where import Where, alternatives, listed

DTypes = Mapping[str, npt.DTypeLike]
NO_THRESHOLDS = Thresholds()
# A comparison of these is exact in float64, in which thresholds are kept.
_KINDS = (np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class Number:
    """A slot's threshold in its column's own type.

    Attributes:
        value: what is compared: a row is on the upper side from here on.
        shown: the same before `>` and `≤` made the next number of it.
        origin: where it comes from, in words.
    """

    value: float
    shown: float
    origin: str


@dataclass(frozen=True)
class ResolvedRuling:
    """How one part is decided, in numbers.

    Attributes:
        rule: the trees behind the formulas.
        ruling: the formulas.
        numbers: of the ruling's slots.
    """

    rule: FoldedRule
    ruling: Ruling
    numbers: tuple[Number, ...]

    @property
    def thresholds(self) -> npt.NDArray[np.float64]:
        """(slots,) what is compared."""
        return np.array([number.value for number in self.numbers], np.float64)

    def number_of(self, key: SlotKey) -> Number:
        """The number of a comparison's slot."""
        slots = self.ruling.slots
        at = next(at for at, s in enumerate(slots) if (s.score, s.strict, s.value) == key)
        return self.numbers[at]


@dataclass(frozen=True)
class Resolved:
    """A policy that decides.

    Attributes:
        policy: what it was made from.
        rulings: by part.
        dtypes: of the scores that it reads, sorted by name.
        digest: sha256 of what it decides: policies with equal ones decide every row alike.
        unmatched: categories that the policy has an override for and no row is of, sorted: a
            misspelt name may be among them.
    """

    policy: Policy
    rulings: Mapping[Part, ResolvedRuling]
    dtypes: Mapping[str, np.dtype[Any]]
    digest: str
    unmatched: tuple[str, ...]

    def ruling_of(self, part: Part) -> ResolvedRuling:
        """The ruling of rows of a part.

        Raises:
            InputError: the policy was not resolved for it.
        """
        own = part_of(self.policy, part)
        if own not in self.rulings:
            raise Where(self.policy.source).error(
                f"{self.policy.name} was resolved for {listed(map(str, self.rulings))}, not for "
                f"{part}; resolve it for all categories of the table"
            )
        return self.rulings[own]


def resolve(
    policy: Policy,
    parts: Iterable[Part],
    thresholds: Thresholds,
    dtypes: DTypes,
    variables: Thresholds = NO_THRESHOLDS,
) -> Resolved:
    """A policy's numbers for the parts of a table.

    Args:
        policy: read and checked.
        parts: of the rows that will be decided; for an oracle with their true types.
        thresholds: what references name.
        dtypes: of the table's scores: float16, float32 or float64 each.
        variables: values of the policy's variables, if it has any.

    Raises:
        InputError: a category without a rule, an unknown score, a threshold that doesn't exist
            for a category or lies beyond its column's type, a variable without a value.
    """
    own = list(dict.fromkeys(part_of(policy, part) for part in parts))
    source = _Numbers(policy.source, thresholds, variables, dtypes)
    found: dict[Part, ResolvedRuling] = {}
    for part in own:
        rule = folded_rule(policy, part)
        source.check_scores(rule)
        compiled = ruling(policy, rule)
        numbers = tuple(source.number(slot, part) for slot in compiled.slots)
        found[part] = ResolvedRuling(rule, compiled, numbers)
    read = sorted({leaf.score for one in found.values() for leaf in one.rule.leaves()})
    return Resolved(
        policy,
        found,
        {score: np.dtype(dtypes[score]) for score in read},
        _digest(found),
        _unmatched(policy, own),
    )


@dataclass(frozen=True)
class _Numbers:
    """Where the numbers of one policy come from."""

    source: str
    thresholds: Thresholds
    variables: Thresholds
    dtypes: DTypes

    def check_scores(self, rule: FoldedRule) -> None:
        for leaf in rule.leaves():
            where = Where(self.source, leaf.path).key("score" if _compares(leaf) else "missing")
            if leaf.score not in self.dtypes:
                raise where.error(
                    f"the table has no score {leaf.score!r}; "
                    f"{alternatives(leaf.score, self.dtypes)}"
                )
            if np.dtype(self.dtypes[leaf.score]) not in _KINDS:
                raise where.error(
                    f"{leaf.score} is {np.dtype(self.dtypes[leaf.score])}; a score is compared "
                    f"as float16, float32 or float64: give it as float64"
                )

    def number(self, slot: Slot, part: Part) -> Number:
        where = Where(self.source, slot.path)
        found = self._found(slot, part, where)
        dtype = np.dtype(self.dtypes[slot.score])
        with np.errstate(over="ignore"):
            rounded = settled(found.value, dtype)
        if not np.isfinite(rounded):
            raise where.error(
                f"the threshold {found.value!r} lies beyond {dtype}, the type of {slot.score}"
            )
        # Adding 0 makes -0 one with 0, which it equals in every comparison.
        value = settled(found.value, dtype, strict=slot.strict) + 0.0
        return Number(value, rounded + 0.0, found.origin)

    def _found(self, slot: Slot, part: Part, where: Where) -> Threshold:
        if isinstance(slot.value, Ref):
            return self.thresholds.find(slot.value.name, part.category, where.key("ref"))
        if isinstance(slot.value, Var):
            return self.variables.find(slot.value.name, part.category, where.key("var"))
        return Threshold(slot.value, "written in the policy")


def _compares(leaf: object) -> bool:
    return hasattr(leaf, "comparison")


def _unmatched(policy: Policy, parts: list[Part]) -> tuple[str, ...]:
    listed_ones = {name for override in policy.overrides for name in override.categories}
    return tuple(sorted(listed_ones - {part.category for part in parts}))


def _digest(found: Mapping[Part, ResolvedRuling]) -> str:
    parts = []
    # Those of an oracle have a defect type, so that no other policy shares its digest.
    for part, one in found.items():
        review = None if one.ruling.review is None else _canonical(one.ruling.review, one)
        parts.append(
            {
                "category": part.category,
                "defect_type": part.defect_type,
                "defect": _canonical(one.ruling.defect, one),
                "review": review,
                "required": one.ruling.required,
            }
        )
    content = {
        "policy": VERSION,
        "parts": sorted(parts, key=lambda one: json.dumps([one["category"], one["defect_type"]])),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(formula: Formula, of: ResolvedRuling) -> str:
    """A formula as text, the same for any order and repetition of its parts."""
    if isinstance(formula, Cut):
        return json.dumps(["ge", formula.score, of.numbers[formula.slot].value.hex()])
    if isinstance(formula, Missing):
        return json.dumps(["missing", formula.score])
    if isinstance(formula, Not):
        return f'["not",{_canonical(formula.part, of)}]'
    parts = sorted(_canonical(part, of) for part in formula.parts)
    if isinstance(formula, AtLeast):
        return f'["at_least",{formula.least},{",".join(parts)}]'
    different = list(dict.fromkeys(parts))
    if len(different) == 1:
        return different[0]
    word = {All: "all", AnyOf: "any"}[type(formula)]
    return f'["{word}",{",".join(different)}]'

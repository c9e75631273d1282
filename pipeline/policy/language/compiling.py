"""A policy's rule for one part of the rows, as formulas over numbered thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.policy.formula import All, AnyOf, AtLeast, Cut, Formula, Missing, Not
from pipeline.policy.language.document import (
    Atom,
    Cascade,
    Lacks,
    Negation,
    Node,
    Outcome,
    Policy,
    Ref,
    Several,
    Var,
)
from pipeline.policy.language.folding import FoldedRule, Part, folded_rule, part_of

ALWAYS, NEVER = All(()), AnyOf(())
# Score, strictness and threshold: atoms that share them share a slot.
SlotKey = tuple[str, bool, float | Ref | Var]


@dataclass(frozen=True)
class Slot:
    """One threshold of a ruling, not yet a number.

    Attributes:
        score: the column that is compared with it.
        strict: the comparison is with the next larger number of the column's type: > and ≤.
        value: a finite number, or the name of one.
        path: where it stands in the document, the first place of several.
    """

    score: str
    strict: bool
    value: float | Ref | Var
    path: str


@dataclass(frozen=True)
class Ruling:
    """How the rows of one part are decided; `defect` and `review` never hold together.

    Attributes:
        defect: where it holds, the row is a defect.
        review: where it holds, a person looks; None: nowhere.
        slots: the thresholds that both formulas number.
        required: scores whose absence in a row is an error, sorted.
    """

    defect: Formula
    review: Formula | None
    slots: tuple[Slot, ...]
    required: tuple[str, ...]


def rulings(policy: Policy, parts: Iterable[Part]) -> dict[Part, Ruling]:
    """The ruling of each part that the policy tells apart.

    Args:
        policy: read and checked.
        parts: of the rows; for an oracle with their true types, which others don't look at.

    Raises:
        InputError: a category without a rule; an oracle and rows whose true type isn't known.
    """
    own = dict.fromkeys(part_of(policy, part) for part in parts)
    return {part: ruling(policy, folded_rule(policy, part)) for part in own}


def ruling(policy: Policy, rule: FoldedRule) -> Ruling:
    """The formulas of a rule that was folded for its part."""
    undecided = undecided_scores(rule)
    compiler = _Compiler(tested_scores(rule))
    defect = compiler.says(rule.decide, "defect")
    asked = both(compiler.says(rule.review, "defect"), negated(defect))
    review = either(compiler.says(rule.decide, "review"), asked)
    slots = tuple(compiler.slots)
    if policy.on_missing == "error":
        return Ruling(defect, _possible(review), slots, undecided)
    lacking = either(*(Missing(score) for score in undecided))
    complete = negated(lacking)
    defect, review = both(complete, defect), both(complete, review)
    if policy.on_missing == "defect":
        defect = either(lacking, defect)
    if policy.on_missing == "review":
        review = either(lacking, review)
    return Ruling(defect, _possible(review), slots, ())


def tested_scores(rule: FoldedRule) -> frozenset[str]:
    """Scores that the rule itself tests with `missing`."""
    return frozenset(leaf.score for leaf in rule.leaves() if isinstance(leaf, Lacks))


def undecided_scores(rule: FoldedRule) -> tuple[str, ...]:
    """Scores that the rule compares and doesn't test: `on_missing` answers for them. Sorted."""
    compared = {leaf.score for leaf in rule.leaves() if isinstance(leaf, Atom)}
    return tuple(sorted(compared - tested_scores(rule)))


def slot_key(atom: Atom) -> SlotKey:
    """What tells the slot of a comparison from the others of its ruling."""
    # x > t is x ≥ the next number; x < t and x ≤ t are what x ≥ t and x > t are not.
    return atom.score, atom.comparison in ("gt", "le"), atom.threshold


def _possible(formula: Formula) -> Formula | None:
    return None if formula == NEVER else formula


@dataclass
class _Compiler:
    """Numbers the thresholds as they come.

    Attributes:
        tested: scores that may be missing in a row that is decided.
        slots: so far.
        numbers: of the slots, by what tells them apart.
    """

    tested: frozenset[str]
    slots: list[Slot] = field(default_factory=list)
    numbers: dict[SlotKey, int] = field(default_factory=dict)

    def says(self, node: Node | bool, outcome: Outcome) -> Formula:
        """Where a node gives an outcome; a condition that holds says defect."""
        if isinstance(node, Cascade):
            return self._cascade(node, outcome)
        if outcome == "review":
            return NEVER
        return (ALWAYS if node else NEVER) if isinstance(node, bool) else self._holds(node)

    def _holds(self, node: Node) -> Formula:
        if isinstance(node, Atom):
            return self._atom(node)
        if isinstance(node, Lacks):
            return Missing(node.score)
        if isinstance(node, Cascade):
            return self._cascade(node, "defect")
        if isinstance(node, Negation):
            return negated(self._holds(node.part))
        if not isinstance(node, Several):
            raise TypeError(f"{node.path}: is settled by the part and has to be folded first")
        parts = tuple(self._holds(part) for part in node.parts)
        if node.least == len(parts):
            return both(*parts)
        return either(*parts) if node.least == 1 else AtLeast(node.least, parts)

    def _atom(self, atom: Atom) -> Formula:
        key = slot_key(atom)
        if key not in self.numbers:
            self.numbers[key] = len(self.slots)
            self.slots.append(Slot(*key, f"{atom.path}.{atom.comparison}"))
        cut = Cut(atom.score, self.numbers[key])
        if atom.comparison in ("ge", "gt"):
            return cut
        if atom.score in self.tested:
            return negated(either(cut, Missing(atom.score)))
        return negated(cut)

    def _cascade(self, cascade: Cascade, outcome: Outcome) -> Formula:
        # Conditions first, so that thresholds are numbered in the document's order.
        conditions = [
            ALWAYS if step.condition is None else self._holds(step.condition)
            for step in cascade.steps
        ]
        result: Formula = NEVER
        for step, condition in zip(reversed(cascade.steps), reversed(conditions), strict=True):
            if step.then == outcome:
                result = either(condition, result)
            else:
                result = both(negated(condition), result)
        return result


def both(*parts: Formula) -> Formula:
    """All parts hold, in the shortest form."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, All) else (part,))]
    if NEVER in flat:
        return NEVER
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def either(*parts: Formula) -> Formula:
    """One part or more holds, in the shortest form."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, AnyOf) else (part,))]
    if ALWAYS in flat:
        return ALWAYS
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


def negated(part: Formula) -> Formula:
    """The part does not hold, in the shortest form."""
    if isinstance(part, Not):
        return part.part
    if part in (ALWAYS, NEVER):
        return NEVER if part == ALWAYS else ALWAYS
    return Not(part)

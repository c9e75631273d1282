"""Which comparisons of a rule settle its outcome, given which of them hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.policy.language.document import (
    Atom,
    Cascade,
    Lacks,
    Leaf,
    Negation,
    Node,
    Outcome,
    Several,
)
from pipeline.policy.language.folding import FoldedRule

Holds = Callable[[Leaf], bool]


@dataclass(frozen=True)
class Verdict:
    """An outcome, and what settles it.

    Attributes:
        outcome: of the rule; of a condition, defect where it holds and good where it doesn't.
        leaves: as long as these hold or don't, as they do now, the outcome is the same whatever
            the others do. Most telling first.
        reasons: in the author's words, of the steps that decided.
    """

    outcome: Outcome
    leaves: tuple[Leaf, ...]
    reasons: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether a condition holds."""
        return self.outcome == "defect"


def weigh_rule(rule: FoldedRule, holds: Holds) -> Verdict:
    """The outcome of a rule.

    Args:
        rule: folded for its part.
        holds: whether a comparison or a test for a missing score holds.
    """
    decided = weigh(rule.decide, holds)
    if decided.outcome != "good":
        return decided
    asked = weigh(rule.review, holds)
    return _joined("review" if asked.held else "good", [asked, decided])


def weigh(node: Node | bool, holds: Holds) -> Verdict:
    """The outcome of a node."""
    if isinstance(node, bool):
        return Verdict("defect" if node else "good", ())
    if isinstance(node, Atom | Lacks):
        return Verdict("defect" if holds(node) else "good", (node,))
    if isinstance(node, Cascade):
        return _cascade(node, holds)
    if isinstance(node, Negation):
        inner = weigh(node.part, holds)
        return Verdict("good" if inner.held else "defect", inner.leaves, inner.reasons)
    if not isinstance(node, Several):
        raise TypeError(f"{node.path}: is settled by the part and has to be folded first")
    parts = [weigh(part, holds) for part in node.parts]
    true = [part for part in parts if part.held]
    if len(true) >= node.least:
        return _joined("defect", true)
    return _joined("good", [part for part in parts if not part.held])


def _cascade(node: Cascade, holds: Holds) -> Verdict:
    passed: list[Verdict] = []
    for step in node.steps:
        condition = weigh(True if step.condition is None else step.condition, holds)
        if condition.held:
            found = _joined(step.then, [condition, *passed])
            return Verdict(found.outcome, found.leaves, (step.reason,) if step.reason else ())
        passed.append(condition)
    raise TypeError(f"{node.path}: the cascade has no end")


def _joined(outcome: Outcome, verdicts: Iterable[Verdict]) -> Verdict:
    every = list(verdicts)
    leaves = dict.fromkeys(leaf for verdict in every for leaf in verdict.leaves)
    reasons = dict.fromkeys(reason for verdict in every for reason in verdict.reasons)
    return Verdict(outcome, tuple(leaves), tuple(reasons))

"""A rule as it stands for one part of the rows: what the part itself settles is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.policy.language.document import (
    Cascade,
    InCategory,
    Leaf,
    Negation,
    Node,
    Policy,
    Rule,
    Several,
    Step,
    TrueType,
    leaves_of,
)
from pipeline.policy.language.where import Where, shown


@dataclass(frozen=True)
class Part:
    """Rows that one ruling decides.

    Attributes:
        category: of the rows; None: not known.
        defect_type: their true type, `good` for good ones; None: not known, or not read.
    """

    category: str | None
    defect_type: str | None = None

    def __str__(self) -> str:
        category = "rows without a category" if self.category is None else self.category
        return category if self.defect_type is None else f"{category}, {self.defect_type}"


@dataclass(frozen=True)
class FoldedRule:
    """A rule for one part: trees without category or type, or a plain answer.

    Attributes:
        decide: where it holds, the row is a defect.
        review: where it holds and `decide` does not, a person looks.
    """

    decide: Node | bool
    review: Node | bool

    def leaves(self) -> list[Leaf]:
        """What is left of comparisons and tests for missing scores, in the document's order."""
        trees = [tree for tree in (self.decide, self.review) if not isinstance(tree, bool)]
        return [leaf for tree in trees for leaf in leaves_of(Rule(tree))]


def part_of(policy: Policy, part: Part) -> Part:
    """The part that a policy tells apart: of (category, type) for an oracle, else of category.

    Raises:
        InputError: an oracle and rows whose true type isn't known.
    """
    if not policy.oracle:
        return Part(part.category)
    if part.defect_type is None:
        raise Where(policy.source).error(
            f"{policy.name} is an oracle, and the true defect type of some rows ({part}) isn't "
            f"known; leave it out, or leave those rows out"
        )
    return part


def folded_rule(policy: Policy, part: Part) -> FoldedRule:
    """The rule of a part.

    Raises:
        InputError: the policy has none for its category.
    """
    rule = policy.rule_of(part.category)
    if rule is None:
        has = ", ".join(override.name for override in policy.overrides)
        raise Where(policy.source, "decide").error(
            f"{policy.name} has no rule for the category {shown(part.category)}: there are "
            f"overrides for {has}; add one, or a `decide` for all others"
        )
    review = False if rule.review is None else fold(rule.review, part)
    return FoldedRule(fold(rule.decide, part), review)


def fold(node: Node, part: Part) -> Node | bool:
    """A node for one part: what category and type settle is settled."""
    if isinstance(node, InCategory):
        return part.category in node.categories
    if isinstance(node, TrueType):
        return part.defect_type in node.types
    if isinstance(node, Negation):
        inner = fold(node.part, part)
        return (not inner) if isinstance(inner, bool) else replace(node, part=inner)
    if isinstance(node, Several):
        return _several(node, part)
    if isinstance(node, Cascade):
        return _cascade(node, part)
    return node


def _several(node: Several, part: Part) -> Several | bool:
    folded = [fold(inner, part) for inner in node.parts]
    left = tuple(inner for inner in folded if not isinstance(inner, bool))
    least = node.least - sum(inner is True for inner in folded)
    if least <= 0:
        return True
    return replace(node, least=least, parts=left) if least <= len(left) else False


def _cascade(node: Cascade, part: Part) -> Cascade | bool:
    steps: list[Step] = []
    for step in node.steps:
        condition = True if step.condition is None else fold(step.condition, part)
        if condition is True:
            steps.append(replace(step, condition=None))
            break
        if not isinstance(condition, bool):
            steps.append(replace(step, condition=condition))
    if len(steps) == 1 and steps[0].then != "review":
        return steps[0].then == "defect"
    return replace(node, steps=tuple(steps))

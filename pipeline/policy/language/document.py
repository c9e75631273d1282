"""A policy as its document says it: a tree of nodes, each with the place it stands at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

VERSION = "v1"
Outcome = Literal["good", "review", "defect"]
# Numbered by severity: what decisions are stored as.
OUTCOMES: tuple[Outcome, ...] = ("good", "review", "defect")
GOOD, REVIEW, DEFECT = range(3)
Comparison = Literal["ge", "gt", "lt", "le"]
COMPARISONS: dict[Comparison, str] = {"ge": "≥", "gt": ">", "lt": "<", "le": "≤"}


@dataclass(frozen=True)
class Ref:
    """A threshold by its name in a table of thresholds."""

    name: str


@dataclass(frozen=True)
class Var:
    """A threshold that a sweep fills in."""

    name: str


@dataclass(frozen=True)
class Atom:
    """One score compared with one threshold.

    Attributes:
        path: where it stands; the threshold stands at `path.comparison`.
        score: the column's name.
        comparison: as it is written.
        threshold: a finite number, or the name of one.
        reason: why it is there, in the author's words.
    """

    path: str
    score: str
    comparison: Comparison
    threshold: float | Ref | Var
    reason: str | None = None


@dataclass(frozen=True)
class Lacks:
    """The row has no such score."""

    path: str
    score: str


@dataclass(frozen=True)
class InCategory:
    """The row is of one of these categories; groups are already spelt out."""

    path: str
    categories: frozenset[str]


@dataclass(frozen=True)
class TrueType:
    """The row's true defect type is one of these: ground truth, for oracles alone."""

    path: str
    types: frozenset[str]


@dataclass(frozen=True)
class Negation:
    """The part does not hold."""

    path: str
    part: Node


@dataclass(frozen=True)
class Several:
    """So many of the parts hold: all of them for `all`, one for `any`."""

    path: str
    least: int
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Step:
    """A step of a cascade.

    Attributes:
        path: where it stands.
        condition: when it decides; None: always, which only the last does.
        then: what it decides.
        reason: why, in the author's words.
    """

    path: str
    condition: Node | None
    then: Outcome
    reason: str | None = None


@dataclass(frozen=True)
class Cascade:
    """The first step whose condition holds decides."""

    path: str
    steps: tuple[Step, ...]


Leaf = Atom | Lacks
Node = Atom | Lacks | InCategory | TrueType | Negation | Several | Cascade


@dataclass(frozen=True)
class Rule:
    """How the rows of a category are decided.

    Attributes:
        decide: where it holds, the row is a defect; a cascade may say `review` itself.
        review: where it holds and `decide` does not, a person looks.
    """

    decide: Node
    review: Node | None = None


@dataclass(frozen=True)
class Override:
    """Another rule for some categories.

    Attributes:
        name: as written: a category, or a group with its @.
        categories: the category, or those of the group.
        rule: instead of the policy's own.
    """

    name: str
    categories: frozenset[str]
    rule: Rule


@dataclass(frozen=True)
class Policy:
    """A document of the language, read and checked, thresholds still by name.

    Attributes:
        name: what it is called in reports.
        description: in the author's words.
        oracle: it may read ground truth, so it can be evaluated but never used.
        on_missing: what a row is where a score that the policy uses is missing; `error`: refused.
        rule: for every category without an override; None: there is no such rule.
        overrides: in the document's order; no category has two equally specific ones.
        source: what the document is called in errors, such as its file.
    """

    name: str
    description: str
    oracle: bool
    on_missing: Literal["error"] | Outcome
    rule: Rule | None
    overrides: tuple[Override, ...] = ()
    source: str = field(default="policy", compare=False)

    def rule_of(self, category: str | None) -> Rule | None:
        """The rule for a category: its own override, else its group's, else the default."""
        if category is None:
            return self.rule
        fitting = [found for found in self.overrides if category in found.categories]
        own = [found for found in fitting if found.name == category]
        return (own or fitting)[0].rule if fitting else self.rule

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the thresholds that are left to a sweep, sorted."""
        rules = [self.rule, *(override.rule for override in self.overrides)]
        atoms = (leaf for rule in rules if rule for leaf in leaves_of(rule))
        names = {
            leaf.threshold.name
            for leaf in atoms
            if isinstance(leaf, Atom) and isinstance(leaf.threshold, Var)
        }
        return tuple(sorted(names))


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below one, in order."""
    if isinstance(node, Negation):
        yield node.part
    elif isinstance(node, Several):
        yield from node.parts
    elif isinstance(node, Cascade):
        yield from (step.condition for step in node.steps if step.condition is not None)


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, in the document's order."""
    yield node
    for child in children(node):
        yield from walk(child)


def leaves_of(rule: Rule) -> Iterator[Leaf]:
    """Comparisons and tests for missing scores of a rule, in the document's order."""
    for root in (rule.decide, rule.review):
        if root is not None:
            yield from (node for node in walk(root) if isinstance(node, Atom | Lacks))

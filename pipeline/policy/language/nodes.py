"""The nodes of a rule: a closed set, each told by exactly one key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.policy.language.categories import CategoryGroups
from pipeline.policy.language.document import (
    COMPARISONS,
    OUTCOMES,
    Atom,
    Cascade,
    InCategory,
    Lacks,
    Negation,
    Node,
    Outcome,
    Ref,
    Several,
    Step,
    TrueType,
    Var,
)
from pipeline.policy.language.fields import fields, finite, items, name, needed, one_of, text, texts
from pipeline.policy.language.where import Where, alternatives, kind, listed

# A step of a cascade counts as a level, since it compiles into one; all that walks a rule
# recurses, and Python's stack holds a thousand frames.
MAX_DEPTH = 64
MAX_NODES = 10_000

# Keys that a node of each kind may have beside the one that names it.
BESIDE: dict[str, tuple[str, ...]] = {
    "score": (*COMPARISONS, "reason"),
    "all": (),
    "any": (),
    "not": (),
    "at_least": ("of",),
    "cascade": (),
    "missing": (),
    "category": (),
    "defect_type": (),
}
_BESIDE_KEYS = frozenset(key for keys in BESIDE.values() for key in keys)


@dataclass
class RuleParser:
    """Parses the rules of one document.

    Attributes:
        groups: of categories.
        oracle: whether the document says that it is one.
        nodes: parsed so far.
    """

    groups: CategoryGroups
    oracle: bool
    nodes: int = 0
    _kinds: dict[str, Callable[[dict[str, Any], Where, int], Node]] = field(init=False)

    def __post_init__(self) -> None:
        self._kinds = {
            "score": self._atom,
            "all": self._several,
            "any": self._several,
            "at_least": self._at_least,
            "not": self._negation,
            "cascade": self._cascade,
            "missing": self._missing,
            "category": self._category,
            "defect_type": self._true_type,
        }

    def node(self, value: Any, where: Where, depth: int = 0) -> Node:
        """One node with all below it.

        Args:
            value: as read from JSON.
            where: where it stands.
            depth: levels above it.

        Raises:
            InputError: naming the place, the value and what belongs there.
        """
        self.nodes += 1
        if depth >= MAX_DEPTH or self.nodes > MAX_NODES:
            raise where.error(
                f"a rule has at most {MAX_DEPTH} levels (each step of a cascade is one) and a "
                f"policy at most {MAX_NODES:,} nodes; make it simpler"
            )
        key = _named_by(value, where)
        return self._kinds[key](fields(value, (key, *BESIDE[key]), where), where, depth)

    def _atom(self, value: dict[str, Any], where: Where, depth: int) -> Atom:
        score = text(value["score"], where.key("score"))
        given = [word for word in COMPARISONS if word in value]
        if len(given) != 1:
            has = listed(given) if given else "none"
            raise where.error(
                f"a score is compared by exactly one of {listed(COMPARISONS)}; there is {has}"
            )
        threshold = _threshold(value[given[0]], where.key(given[0]))
        return Atom(where.path, score, given[0], threshold, _reason(value, where))

    def _several(self, value: dict[str, Any], where: Where, depth: int) -> Several:
        key = "all" if "all" in value else "any"
        parts = self._parts(value[key], where.key(key), depth)
        return Several(where.path, len(parts) if key == "all" else 1, parts)

    def _at_least(self, value: dict[str, Any], where: Where, depth: int) -> Several:
        parts = self._parts(needed(value, "of", where), where.key("of"), depth)
        least = value["at_least"]
        if isinstance(least, bool) or not isinstance(least, int) or not 1 <= least <= len(parts):
            raise where.key("at_least").error(
                f"is {kind(least)}; a whole number from 1 to {len(parts)} belongs here, as many "
                f"as there are in `of`"
            )
        return Several(where.path, least, parts)

    def _parts(self, value: Any, where: Where, depth: int) -> tuple[Node, ...]:
        listing = items(value, "rules", where)
        return tuple(self.node(part, where.item(at), depth + 1) for at, part in enumerate(listing))

    def _negation(self, value: dict[str, Any], where: Where, depth: int) -> Negation:
        return Negation(where.path, self.node(value["not"], where.key("not"), depth + 1))

    def _cascade(self, value: dict[str, Any], where: Where, depth: int) -> Cascade:
        inside = where.key("cascade")
        listing = items(value["cascade"], "steps", inside)
        last = len(listing) - 1
        steps = []
        for at, given in enumerate(listing):
            here = inside.item(at)
            step = fields(given, ("if", "then", "reason"), here)
            _check_end(step, at, last, here)
            condition = None
            if "if" in step:
                condition = self.node(step["if"], here.key("if"), depth + at + 1)
            outcome = one_of(needed(step, "then", here), OUTCOMES, here.key("then"))
            then = cast("Outcome", outcome)
            # Review is one of three outcomes of a whole rule, not the truth of a part of one.
            if then == "review" and where.path.rpartition(".")[2] != "decide":
                raise here.key("then").error(
                    "'review' can only be said by a cascade that is the whole of `decide`; this "
                    "one is a condition: say defect where it holds, good where it doesn't"
                )
            steps.append(Step(here.path, condition, then, _reason(step, here)))
        return Cascade(where.path, tuple(steps))

    def _missing(self, value: dict[str, Any], where: Where, depth: int) -> Lacks:
        return Lacks(where.path, text(value["missing"], where.key("missing")))

    def _category(self, value: dict[str, Any], where: Where, depth: int) -> InCategory:
        inside = where.key("category")
        names = texts(value["category"], "categories", inside)
        return InCategory(where.path, self.groups.spelt_out(names, inside))

    def _true_type(self, value: dict[str, Any], where: Where, depth: int) -> TrueType:
        inside = where.key("defect_type")
        if not self.oracle:
            raise inside.error(
                "reads the true defect type, which no line knows before it decides; say "
                '"oracle": true, and the policy can be evaluated, but not chosen or exported'
            )
        return TrueType(where.path, frozenset(texts(value["defect_type"], "types", inside)))


def _named_by(value: Any, where: Where) -> str:
    """The one key that says which node this is."""
    if not isinstance(value, dict):
        raise where.error(f"is {kind(value)}; a rule belongs here: an object with {listed(BESIDE)}")
    named = [key for key in BESIDE if key in value]
    if len(named) > 1:
        raise where.error(f"has {listed(named)}; a rule has exactly one of them")
    if not named:
        for key in value:
            if key not in _BESIDE_KEYS:
                raise where.key(key).error(
                    f"unknown key, with {kind(value[key])}; {alternatives(key, BESIDE)}"
                )
        has = f"has {listed(value)} alone" if value else "is empty"
        raise where.error(f"{has}; a rule has exactly one of {listed(BESIDE)}")
    return named[0]


def _check_end(step: dict[str, Any], at: int, last: int, where: Where) -> None:
    if at == last and "if" in step:
        raise where.error(
            'the cascade has no end: its last step has no `if`; add {"then": "good"} or another '
            "outcome after it"
        )
    if at < last and "if" not in step:
        raise where.error("a step without `if` always decides; the steps after it never would")


def _threshold(value: Any, where: Where) -> float | Ref | Var:
    if not isinstance(value, dict):
        return finite(value, where)
    inside = fields(value, ("ref", "var"), where)
    if len(inside) != 1:
        raise where.error("a threshold by name has exactly one of ref, var")
    if "ref" in inside:
        return Ref(text(inside["ref"], where.key("ref")))
    return Var(name(inside["var"], where.key("var")))


def _reason(value: dict[str, Any], where: Where) -> str | None:
    return text(value["reason"], where.key("reason")) if "reason" in value else None

"""Random policies and rows, and what a document means read word for word, one row at a time."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pipeline.policy.language import Part, Rows, Thresholds

Document = dict[str, Any]
Row = dict[str, float]

DTYPES = {"a": np.dtype(np.float32), "b": np.dtype(np.float64), "c": np.dtype(np.float32)}
CATEGORIES = ("p", "q", "r")
TYPES = ("good", "dent", "scratch")
TABLE = {"low": {"p": 0.1, "q": 0.3, "r": 0.7}, "high": {"p": 0.7, "q": 0.7, "r": 1.0}, "one": 1}
GROUPS = {"pq": ["p", "q"], "nested": ["@pq"], "only_r": ["r"]}
# 0.1, 0.3 and 0.7 are no numbers of float32: on which side a row falls depends on the rounding.
NUMBERS = (0.1, 0.3, 0.7, 1, 0, -0.0)
SIGNS = {"ge": operator.ge, "gt": operator.gt, "lt": operator.lt, "le": operator.le}

thresholds = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(list(TABLE)).map(lambda name: {"ref": name})
)
atoms = st.builds(
    lambda score, word, threshold: {"score": score, word: threshold},
    st.sampled_from(list(DTYPES)),
    st.sampled_from(list(SIGNS)),
    thresholds,
)
outcomes = ("good", "defect")


def leaves(oracle: bool) -> st.SearchStrategy[Document]:
    kinds = [
        atoms,
        atoms,
        st.sampled_from(list(DTYPES)).map(lambda score: {"missing": score}),
        st.sampled_from([["p"], ["@nested"], ["@only_r", "p"], ["elsewhere"]]).map(
            lambda names: {"category": names}
        ),
    ]
    if oracle:
        kinds.append(
            st.sampled_from([["dent"], ["good", "scratch"]]).map(
                lambda names: {"defect_type": names}
            )
        )
    return st.one_of(kinds)


def cascades(
    rules: st.SearchStrategy[Document], says: tuple[str, ...] = outcomes
) -> st.SearchStrategy[Document]:
    then = st.sampled_from(says)
    steps = st.lists(
        st.builds(lambda rule, end: {"if": rule, "then": end}, rules, then), max_size=3
    )
    return st.builds(lambda head, end: {"cascade": [*head, {"then": end}]}, steps, then)


def rules(oracle: bool) -> st.SearchStrategy[Document]:
    def above(below: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
        several = st.lists(below, min_size=1, max_size=4)
        counted = several.flatmap(
            lambda parts: st.integers(1, len(parts)).map(lambda k: {"at_least": k, "of": parts})
        )
        return st.one_of(
            several.map(lambda parts: {"all": parts}),
            several.map(lambda parts: {"any": parts}),
            below.map(lambda part: {"not": part}),
            counted,
            cascades(below),
        )

    return st.recursive(leaves(oracle), above, max_leaves=8)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A policy of any kind, with overrides for a category and a group."""
    oracle = draw(st.booleans())
    one = rules(oracle)
    whole = st.one_of(one, cascades(one, ("good", "review", "defect")))
    rule = st.fixed_dictionaries({"decide": whole}, optional={"review": one})
    document: Document = {"policy": "v1", "name": "drawn", "oracle": oracle, "groups": GROUPS}
    document["on_missing"] = draw(st.sampled_from(["error", "good", "review", "defect"]))
    document |= draw(rule)
    overrides = draw(
        st.dictionaries(st.sampled_from(["p", "@pq", "@only_r"]), rule, min_size=0, max_size=2)
    )
    return document | ({"overrides": overrides} if overrides else {})


def values(dtype: np.dtype[Any]) -> list[float]:
    """Every threshold in a column's type, its neighbours, and what lies beyond."""
    found = [-1.0, 2.0]
    for number in NUMBERS:
        rounded = dtype.type(number)
        found += [float(rounded), float(np.nextafter(rounded, dtype.type(np.inf)))]
        found.append(float(np.nextafter(rounded, dtype.type(-np.inf))))
    return found


rows = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            # Every third score is missing.
            {
                name: st.one_of(*[st.sampled_from(values(kind))] * 2, st.just(math.nan))
                for name, kind in DTYPES.items()
            }
        ),
        st.builds(Part, st.sampled_from(CATEGORIES), st.sampled_from(TYPES)),
    ),
    min_size=1,
    max_size=12,
)
TABLES = Thresholds.from_table(TABLE)
PARTS = tuple(Part(category, kind) for category in CATEGORIES for kind in TYPES)


def as_rows(listed: list[tuple[Row, Part]]) -> Rows:
    """Rows as columns."""
    scores = {name: np.array([row[name] for row, _ in listed], DTYPES[name]) for name in DTYPES}
    return Rows(scores, PARTS, np.array([PARTS.index(part) for _, part in listed]))


# --- what a document means ---


def outcome_of(document: Document, row: Row, part: Part) -> str:
    """The outcome of one row, or `error`, from the document alone."""
    rule = rule_of(document, str(part.category))
    used, tested = set(), set()
    for root in rule.values():
        live(document, root, part, used, tested)
    if any(math.isnan(row[score]) for score in used - tested):
        return str(document.get("on_missing", "error"))
    decided = meaning(document, rule["decide"], row, part)
    if decided in (False, "good") and "review" in rule:
        asked = meaning(document, rule["review"], row, part)
        return "review" if asked in (True, "defect") else "good"
    return {True: "defect", False: "good"}[decided] if isinstance(decided, bool) else decided


def rule_of(document: Document, category: str) -> Document:
    overrides = document.get("overrides", {})
    for name in (category, *(name for name in overrides if name.startswith("@"))):
        if name in overrides and (name == category or category in members(document, name)):
            return dict(overrides[name])
    return {key: document[key] for key in ("decide", "review") if key in document}


def members(document: Document, name: str) -> list[str]:
    if not name.startswith("@"):
        return [name]
    return [one for inner in document["groups"][name[1:]] for one in members(document, inner)]


def meaning(document: Document, node: Document, row: Row, part: Part) -> Any:
    """True or false of a condition, an outcome of a cascade; both where it is a condition."""

    def holds(inner: Document) -> bool:
        return meaning(document, inner, row, part) in (True, "defect")

    if "score" in node:
        return compared(node, row, part)
    if "missing" in node:
        return math.isnan(row[node["missing"]])
    if "not" in node:
        return not holds(node["not"])
    if "cascade" in node:
        return next(
            step["then"] for step in node["cascade"] if "if" not in step or holds(step["if"])
        )
    if "category" in node or "defect_type" in node:
        return settled_by(document, node, part)
    parts, least = parts_of(node)
    return sum(map(holds, parts)) >= least


def compared(node: Document, row: Row, part: Part) -> bool:
    (word,) = SIGNS.keys() & node.keys()
    number = node[word]
    if isinstance(number, dict):
        table = TABLE[number["ref"]]
        number = table[part.category] if isinstance(table, dict) else table
    kind = DTYPES[node["score"]].type
    value = kind(row[node["score"]])
    return not np.isnan(value) and bool(SIGNS[word](value, kind(number)))


def parts_of(node: Document) -> tuple[list[Document], int]:
    (parts,) = [node[key] for key in ("all", "any", "of") if key in node]
    return parts, (node["at_least"] if "of" in node else len(parts) if "all" in node else 1)


def settled_by(document: Document, node: Document, part: Part) -> bool:
    if "category" in node:
        return any(part.category in members(document, name) for name in node["category"])
    return part.defect_type in node["defect_type"]


def live(
    document: Document, node: Document, part: Part, used: set[str], tested: set[str]
) -> bool | None:
    """Whether a node is true or false whatever the scores are; None: they matter, collected.

    Kleene's logic, every score unknown: what lies below a node that is known matters to nobody.
    """
    below: tuple[set[str], set[str]] = (set(), set())

    def known(inner: Document) -> bool | None:
        return live(document, inner, part, *below)

    result: bool | None = None
    if "score" in node:
        below[0].add(node["score"])
    elif "missing" in node:
        below[1].add(node["missing"])
    elif "not" in node:
        inner = known(node["not"])
        result = None if inner is None else not inner
    elif "cascade" in node:
        result = live_cascade(node["cascade"], known)
    elif "category" in node or "defect_type" in node:
        result = settled_by(document, node, part)
    else:
        parts, least = parts_of(node)
        result = live_parts([known(inner) for inner in parts], least)
    if result is None:
        used |= below[0]
        tested |= below[1]
    return result


def live_cascade(steps: list[Document], known: Any) -> bool | None:
    open_steps = 0
    for step in steps:
        condition = known(step["if"]) if "if" in step else True
        if condition is None:
            open_steps += 1
        elif condition:
            return None if open_steps or step["then"] == "review" else step["then"] == "defect"
    raise AssertionError("a cascade without an end")


def live_parts(found: list[bool | None], least: int) -> bool | None:
    true = found.count(True)
    if true >= least:
        return True
    return None if true + found.count(None) >= least else False

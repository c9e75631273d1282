"""A policy's document, checked as a whole."""

from __future__ import annotations

import re
from typing import Any, cast

from pipeline.policy.language.categories import MARK, parse_groups
from pipeline.policy.language.document import OUTCOMES, VERSION, Outcome, Override, Policy, Rule
from pipeline.policy.language.fields import fields, flag, name, needed, one_of, text
from pipeline.policy.language.nodes import RuleParser
from pipeline.policy.language.reading import read_json
from pipeline.policy.language.where import Where, kind, listed

ON_MISSING = ("error", *OUTCOMES)
RULE_KEYS = ("decide", "review")
POLICY_KEYS = (
    "$schema",
    "policy",
    "name",
    "description",
    "oracle",
    "on_missing",
    "groups",
    *RULE_KEYS,
    "overrides",
)


def read_policy(document: str | bytes, source: str = "policy") -> Policy:
    """A policy from JSON text.

    Args:
        document: the text, of UTF-8 where it is bytes.
        source: what to call it in errors, such as the file's name.

    Raises:
        InputError: with the path inside the JSON, the value and what belongs there.
    """
    return parse_policy(read_json(document, Where(source)), source)


def parse_policy(document: Any, source: str = "policy") -> Policy:
    """A policy from values that were read from JSON already.

    Raises:
        InputError: as `read_policy`.
    """
    where = Where(source)
    if not isinstance(document, dict):
        raise where.error(f"is {kind(document)}; a policy is an object")
    # Before the other keys: a later version may have others.
    _check_version(needed(document, "policy", where), where.key("policy"))
    values = fields(document, POLICY_KEYS, where)
    # For editors, which check a file against the schema it names.
    if "$schema" in values:
        text(values["$schema"], where.key("$schema"))
    groups = parse_groups(values.get("groups", {}), where.key("groups"))
    oracle = flag(values.get("oracle", False), where.key("oracle"))
    parser = RuleParser(groups, oracle)
    on_missing = one_of(values.get("on_missing", "error"), ON_MISSING, where.key("on_missing"))
    overrides: tuple[Override, ...] = ()
    if "overrides" in values:
        overrides = _overrides(values["overrides"], parser, where.key("overrides"))
    description = ""
    if "description" in values:
        description = text(values["description"], where.key("description"))
    return Policy(
        name=name(needed(values, "name", where), where.key("name")),
        description=description,
        oracle=oracle,
        on_missing=cast("Outcome", on_missing),
        rule=_default(values, parser, where, optional=bool(overrides)),
        overrides=overrides,
        source=source,
    )


def _check_version(value: Any, where: Where) -> None:
    if value == VERSION:
        return
    if isinstance(value, str) and re.fullmatch(r"v[1-9]\d{0,5}", value):
        raise where.error(
            f"{value} was written for a later linescore; this one reads {VERSION}: install that "
            f"one, or write the policy as {VERSION}"
        )
    raise where.error(f"is {kind(value)}; the language's version belongs here: {VERSION!r}")


def _default(
    values: dict[str, Any], parser: RuleParser, where: Where, *, optional: bool
) -> Rule | None:
    if "decide" in values:
        return _rule(values, parser, where)
    if "review" in values or not optional:
        needed(values, "decide", where)
    return None


def _rule(values: dict[str, Any], parser: RuleParser, where: Where) -> Rule:
    decide = parser.node(needed(values, "decide", where), where.key("decide"))
    if "review" not in values:
        return Rule(decide)
    return Rule(decide, parser.node(values["review"], where.key("review")))


def _overrides(value: Any, parser: RuleParser, where: Where) -> tuple[Override, ...]:
    if not isinstance(value, dict) or not value:
        raise where.error(f"is {kind(value)}; an object belongs here: category or @group to rule")
    found = []
    for key, given in value.items():
        here = where.key(key)
        categories = parser.groups.spelt_out([text(key, here)], here)
        rule = _rule(fields(given, RULE_KEYS, here), parser, here)
        found.append(Override(key, categories, rule))
    _check_overlap(found, where)
    return tuple(found)


def _check_overlap(overrides: list[Override], where: Where) -> None:
    """A category may lie in one overriding group; its own override goes before that."""
    own = {override.name for override in overrides}
    of_group: dict[str, str] = {}
    for override in overrides:
        if not override.name.startswith(MARK):
            continue
        for category in sorted(override.categories - own):
            if category in of_group:
                both = listed([of_group[category], override.name])
                raise where.key(override.name).error(
                    f"the category {category} is in {both}, each with a rule; give {category} an "
                    f"override of its own, or take it out of one"
                )
            of_group[category] = override.name

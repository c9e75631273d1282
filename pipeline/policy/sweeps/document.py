"""The sweep document, version 1: templates, variables and constraints, read strictly.

{"sweep": "v1",
 "template": {a policy document with {"var": "low"} in place of numbers},
 "variables": {"low": {"linspace": {"start": 0.2, "stop": 0.8, "num": 13}}},
 "constraints": [{"lt": ["low", "high"]}],
 "limit": 1000000}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from pipeline.errors import InputError
from pipeline.policy.sweeps.checks import a_count, a_list, a_number, a_text, an_object, needed
from pipeline.policy.sweeps.variables import Variable, parse_variable

VERSION = "v1"
LIMIT = 1_000_000
# Beyond it the thresholds alone take gigabytes; no document may ask for more.
CEILING = 10_000_000
_KEYS = ("sweep", "template", "templates", "variables", "constraints", "limit", "name")
COMPARISONS = ("lt", "le", "gt", "ge")


@dataclass(frozen=True)
class Constraint:
    """A comparison that a policy of the sweep has to fulfil in every category.

    Attributes:
        kind: `lt`, `le`, `gt` or `ge`.
        left: a variable's name, or a number.
        right: a variable's name, or a number.
        path: where it stands.
    """

    kind: str
    left: str | float
    right: str | float
    path: str

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that it compares."""
        return tuple(side for side in (self.left, self.right) if isinstance(side, str))


@dataclass(frozen=True)
class Template:
    """A policy document with variables.

    Attributes:
        document: as it was written; the policy language reads it.
        names: the variables that it uses, in the order of the sweep.
        path: where it stands.
    """

    document: Mapping[str, Any]
    names: tuple[str, ...]
    path: str


@dataclass(frozen=True)
class Sweep:
    """A sweep that can be expanded: small enough, and every name is known.

    Attributes:
        templates: one or more; each has policies for all combinations of the variables it uses.
        variables: by name.
        constraints: between variables.
        count: policies before duplicates and constraints.
    """

    templates: tuple[Template, ...]
    variables: Mapping[str, Variable]
    constraints: tuple[Constraint, ...]
    count: int

    @property
    def needs(self) -> frozenset[str]:
        """The scores whose tuning images the variables are quantiles of."""
        found = (variable.score for variable in self.variables.values())
        return frozenset(score for score in found if score is not None)


def parse_sweep(document: object) -> Sweep:
    """Reads a sweep document and counts its policies, without making any.

    Args:
        document: as JSON gives it.

    Raises:
        InputError: anything unknown, missing, of a wrong type or not finite; a variable that is
            unknown or used nowhere; more policies than the limit.
    """
    given = an_object(document, "sweep document", _KEYS)
    if given.get("sweep") != VERSION:
        raise InputError(
            f"sweep: is version {given.get('sweep')!r}; this linescore reads {VERSION!r}"
        )
    needed(given, "sweep document", "variables")
    named = given["variables"]
    if not isinstance(named, Mapping) or not named:
        raise InputError(f"variables: is {named!r}, needs to be an object with one or more")
    variables = {
        a_text(name, "variables"): parse_variable(value, f"variables.{name}")
        for name, value in named.items()
    }
    templates = tuple(_templates(given, variables))
    constraints = _constraints(given.get("constraints"), variables)
    _require_used(variables, templates, constraints)
    limit = a_count(given.get("limit", LIMIT), "limit", 1)
    count = _require_few(templates, variables, limit)
    return Sweep(templates, variables, constraints, count)


def _templates(given: Mapping[str, Any], variables: Mapping[str, Variable]) -> Iterator[Template]:
    if ("template" in given) == ("templates" in given):
        raise InputError("sweep document: needs exactly one of template, templates")
    listed = [("template", given["template"])] if "template" in given else None
    if listed is None:
        several = a_list(given["templates"], "templates")
        listed = [(f"templates[{index}]", value) for index, value in enumerate(several)]
    for path, value in listed:
        if not isinstance(value, Mapping):
            raise InputError(f"{path}: is {value!r}, needs to be a policy document")
        used = set()
        for where, name in _variables_in(value, path):
            if name not in variables:
                raise InputError(
                    f"{where}.var: {name!r} is no variable; known are {', '.join(variables)}"
                )
            used.add(name)
        if not used:
            raise InputError(f"{path}: uses no variable: evaluate it as a policy of its own")
        yield Template(value, tuple(name for name in variables if name in used), path)


def _variables_in(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Where `{"var": name}` stands, and the name.

    Other uses of the word, as a category's name, are left to the policy language.
    """
    if isinstance(value, Mapping):
        if set(value) == {"var"} and isinstance(value["var"], str):
            yield path, value["var"]
            return
        for key, part in value.items():
            yield from _variables_in(part, f"{path}.{key}")
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from _variables_in(part, f"{path}[{index}]")


def _constraints(value: object, variables: Mapping[str, Variable]) -> tuple[Constraint, ...]:
    if value is None:
        return ()
    result = []
    for index, item in enumerate(a_list(value, "constraints")):
        path = f"constraints[{index}]"
        given = an_object(item, path, COMPARISONS)
        if len(given) != 1:
            raise InputError(f"{path}: needs exactly one of {', '.join(COMPARISONS)}")
        kind, sides = next(iter(given.items()))
        if not isinstance(sides, list) or len(sides) != 2:
            raise InputError(f"{path}.{kind}: is {sides!r}, needs to be a list of two")
        left, right = (
            a_text(side, f"{path}.{kind}[{place}]", variables)
            if isinstance(side, str)
            else a_number(side, f"{path}.{kind}[{place}]")
            for place, side in enumerate(sides)
        )
        constraint = Constraint(kind, left, right, path)
        if not constraint.names or left == right:
            raise InputError(f"{path}.{kind}: compares {left!r} with {right!r}: name a variable")
        result.append(constraint)
    return tuple(result)


def _require_used(
    variables: Mapping[str, Variable],
    templates: tuple[Template, ...],
    constraints: tuple[Constraint, ...],
) -> None:
    used = {name for template in templates for name in template.names}
    for name in variables:
        if name not in used:
            raise InputError(
                f'variables.{name}: is used in no template; write {{"var": "{name}"}} where a '
                "number stands, or take it out"
            )
    for constraint in constraints:
        if not any(set(constraint.names) <= set(template.names) for template in templates):
            raise InputError(
                f"{constraint.path}: no template uses {' and '.join(constraint.names)} together"
            )


def _require_few(
    templates: tuple[Template, ...], variables: Mapping[str, Variable], limit: int
) -> int:
    if limit > CEILING:
        raise InputError(f"limit: is {limit:,}, can be {CEILING:,} at most")
    counts = [prod(variables[name].count for name in template.names) for template in templates]
    count = sum(counts)
    if count <= limit:
        return count
    largest = templates[counts.index(max(counts))]
    lengths = " x ".join(f"{name} {variables[name].count:,}" for name in largest.names)
    raise InputError(
        f"{largest.path}: the sweep has {count:,} policies ({lengths}), and its limit is "
        f"{limit:,}; give variables fewer values, or set a limit of up to {CEILING:,}"
    )

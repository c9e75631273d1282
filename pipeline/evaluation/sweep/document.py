"""A sweep file: the templates and their variables, and how to choose among the policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import InputError
from pipeline.evaluation.policies import referenced
from pipeline.policy.choosing.costs import CostModel, parse_costs
from pipeline.policy.choosing.limits import Limit, parse_budget
from pipeline.policy.language import Policy, parse_policy
from pipeline.policy.language.reading import read_json
from pipeline.policy.language.where import Where
from pipeline.policy.sweeps.checks import a_list, an_object
from pipeline.policy.sweeps.document import Sweep, Template, parse_sweep
from pipeline.tables import storage

_CHOOSE = "choose"
_KEYS = ("budgets", "costs", "per_category")


@dataclass(frozen=True)
class Choosing:
    """What is sought among the policies of a sweep.

    Attributes:
        budgets: limits that are kept; the first says which error is then to be rare.
        costs: else the prices that the best policy has least of.
        per_category: each category may have its own policy.
    """

    budgets: tuple[Limit, ...] = ()
    costs: CostModel | None = None
    per_category: bool = False


@dataclass(frozen=True)
class SweepFile:
    """A sweep as it was read.

    Attributes:
        uri: where it lies.
        sweep: templates, variables, constraints.
        policies: the templates, read, in their order.
        choosing: among them.
        refs: names of thresholds that variables take as values, and where they stand.
    """

    uri: str
    sweep: Sweep
    policies: tuple[Policy, ...]
    choosing: Choosing
    refs: Mapping[str, str] = field(default_factory=dict)


def read_sweep(uri: str) -> SweepFile:
    """Reads and checks a sweep file; no policy is made yet.

    Raises:
        InputError: it can't be read, something in it is wrong, or it asks for too many policies.
    """
    with storage.errors_for(uri, "sweep"):
        content = storage.read_bytes(uri)
    document = read_json(content, Where(uri), "sweep")
    if not isinstance(document, dict):
        raise InputError(f"sweep: {uri}: holds no object; a sweep is one")
    choosing = _choosing(document.pop(_CHOOSE, {}))
    try:
        sweep = parse_sweep(document)
    except InputError as error:
        raise InputError(f"sweep: {uri}: {error}") from None
    policies = tuple(
        parse_policy(dict(template.document), f"{uri}, {template.path}")
        for template in sweep.templates
    )
    for template, policy in zip(sweep.templates, policies, strict=True):
        _require_own_names(template, policy, uri)
    return SweepFile(uri, sweep, policies, choosing, _refs(document, uri))


def _require_own_names(template: Template, policy: Policy, uri: str) -> None:
    """The chosen policy's file refers to the values of variables by the variables' names."""
    for name in template.names:
        if name in referenced(policy):
            raise InputError(
                f"sweep: {uri}: {template.path}: {name!r} is a variable and a threshold that it "
                "refers to, one name for two numbers in the chosen policy's file; give the "
                "variable another name"
            )


def _refs(document: dict[str, Any], uri: str) -> dict[str, str]:
    variables: dict[str, dict[str, Any]] = document.get("variables") or {}
    return {
        name: f"{uri}: variables.{variable}.refs"
        for variable, one in variables.items()
        for name in one.get("refs", [])
    }


def _choosing(given: Any) -> Choosing:
    choose = an_object(given, _CHOOSE, _KEYS)
    if choose.get("budgets") and "costs" in choose:
        raise InputError(
            f"{_CHOOSE}: has budgets and costs, which seek different policies; give one of them"
        )
    budgets = a_list(choose["budgets"], f"{_CHOOSE}.budgets") if choose.get("budgets") else []
    limits = tuple(
        parse_budget(text, f"{_CHOOSE}.budgets[{place}]") for place, text in enumerate(budgets)
    )
    costs = parse_costs(choose["costs"], f"{_CHOOSE}.costs") if "costs" in choose else None
    per_category = choose.get("per_category", False)
    _check_per_category(per_category, len(limits), costs)
    return Choosing(limits, costs, per_category)


def _check_per_category(given: Any, budgets: int, costs: CostModel | None) -> None:
    if not isinstance(given, bool):
        raise InputError(f"{_CHOOSE}.per_category: {given!r} is neither true nor false")
    if given and costs is None and budgets != 1:
        raise InputError(
            f"{_CHOOSE}.per_category: a choice for each category goes by costs, or by one budget "
            f"on the total; {budgets} are given"
        )

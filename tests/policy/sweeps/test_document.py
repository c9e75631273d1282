"""Sweep documents that are refused: where, what, and what else there is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.policy.sweeps.document import parse_sweep

SWEEP: dict[str, Any] = {
    "sweep": "v1",
    "template": {
        "policy": "v1",
        "decide": {
            "any": [
                {"score": "anomaly", "ge": {"var": "high"}},
                {"score": "anomaly", "ge": {"var": "low"}},
            ]
        },
    },
    "variables": {
        "low": {"values": [1, 2.5]},
        "high": {"linspace": {"start": 2, "stop": 4, "num": 5}},
    },
    "constraints": [{"lt": ["low", "high"]}],
}
QUANTILES = {"score": "anomaly", "of": "good", "q": [0.5]}


def changed(path: str, value: object) -> dict[str, Any]:
    """The sweep with one value set, by the keys between dots."""
    document: Any = copy.deepcopy(SWEEP)
    *keys, last = path.split(".")
    at = document
    for key in keys:
        at = at[int(key)] if isinstance(at, list) else at[key]
    at[last] = value
    return dict(document)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in SWEEP.items() if name != key}


def refused(document: object, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_sweep(document)
    message = str(caught.value)
    assert message.startswith(says), message
    assert "\n" not in message


def test_a_sweep_is_read_and_counted() -> None:
    found = parse_sweep(SWEEP)
    assert found.count == 10
    assert found.templates[0].names == ("low", "high")
    assert found.templates[0].document is SWEEP["template"]
    assert found.needs == frozenset()
    quantiles = parse_sweep(changed("variables.low", {"quantiles": QUANTILES}))
    assert (quantiles.count, quantiles.needs) == (5, {"anomaly"})


def test_a_thousand_million_policies_are_refused_before_any_is_made() -> None:
    thousand = {"linspace": {"start": 0, "stop": 1, "num": 1000}}
    document = changed("variables", {"low": thousand, "high": thousand, "mid": thousand})
    document["template"]["also"] = {"var": "mid"}
    refused(
        document,
        "template: the sweep has 1,000,000,000 policies (low 1,000 x high 1,000 x mid 1,000), and "
        "its limit is 1,000,000; give variables fewer values",
    )
    enormous = {"linspace": {"start": 0, "stop": 1, "num": 10**15}}
    refused(changed("variables.low", enormous), "template: the sweep has 5,000,000,000,000,000 pol")


def test_the_limit_may_be_set_up_to_a_ceiling() -> None:
    refused(changed("limit", 9), "template: the sweep has 10 policies (low 2 x high 5), and its li")
    assert parse_sweep(changed("limit", 10)).count == 10
    refused(changed("limit", 10**9), "limit: is 1,000,000,000, can be 10,000,000 at most")
    for wrong in (0, -1, 2.5, "10", True, None):
        refused(changed("limit", wrong), f"limit: is {wrong!r}, needs to be a whole number")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "is nan, needs to be a finite number"),
        (float("inf"), "is inf, needs to be a finite number"),
        (10**400, "is inf, needs to be a finite number"),
        ("0.5", "is '0.5', needs to be a number"),
        (True, "is True, needs to be a number"),
        (None, "is None, needs to be a number"),
        ([1], "is [1], needs to be a number"),
    ],
)
def test_only_finite_numbers_are_numbers(value: object, says: str) -> None:
    refused(changed("variables.low", {"values": [1, value]}), f"variables.low.values[1]: {says}")
    span = {"start": value, "stop": 1, "num": 3}
    for kind in ("linspace", "logspace"):
        refused(changed("variables.low", {kind: span}), f"variables.low.{kind}.start: {says}")
    levels = {"quantiles": QUANTILES | {"q": [value]}}
    refused(changed("variables.low", levels), f"variables.low.quantiles.q[0]: {says}")
    if not isinstance(value, str):
        refused(changed("constraints", [{"lt": ["low", value]}]), f"constraints[0].lt[1]: {says}")


def test_json_that_holds_nan_is_refused_too() -> None:
    refused(
        changed("variables.low", json.loads('{"values": [NaN]}')), "variables.low.values[0]: is nan"
    )


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("sweep", "v2", "sweep: is version 'v2'; this linescore reads 'v1'"),
        ("sweep", None, "sweep: is version None"),
        ("grid", {}, "sweep document.grid: is unknown; known are sweep, template, templates"),
        ("variables", {}, "variables: is {}, needs to be an object with one or more"),
        ("variables", [1], "variables: is [1]"),
        ("variables.low", 3, "variables.low: is 3, needs to be an object with values, linspace"),
        ("variables.low", {}, "variables.low: has no key; needs exactly one of values, linspace"),
        (
            "variables.low",
            {"values": [1], "refs": ["a"]},
            "variables.low: has values, refs; needs exactly one of",
        ),
        (
            "variables.low",
            {"range": [1]},
            "variables.low.range: is unknown; known are values, linspace, logspace, quantiles, ref",
        ),
        ("variables.low", {"values": []}, "variables.low.values: is [], needs to be a list of"),
        (
            "variables.low",
            {"linspace": {"start": 1, "stop": 2}},
            "variables.low.linspace.num: is missing",
        ),
        (
            "variables.low",
            {"linspace": {"start": 1, "stop": 2, "num": 1}},
            "variables.low.linspace.num: is 1, needs to be a whole number of 2 or more",
        ),
        (
            "variables.low",
            {"linspace": {"start": 1, "stop": 2, "num": 3, "base": 2}},
            "variables.low.linspace.base: is unknown; known are start, stop, num",
        ),
        (
            "variables.low",
            {"logspace": {"start": 0, "stop": 2, "num": 3}},
            "variables.low.logspace: goes from 0 to 2; both need to be above 0",
        ),
        (
            "variables.low",
            {"quantiles": QUANTILES | {"of": "bad"}},
            "variables.low.quantiles.of: is 'bad'; known are good, defect, all",
        ),
        (
            "variables.low",
            {"quantiles": QUANTILES | {"num": 3}},
            "variables.low.quantiles: needs exactly one of q, num",
        ),
        (
            "variables.low",
            {"quantiles": QUANTILES | {"q": [1.5]}},
            "variables.low.quantiles.q[0]: is 1.5, needs to be from 0 to 1",
        ),
        (
            "variables.low",
            {"quantiles": QUANTILES | {"per_category": "yes"}},
            "variables.low.quantiles.per_category: is 'yes', needs to be true or false",
        ),
        ("variables.low", {"refs": [3]}, "variables.low.refs[0]: is 3, needs to be a name"),
        (
            "variables.unused",
            {"values": [1]},
            "variables.unused: is used in no template; write {\"var\": \"unused\"} where a number",
        ),
        (
            "template.decide",
            {"score": "anomaly", "ge": {"var": "tau"}},
            "template.decide.ge.var: 'tau' is no variable; known are low, high",
        ),
        (
            "template.decide.any.1.ge",
            {"var": "hihg"},
            "template.decide.any[1].ge.var: 'hihg' is no variable; known are low, high",
        ),
        ("template", {"decide": 1}, "template: uses no variable: evaluate it as a policy"),
        ("template", [], "template: is [], needs to be a policy document"),
        ("templates", [SWEEP["template"]], "sweep document: needs exactly one of template, templ"),
        ("constraints", {}, "constraints: is {}, needs to be a list of one or more"),
        ("constraints", [{"eq": [1, 2]}], "constraints[0].eq: is unknown; known are lt, le"),
        ("constraints", [{"lt": ["low"]}], "constraints[0].lt: is ['low'], needs to be a list"),
        ("constraints", [{"lt": ["low", "top"]}], "constraints[0].lt[1]: is 'top'; known are low"),
        ("constraints", [{"lt": [1, 2]}], "constraints[0].lt: compares 1.0 with 2.0: name a"),
        ("constraints", [{"le": ["low", "low"]}], "constraints[0].le: compares 'low' with 'low'"),
        ("constraints", [{}], "constraints[0]: needs exactly one of lt, le, gt, ge"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(path: str, value: object, says: str) -> None:
    refused(changed(path, value), says)


@pytest.mark.parametrize("document", [None, 3, [SWEEP], "v1"])
def test_what_is_no_object_is_no_sweep(document: object) -> None:
    refused(document, "sweep document: is ")


def test_missing_parts_are_named() -> None:
    refused(without("variables"), "sweep document.variables: is missing")
    refused(without("template"), "sweep document: needs exactly one of template, templates")
    refused(without("sweep"), "sweep: is version None")


def test_templates_count_by_the_variables_they_use() -> None:
    document = without("template") | {
        "templates": [SWEEP["template"], {"decide": {"score": "x", "ge": {"var": "high"}}}]
    }
    found = parse_sweep(document)
    assert found.count == 15
    assert [template.names for template in found.templates] == [("low", "high"), ("high",)]
    apart = document | {"templates": [{"a": {"var": "low"}}, {"a": {"var": "high"}}]}
    refused(apart, "constraints[0]: no template uses low and high together")
    wrong = document | {"templates": [SWEEP["template"], {"a": {"var": "x"}}]}
    refused(wrong, "templates[1].a.var: 'x' is no variable")


def test_a_category_may_be_called_var() -> None:
    document = changed("template.overrides", {"var": {"score": "x", "ge": {"var": "low"}}})
    assert parse_sweep(document).count == 10

"""The language's JSON Schema, for editors and other tools; the parser itself says more."""

from __future__ import annotations

from typing import Any

from pipeline.policy.language.document import COMPARISONS, OUTCOMES, VERSION
from pipeline.policy.language.fields import NAME
from pipeline.policy.language.parsing import ON_MISSING

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "pattern": r"\S"}
_NAME: Schema = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_RULE: Schema = {"$ref": "#/$defs/rule"}
_NODES = ("comparison", "all", "any", "not", "at_least", "cascade", "missing", "category")


def json_schema() -> Schema:
    """The schema of `policy: v1` (JSON Schema, draft 2020-12).

    What it can't say, the parser refuses: an unknown group or a circle of them, `at_least` above
    the number of its rules, ground truth without `oracle`, a review inside a condition.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A decision policy of linescore",
        **_object(_keys(), ["policy", "name"]),
        "anyOf": [{"required": ["decide"]}, {"required": ["overrides"]}],
        "dependentRequired": {"review": ["decide"]},
        "$defs": _definitions(),
    }


def _keys() -> Schema:
    rule = {"decide": _RULE, "review": _RULE}
    return {
        "$schema": _TEXT,
        "policy": _described({"const": VERSION}, "version of the language"),
        "name": _NAME,
        "description": _TEXT,
        "oracle": _described(
            {"type": "boolean", "default": False},
            "it may read ground truth, so it can be evaluated but never used",
        ),
        "on_missing": _described(
            {"enum": list(ON_MISSING), "default": "error"},
            "what a row is where a score is missing that the rule compares and doesn't test",
        ),
        "groups": _described(
            {
                "type": "object",
                "propertyNames": _NAME,
                "additionalProperties": {"$ref": "#/$defs/categories"},
            },
            "named lists of categories; a group is used as @name",
        ),
        "decide": _described(_RULE, "where it holds, the row is a defect"),
        "review": _described(_RULE, "where it holds and decide doesn't, a person looks"),
        "overrides": _described(
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": _TEXT,
                "additionalProperties": _object(rule, ["decide"]),
            },
            "another rule for a category or a @group",
        ),
    }


def _definitions() -> Schema:
    nodes = [{"$ref": f"#/$defs/{name}"} for name in (*_NODES, "defect_type")]
    rules = {"type": "array", "minItems": 1, "items": _RULE}
    texts = {"type": "array", "minItems": 1, "items": _TEXT, "uniqueItems": True}
    return {
        "rule": {"oneOf": nodes},
        "threshold": {
            "oneOf": [
                {"type": "number"},
                _object({"ref": _described(_TEXT, "of a table of thresholds")}, ["ref"]),
                _object({"var": _described(_NAME, "that a sweep fills in")}, ["var"]),
            ]
        },
        "categories": _described(texts, "categories, and groups as @name"),
        "comparison": _comparison(),
        "all": _object({"all": rules}, ["all"]),
        "any": _object({"any": rules}, ["any"]),
        "not": _object({"not": _RULE}, ["not"]),
        "at_least": _object(
            {"at_least": {"type": "integer", "minimum": 1}, "of": rules}, ["at_least", "of"]
        ),
        "cascade": _object({"cascade": _cascade()}, ["cascade"]),
        "missing": _object({"missing": _described(_TEXT, "a score")}, ["missing"]),
        "category": _object({"category": {"$ref": "#/$defs/categories"}}, ["category"]),
        "defect_type": _described(
            _object({"defect_type": texts}, ["defect_type"]), "ground truth: for oracles alone"
        ),
    }


def _comparison() -> Schema:
    threshold = {"$ref": "#/$defs/threshold"}
    properties: Schema = {
        word: _described(threshold, f"score {sign}") for word, sign in COMPARISONS.items()
    }
    score: Schema = {"score": _described(_TEXT, "the column"), **properties, "reason": _TEXT}
    return _object(score, ["score"]) | {"oneOf": [{"required": [word]} for word in COMPARISONS]}


def _cascade() -> Schema:
    step = {"if": _RULE, "then": {"enum": list(OUTCOMES)}, "reason": _TEXT}
    last = {name: value for name, value in step.items() if name != "if"}
    return {
        "type": "array",
        "minItems": 1,
        "items": _object(step, ["then"]),
        "contains": _object(last, ["then"]),
        "maxContains": 1,
    }


def _object(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _described(schema: Schema, says: str) -> Schema:
    return schema | {"description": says}

"""The policies in configs/, and the published schema: current, never stricter than the parser."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.errors import InputError
from pipeline.policy.language import (
    OUTCOMES,
    Part,
    Rows,
    Thresholds,
    decide,
    json_schema,
    parse_policy,
    read_policy,
    resolve,
)
from pipeline.policy.language.document import Policy
from pipeline.tables.schemas import SCORES
from tests.conftest import ROOT
from tests.policy.language.documents import documents

FOLDER = ROOT / "configs" / "policies"
SCHEMA = FOLDER / "policy.v1.schema.json"
FILES = sorted(FOLDER.glob("*/*.json"))
VALIDATOR = Draft202012Validator(json_schema())
DTYPES = {
    field.name: field.type.to_pandas_dtype() for field in SCORES if str(field.type) == "float"
}


def bundle() -> dict[str, Any]:
    """A thresholds.json of every calibrated score, a category whose `f2` has no value."""
    values = {
        "anomaly_score": (30.0, 20.0),
        "defect_probability": (0.75, 0.25),
        "detection_max_confidence": (0.5, 0.125),
    }
    found = {}
    for score, (f1, safe) in values.items():
        rules: dict[str, Any] = {
            "f1": {"value": f1, "fallback": None, "reason": None},
            "safe": {"value": safe, "fallback": "fpr", "reason": "no defects"},
            "f2": {"value": None, "fallback": None, "reason": "no image has a score"},
        }
        found[score] = {"overall": {"safe": {"value": 7}}, "categories": {"tile": rules}}
    return {"schema_version": "1", "digest": "…", "thresholds": found}


def load(file: Path) -> Policy:
    return read_policy(file.read_bytes(), file.name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_policy_has_the_name_of_its_file_and_fits_the_schema(file: Path) -> None:
    policy = load(file)
    assert policy.name == file.stem
    assert policy.description
    assert policy.oracle == (file.stem == "MIX_PAIRS")
    document = json.loads(file.read_text())
    VALIDATOR.validate(document)
    assert (file.parent / document["$schema"]).resolve() == SCHEMA


def test_the_published_schema_is_current_and_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert json.loads(SCHEMA.read_text()) == json_schema(), (
        "write json.dumps(json_schema(), indent=2) to it"
    )


# The outcome at an anomaly score between `safe` and `f1`, a probability below `safe`, no box.
UNUSUAL = {
    "ad-safe-only": "defect",
    "and": "good",
    "anomaly-first": "good",
    "box-confirms": "good",
    "classifier-first": "good",
    "cls-f1-only": "good",
    "or": "defect",
    "review-band": "review",
    "two-of-three": "good",
    "what-is-there": "defect",
}


def outcome(name: str, *scores: float) -> str:
    thresholds = Thresholds.from_bundle(bundle())
    policy = load(FOLDER / "linescore" / f"{name}.json")
    resolved = resolve(policy, [Part("tile")], thresholds, DTYPES)
    names = ("anomaly_score", "defect_probability", "detection_max_confidence")
    columns = {
        score: np.array([value], np.float32) for score, value in zip(names, scores, strict=True)
    }
    return OUTCOMES[int(decide(resolved, Rows(columns, (Part("tile"),), np.zeros(1, int)))[0])]


def test_every_shipped_policy_of_our_tables_is_tried() -> None:
    assert {file.stem for file in (FOLDER / "linescore").glob("*.json")} == set(UNUSUAL)


@pytest.mark.parametrize("name", UNUSUAL)
def test_policies_of_our_tables_decide_on_a_bundles_thresholds(name: str) -> None:
    assert outcome(name, 25, 0.125, 0) == UNUSUAL[name]
    assert outcome(name, 35, 0.875, 0.9) == "defect"
    assert outcome(name, 10, 0.125, 0) == "good"


def test_what_sets_the_shipped_policies_apart() -> None:
    assert outcome("classifier-first", 25, 0.5, 0) == "defect"  # not sure, and unusual
    assert outcome("classifier-first", 10, 0.5, 0) == "good"
    assert outcome("anomaly-first", 10, 0.9, 0) == "good"  # the classifier is never asked
    assert outcome("anomaly-first", 25, 0.9, 0) == "defect"
    assert outcome("box-confirms", 25, 0, 0.25) == "defect"
    assert outcome("two-of-three", 35, 0.1, 0.5) == "defect"
    assert outcome("two-of-three", 10, 0.1, 0.5) == "good"
    assert outcome("what-is-there", np.nan, 0.5, 0) == "defect"
    assert outcome("what-is-there", np.nan, 0.1, 0) == "good"
    assert outcome("what-is-there", np.nan, np.nan, 0) == "review"


# --- the schema beside the parser ---


@settings(max_examples=40)
@given(documents())
def test_the_schema_takes_what_the_parser_takes(document: dict[str, Any]) -> None:
    parse_policy(document)
    VALIDATOR.validate(document)


WRONG = st.sampled_from(
    [None, True, 0, 7, -1.5, "", " ", "x", "@x", [], {}, ["x"], ["x", "x"], {"ref": "x"}, {"x": 1}]
)
KEYS = ("if", "of", "then", "ge", "lt", "reason", "score", "decide", "review", "x", "all", "not")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    if not isinstance(value, dict | list):
        return []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in pairs:
        found += [(value, key), *places(inner)]
    return found


@settings(max_examples=100)
@given(documents(), st.data())
def test_what_the_schema_refuses_the_parser_refuses(
    document: dict[str, Any], data: st.DataObject
) -> None:
    document = copy.deepcopy(document)
    container, key = data.draw(st.sampled_from(places(document)), "place")
    change = data.draw(st.sampled_from(["remove", "replace", "add"]))
    if change == "remove":
        del container[key]
    elif change == "replace" or isinstance(container, list):
        container[key] = data.draw(WRONG)
    else:
        container[data.draw(st.sampled_from(KEYS))] = data.draw(WRONG)
    try:
        parse_policy(document)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
    fits = VALIDATOR.is_valid(document)
    if not fits:
        assert refused
    elif refused:
        # What no schema can say.
        beyond = ("no group", "circle", "whole number", "oracle", "review", "each with a rule")
        assert any(word in refused for word in beyond), refused

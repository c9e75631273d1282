"""What a mistake in a policy is told: one line, the path, the value, the alternatives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.language import Part, Thresholds, parse_policy, read_policy, resolve
from pipeline.policy.language.nodes import MAX_DEPTH, MAX_NODES
from pipeline.policy.language.reading import MAX_CHARACTERS

ATOM = {"score": "a", "ge": 0.5}
HEAD = {"policy": "v1", "name": "x"}
GOOD: dict[str, Any] = HEAD | {"decide": ATOM}
OTHER = {"decide": ATOM}


def refusal(document: Any) -> str:
    with pytest.raises(InputError) as error:
        parse_policy(document, "f.json")
    assert "\n" not in str(error.value)
    return str(error.value)


def refused_text(text: str | bytes) -> str:
    with pytest.raises(InputError) as error:
        read_policy(text, "f.json")
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # the document
        ({"decidee": ATOM}, "decidee: unknown key, with an object; did you mean decide?"),
        ({"zzz": 1}, "zzz: unknown key, with the number 1; known: $schema, decide, "),
        ({"a\nb": 1}, r"['a\nb']: unknown key, with the number 1; known: "),
        ({"name": "a/b"}, "name: is the text 'a/b'; a name belongs here: letters, digits"),
        ({"name": 3}, "name: is the number 3; a name belongs here"),
        ({"description": ""}, "description: is the text ''; a text belongs here"),
        ({"oracle": 1}, "oracle: is the number 1; true or false belongs here"),
        ({"on_missing": "revue"}, "on_missing: is the text 'revue'; one of error, good, review"),
        ({"on_missing": "revue"}, "did you mean review?"),
        ({"on_missing": None}, "on_missing: is null; one of error, good, review, defect"),
        ({"$schema": 1}, "$schema"),
        # versions
        ({"policy": "v2"}, "policy: v2 was written for a later linescore; this one reads v1"),
        ({"policy": "v10", "new": 1}, "policy: v10 was written for a later linescore"),
        ({"policy": "1"}, "policy: is the text '1'; the language's version belongs here: 'v1'"),
        ({"policy": 1}, "policy: is the number 1; the language's version belongs here: 'v1'"),
        ({"policy": ["v2"]}, "policy: is a list ['v2']; the language's version"),
        # groups
        ({"groups": {"a": ["@b"], "b": ["@c"], "c": ["@b"]}}, "circle: @b → @c → @b; take one"),
        ({"groups": {"a": ["@a"]}}, "groups.a[0]: the groups go round in a circle: @a → @a"),
        ({"groups": {"strong": ["@srong"]}}, "groups.strong[0]: there is no group '@srong'; did"),
        ({"groups": {"@a": ["b"]}}, "groups.@a: the @ stands where a group is used: name it 'a'"),
        ({"groups": {"a": []}}, "groups.a: is a list []; a list of one or more categories"),
        ({"groups": {"a": "b"}}, "groups.a: is the text 'b'; a list of one or more categories"),
        ({"groups": {"a": ["b", 3]}}, "groups.a[1]: is the number 3; a text belongs here"),
        ({"groups": {"a": ["b", "b"]}}, "groups.a[1]: 'b' stands in the list twice"),
        ({"groups": []}, "groups: is a list []; an object belongs here: name to list"),
        # overrides
        ({"overrides": {"@none": OTHER}}, "overrides.@none[0]: there is no group '@none'; there"),
        ({"overrides": {"tile": ATOM}}, "overrides.tile.score: unknown key, with the text 'a'"),
        ({"overrides": {"tile": {"review": ATOM}}}, "overrides.tile: needs the key decide; there"),
        ({"overrides": {}}, "overrides: is an object; an object belongs here: category or"),
        (
            {"groups": {"a": ["p"], "b": ["p"]}, "overrides": {"@a": OTHER, "@b": OTHER}},
            "overrides.@b: the category p is in @a, @b, each with a rule; give p an override",
        ),
    ],
)
def test_a_mistake_in_the_document(change: dict[str, Any], says: str) -> None:
    message = refusal(GOOD | change)
    assert message.startswith("f.json: ")
    assert says in message


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        # which node it is
        ({}, "decide: is empty; a rule has exactly one of score, all, any, not"),
        ([], "decide: is a list []; a rule belongs here: an object with score"),
        ("a >= 1", "decide: is the text 'a >= 1'; a rule belongs here"),
        ({"al": [ATOM]}, "decide.al: unknown key, with a list [{'score': 'a', 'ge': 0.5}]; did"),
        ({"all": [ATOM], "any": [ATOM]}, "decide: has all, any; a rule has exactly one of them"),
        ({"ge": 1}, "decide: has ge alone; a rule has exactly one of score"),
        ({"ge": 1, "scor": "a"}, "decide.scor: unknown key, with the text 'a'; did you mean score"),
        ({"any": [ATOM, {"score": "a", "gee": 1}]}, "decide.any[1].gee: unknown key, with the n"),
        ({"not": [ATOM]}, "decide.not: is a list [{'score'"),
        ({"all": []}, "decide.all: is a list []; a list of one or more rules belongs here"),
        ({"all": ATOM}, "decide.all: is an object; a list of one or more rules belongs here"),
        ({"any": [ATOM], "reason": "x"}, "decide.reason: unknown key, with the text 'x'"),
        # comparisons
        ({"score": "a"}, "decide: a score is compared by exactly one of ge, gt, lt, le; there is"),
        ({"score": "a", "ge": 1, "lt": 2}, "exactly one of ge, gt, lt, le; there is ge, lt"),
        ({"score": "", "ge": 1}, "decide.score: is the text ''; a text belongs here"),
        ({"score": ["a"], "ge": 1}, "decide.score: is a list ['a']; a text belongs here"),
        ({"any": [ATOM, {"score": 3, "ge": 1}]}, "decide.any[1].score: is the number 3; a text"),
        ({"score": "a", "ge": float("nan")}, "decide.ge: is the number nan; a threshold is a fin"),
        ({"score": "a", "ge": float("inf")}, "decide.ge: is the number inf; a threshold is a fi"),
        ({"score": "a", "lt": -float("inf")}, "decide.lt: is the number -inf; a threshold is"),
        ({"score": "a", "ge": "0.5"}, "decide.ge: is the text '0.5'; a threshold is a finite num"),
        ({"score": "a", "ge": True}, "decide.ge: is true; a threshold is a finite number"),
        ({"score": "a", "ge": None}, "decide.ge: is null; a threshold is a finite number"),
        ({"score": "a", "ge": 10**400}, "decide.ge: is the number"),
        ({"score": "a", "ge": [1]}, "decide.ge: is a list [1]; a threshold is a finite number"),
        ({"score": "a", "ge": {}}, "decide.ge: a threshold by name has exactly one of ref, var"),
        ({"score": "a", "ge": {"ref": "x", "var": "y"}}, "decide.ge: a threshold by name has"),
        ({"score": "a", "ge": {"reff": "x"}}, "decide.ge.reff: unknown key, with the text 'x'; d"),
        ({"score": "a", "ge": {"ref": 3}}, "decide.ge.ref: is the number 3; a text belongs here"),
        ({"score": "a", "ge": {"var": "a b"}}, "decide.ge.var: is the text 'a b'; a name belongs"),
        ({"score": "a", "ge": 1, "reason": 3}, "decide.reason: is the number 3; a text belongs"),
        # counting
        ({"at_least": 1}, "decide: needs the key of; there is at_least"),
        (
            {"at_least": 3, "of": [ATOM]},
            "decide.at_least: is the number 3; a whole number from 1 t",
        ),
        ({"at_least": 0, "of": [ATOM]}, "decide.at_least: is the number 0; a whole number from 1"),
        ({"at_least": 1.0, "of": [ATOM]}, "decide.at_least: is the number 1.0; a whole number"),
        ({"at_least": True, "of": [ATOM]}, "decide.at_least: is true; a whole number from 1 to 1"),
        # cascades
        ({"cascade": []}, "decide.cascade: is a list []; a list of one or more steps"),
        (
            {"cascade": [{"if": ATOM, "then": "defect"}]},
            "decide.cascade[0]: the cascade has no end: its last step has no `if`; add",
        ),
        (
            {"cascade": [{"then": "good"}, {"if": ATOM, "then": "good"}, {"then": "good"}]},
            "decide.cascade[0]: a step without `if` always decides; the steps after it",
        ),
        ({"cascade": [{"then": "bad"}]}, "decide.cascade[0].then: is the text 'bad'; one of good"),
        ({"cascade": [{"then": ATOM}]}, "decide.cascade[0].then: is an object; one of good"),
        ({"cascade": [{"reason": "x"}]}, "decide.cascade[0]: needs the key then; there is reason"),
        ({"cascade": ["good"]}, "decide.cascade[0]: is the text 'good'; an object belongs here"),
        (
            {"not": {"cascade": [{"if": ATOM, "then": "review"}, {"then": "good"}]}},
            "decide.not.cascade[0].then: 'review' can only be said by a cascade that is the whole",
        ),
        # the rest
        ({"missing": 3}, "decide.missing: is the number 3; a text belongs here"),
        ({"category": "tile"}, "decide.category: is the text 'tile'; a list of one or more"),
        ({"category": ["@x"]}, "decide.category[0]: there is no group '@x'; there are none"),
        (
            {"all": [ATOM, {"defect_type": ["dent"]}]},
            "decide.all[1].defect_type: reads the true defect type, which no line knows before it "
            'decides; say "oracle": true',
        ),
    ],
)
def test_a_mistake_in_a_rule(rule: Any, says: str) -> None:
    message = refusal(HEAD | {"decide": rule})
    assert says in message
    elsewhere = refusal(GOOD | {"overrides": {"tile": {"decide": rule}}})
    assert says.replace("decide", "overrides.tile.decide", 1)[:60] in elsewhere or says in elsewhere


def test_a_review_belongs_to_decide_alone() -> None:
    cascade = {"cascade": [{"if": ATOM, "then": "review"}, {"then": "good"}]}
    parse_policy(HEAD | {"decide": cascade})
    assert "review.cascade[0].then: 'review' can only be" in refusal(GOOD | {"review": cascade})


@pytest.mark.parametrize("key", ["policy", "name", "decide"])
def test_a_missing_key(key: str) -> None:
    document = {name: value for name, value in GOOD.items() if name != key}
    assert f"f.json: needs the key {key}; there is " in refusal(document)


@pytest.mark.parametrize("document", [None, [], "x", 3, True])
def test_what_is_no_object(document: Any) -> None:
    assert "; a policy is an object" in refusal(document)


# --- the text ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not JSON: Expecting value at line 1 column 1"),
        ('{"policy": "v1",}', "is not JSON: "),
        ("{'policy': 'v1'}", "is not JSON: "),
        ('{"policy": "v1", "policy": "v1"}', "the key 'policy' stands twice in one object"),
        ('{"decide": {"score": "a", "ge": 1, "ge": 2}}', "the key 'ge' stands twice in one obj"),
        ("[" * 10_000, "is nested without end"),
        ('{"decide": ' * 10_000 + "1" + "}" * 10_000, "is nested without end"),
        (b"\xff\xfe", "is not UTF-8"),
        (" " * (MAX_CHARACTERS + 1), "has 1,000,001 characters; a policy has at most 1,000,000"),
    ],
)
def test_what_is_no_json(text: str | bytes, says: str) -> None:
    assert refused_text(text).startswith(f"f.json: {says}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400, "9" * 9000])
def test_json_numbers_that_are_no_threshold(number: str) -> None:
    text = json.dumps(HEAD | {"decide": {"score": "a", "ge": "@"}}).replace('"@"', number)
    message = refused_text(text)
    assert message.startswith("f.json: decide.ge: is the number ")
    assert message.endswith("; a threshold is a finite number")


def test_a_file_with_a_byte_order_mark_is_read() -> None:
    assert read_policy(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()) == parse_policy(GOOD)


@pytest.mark.parametrize("levels", [300, 600, *range(900, 1000, 7)])
@pytest.mark.parametrize("key", ["decide", "unknown", "policy", "groups"])
def test_nesting_at_the_edge_of_what_python_reads(key: str, levels: int) -> None:
    text = json.dumps(GOOD | {key: "@"}).replace('"@"', "[" * levels + "]" * levels)
    assert len(refused_text(text)) < 300


def nested(levels: int, key: str) -> Any:
    rule: Any = ATOM
    for _ in range(levels):
        rule = {"not": rule} if key == "not" else {key: [rule]}
    return rule


@pytest.mark.parametrize("key", ["not", "all", "any"])
def test_rules_are_nested_so_deep_and_no_deeper(key: str) -> None:
    deepest = parse_policy(HEAD | {"decide": nested(MAX_DEPTH - 1, key)})
    resolve(deepest, [Part("p")], Thresholds(), {"a": np.float32})
    for levels in (MAX_DEPTH, 150):
        assert f"a rule has at most {MAX_DEPTH} levels" in refusal(
            HEAD | {"decide": nested(levels, key)}
        )


def test_a_step_of_a_cascade_counts_as_a_level() -> None:
    def cascade(steps: int) -> dict[str, Any]:
        step = {"if": ATOM, "then": "defect"}
        return HEAD | {"decide": {"cascade": [*[step] * steps, {"then": "good"}]}}

    resolve(parse_policy(cascade(MAX_DEPTH - 1)), [Part("p")], Thresholds(), {"a": np.float32})
    assert "(each step of a cascade is one)" in refusal(cascade(MAX_DEPTH))


def test_a_policy_has_so_many_nodes() -> None:
    parse_policy(HEAD | {"decide": {"any": [ATOM] * (MAX_NODES - 1)}})
    assert "at most 10,000 nodes" in refusal(HEAD | {"decide": {"any": [ATOM] * MAX_NODES}})


def test_a_number_of_more_digits_than_python_prints() -> None:
    assert refusal(HEAD | {"decide": {"score": "a", "ge": 10**5000}}) == (
        "f.json: decide.ge: is the number …; a threshold is a finite number"
    )


def test_groups_within_groups_have_an_end() -> None:
    groups = {f"g{at}": [f"@g{at + 1}"] * 1 for at in range(200)} | {"g200": ["p"]}
    assert "groups lie 32 deep in groups; 32 is the limit" in refusal(GOOD | {"groups": groups})
    # Each group twice in the next: 2^30 ways, one answer.
    wide = {f"g{at}": [f"@g{at + 1}", f"@h{at + 1}"] for at in range(30)}
    wide |= {f"h{at}": [f"@g{at + 1}", f"@h{at + 1}"] for at in range(1, 30)}
    parse_policy(GOOD | {"groups": wide | {"g30": ["p"], "h30": ["q"]}})


def test_a_long_value_is_cut() -> None:
    assert len(refusal(HEAD | {"decide": {"score": "a", "ge": "x" * 100_000}})) < 300
    assert len(refusal(HEAD | {"decide": [[ATOM] * 100_000]})) < 300
    assert len(refusal(HEAD | {"decide": {"k" * 100_000: 1}})) < 500


ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["score", "ge", "all", "any", "not", "of", "if", "then", "ref", "cascade"]
            ),
            below,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(ANY, st.sampled_from(["decide", "review", "groups", "overrides", "name", "policy"]))
def test_whatever_stands_there_ends_in_a_policy_or_in_an_error_for_people(
    value: Any, key: str
) -> None:
    try:
        parse_policy(GOOD | {key: value}, "f.json")
    except InputError as error:
        assert str(error).startswith(f"f.json: {key}")


# --- what only the table or the thresholds show ---

TILES = [Part("tile"), Part("wood")]
TYPES = {"anomaly_score": np.float32, "defect_probability": np.float32}
SAFE = {"score": "anomaly_score", "ge": {"ref": "anomaly_score.safe"}}


def unresolved(rule: Any, parts: list[Part] = TILES, dtypes: Any = TYPES, **more: Any) -> str:
    policy = parse_policy(HEAD | {"decide": rule} | more, "f.json")
    table = {"anomaly_score.safe": {"tile": 3.5}, "anomaly_score.f1": {"tile": 7, "wood": 8}}
    with pytest.raises(InputError) as error:
        resolve(policy, parts, Thresholds.from_table(table), dtypes)
    return str(error.value)


def test_a_score_that_the_table_lacks() -> None:
    wrong = {"score": "anomaly_scor", "ge": 1}
    assert unresolved({"any": [SAFE, {"all": [wrong]}]}, [Part("tile")]) == (
        "f.json: decide.any[1].all[0].score: the table has no score 'anomaly_scor'; did you mean "
        "anomaly_score?"
    )
    assert unresolved({"missing": "zzz"}) == (
        "f.json: decide.missing: the table has no score 'zzz'; known: anomaly_score, "
        "defect_probability"
    )


def test_a_score_of_whole_numbers() -> None:
    message = unresolved({"score": "boxes", "ge": 1}, dtypes={"boxes": np.int32})
    assert message.startswith("f.json: decide.score: boxes is int32; a score is compared as float")


def test_a_reference_that_lacks_a_category() -> None:
    assert unresolved({"not": SAFE}) == (
        "f.json: decide.not.ge.ref: there is no threshold 'anomaly_score.safe' for the category "
        "'wood'; there are those for tile: add it, or give the category a rule without it"
    )


def test_a_reference_that_does_not_exist() -> None:
    wrong = {"score": "anomaly_score", "ge": {"ref": "anomaly_score.save"}}
    assert unresolved(wrong) == (
        "f.json: decide.ge.ref: there is no threshold 'anomaly_score.save'; did you mean "
        "anomaly_score.safe?"
    )


def test_a_variable_without_a_value() -> None:
    message = unresolved({"score": "anomaly_score", "ge": {"var": "x"}})
    assert message == "f.json: decide.ge.var: there is no threshold 'x'; there are none"


def test_a_threshold_beyond_its_column() -> None:
    assert unresolved({"score": "anomaly_score", "ge": 1e300}) == (
        "f.json: decide.ge: the threshold 1e+300 lies beyond float32, the type of anomaly_score"
    )


def test_a_category_without_a_rule() -> None:
    policy = parse_policy(HEAD | {"overrides": {"tile": {"decide": SAFE}}}, "f.json")
    with pytest.raises(InputError) as error:
        resolve(policy, TILES, Thresholds.from_table({"anomaly_score.safe": 3}), TYPES)
    assert str(error.value) == (
        "f.json: decide: x has no rule for the category 'wood': there are overrides for tile; add "
        "one, or a `decide` for all others"
    )


def test_an_oracle_needs_to_know_the_true_type() -> None:
    message = unresolved(
        {"defect_type": ["dent"]}, [Part("tile", "dent"), Part("tile")], oracle=True
    )
    assert message == (
        "f.json: x is an oracle, and the true defect type of some rows (tile) isn't known; leave "
        "it out, or leave those rows out"
    )

"""Decisions, formulas and explanations against the document read word for word, row by row."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.formula import holds
from pipeline.policy.language import (
    OUTCOMES,
    Part,
    Resolved,
    Rows,
    Thresholds,
    decide,
    explain,
    parse_policy,
    reasons,
    resolve,
    rulings,
)
from tests.policy.language.documents import (
    DTYPES,
    GROUPS,
    PARTS,
    TABLES,
    Document,
    Row,
    as_rows,
    documents,
    outcome_of,
    rows,
    rules,
)

quick = settings(max_examples=60)
Listed = list[tuple[Row, Part]]


def resolved_of(document: Document, parts: tuple[Part, ...] = PARTS) -> Resolved:
    return resolve(parse_policy(document), parts, TABLES, DTYPES)


@quick
@given(documents(), rows)
def test_every_row_is_decided_and_explained_as_the_document_says(
    document: Document, listed: Listed
) -> None:
    resolved = resolved_of(document)
    expected = [outcome_of(document, row, part) for row, part in listed]
    decided = [one for one, outcome in zip(listed, expected, strict=True) if outcome != "error"]
    outcomes = [outcome for outcome in expected if outcome != "error"]
    if decided:
        columns = as_rows(decided)
        assert [OUTCOMES[code] for code in decide(resolved, columns)] == outcomes
        found = reasons(resolved, columns)
        assert [OUTCOMES[code] for code in found.outcome] == outcomes
        assert [found.explanations[code].outcome for code in found.reason] == outcomes
    for (row, part), outcome in zip(listed, expected, strict=True):
        if outcome == "error":
            with pytest.raises(InputError, match="on_missing: drawn doesn't say what a row"):
                decide(resolved, as_rows([(row, part)]))
            with pytest.raises(InputError, match="on_missing: drawn doesn't say what a row"):
                explain(resolved, part, row)
        else:
            assert explain(resolved, part, row).outcome == outcome


@quick
@given(documents(), rows)
def test_a_row_is_never_both_a_defect_and_for_review(document: Document, listed: Listed) -> None:
    resolved = resolved_of(document)
    columns = as_rows(listed)
    for one in resolved.rulings.values():
        if one.ruling.review is not None:
            both = [
                holds(formula, columns.scores, one.thresholds)
                for formula in (one.ruling.defect, one.ruling.review)
            ]
            assert not (both[0] & both[1]).any()


@quick
@given(documents(), rows)
def test_what_decided_suffices(document: Document, listed: Listed) -> None:
    """Rows in which the named comparisons come out alike are decided alike, whatever else is."""
    resolved = resolved_of(document)
    for row, part in listed:
        if outcome_of(document, row, part) == "error":
            continue
        found = explain(resolved, part, row)
        for other, _ in listed:
            mixed = [(other, part)]
            if outcome_of(document, other, part) == "error" or lacks_undecided(resolved, other):
                continue
            if all(held(one, other) == one.held for one in found.because):
                assert outcome_of(document, *mixed[0]) == found.outcome


def lacks_undecided(resolved: Resolved, row: Row) -> bool:
    """Whether `on_missing` may decide a row, which no comparison does."""
    return resolved.policy.on_missing != "error" and any(np.isnan(list(row.values())))


def held(because: Any, row: Row) -> bool:
    value = DTYPES[because.score].type(row[because.score])
    if because.comparison == "missing":
        return bool(np.isnan(value))
    number = DTYPES[because.score].type(because.threshold)
    compare = {"ge": np.greater_equal, "gt": np.greater, "lt": np.less, "le": np.less_equal}
    return bool(compare[because.comparison](value, number))


@quick
@given(documents())
def test_rulings_number_thresholds_as_resolved_ones_do(document: Document) -> None:
    policy = parse_policy(document)
    found = rulings(policy, PARTS)
    assert {part: one.ruling for part, one in resolved_of(document).rulings.items()} == found
    assert len(found) == (len(PARTS) if policy.oracle else 3)
    for one in found.values():
        assert len({(slot.score, slot.strict, slot.value) for slot in one.slots}) == len(one.slots)


@quick
@given(documents(), rows, st.randoms(use_true_random=False))
def test_the_order_of_keys_and_parts_and_all_words_leave_the_digest(
    document: Document, listed: Listed, random: Any
) -> None:
    other = shuffled(document, random)
    other |= {
        "name": "other",
        "description": "of the same",
        "groups": other["groups"] | {"x": ["p"]},
    }
    first, second = resolved_of(document), resolved_of(other, PARTS[::-1])
    assert first.digest == second.digest
    assert first.policy != second.policy


def shuffled(value: Any, random: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        pairs = list(value.items())
        random.shuffle(pairs)
        found = {name: shuffled(inner, random, name) for name, inner in pairs}
        return found | ({"reason": "because"} if "score" in found or "then" in found else {})
    if isinstance(value, list):
        found = [shuffled(inner, random) for inner in value]
        if key != "cascade":
            random.shuffle(found)
        return found
    return value


@settings(max_examples=15)
@given(st.lists(rules(oracle=False), min_size=40, max_size=40), rows)
def test_equal_digests_decide_alike(drawn: list[Document], listed: Listed) -> None:
    """Of many small policies, where some are the same in other words."""
    known: dict[str, list[str]] = {}
    for rule in drawn:
        document = BASE | {"decide": rule, "groups": GROUPS}
        outcomes = [outcome_of(document, row, part) for row, part in listed]
        assert known.setdefault(resolved_of(document).digest, outcomes) == outcomes


BASE: Document = {"policy": "v1", "name": "x", "decide": {"score": "a", "ge": 0.5}}


@pytest.mark.parametrize(
    "change",
    [
        {"decide": {"score": "a", "ge": 0.25}},
        {"decide": {"score": "a", "gt": 0.5}},
        {"decide": {"score": "a", "lt": 0.5}},
        {"decide": {"score": "b", "ge": 0.5}},
        {"review": {"score": "a", "ge": 0.25}},
        {"on_missing": "good"},
        {"on_missing": "defect"},
        {"oracle": True},
        {"overrides": {"p": {"decide": {"score": "a", "ge": 0.25}}}},
    ],
)
def test_what_decides_otherwise_has_another_digest(change: Document) -> None:
    parts = (Part("p", "dent"), Part("q", "good"))
    assert resolved_of(BASE, parts).digest != resolved_of(BASE | change, parts).digest


def test_one_policy_written_in_two_ways_has_one_digest() -> None:
    def digest(decide: Document) -> str:
        return resolved_of(BASE | {"decide": decide}).digest

    a, b = {"score": "a", "ge": 0.5}, {"score": "b", "gt": 1}
    above = float(np.nextafter(1.0, np.inf))
    assert digest({"any": [a, b]}) == digest({"any": [b, {"any": [a, b]}]})
    assert digest({"not": {"not": a}}) == digest(a) == digest({"all": [a]})
    assert digest({"not": a}) == digest({"score": "a", "lt": 0.5})
    assert digest(b) == digest({"score": "b", "ge": above})
    assert digest({"at_least": 2, "of": [a, b]}) == digest({"all": [a, b]})
    assert digest({"cascade": [{"if": a, "then": "defect"}, {"then": "good"}]}) == digest(a)
    assert digest({"all": [a, {"category": ["p", "q", "r"]}]}) == digest(a)
    zeros = [digest({"score": "a", "ge": zero}) for zero in (0, 0.0, -0.0)]
    assert len(set(zeros)) == 1


def test_a_digest_does_not_depend_on_the_machine() -> None:
    """Stored reports are compared with it: a change of the canonical form needs a new version."""
    assert resolved_of(BASE).digest == DIGEST


DIGEST = "678333610e3079e230c4d151e80feb3f143ec7b553ac3b6af16c6c3d276ae6e8"


def test_a_threshold_is_told_and_compared_in_the_columns_own_type() -> None:
    document = BASE | {"decide": {"score": "a", "le": 0.1, "reason": "thin"}}
    resolved = resolved_of(document)
    found = explain(resolved, Part("p"), {"a": float(np.float32(0.1))})
    assert found.outcome == "defect"
    assert found.says == "p → defect: a 0.1 ≤ 0.1 (written in the policy: thin)"
    (because,) = found.because
    assert because.threshold == because.value == float(np.float32(0.1))
    assert (because.path, because.comparison, because.held) == ("decide", "le", True)
    above = float(np.nextafter(np.float32(0.1), np.float32(1)))
    missed = explain(resolved, Part("p"), {"a": above})
    assert missed.says == "p → good: a 0.10000001 is not ≤ 0.1 (written in the policy)"
    assert missed.because[0].reason == "thin"


def test_an_explanation_names_the_step_the_threshold_and_where_that_comes_from() -> None:
    document = BASE | {
        "decide": {
            "cascade": [
                {"if": {"score": "a", "ge": {"ref": "high"}}, "then": "defect", "reason": "sure"},
                {"if": {"score": "b", "ge": {"ref": "low"}}, "then": "review", "reason": "unsure"},
                {"then": "good"},
            ]
        }
    }
    resolved = resolved_of(document)
    said = [
        explain(resolved, Part("q"), {"a": a, "b": b}).says
        for a, b in [(0.9, 0.0), (0.5, 0.5), (0.5, 0.0)]
    ]
    assert said == [
        "q → defect: sure: a 0.9 ≥ 0.7 (thresholds, high of q)",
        "q → review: unsure: b 0.5 ≥ 0.3 (thresholds, low of q); "
        "a 0.5 is not ≥ 0.7 (thresholds, high of q)",
        "q → good: a 0.5 is not ≥ 0.7 (thresholds, high of q); "
        "b 0.0 is not ≥ 0.3 (thresholds, low of q)",
    ]


def test_a_missing_score_is_explained() -> None:
    a, b = {"score": "a", "lt": 0.5}, {"score": "b", "ge": 0.5}
    asked = resolved_of(BASE | {"decide": {"any": [a, b]}, "on_missing": "review"})
    assert explain(asked, Part("p"), {"a": None, "b": 1}).says == (
        "p → review: a is missing (on_missing: review)"
    )
    tested = BASE | {"decide": {"any": [a, b]}, "review": {"missing": "a"}}
    found = explain(resolved_of(tested), Part("p"), {"a": None, "b": 0})
    assert found.says == (
        "p → review: a is missing; a is missing, so not < 0.5 (written in the policy); "
        "b 0.0 is not ≥ 0.5 (written in the policy)"
    )


@pytest.mark.parametrize("word", ["ge", "gt", "lt", "le"])
def test_a_comparison_with_a_score_that_may_be_missing_is_false(word: str) -> None:
    compared, missing = {"score": "a", word: 0.5}, {"missing": "a"}
    for rule, outcome in [
        ({"all": [compared, missing]}, "good"),
        ({"all": [{"not": compared}, missing]}, "defect"),
        ({"any": [compared, {"not": missing}]}, "good"),
    ]:
        resolved = resolved_of(BASE | {"decide": rule})
        assert explain(resolved, Part("p"), {"a": None}).outcome == outcome
        missed = Rows({"a": np.array([np.nan], np.float32)}, (Part("p"),), np.zeros(1, np.int64))
        assert OUTCOMES[int(decide(resolved, missed)[0])] == outcome


@pytest.mark.parametrize(
    "settled",
    [
        {"category": ["q"]},
        {"not": {"category": ["p"]}},
        {"any": [{"category": ["q"]}, {"category": ["r"]}]},
        {"cascade": [{"if": {"category": ["p"]}, "then": "good"}, {"then": "defect"}]},
        {
            "cascade": [
                {"if": {"all": [{"score": "c", "ge": 1}, {"category": ["q"]}]}, "then": "defect"},
                {"then": "good"},
            ]
        },
    ],
)
def test_what_a_category_never_asks_for_is_not_needed_there(settled: Document) -> None:
    rule = {
        "any": [{"score": "a", "ge": 0.5}, {"all": [settled, {"score": "b", "ge": {"ref": "z"}}]}]
    }
    resolved = resolved_of(BASE | {"decide": rule}, (Part("p"),))
    assert resolved.rulings[Part("p")].ruling.required == ("a",)
    assert list(resolved.dtypes) == ["a"]
    assert resolved.digest == resolved_of(BASE, (Part("p"),)).digest


def test_a_rule_that_reads_no_score_decides_all_the_same() -> None:
    resolved = resolved_of(BASE | {"decide": {"category": ["p", "@pq"]}, "groups": {"pq": ["q"]}})
    outcome = decide(resolved, Rows({}, (Part("q"), Part("r")), np.array([0, 1, 1, 0])))
    assert outcome.tolist() == [2, 0, 0, 2]
    assert explain(resolved, Part("r"), {}).says == "r → good: so for every row of this kind"


def test_rows_without_a_category_take_the_default_rule() -> None:
    document = BASE | {"overrides": {"p": {"decide": {"score": "a", "ge": 0}}}}
    parts = (Part(None), Part("p"))
    resolved = resolved_of(document, parts)
    rows = Rows({"a": np.array([0.25, 0.25, 0.75], np.float32)}, parts, np.array([0, 1, 0]))
    assert decide(resolved, rows).tolist() == [0, 2, 2]


def test_an_override_replaces_the_whole_rule_and_the_nearest_goes_first() -> None:
    def rule(number: float) -> Document:
        return {"decide": {"score": "a", "ge": number}}

    document = BASE | {
        "review": {"score": "a", "ge": 0.25},
        "groups": {"both": ["p", "q"]},
        "overrides": {"@both": rule(1), "q": rule(2), "elsewhere": rule(3)},
    }
    resolved = resolved_of(document)
    numbers = {part.category: one.thresholds.tolist() for part, one in resolved.rulings.items()}
    assert numbers == {"p": [1], "q": [2], "r": [0.5, 0.25]}
    assert [one.ruling.review is None for one in resolved.rulings.values()] == [True, True, False]
    assert resolved.unmatched == ("elsewhere",)


def test_variables_get_their_values_when_a_policy_is_resolved() -> None:
    decide_x = {"score": "a", "ge": {"var": "x"}}
    policy = parse_policy(
        BASE | {"decide": {"any": [decide_x, {"score": "b", "gt": {"var": "y"}}]}}
    )
    assert policy.variables == ("x", "y")
    given_values = Thresholds.from_table({"x": {"p": 0.5, "q": 1.5}, "y": 2}, "sweep")
    resolved = resolve(policy, [Part("p"), Part("q")], TABLES, DTYPES, given_values)
    above = float(np.nextafter(2.0, np.inf))
    assert [one.thresholds.tolist() for one in resolved.rulings.values()] == [
        [0.5, above],
        [1.5, above],
    ]


@pytest.mark.parametrize("wrong", ["absent", "type"])
def test_columns_that_the_policy_was_not_resolved_for(wrong: str) -> None:
    column = {"absent": {}, "type": {"a": np.zeros(1, np.float64)}}[wrong]
    with pytest.raises(ValueError, match=r"score a is .*; the policy was resolved for float32"):
        decide(resolved_of(BASE), Rows(column, (Part("p"),), np.zeros(1, np.int64)))


def test_parts_that_the_policy_was_not_resolved_for() -> None:
    resolved = resolved_of(BASE, (Part("p"),))
    with pytest.raises(InputError, match="policy: x was resolved for p, not for q; resolve it"):
        explain(resolved, Part("q"), {"a": 1})


def test_rows_of_different_lengths() -> None:
    with pytest.raises(ValueError, match=r"part has shape \(2,\) and scores {'a': \(1,\)}"):
        Rows({"a": np.zeros(1)}, PARTS, np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="part goes from 0 to 9; there are 9 parts"):
        Rows({}, PARTS, np.array([0, 9]))


def test_an_explanation_is_plain_data() -> None:
    found = explain(resolved_of(BASE), Part("p"), {"a": 0.75})
    data = dataclasses.asdict(found)
    assert data["part"] == {"category": "p", "defect_type": None}
    assert data["because"][0]["value"] == 0.75

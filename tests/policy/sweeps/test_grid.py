"""Grids against every combination one by one; quantiles and references by category."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.sweeps.document import parse_sweep
from pipeline.policy.sweeps.grid import expand
from pipeline.policy.sweeps.variables import Tuning

COMPARE = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
NO_IMAGES = Tuning(("bolt", "tile"))


def sweep(variables: dict[str, Any], constraints: list[Any] | None = None) -> dict[str, Any]:
    document = {
        "sweep": "v1",
        "template": {"decide": {"any": [{"ge": {"var": name}} for name in variables]}},
        "variables": variables,
    }
    return document | ({"constraints": constraints} if constraints else {})


def tuning(seed: int = 0) -> Tuning:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=60), 1).astype(np.float32)
    scores[rng.random(60) < 0.2] = np.nan
    return Tuning(
        categories=("bolt", "tile"),
        category=rng.integers(0, 2, 60),
        defect=rng.integers(-1, 2, 60),
        scores={"anomaly": scores},
        thresholds={"safe": np.array([1.5, 2.5]), "f1": np.array([3.0, np.nan])},
    )


numbers = st.lists(st.integers(-3, 3), min_size=1, max_size=5)


@settings(max_examples=150)
@given(numbers, numbers, numbers, st.sampled_from(sorted(COMPARE)), st.integers(-2, 2))
def test_every_combination_once_in_order(
    a: list[int], b: list[int], c: list[int], kind: str, bound: int
) -> None:
    variables = {name: {"values": given} for name, given in zip("abc", (a, b, c), strict=True)}
    constraints = [{kind: ["a", "b"]}, {"le": [bound, "c"]}]
    parsed = parse_sweep(sweep(variables, constraints))
    different = list(dict.fromkeys(product(a, b, c)))
    expected = [x for x in different if COMPARE[kind](x[0], x[1]) and bound <= x[2]]
    if not expected:
        with pytest.raises(InputError) as caught:
            expand(parsed, NO_IMAGES)
        assert str(caught.value).startswith(
            f"template: none of {len(different)} policies fulfils constraints[0], constraints[1]"
        )
        return
    (found,) = expand(parsed, NO_IMAGES)
    assert found.values.tolist() == [[list(map(float, row)) for row in expected]]
    assert found.count == len(expected)
    assert found.dropped_duplicates == len(a) * len(b) * len(c) - len(different)
    assert found.dropped_by_constraints == len(different) - len(expected)


def test_spans_end_where_they_say() -> None:
    (found,) = expand(
        parse_sweep(
            sweep(
                {
                    "a": {"linspace": {"start": 0, "stop": 1, "num": 5}},
                    "b": {"logspace": {"start": 0.01, "stop": 1, "num": 3}},
                }
            )
        ),
        NO_IMAGES,
    )
    assert sorted(set(found.column("a")[0].tolist())) == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(np.unique(found.column("b")), [0.01, 0.1, 1])


@pytest.mark.parametrize("of", ["good", "defect", "all"])
@pytest.mark.parametrize("per_category", [False, True])
def test_quantiles_are_tuning_scores(of: str, per_category: bool) -> None:
    levels = [0.0, 0.3, 0.5, 0.95, 1.0]
    quantiles = {"score": "anomaly", "of": of, "q": levels, "per_category": per_category}
    rows = tuning(3)
    parsed = parse_sweep(sweep({"a": {"quantiles": quantiles}}))
    found = parsed.variables["a"].values(rows)
    scores, truth = rows.scores["anomaly"], {"good": [0], "defect": [1], "all": [-1, 0, 1]}[of]
    for c, column in enumerate(found):
        mine = [
            float(score)
            for score, label, category in zip(scores, rows.defect, rows.category, strict=True)
            if not np.isnan(score) and label in truth and (category == c or not per_category)
        ]
        # The least score that so large a share of scores does not exceed.
        expected = [
            min(s for s in mine if sum(t <= s for t in mine) >= level * len(mine) - 1e-9)
            for level in levels
        ]
        assert column.tolist() == expected
        assert set(column.tolist()) <= set(mine)
    assert len(found) == (2 if per_category else 1)
    (grid,) = expand(parsed, rows)
    assert grid.values[..., 0].T.tolist() == list(map(list, dict.fromkeys(map(tuple, found.T))))


def test_evenly_spaced_quantiles_go_from_the_least_to_the_largest() -> None:
    quantiles = {"score": "anomaly", "of": "all", "num": 3}
    (found,) = expand(parse_sweep(sweep({"a": {"quantiles": quantiles}})), tuning())
    scores = tuning().scores["anomaly"]
    assert found.column("a")[0, [0, -1]].tolist() == [np.nanmin(scores), np.nanmax(scores)]


def test_categories_stand_in_one_policy() -> None:
    variables = {"a": {"refs": ["safe"]}, "b": {"values": [2, 9]}}
    (found,) = expand(parse_sweep(sweep(variables)), tuning())
    assert found.values.shape == (2, 2, 2)
    assert found.values[:, 0].tolist() == [[1.5, 2.0], [2.5, 2.0]]
    assert found.policy(1) == {"a": {"bolt": 1.5, "tile": 2.5}, "b": 9.0}


def test_a_constraint_holds_in_every_category() -> None:
    variables = {"a": {"refs": ["safe"]}, "b": {"values": [2, 9]}}
    (found,) = expand(parse_sweep(sweep(variables, [{"lt": ["a", "b"]}])), tuning())
    assert found.column("b").tolist() == [[9.0]]
    assert found.dropped_by_constraints == 1


def test_values_that_differ_in_one_category_are_no_duplicates() -> None:
    rows = Tuning(
        ("bolt", "tile"),
        thresholds={
            "x": np.array([1.0, 2.0]),
            "y": np.array([1.0, 3.0]),
            "z": np.array([1.0, 2.0]),
        },
    )
    (found,) = expand(parse_sweep(sweep({"a": {"refs": ["x", "y", "z"]}})), rows)
    assert (found.count, found.dropped_duplicates) == (2, 1)
    assert found.values[..., 0].tolist() == [[1.0, 1.0], [2.0, 3.0]]


def test_each_template_has_its_own_policies() -> None:
    document = sweep({"a": {"values": [1, 2]}, "b": {"values": [3, 4, 5]}})
    templates = [document.pop("template"), {"ge": {"var": "b"}}]
    both, one = expand(parse_sweep(document | {"templates": templates}), NO_IMAGES)
    assert (both.count, one.count, one.names) == (6, 3, ("b",))
    assert one.template.document is templates[1]


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ({"refs": ["sfae"]}, "variables.a.refs[0]: 'sfae' is no threshold; known are safe, f1"),
        ({"refs": ["safe", "f1"]}, "variables.a.refs[1]: 'f1' has no value for tile"),
        (
            {"quantiles": {"score": "anomly", "of": "good", "q": [0.5]}},
            "variables.a.quantiles.score: 'anomly' is no score; known are anomaly",
        ),
    ],
)
def test_names_that_the_data_lacks_are_told(variable: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        expand(parse_sweep(sweep({"a": variable})), tuning())
    assert str(caught.value).startswith(says)


def test_a_category_without_such_images_has_no_quantile() -> None:
    rows = Tuning(
        ("bolt", "tile"),
        category=np.array([0, 0, 1]),
        defect=np.array([0, 1, 0]),
        scores={"anomaly": np.array([1.0, 2.0, 3.0])},
    )
    quantiles = {"score": "anomaly", "of": "defect", "q": [0.5], "per_category": True}
    parsed = parse_sweep(sweep({"a": {"quantiles": quantiles}}))
    with pytest.raises(InputError, match="no defective tuning image of tile has the score"):
        expand(parsed, rows)


def test_a_million_policies_are_kept_small() -> None:
    hundred = {"linspace": {"start": 0, "stop": 1, "num": 100}}
    (found,) = expand(parse_sweep(sweep(dict.fromkeys("abc", hundred))), NO_IMAGES)
    assert found.count == 1_000_000
    assert found.places.nbytes == 12_000_000
    assert found.policy(999_999) == {"a": 1.0, "b": 1.0, "c": 1.0}

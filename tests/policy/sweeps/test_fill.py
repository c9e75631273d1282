"""Slots become numbers of their columns' own types, as `settled` makes them one by one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.formula import settled
from pipeline.policy.sweeps.document import parse_sweep
from pipeline.policy.sweeps.fill import Known, fill, settled_all
from pipeline.policy.sweeps.grid import expand
from pipeline.policy.sweeps.variables import Tuning


@dataclass(frozen=True)
class Ref:
    name: str


@dataclass(frozen=True)
class Var:
    name: str


@dataclass(frozen=True)
class Slot:
    score: str
    strict: bool
    value: float | Ref | Var
    path: str = "decide.any[1].score"


DTYPES = {"anomaly": np.float32, "probability": np.float64}


def known(numbers: dict[Any, Any], policies: int = 3) -> Known:
    arrays = {value: np.asarray(array, np.float64) for value, array in numbers.items()}
    return Known(arrays, DTYPES, ("bolt", "tile"), policies)


@settings(max_examples=100)
@given(
    st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
)
def test_arrays_settle_as_one_number_does(numbers: list[float], dtype: str, strict: bool) -> None:
    found = settled_all(np.array(numbers), dtype, strict)
    assert found.tolist() == [settled(number, dtype, strict=strict) for number in numbers]


def test_a_number_a_reference_and_a_variable_of_one_name() -> None:
    slots = [
        Slot("anomaly", False, 0.7),
        Slot("anomaly", True, Ref("x")),
        Slot("probability", False, Var("x")),
    ]
    table = {Ref("x"): [[1.0], [2.0]], Var("x"): [[0.1, 0.2, 0.3]]}
    found = fill(slots, known(table))
    assert found.shape == (2, 3, 3)
    for category in range(2):
        for policy in range(3):
            assert found[category, policy].tolist() == [
                settled(0.7, np.float32),
                settled(1.0 + category, np.float32, strict=True),
                (0.1, 0.2, 0.3)[policy],
            ]


def test_thresholds_of_a_sweep_differ_by_category_where_its_values_do() -> None:
    document = {
        "sweep": "v1",
        "template": {"a": {"var": "low"}, "b": {"var": "high"}},
        "variables": {"low": {"refs": ["one", "two"]}, "high": {"values": [5, 6]}},
    }
    thresholds = {"one": np.array([1.0, 2.0]), "two": np.array([3.0, 4.0])}
    (grid,) = expand(parse_sweep(document), Tuning(("bolt", "tile"), thresholds=thresholds))
    columns = {Var(name): grid.column(name) for name in grid.names}
    slots = [Slot("anomaly", False, Var("high")), Slot("anomaly", False, Var("low"))]
    found = fill(slots, known(columns, grid.count))
    assert found.tolist() == [
        [[5, 1], [6, 1], [5, 3], [6, 3]],
        [[5, 2], [6, 2], [5, 4], [6, 4]],
    ]


def test_what_all_categories_share_is_kept_once() -> None:
    found = fill([Slot("anomaly", False, 1.0)], known({}, policies=1000))
    assert (found.shape, found.base.nbytes) == ((2, 1000, 1), 8000)


def test_a_rule_without_thresholds_has_none() -> None:
    assert fill([], known({})).shape == (2, 3, 0)


@pytest.mark.parametrize(
    ("slot", "says"),
    [
        (Slot("depth", False, 1.0), "decide.any[1].score: 'depth' is no score; known are anomaly"),
        (Slot("anomaly", False, Var("y")), "decide.any[1].score: Var(name='y') stands for no numb"),
        (Slot("anomaly", False, Ref("f1")), "decide.any[1].score: Ref(name='f1') has no value for"),
        (Slot("anomaly", False, 1e39), "decide.any[1].score: 1e+39 is beyond float32, the type of"),
        (Slot("anomaly", False, float("nan")), "decide.any[1].score: nan has no value for all cat"),
    ],
)
def test_a_slot_without_a_number_is_refused(slot: Slot, says: str) -> None:
    with pytest.raises(InputError) as caught:
        fill([slot], known({Ref("f1"): [[1.0], [np.nan]]}))
    assert str(caught.value).startswith(says)


def test_a_missing_number_names_the_category() -> None:
    with pytest.raises(InputError, match="has no value for tile; take another"):
        fill([Slot("anomaly", False, Ref("f1"))], known({Ref("f1"): [[1.0], [np.nan]]}))

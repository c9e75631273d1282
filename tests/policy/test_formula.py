"""The plain meaning of a formula, and of a threshold in a column's own type."""

import numpy as np

from pipeline.policy.formula import All, AnyOf, AtLeast, Cut, Missing, Not, holds, leaves, settled

ROWS = {"a": np.array([0.5, 0.7, np.nan], np.float32), "b": np.array([1.0, np.nan, np.nan])}
AT = np.array([settled(0.7, np.float32), 1.0])


def said(formula: object) -> list[bool]:
    return list(holds(formula, ROWS, AT))


def test_each_node_means_what_it_says() -> None:
    a, b = Cut("a", 0), Cut("b", 1)
    assert said(a) == [False, True, False]
    assert said(b) == [True, False, False]
    assert said(Missing("b")) == [False, True, True]
    assert said(Not(a)) == [True, False, True]
    assert said(All((a, b))) == [False, False, False]
    assert said(AnyOf((a, b))) == [True, True, False]
    assert said(AtLeast(2, (a, b, Missing("b")))) == [False, True, False]
    assert said(All(())) == [True] * 3
    assert said(AnyOf(())) == [False] * 3


def test_a_missing_score_is_above_no_threshold() -> None:
    assert not holds(Cut("a", 0), ROWS, np.array([-np.inf]))[2]


def test_a_threshold_is_rounded_to_the_columns_own_type() -> None:
    assert float(np.float32(0.7)) < 0.7
    assert float(np.float32(0.7)) >= settled(0.7, np.float32)
    assert not float(np.float32(0.7)) >= settled(0.7, np.float32, strict=True)
    assert settled(0.7, np.float64) == 0.7


def test_leaves_come_in_order() -> None:
    a, b = Cut("a", 0), Cut("b", 1)
    assert list(leaves(All((Not(a), AnyOf((b, Missing("a"))))))) == [a, b, Missing("a")]

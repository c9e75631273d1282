"""What is refused, and what the message says."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.policy.cube import (
    Cells,
    Grid,
    Groups,
    Layout,
    Rows,
    Rules,
    Settings,
    cells,
    conjunction,
    count,
    counts,
    merge,
    plan,
)
from pipeline.policy.formula import All, Cut

GROUPS = Groups(np.array([0, 1]))
WAYS = ("dense", "sparse", "bitmaps")


def rules(*thresholds: float, part: int = 0, score: str = "a") -> Rules:
    return Rules(Cut(score, 0), np.array([part]), np.array(thresholds)[None, :, None])


def rows(*scores: float, dtype: type = np.float64) -> Rows:
    return Rows({"a": np.array(scores, dtype)}, np.zeros(len(scores), np.int64))


def test_a_threshold_that_is_nan_is_named() -> None:
    with pytest.raises(InputError, match=r"threshold 0 of rule 1 in part 0 is NaN"):
        rules(0.5, np.nan)


@pytest.mark.parametrize("way", WAYS)
def test_a_threshold_between_two_float32_numbers_is_refused(way: str) -> None:
    made = plan([rules(0.7)], GROUPS, 1, Settings(kinds=(way,)))
    with pytest.raises(InputError, match=r"0\.7 of 'a' in part 0 is no float32 number.*settled"):
        count(made, lambda: [rows(0.5, dtype=np.float32)])
    assert count(made, lambda: [rows(0.7)])[0].tolist() == [[1, 0]]


@pytest.mark.parametrize("way", WAYS)
def test_a_score_without_a_column_is_named_with_those_there_are(way: str) -> None:
    made = plan([rules(0.7, score="b")], GROUPS, 1, Settings(kinds=(way,)))
    with pytest.raises(InputError, match="no score 'b'; they have: a"):
        count(made, lambda: [rows(0.5)])


@pytest.mark.parametrize("way", WAYS)
def test_more_rows_than_planned_are_refused(way: str) -> None:
    made = plan([rules(0.7)], GROUPS, 2, Settings(kinds=(way,)))
    with pytest.raises(InputError, match="than the 2 planned for"):
        count(made, lambda: [rows(0.5), rows(1.0, 2.0)])


def test_a_group_that_does_not_exist_is_an_error_and_no_count() -> None:
    made = plan([rules(0.7)], GROUPS, 9)
    for group in (-1, 2):
        bad = Rows({"a": np.zeros(2)}, np.array([0, group]))
        with pytest.raises(ValueError, match="known: 2"):
            count(made, lambda bad=bad: [bad])


def test_columns_are_floats_of_one_length() -> None:
    with pytest.raises(InputError, match="column 'a' is int64: scores are float32 or float64"):
        Rows({"a": np.array([1])}, np.array([0]))
    with pytest.raises(ValueError, match="shape"):
        Rows({"a": np.zeros(2)}, np.array([0]))
    with pytest.raises(ValueError, match="integers"):
        Rows({"a": np.zeros(1)}, np.zeros(1))


def test_rules_need_shapes_that_fit() -> None:
    with pytest.raises(ValueError, match="twice"):
        Rules(Cut("a", 0), np.array([1, 1]), np.zeros((2, 1, 1)))
    with pytest.raises(ValueError, match=r"\(C, P, slots\)"):
        Rules(Cut("a", 0), np.array([1]), np.zeros((2, 1, 1)))
    with pytest.raises(ValueError, match="slots"):
        Rules(Cut("a", 1), np.array([1]), np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match="3 rules and 2 rules"):
        conjunction(rules(1.0, 2.0, 3.0), rules(1.0, 2.0))
    with pytest.raises(ValueError, match="differ"):
        conjunction(rules(1.0), rules(1.0, part=1))


def test_cells_of_other_thresholds_do_not_add_up() -> None:
    one, other = (Layout(Grid.of([rules(value)]), GROUPS) for value in (0.5, 0.6))
    with pytest.raises(InputError, match=r"don't add up.*count the rows again"):
        merge([cells(one, [rows(1.0)]), cells(other, [rows(1.0)])])
    with pytest.raises(InputError, match="other thresholds or groups"):
        counts(cells(one, [rows(1.0)]), other, [rules(0.6)])
    wider = Layout(one.grid, Groups(np.array([0, 1, 1])))
    with pytest.raises(InputError, match="other thresholds or groups"):
        counts(cells(one, [rows(1.0)]), wider, [rules(0.5)])
    with pytest.raises(ValueError, match="0 cells"):
        merge([])


def test_zero_of_either_sign_makes_the_same_cells() -> None:
    plus, minus = (Layout(Grid.of([rules(value)]), GROUPS) for value in (0.0, -0.0))
    both = merge([cells(plus, [rows(-0.0)]), cells(minus, [rows(0.0)])])
    assert counts(both, plus, [rules(-0.0)])[0].tolist() == [[2, 0]]


def test_rules_that_the_cells_can_not_answer_are_refused() -> None:
    layout = Layout(Grid.of([rules(0.5)]), GROUPS)
    held = cells(layout, [rows(1.0)])
    for wrong in (0.6, 0.4, np.inf, -np.inf):
        with pytest.raises(InputError, match="none of those that the rows were counted by"):
            counts(held, layout, [rules(wrong)])
    with pytest.raises(InputError, match="not counted by 'b'"):
        counts(held, layout, [rules(0.5, score="b")])
    with pytest.raises(InputError, match="part 1 is not among the cells"):
        counts(held, layout, [rules(0.5, part=1)])


def test_kept_cells_are_checked() -> None:
    two = np.array([3, 1])
    with pytest.raises(ValueError, match="increasing"):
        Cells("", two, np.array([1, 1]))
    with pytest.raises(ValueError, match="above 0"):
        Cells("", two[::-1].copy(), np.array([1, 0]))
    with pytest.raises(ValueError, match="int64"):
        Cells("", two.astype(np.int32), two)


def test_more_cells_than_64_bits_number_are_refused_or_counted_otherwise() -> None:
    names = [f"s{number}" for number in range(9)]
    wide = All(tuple(Cut(name, slot) for slot, name in enumerate(names)))
    thresholds = np.tile(np.arange(250.0)[None, :, None], (1, 1, 9))
    many = Rules(wide, np.array([0]), thresholds)
    with pytest.raises(InputError, match="can't be numbered"):
        cells(Layout(Grid.of([many]), GROUPS), [])
    made = plan([many], GROUPS, 2)
    assert made.kind == "bitmaps"
    batch = Rows(dict.fromkeys(names, np.array([100.0, 3.0])), np.zeros(2, np.int64))
    assert count(made, lambda: [batch])[0].sum() == 101 + 4

"""Every way of counting against the plain meaning of a formula, rule by rule and row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.policy.cube import (
    Cells,
    Grid,
    Groups,
    Layout,
    Rows,
    Rules,
    Settings,
    bitmaps,
    cells,
    conjunction,
    count,
    counts,
    crossed,
    exception,
    lookup,
    merge,
    pieces,
    plan,
    tallies,
)
from pipeline.policy.formula import All, AnyOf, AtLeast, Cut, Missing, Not
from tests.policy.cube.samples import Case, cases, cut_up, plain_counts

WAYS = ("dense", "sparse", "bitmaps")
thorough = settings(max_examples=120)


def require_equal(
    found: Sequence[npt.NDArray[np.int64]], wanted: Sequence[npt.NDArray[np.int64]]
) -> None:
    for own, plain in zip(found, wanted, strict=True):
        assert own.dtype == np.int64
        np.testing.assert_array_equal(own, plain)


@contextmanager
def small_chunks() -> Iterator[None]:
    """What is done at a time, so small that a small case needs many rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "MOST_RULES", 4)
        patch.setattr(bitmaps, "CHUNK_WORDS", 3)
        patch.setattr(tallies, "PENDING_KEYS", 5)
        patch.setattr(pieces, "_RUNS", 3)
        yield


@thorough
@given(cases(), st.lists(st.integers(0, 60), max_size=4), st.integers(1, 3), st.booleans())
def test_every_way_counts_what_the_formula_means(
    case: Case, sizes: list[int], threads: int, chunked: bool
) -> None:
    wanted = [plain_counts(rules, case.rows, case.groups) for rules in case.rules]
    batches = cut_up(case.rows, sizes)
    rows = len(case.rows.group)
    for way in WAYS:
        limits = Settings(kinds=(way,), threads=threads, block_rows=17 if chunked else 1 << 18)
        if chunked:
            with small_chunks():
                found = count(plan(case.rules, case.groups, rows, limits), lambda: batches)
        else:
            found = count(plan(case.rules, case.groups, rows, limits), lambda: batches)
        require_equal(found, wanted)


@thorough
@given(cases(), st.lists(st.integers(0, 60), max_size=4), st.randoms())
def test_cells_add_up_in_any_order_and_answer_as_the_rows(
    case: Case, sizes: list[int], shuffled: object
) -> None:
    layout = Layout(Grid.of(case.rules), case.groups)
    whole = cells(layout, [case.rows])
    parts = [cells(layout, [batch]) for batch in cut_up(case.rows, sizes)]
    shuffled.shuffle(parts)  # type: ignore[attr-defined]
    merged = merge([merge(parts[:1]), *parts[1:]])
    assert merged.keys.tobytes() == whole.keys.tobytes()
    assert merged.counts.tobytes() == whole.counts.tobytes()
    kept = Cells(merged.layout, merged.keys.copy(), merged.counts.copy())
    wanted = [plain_counts(rules, case.rows, case.groups) for rules in case.rules]
    require_equal(counts(kept, layout, case.rules), wanted)


@thorough
@given(cases())
def test_rules_are_crossed_pair_by_pair(case: Case) -> None:
    a = case.rules[0]
    b = Rules(case.rules[-1].formula, a.parts, a.thresholds[:, :1, ::-1])
    layout = Layout(Grid.of([a, b]), case.groups)
    held = cells(layout, [case.rows])
    both = plain_counts(conjunction(a, b), case.rows, case.groups)
    require_equal([crossed(held, layout, a, b)], [both])
    alone = counts(held, layout, [a, exception(a, b)])
    require_equal([alone[1]], [alone[0] - both])


def test_sparse_and_dense_cells_are_the_same() -> None:
    rng = np.random.default_rng(2)
    rules = Rules(All((Cut("a", 0), Cut("b", 1))), np.array([0, 1]), rng.normal(size=(2, 40, 2)))
    groups = Groups(np.array([0, 1, 1]))
    rows = Rows({s: rng.normal(size=3000) for s in "ab"}, rng.integers(0, 3, 3000))
    layout = Layout(Grid.of([rules]), groups)
    dense = cells(layout, [rows])
    with small_chunks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.policy.cube.counting._DENSE_CELLS", 0)
        sparse = cells(layout, [rows], Settings(block_rows=100))
    assert dense.keys.tobytes() == sparse.keys.tobytes()
    assert dense.counts.tobytes() == sparse.counts.tobytes()
    assert dense.rows == 3000


def test_a_missing_score_is_no_low_score() -> None:
    """By hand: numpy's searchsorted would put it above every threshold."""
    rows = Rows({"a": np.array([np.nan, -np.inf, 0.5, 0.7])}, np.zeros(4, np.int64))
    cut = Cut("a", 0)
    for formula, wanted in (
        (cut, [3, 1, 0]),
        (Not(cut), [1, 3, 4]),
        (Missing("a"), [1, 1, 1]),
        (Not(Missing("a")), [3, 3, 3]),
        (All((Not(cut), Not(Missing("a")))), [0, 2, 3]),
        (AnyOf((cut, Missing("a"))), [4, 2, 1]),
        (AtLeast(1, (cut, Missing("a"))), [4, 2, 1]),
        (All(()), [4, 4, 4]),
        (AnyOf(()), [0, 0, 0]),
    ):
        rules = Rules(formula, np.array([0]), np.array([[[-np.inf], [0.7], [np.inf]]]))
        for way in WAYS:
            made = plan([rules], Groups(np.array([0])), 4, Settings(kinds=(way,)))
            assert count(made, lambda: [rows])[0][:, 0].tolist() == wanted, (formula, way)


def test_at_least_so_many_of_four() -> None:
    """One row for each way in which four cuts hold or not."""
    held = np.array(list(np.ndindex(2, 2, 2, 2)), np.float64)
    rows = Rows({f"s{slot}": held[:, slot] for slot in range(4)}, np.zeros(16, np.int64))
    cuts = tuple(Cut(f"s{slot}", slot) for slot in range(4))
    for least, wanted in ((0, 16), (1, 15), (2, 11), (3, 5), (4, 1), (5, 0)):
        rules = Rules(AtLeast(least, cuts), np.array([0]), np.ones((1, 1, 4)))
        for way in WAYS:
            made = plan([rules], Groups(np.array([0])), 16, Settings(kinds=(way,)))
            assert count(made, lambda: [rows])[0].tolist() == [[wanted]], (least, way)


def test_thresholds_and_scores_are_compared_as_float32_where_the_column_is() -> None:
    """float32(0.7) lies below 0.7; the threshold is the column's own number."""
    column = np.array([0.7, np.nextafter(np.float32(0.7), np.float32(0))], np.float32)
    rows = Rows({"a": column}, np.zeros(2, np.int64))
    rules = Rules(Cut("a", 0), np.array([0]), np.array([[[float(np.float32(0.7))]]]))
    for way in WAYS:
        made = plan([rules], Groups(np.array([0])), 2, Settings(kinds=(way,)))
        assert count(made, lambda: [rows])[0].tolist() == [[1]], way


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_table_and_an_empty_group_count_nothing(way: str) -> None:
    rules = Rules(Not(Cut("a", 0)), np.array([0, 7]), np.zeros((2, 3, 1)))
    groups = Groups(np.array([0, 0, 5]))
    rows = Rows({"a": np.array([-1.0, 1.0, -1.0])}, np.array([0, 0, 2]))
    made = plan([rules], groups, 3, Settings(kinds=(way,)))
    assert count(made, lambda: [rows])[0].tolist() == [[1, 0, 0]] * 3
    assert not count(made, list)[0].any()
    nothing = plan([], groups, 0)
    assert nothing.kind == "nothing"
    assert count(nothing, list) == []

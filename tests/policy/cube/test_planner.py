"""The plan: what is chosen, that its memory is kept, and that it says so."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.policy.cube import Grid, Groups, Layout, Plan, Rows, Rules, Settings, count, plan
from pipeline.policy.formula import All, AnyOf, Cut, Formula

ROWS = 60_000
PARTS = 4
GROUPS = Groups(np.repeat(np.arange(PARTS), 3))
AND = All((Cut("a", 0), Cut("b", 1), Cut("c", 2)))
OR = AnyOf((Cut("a", 0), Cut("b", 1)))
MB = 1_000_000


def rules(formula: Formula, count: int, distinct: int) -> Rules:
    rng = np.random.default_rng(4)
    return Rules(
        formula,
        np.arange(PARTS),
        rng.choice(np.linspace(-1, 1, distinct), (PARTS, count, 3)),
    )


@pytest.fixture(scope="module")
def rows() -> Rows:
    rng = np.random.default_rng(5)
    scores = {name: rng.normal(size=ROWS) for name in "abc"}
    return Rows(scores, rng.integers(0, GROUPS.count, ROWS))


def peak_of(made: Plan, rows: Rows) -> int:
    tracemalloc.start()
    count(made, lambda: [rows])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("kind", "memory", "distinct", "many"),
    [
        ("dense", 40 * MB, 50, 1000),
        ("parts", 8 * MB, 50, 1000),
        ("sparse", 60 * MB, 90, 500),
        ("bitmaps", 40 * MB, 300, 200),
        ("bitmaps", 10 * MB, 300, 200),
    ],
)
def test_arrays_take_no_more_than_the_plan_says(
    rows: Rows, kind: str, memory: int, distinct: int, many: int
) -> None:
    own = [rules(AND, many, distinct), rules(OR, many, distinct)]
    only = ("dense",) if kind == "parts" else (kind,)
    made = plan(own, GROUPS, ROWS, Settings(memory, kinds=only))
    assert made.kind == kind
    assert (made.scans > 1) == (kind == "parts")
    assert peak_of(made, rows) <= made.nbytes <= memory


@pytest.mark.parametrize("memory", [200 * MB, 30 * MB])
def test_bitmaps_are_of_as_many_rows_as_fit(rows: Rows, memory: int) -> None:
    rng = np.random.default_rng(6)
    own = Rules(AND, np.array([0]), rng.normal(size=(1, 3000, 3)))
    one = Rows(rows.scores, np.zeros(ROWS, np.int64))
    made = plan([own], Groups(np.array([0])), ROWS, Settings(memory, kinds=("bitmaps",)))
    peak = peak_of(made, one)
    assert peak <= made.nbytes <= memory
    # Bitmaps of all rows at once would take 67 MB, a thread.
    assert (peak > 50 * MB) == (memory > 100 * MB)


def test_scans_of_some_parts_count_what_one_scan_does(rows: Rows) -> None:
    own = [rules(AND, 300, 50), rules(OR, 200, 50)]
    one = plan(own, GROUPS, ROWS, Settings(kinds=("dense",)))
    many = plan(own, GROUPS, ROWS, Settings(8 * MB, kinds=("dense",), block_rows=1 << 14))
    read = []

    def batches() -> list[Rows]:
        read.append(1)
        return [rows]

    found = count(many, batches)
    assert len(read) == many.scans > 1
    for own_counts, others in zip(found, count(one, lambda: [rows]), strict=True):
        np.testing.assert_array_equal(own_counts, others)


def test_few_cells_are_dense_and_many_thresholds_with_few_rules_are_bitmaps() -> None:
    few = plan([rules(AND, 10_000, 20)], GROUPS, 10_000_000)
    assert few.kind == "dense"
    many = plan([rules(AND, 1_000, 1_000)], GROUPS, 10_000_000)
    assert many.kind == "bitmaps"


def test_many_rules_on_a_cube_too_big_for_one_scan_are_counted_part_by_part() -> None:
    made = plan([rules(AND, 100_000, 150)], GROUPS, 10_000_000, Settings(150 * MB))
    assert made.kind == "parts"
    assert made.nbytes <= 150 * MB


def test_scores_that_never_meet_get_cubes_of_their_own() -> None:
    """Six scores in one cube would be 22⁶ cells a group."""
    other = All((Cut("d", 0), Cut("e", 1), Cut("f", 2)))
    made = plan([rules(AND, 5_000, 20), rules(other, 5_000, 20)], GROUPS, 10_000_000)
    assert made.kind == "dense"
    assert made.scans == 1
    assert [step.rules for step in made.passes[0]] == [(0,), (1,)]


def test_a_formula_too_wide_for_corners_is_counted_by_bitmaps(rows: Rows) -> None:
    names = [f"s{number}" for number in range(14)]
    wide = AnyOf(tuple(Cut(name, slot) for slot, name in enumerate(names)))
    own = Rules(wide, np.arange(PARTS), np.full((PARTS, 2, len(names)), 1.5))
    made = plan([own], GROUPS, ROWS)
    assert made.kind == "bitmaps"
    scores = {name: np.roll(rows.scores["a"], number) for number, name in enumerate(names)}
    found = count(made, lambda: [Rows(scores, rows.group)])[0]
    flagged = np.max(list(scores.values()), axis=0) >= 1.5
    np.testing.assert_array_equal(found[1], np.bincount(rows.group[flagged], minlength=12))


def test_the_plan_says_what_it_does() -> None:
    made = plan([rules(AND, 1_000, 20)], GROUPS, 1_000_000, Settings(400 * MB))
    assert made.says.startswith("dense: 1,000 rules in 12 groups of 1,000,000 rows, 1 scan, ")
    assert "of 400.0 MB" in made.says
    assert "estimated times as dense 1, sparse " in made.says


def test_what_fits_nowhere_is_refused_with_the_bytes_and_the_way_out() -> None:
    with pytest.raises(InputError) as refused:
        plan([rules(AND, 100_000, 20)], GROUPS, 1_000_000, Settings(5 * MB))
    message = str(refused.value)
    assert "memory_bytes is 5.0 MB" in message
    assert "100,000 rules in 12 groups" in message
    assert "9.6 MB" in message
    assert "give more memory" in message


def test_rows_count_for_the_type_of_counts() -> None:
    """Counts of more rows than int32 holds take twice the memory, and are planned so."""
    own = [rules(AND, 10, 10)]
    small = plan(own, GROUPS, 2**31 - 1, Settings(kinds=("dense",)))
    large = plan(own, GROUPS, 2**31, Settings(kinds=("dense",)))
    assert large.nbytes - small.nbytes == 4 * Layout(Grid.of(own), GROUPS).size

"""Sharing groups out: no group is torn, shares are met, and only content and seed decide."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.stats.assignment import Assignment, GroupedRows, Shares, assign, mixed
from pipeline.stats.strata import LabelledRows, stratify

SHARES = np.array([[0.55, 0.15, 0.15, 0.15], [0.4, 0.0, 0.3, 0.3]])


def case(seed: int, rows: int, largest: int) -> GroupedRows:
    """Rows of two strata (good, defect) in groups of up to `largest`, one in ten of them mixed."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, largest + 1, rows)
    ids = rng.integers(0, 2**62, rows)
    groups = np.repeat(ids, sizes)[:rows]
    strata = np.repeat(rng.random(rows) < 0.4, sizes)[:rows].astype(int)
    strata[rng.random(rows) < 0.1] ^= 1
    allowed = np.ones((rows, 4), bool)
    allowed[strata == 1, 1] = False
    return GroupedRows(groups, strata, allowed)


def share_out(rows: GroupedRows, seed: int, shares: np.ndarray = SHARES) -> Assignment:
    """The assignment with nothing but the strata themselves."""
    return assign(rows, Shares(shares, np.zeros((0, len(shares)), np.int64)), seed)


def anywhere(groups: np.ndarray, parts: int = 4) -> GroupedRows:
    """Rows of one stratum that may go to any part."""
    return GroupedRows(groups, np.zeros(len(groups), int), np.ones((len(groups), parts), bool))


cases = st.builds(case, st.integers(0, 10_000), st.integers(1, 150), st.integers(1, 9))


@settings(deadline=None, max_examples=25)
@given(cases, st.integers(0, 2**40))
def test_no_group_straddles_and_every_row_has_a_part_it_may_have(given_case, seed: int) -> None:
    found = share_out(given_case, seed)
    parts_of: dict[int, set[int]] = {}
    for group, part in zip(given_case.groups.tolist(), found.parts.tolist(), strict=True):
        parts_of.setdefault(group, set()).add(part)
    assert {len(parts) for parts in parts_of.values()} == {1}
    rows = np.arange(len(found.parts))
    assert given_case.allowed[rows, found.parts].all()
    for stratum in range(2):
        inside = found.parts[given_case.strata == stratum]
        assert found.rows[stratum].tolist() == np.bincount(inside, minlength=4).tolist()


@settings(deadline=None, max_examples=15)
@given(cases, st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(given_case, seed: int, random) -> None:
    order = list(range(len(given_case.groups)))
    random.shuffle(order)
    shuffled = GroupedRows(
        given_case.groups[order], given_case.strata[order], given_case.allowed[order]
    )
    straight = share_out(given_case, seed).parts
    assert share_out(shuffled, seed).parts.tolist() == straight[order].tolist()


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    rows = case(3, 120, 4)
    splits = [share_out(rows, seed).parts.tolist() for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2] != splits[3] != splits[0]


def test_the_split_of_a_seed_is_the_same_on_every_machine() -> None:
    found = share_out(case(1, 24, 3), 7)
    assert "".join(map(str, found.parts)) == GOLDEN_PARTS
    assert mixed(np.array([0, 1, 2**62], np.int64), 5).tolist() == GOLDEN_MIXED


GOLDEN_PARTS = "222200000000000333031113"
GOLDEN_MIXED = [1961750202426094747, 8195237237126968761, 1253606657339314070]


def test_mixing_is_the_published_generator() -> None:
    """SplitMix64 from its paper: the n-th output of a state is the mix of state + n × gamma."""
    state, outputs = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        outputs.append(z ^ (z >> 31))
    assert outputs[0] == 6457827717110365317  # as reference implementations print it
    ids = np.array([1234567])
    assert [mixed(ids, seed)[0] for seed in (1, 2, 3)] == outputs


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(60, 200), st.integers(1, 4))
def test_shares_are_met_up_to_the_size_of_a_group(seed: int, rows: int, largest: int) -> None:
    rows_given = case(seed, rows, largest)
    found = share_out(rows_given, seed)
    assert np.abs(found.rows - found.wanted).max() <= largest + 1


def test_shares_are_met_better_than_by_folds() -> None:
    """scikit-learn's grouped folds of a twentieth each, given to the parts by their shares."""
    shares = np.repeat(SHARES[:1], 2, axis=0)
    part_of_fold = np.repeat(range(4), [11, 3, 3, 3])
    ours, theirs = [], []
    for seed in range(4):
        rows = replace(case(seed, 300, 6), allowed=np.ones((300, 4), bool))
        found = share_out(rows, seed, shares)
        ours.append(np.abs(found.rows - found.wanted).max())
        strata, groups = rows.strata, rows.groups
        folds = StratifiedGroupKFold(20, shuffle=True, random_state=seed)
        parts = np.empty(300, int)
        for fold, (_, members) in enumerate(folds.split(groups, strata, groups)):
            parts[members] = part_of_fold[fold]
        counts = np.array([np.bincount(parts[strata == s], minlength=4) for s in (0, 1)])
        theirs.append(np.abs(counts - found.wanted).max())
    assert np.mean(ours) < np.mean(theirs)
    assert max(ours) < 4  # images, of 300 in groups of up to 6


def test_large_groups_reach_every_part() -> None:
    """A group's size must not decide where it goes: else a test set has single images only."""
    sizes = np.array([6] * 20 + [1] * 200)
    groups = np.repeat(np.arange(220), sizes)
    counts = np.zeros(4)
    for seed in range(16):
        parts = share_out(anywhere(groups), seed, SHARES[:1]).parts
        large = parts[np.searchsorted(groups, np.arange(20))]
        counts += np.bincount(large, minlength=4)
    assert np.abs(counts / counts.sum() - SHARES[0]).max() < 0.08


def test_a_group_larger_than_a_part_goes_where_it_harms_least() -> None:
    groups = np.repeat([1, 2, 3, 4, 5], [60, 10, 10, 10, 10])
    found = share_out(anywhere(groups), 0, SHARES[:1])
    assert set(found.parts[groups == 1].tolist()) == {0}
    assert set(found.parts[groups > 1].tolist()) == {1, 2, 3}


def test_a_group_that_may_go_nowhere_is_named() -> None:
    rows = GroupedRows(np.array([77, 77]), np.zeros(2, int), np.eye(2, dtype=bool))
    with pytest.raises(ValueError, match="group 77 may go to no part"):
        share_out(rows, 0, np.array([[0.5, 0.5]]))


@pytest.mark.parametrize("seed", range(4))
def test_strata_too_small_for_their_shares_meet_them_together(seed: int) -> None:
    """Twelve defect types of four images: no type reaches five folds, all types together do."""
    strata = np.repeat(np.arange(12), 4)
    rows = GroupedRows(np.arange(48) + 1000 * seed, strata, np.ones((48, 5), bool))
    fifths = np.full((12, 5), 0.2)
    found = assign(rows, Shares(fifths, np.stack([np.arange(12) // 4, np.zeros(12, int)])), seed)
    assert found.rows.max() == 1
    by_category = found.rows.reshape(3, 4, 5).sum(axis=1)
    assert by_category.min() >= 2 and found.rows.sum(axis=0).min() >= 9


# --- strata ---


def labelled(cells: dict[tuple[str, str], int]) -> LabelledRows:
    """So many rows of each (category, defect type), each a group of its own."""
    keys = [key for key, count in cells.items() for _ in range(count)]
    kinds = np.array([kind for _, kind in keys])
    names = np.array([category for category, _ in keys])
    return LabelledRows(names, kinds, kinds != "good", np.arange(len(keys)))


def members(rows: LabelledRows, found) -> set[frozenset[tuple[str, str]]]:
    keys = list(zip(rows.categories.tolist(), rows.types.tolist(), strict=True))
    return {
        frozenset(key for key, of in zip(keys, found.of_row.tolist(), strict=True) if of == stratum)
        for stratum in range(len(found.defects))
    }


def test_small_defect_types_are_shared_out_together_and_named() -> None:
    rows = labelled(
        {("tile", "good"): 9, ("tile", "a"): 3, ("tile", "b"): 4, ("tile", "c"): 8,
         ("bolt", "good"): 2, ("bolt", "dent"): 8, ("bolt", "rust"): 1, ("bolt", "bent"): 9}
    )  # fmt: skip
    found = stratify(rows, 5)
    assert members(rows, found) == {
        frozenset({("tile", "good")}),
        frozenset({("tile", "a"), ("tile", "b")}),
        frozenset({("tile", "c")}),
        frozenset({("bolt", "good")}),
        frozenset({("bolt", "rust"), ("bolt", "dent")}),  # with the smallest of the large
        frozenset({("bolt", "bent")}),
    }
    assert {(m.category, m.types) for m in found.merged} == {
        ("tile", (("a", 3), ("b", 4))),
        ("bolt", (("dent", 8), ("rust", 1))),
    }
    assert found.small == (("bolt", "good", 2),)
    names = [min(rows.categories[found.of_row == s]) for s in range(6)]
    kinds = list(zip(names, found.defects.tolist(), strict=True))
    for a, b in itertools.combinations(range(6), 2):
        assert (found.coarser[0, a] == found.coarser[0, b]) == (kinds[a] == kinds[b])
        assert (found.coarser[1, a] == found.coarser[1, b]) == (kinds[a][1] == kinds[b][1])


def test_a_defect_type_that_is_alone_and_small_is_named() -> None:
    found = stratify(labelled({("tile", "good"): 9, ("tile", "a"): 2}), 5)
    assert found.merged == () and found.small == (("tile", "a", 2),)
    assert sorted(found.defects.tolist()) == [False, True]


def test_what_counts_is_groups_not_images() -> None:
    rows = labelled({("tile", "good"): 9, ("tile", "a"): 8, ("tile", "b"): 8})
    one_part = np.where(rows.types == "a", 0, rows.groups + 100)
    found = stratify(LabelledRows(rows.categories, rows.types, rows.defects, one_part), 5)
    assert [m.types for m in found.merged] == [(("a", 1), ("b", 8))]

"""Folds keep groups together, hold their strata, and are the same everywhere."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stats.folds import grouped_folds

Strata = tuple[list[str], list[str]]


def rows(seed: int, groups: int) -> tuple[Strata, np.ndarray]:
    """One to three rows per group, of a rare, a common and a good kind."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(groups), rng.integers(1, 4, groups))
    kind = np.array(["good", "good", "dent", "hole"])[rng.integers(0, 4, groups)][ids]
    return (kind.tolist(), ["good" if k == "good" else "defect" for k in kind]), ids


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5000), st.integers(2, 5), st.integers(5, 30))
def test_every_row_has_a_fold_no_fold_is_empty_and_no_group_is_torn(
    seed: int, folds: int, groups: int
) -> None:
    strata, ids = rows(seed, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, small = grouped_folds(strata, ids, folds, seed)
    assert set(found) <= set(range(folds))
    assert all(len(set(found[ids == name])) == 1 for name in np.unique(ids))
    counted = {k: len(set(ids[np.array(strata[0]) == k])) for k in set(strata[0])}
    assert small == sorted(k for k, count in counted.items() if count < folds)


def test_large_strata_lie_in_every_fold_in_their_share() -> None:
    kind = ["good"] * 60 + ["dent"] * 20
    found, small = grouped_folds((kind, kind), np.arange(80), 4, seed=0)
    assert small == []
    for name, share in (("good", 15), ("dent", 5)):
        assert np.bincount(found[np.array(kind) == name]).tolist() == [share] * 4


def test_small_strata_are_spread_with_their_like() -> None:
    kinds = ["good"] * 20 + [f"kind {i}" for i in range(8)]
    coarse = ["good"] * 20 + ["defect"] * 8
    found, small = grouped_folds((kinds, coarse), np.arange(28), 4, seed=0)
    assert small == [f"kind {i}" for i in range(8)]
    assert np.bincount(found[20:], minlength=4).tolist() == [2] * 4


def test_the_seed_decides() -> None:
    strata, ids = rows(1, 30)
    first, again, other = (grouped_folds(strata, ids, 3, seed)[0] for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_folds_than_groups_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="3 groups can't fill 4 folds"):
        grouped_folds((["a"] * 6, ["a"] * 6), np.array([0, 0, 1, 1, 2, 2]), 4, 0)

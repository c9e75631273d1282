"""Parts by hash, the same everywhere; choosing on some folds and judging on the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.choosing.confusion import Confusion, by_category, parts
from pipeline.policy.choosing.hold_out import (
    Fold,
    assigned,
    cross_fitted,
    group_words,
    held_out,
    judged,
    leave_one_out,
)
from pipeline.policy.choosing.per_category import cheapest_each
from tests.policy.choosing.counting import counts_of, decided, random_images

WORD = 2**64


def splitmix(state: int) -> int:
    """SplitMix64 in whole numbers."""
    state = (state + 0x9E3779B97F4A7C15) % WORD
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


@settings(max_examples=50)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(0, 99))
def test_words_are_those_of_splitmix(groups: list[int], seed: int) -> None:
    found = group_words(np.array(groups, np.int64), seed).tolist()
    assert found == [splitmix(group % WORD ^ splitmix(seed)) for group in groups]


def test_the_generator_is_the_published_one() -> None:
    """The first number of SplitMix64 from the state 0."""
    assert splitmix(0) == 0xE220A8397B1DCDAF


def test_the_split_never_changes() -> None:
    """Golden: other parts would make hold-out images of a past choice into tuning images."""
    assert assigned(np.arange(12), 4).tolist() == [3, 2, 1, 1, 1, 0, 3, 3, 1, 2, 1, 3]
    assert assigned(np.array(["a", "b", "part_17", "é"]), 4).tolist() == [2, 0, 1, 3]


def test_order_other_rows_and_kinds_of_arrays_do_not_matter() -> None:
    names = np.array([f"part {n % 40}" for n in range(200)])
    found = assigned(names, 5)
    assert (assigned(names[::-1], 5) == found[::-1]).all()
    assert (assigned(names[:7], 5) == found[:7]).all()
    assert (assigned(names.astype(object), 5) == found).all()
    assert len(set(zip(names.tolist(), found.tolist(), strict=True))) == 40
    small = np.arange(50, dtype=np.int32)
    assert (assigned(small, 3) == assigned(small.astype(np.int64), 3)).all()


def test_parts_are_even_and_seeds_unlike() -> None:
    groups = np.arange(100_000)
    share = np.bincount(assigned(groups, 5)) / len(groups)
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    assert held_out(groups, 0.3).mean() == pytest.approx(0.3, abs=0.006)
    one, other = assigned(groups, 5), assigned(groups, 5, seed=1)
    assert (one == other).mean() == pytest.approx(0.2, abs=0.006)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_every_image_is_judged_once_by_a_choice_it_had_no_say_in(seed: int) -> None:
    engine = decided(random_images(seed))
    by_part = parts(engine, by_category(engine.population))
    total = sum(list(by_part.values())[1:], start=by_part[0])

    def cheapest(counts: Confusion) -> np.ndarray:
        return cheapest_each((counts.fn * 5 + counts.fp).astype(float)).policies

    found = cross_fitted(leave_one_out(by_part), cheapest)
    expected = 0
    for fold, (part, counts) in enumerate(by_part.items()):
        others = sum((c for p, c in by_part.items() if p != part), start=total - total)
        chosen = cheapest(others)
        assert found.chosen[fold].tolist() == chosen.tolist()
        expected += counts.fn[chosen, range(3)]
    assert found.counts.fn.tolist() == expected.tolist()
    assert found.counts.defects.tolist() == total.defects[0].tolist()
    assert found.measured_on.says.startswith("cross-fitted")


def test_one_policy_for_all_is_judged_in_every_category() -> None:
    holdout = counts_of([[1, 2], [3, 4]], [[5, 6], [7, 8]], 9, 9)
    assert judged(holdout, 1).fn.tolist() == [3, 4]
    assert judged(holdout, np.array([1, 0])).fn.tolist() == [3, 2]
    overall = cross_fitted([Fold(holdout.total(), holdout.total())], lambda c: int(c.fp.argmin()))
    assert (int(overall.counts.fp), overall.chosen.tolist()) == (11, [0])


def test_parts_that_can_choose_or_judge_nothing_are_refused() -> None:
    good, bad = counts_of([0], [0], 0, 5), counts_of([0], [0], 5, 0)
    both = counts_of([0], [0], 5, 5)
    with pytest.raises(InputError, match="tuning part of fold 1: has no defects"):
        cross_fitted([Fold(both, both), Fold(good, both)], lambda _: 0)
    with pytest.raises(InputError, match="hold-out of all folds: has no good images"):
        cross_fitted([Fold(both, bad), Fold(both, bad)], lambda _: 0)
    with pytest.raises(InputError, match="the data has 1 of them"):
        list(leave_one_out({0: both}))
    for share in (0, 1, 1.5, float("nan")):
        with pytest.raises(InputError, match="hold-out: share is"):
            held_out(np.arange(3), share)
    with pytest.raises(InputError, match="folds: 1 can't be told apart"):
        assigned(np.arange(3), 1)
    with pytest.raises(ValueError, match="groups are float64"):
        group_words(np.zeros(3))

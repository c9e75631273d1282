"""The front against a comparison of every policy with every other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.policy.choosing.confusion import Confusion
from pipeline.policy.choosing.front import front, pareto

few = st.integers(0, 6)


def not_beaten(losses: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return {loss for loss in losses if not any(beats(other, loss) for other in losses)}


def check(losses: list[tuple[int, ...]]) -> None:
    array = np.array(losses)
    found = pareto(array)
    points = [tuple(row) for row in array[found.policies].tolist()]
    assert len(points) == len(set(points))
    assert set(points) == not_beaten(losses)
    for policy, point, equals in zip(found.policies, points, found.equals, strict=True):
        assert policy == losses.index(point)
        assert equals == losses.count(point)


@settings(max_examples=200)
@given(st.lists(st.tuples(few, few), min_size=1, max_size=40))
def test_two_losses(losses: list[tuple[int, ...]]) -> None:
    check(losses)


@settings(max_examples=200)
@given(st.lists(st.tuples(few, few, few), min_size=1, max_size=40))
def test_three_losses(losses: list[tuple[int, ...]]) -> None:
    check(losses)


def test_oracles_take_no_part() -> None:
    fn, fp = np.array([0, 5, 3, 4]), np.array([0, 5, 6, 5])
    none = np.zeros(4, np.int64)
    counts = Confusion(fn, fp, none, none, none + 9, none + 9)
    assert front(counts).policies.tolist() == [0]
    chosen = front(counts, np.array([False, True, True, True]))
    assert chosen.policies.tolist() == [2, 3]
    assert not len(front(counts, np.zeros(4, bool)).policies)


def test_reviewing_all_wins_unless_reviews_count() -> None:
    fn, fp, sent = np.array([0, 1]), np.array([0, 1]), np.array([9, 0])
    none = np.zeros(2, np.int64)
    counts = Confusion(fn, fp, sent, sent, none + 9, none + 9)
    assert front(counts).policies.tolist() == [0]
    assert front(counts, review=True).policies.tolist() == [0, 1]

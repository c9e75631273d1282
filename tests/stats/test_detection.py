"""Overlaps, hits and right boxes, against counting pixels and against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from pipeline.stats.detection import (
    best_confidence,
    pairwise_iou,
    share_with_interval,
    true_positives,
)

SIDE = 12
CORNER = st.integers(0, SIDE)
BOXES = st.lists(
    st.tuples(CORNER, CORNER, CORNER, CORNER).map(
        lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
    ),
    max_size=5,
).map(lambda boxes: np.array(boxes, np.float64).reshape(-1, 4))


def drawn(box: np.ndarray) -> np.ndarray:
    canvas = np.zeros((SIDE, SIDE), bool)
    x0, y0, x1, y1 = box.astype(int)
    canvas[y0:y1, x0:x1] = True
    return canvas


@given(BOXES, BOXES)
def test_iou_is_that_of_counted_pixels(a: np.ndarray, b: np.ndarray) -> None:
    iou = pairwise_iou(a, b)
    assert iou.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            both = (drawn(one) & drawn(other)).sum()
            either = (drawn(one) | drawn(other)).sum()
            assert iou[i, j] == pytest.approx(both / either if either else 0)


@given(BOXES, BOXES, st.floats(0.05, 0.95), st.randoms(use_true_random=False))
def test_hits_and_right_boxes_are_those_of_loops(
    a: np.ndarray, b: np.ndarray, least: float, random: object
) -> None:
    iou = pairwise_iou(a, b)
    confidence = np.array([random.random() for _ in a])  # type: ignore[attr-defined]
    expected = [max([c for c, o in zip(confidence, iou[:, j], strict=True) if o >= least] or [0.0])
                for j in range(len(b))]  # fmt: skip
    assert best_confidence(iou, confidence, least).tolist() == expected
    taken: set[int] = set()
    for i, right in enumerate(true_positives(iou, least)):
        able = [j for j in range(len(b)) if j not in taken and iou[i, j] >= least]
        assert right == bool(able)
        if able:
            taken.add(max(able, key=lambda j: (iou[i, j], -j)))


def test_a_second_box_on_the_same_defect_is_false_but_hits_nothing_new() -> None:
    iou = pairwise_iou(np.array([[0, 0, 4, 4], [0, 0, 4, 5]]), np.array([[0, 0, 4, 4]]))
    assert true_positives(iou, 0.5).tolist() == [True, False]


def test_one_box_over_two_defects_hits_both_and_is_right_once() -> None:
    iou = pairwise_iou(np.array([[0, 0, 10, 4]]), np.array([[0, 0, 5, 4], [5, 0, 10, 4]]))
    assert best_confidence(iou, np.array([0.7]), 0.1).tolist() == [0.7, 0.7]
    assert true_positives(iou, 0.5).tolist() == [True]


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (7, 102)])
def test_the_interval_is_clopper_and_pearsons(hits: int, n: int) -> None:
    share, low, high = share_with_interval(hits, n)
    assert share == hits / n
    assert low == pytest.approx(beta.ppf(0.025, hits, n - hits + 1) if hits else 0)
    assert high == pytest.approx(beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1)

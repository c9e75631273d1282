"""Boxes against boxes: overlaps, which defects were hit, which boxes are right."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes a (N, 4) and b (M, 4), x_min, y_min, x_max, y_max: (N, M).

    A box without area overlaps nothing.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    iou: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def best_confidence(iou: np.ndarray, confidence: np.ndarray, least: float) -> np.ndarray:
    """Per true box, the highest confidence of a found box that overlaps it enough; 0: none does.

    A true box is hit at every threshold up to that confidence. One found box may hit several.

    Args:
        iou: (N, M) of N found and M true boxes.
        confidence: (N,).
        least: overlap that is a hit.

    Returns:
        (M,) float64.
    """
    able = np.where(iou >= least, confidence[:, None], 0.0)
    best: np.ndarray = np.max(able, axis=0, initial=0.0)
    return best


def true_positives(iou: np.ndarray, least: float) -> np.ndarray:
    """Which of N found boxes, most confident first, are right; bool (N,).

    As COCO counts: each in turn takes the true box that it overlaps most of those that none
    before it has taken; without one it is false.

    Args:
        iou: (N, M) of N found and M true boxes of one class.
        least: overlap that is enough.
    """
    free = np.ones(iou.shape[1], bool)
    right = np.zeros(len(iou), bool)
    for row, overlaps in enumerate(iou):
        able = np.where(free & (overlaps >= least), overlaps, -1.0)
        if len(able) and able.max() > 0:
            free[able.argmax()] = False
            right[row] = True
    return right


def share_with_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float, float]:
    """A share and its exact two-sided interval (Clopper and Pearson 1934); n at least 1."""
    interval = binomtest(hits, n).proportion_ci(level, method="exact")
    return hits / n, float(interval.low), float(interval.high)

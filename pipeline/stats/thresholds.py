"""Thresholds on one score: the value that a rule picks, and what it does to labelled images.

An image is flagged if its score is at or above the threshold. Every value is one of the column's
own type, so that a comparison in that type, or in a wider one, gives the same answer everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix_at_thresholds

Scores = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]

# What an image without a score is taken for: never flagged, or always.
MISSING_SCORES = {"missed": -np.inf, "flagged": np.inf}
# Costs that differ by less are equal but for rounding: a few hundred times float64's epsilon.
_SAME_COST = 1e-12


@dataclass(frozen=True)
class Costs:
    """What errors cost, in any one unit, and how often defects come on the line.

    Attributes:
        false_positive: of a false alarm.
        false_negative: of a missed defect.
        defect_rate: the line's expected share of defects, not the calibration images'.
    """

    false_positive: float
    false_negative: float
    defect_rate: float

    def __post_init__(self) -> None:
        for name in ("false_positive", "false_negative"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise ValueError(f"cost of a {name} is {value}, needs to be above 0 and finite")
        if not 0 < self.defect_rate < 1:
            raise ValueError(f"defect rate is {self.defect_rate}, needs to be in (0, 1)")


@dataclass(frozen=True)
class Counts:
    """Decisions about labelled images."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def fpr(self) -> float | None:
        """False alarms per good image; None: there is none."""
        return self.fp / (self.fp + self.tn) if self.fp + self.tn else None

    @property
    def fnr(self) -> float | None:
        """Missed defects per defect; None: there is none."""
        return self.fn / (self.fn + self.tp) if self.fn + self.tp else None


@dataclass(frozen=True)
class Curve:
    """What every candidate threshold does.

    Attributes:
        thresholds: (T,) the different finite scores, decreasing.
        tp: (T,) int64 defects at or above each.
        fp: (T,) int64 good images at or above each.
        always: defects and good images that are flagged at any threshold.
        defects: all defects.
        goods: all good images.
    """

    thresholds: Scores
    tp: npt.NDArray[np.int64]
    fp: npt.NDArray[np.int64]
    always: tuple[int, int]
    defects: int
    goods: int


def settled(scores: Scores, missing: str) -> Scores:
    """Scores (…,) with the missing ones, NaN, below or above all others, as `missing` says.

    Raises:
        ValueError: a score is infinite, or not a float.
    """
    if scores.dtype not in (np.float32, np.float64):
        raise ValueError(f"scores are {scores.dtype}, need float32 or float64")
    if np.isinf(scores).any():
        place = np.argwhere(np.isinf(scores))[0].tolist()
        raise ValueError(f"score at {place} is infinite; a score is finite, or NaN if missing")
    result: Scores = np.where(np.isnan(scores), scores.dtype.type(MISSING_SCORES[missing]), scores)
    return result


def curve(scores: Scores, defect: Flags) -> Curve:
    """Counts at every different score, by one sort.

    Args:
        scores: (N,) settled.
        defect: (N,) ground truth.
    """
    flagged = scores == np.inf
    always = (int((flagged & defect).sum()), int((flagged & ~defect).sum()))
    scored = np.isfinite(scores)
    tp = fp = np.zeros(0, np.int64)
    thresholds = scores[:0]
    if scored.any():
        _, fp, _, tp, thresholds = confusion_matrix_at_thresholds(
            defect[scored], scores[scored], pos_label=True
        )
    return Curve(
        thresholds,
        tp.astype(np.int64) + always[0],
        fp.astype(np.int64) + always[1],
        always,
        int(defect.sum()),
        int((~defect).sum()),
    )


def fbeta_threshold(scores: Scores, defect: Flags, beta: int) -> float:
    """The score with the largest F-beta; of equal ones the lowest, which misses the fewest.

    F = (1+β²) TP / ((1+β²) TP + β² FN + FP).

    Args:
        scores: (N,) settled.
        defect: (N,) ground truth.
        beta: 1, or 2 where a missed defect weighs more.

    Returns:
        The threshold; infinite if no defect has a score.
    """
    found = curve(scores, defect)
    weight = beta * beta
    hits = (1 + weight) * found.tp
    # A ratio of whole numbers below 2^53: equal values are equal in float64 too.
    value = hits / np.maximum(hits + weight * (found.defects - found.tp) + found.fp, 1)
    if not (found.tp > found.always[0]).any():
        return np.inf
    return float(found.thresholds[_last(value == value.max())])


def cost_threshold(scores: Scores, defect: Flags, costs: Costs) -> float:
    """The threshold with the least expected cost per image on the line.

    Cost = π c_fn FNR + (1−π) c_fp FPR, π the line's defect rate. Candidates are the scores and the
    next number above the largest, which flags none of them; of equal ones the lowest.

    Args:
        scores: (N,) settled.
        defect: (N,) ground truth, with both kinds.
        costs: of errors.

    Returns:
        The threshold; infinite if no image has a score.
    """
    found = curve(scores, defect)
    if not len(found.thresholds):
        return np.inf
    above = np.nextafter(found.thresholds[:1], scores.dtype.type(np.inf))
    thresholds = np.concatenate([above, found.thresholds])
    tp = np.concatenate([[found.always[0]], found.tp])
    fp = np.concatenate([[found.always[1]], found.fp])
    missed = costs.defect_rate * costs.false_negative * (found.defects - tp) / found.defects
    alarms = (1 - costs.defect_rate) * costs.false_positive * fp / found.goods
    cost = missed + alarms
    return float(thresholds[_last(cost <= cost.min() * (1 + _SAME_COST))])


def _last(best: Flags) -> int:
    return len(best) - 1 - int(np.argmax(best[::-1]))


def safe_threshold(scores: Scores, allowed: int) -> Scores:
    """The (k+1)-th smallest defect score: with it k of n defects are missed, fewer with ties.

    Args:
        scores: (…, n) settled scores of defects; each row of n is one calibration.
        allowed: k, fixed before any score was seen.

    Returns:
        (…,) thresholds; infinite where that many scores are missing.

    Raises:
        ValueError: k is below 0, or there are not more than k defects.
    """
    if not 0 <= allowed < scores.shape[-1]:
        raise ValueError(
            f"{allowed} misses allowed of {scores.shape[-1]} defects: needs 0 <= misses < defects"
        )
    threshold: Scores = np.partition(scores, allowed, axis=-1)[..., allowed]
    return threshold


def conformal_alarms(normals: int, target: float) -> int:
    """How many of m held-out normals may lie above the threshold: ⌊(m+1) α⌋, in exact arithmetic.

    Raises:
        ValueError: a target outside (0, 1).
    """
    if not 0 < target < 1:
        raise ValueError(f"false-positive target is {target}, needs to be in (0, 1)")
    return int((normals + 1) * Fraction(repr(float(target))))


def normals_needed(target: float) -> int:
    """The fewest held-out normals with a finite threshold: 1/α − 1, rounded up."""
    return int(-(-1 // Fraction(repr(float(target))))) - 1


def conformal_threshold(scores: Scores, target: float) -> float:
    """The lowest threshold whose expected false-positive rate is at most α.

    With r = ⌊(m+1) α⌋ a next exchangeable normal lies above the (m+1−r)-th smallest of m with
    probability at most r/(m+1) ≤ α (split conformal; Vovk, Gammerman and Shafer 2005). The
    threshold is the next number above that score, since a score equal to it is flagged.

    Args:
        scores: (m,) settled scores of normals that neither a fit nor a rule has seen.
        target: α.

    Returns:
        The threshold; infinite with fewer than 1/α − 1 normals, or where missing scores decide.
    """
    alarms = conformal_alarms(len(scores), target)
    if not alarms:
        return np.inf
    edge = np.sort(scores)[len(scores) - alarms]
    if not np.isfinite(edge):
        return float(edge)
    return float(np.nextafter(edge, scores.dtype.type(np.inf)))


def count(scores: Scores, defect: Flags, threshold: float) -> Counts:
    """Decisions that a threshold makes about N settled scores."""
    flagged = scores >= threshold
    tp, fp = int((flagged & defect).sum()), int((flagged & ~defect).sum())
    return Counts(tp, fp, int((~defect).sum()) - fp, int(defect.sum()) - tp)

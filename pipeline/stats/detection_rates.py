"""How well scores tell defects from good rows, each figure with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from pipeline.stats.ranking import interval_at_an_end

CONFIDENCE = 0.95
# Percentiles of so many resamples are steady in the second digit.
RESAMPLES = 1000
# Resamples of an area that stays the same differ by what sums round off, far less than this.
_ROUNDED_OFF = 1e-12


@dataclass(frozen=True)
class Rate:
    """A share with its two-sided Clopper–Pearson interval.

    Attributes:
        hits: how many.
        of: out of how many.
        low: lower end.
        high: upper end.
    """

    hits: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share; None of none."""
        return self.hits / self.of if self.of else None


def clopper_pearson(hits: int, of: int, confidence: float = CONFIDENCE) -> Rate:
    """The exact two-sided interval of a binomial share (Clopper and Pearson 1934).

    Raises:
        ValueError: more hits than trials, or a negative count.
    """
    if not 0 <= hits <= of:
        raise ValueError(f"{hits} hits of {of}: a share lies between 0 and 1")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, of - hits)) if hits < of else 1.0
    return Rate(hits, of, low, high)


def f1_threshold(truth: np.ndarray, scores: np.ndarray) -> float | None:
    """The score at or above which calling a row a defect has the best F1 on these rows.

    Among equals the lowest, which misses least. None where one of the two kinds is absent.
    """
    if truth.all() or not truth.any():
        return None
    levels, place = np.unique(scores, return_inverse=True)
    flagged, caught = (
        np.cumsum(np.bincount(place, kind, len(levels))[::-1])[::-1]
        for kind in (np.ones(len(place)), truth.astype(np.float64))
    )
    # A quotient of two whole numbers: equal F1s are equal to the last bit, however they came about.
    f1 = 2 * caught / (truth.sum() + flagged)
    return float(levels[int(np.argmax(f1))])


def cross_chosen_thresholds(truth: np.ndarray, scores: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """For each row the F1 threshold of the rows of all other parts: no row chooses its own.

    Args:
        truth: (N,) bool.
        scores: (N,) float64.
        parts: (N,) int64; rows of one part are judged by the others.

    Returns:
        (N,) float64; NaN where the other parts lack one of the two kinds.
    """
    result = np.full(len(truth), np.nan)
    for part in np.unique(parts):
        others = parts != part
        threshold = f1_threshold(truth[others], scores[others])
        result[~others] = np.nan if threshold is None else threshold
    return result


@dataclass(frozen=True)
class Areas:
    """Areas under both curves in B resamples; NaN where a resample lacks one kind.

    Attributes:
        auroc: (B,) float64.
        average_precision: (B,) float64.
        groups: of defects or of good rows, whichever are fewer; None: not known.
    """

    auroc: np.ndarray
    average_precision: np.ndarray
    groups: int | None = None


def areas(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Areas:
    """Areas under the ROC and the precision–recall curve for B sets of weights at once.

    As scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`; ties
    count a half, and one step. One sort serves all B.

    Args:
        truth: (N,) bool.
        scores: (N,) float64.
        weights: (B, N) of each row.
    """
    levels, place = np.unique(scores, return_inverse=True)
    defects = _per_level(weights * truth, place, len(levels))
    good = _per_level(weights * ~truth, place, len(levels))
    total_defects, total_good = defects.sum(1), good.sum(1)
    below = np.cumsum(good, axis=1) - good
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = (defects * (below + good / 2)).sum(1) / (total_defects * total_good)
        caught = np.cumsum(defects[:, ::-1], axis=1)
        called = caught + np.cumsum(good[:, ::-1], axis=1)
        precision = np.divide(caught, called, out=np.zeros_like(caught), where=called > 0)
        average = (defects[:, ::-1] * precision).sum(1) / total_defects
    return Areas(auroc, np.where(total_good > 0, average, np.nan))


def _per_level(weights: np.ndarray, place: np.ndarray, levels: int) -> np.ndarray:
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(levels))
    summed: np.ndarray = np.add.reduceat(weights[:, order], starts, axis=1)
    return summed


def group_resamples(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(B + 1, N) weights: all rows once, then B bootstrap draws of whole groups.

    Rows of a group stand or fall together: near-duplicates are no independent evidence.
    """
    names, place = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    rows: np.ndarray = np.concatenate([np.ones((1, len(groups))), counts[:, place]])
    return rows


def resampled_areas(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray, seed: int) -> Areas:
    """Areas of all rows, and of each of the resamples behind them.

    Args:
        truth: (N,) bool.
        scores: (N,) float64.
        groups: (N,) of each row.
        seed: of the draws.
    """
    found = areas(truth, scores, group_resamples(groups, RESAMPLES, seed))
    fewer = min(len(np.unique(groups[side])) for side in (truth, ~truth))
    return Areas(found.auroc, found.average_precision, fewer)


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap interval; all None where it means nothing."""

    value: float | None
    low: float | None
    high: float | None


def estimate(
    values: np.ndarray,
    confidence: float = CONFIDENCE,
    groups: int | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """The figure of all rows, values[0], and percentiles of the resamples behind it.

    Resamples in which the figure doesn't exist are left out. Where they show nothing of what other
    rows would give, the interval is all that the figure may be: where one kind is a single group,
    without which no resample has a figure, and where none differs from another.

    Args:
        values: (B + 1,) float64.
        confidence: of the interval.
        groups: of an area, those of the rarer kind: where it is 0 or 1, every resample says the
            same, and how sure that is follows from their number alone.
        ends: the least and the most that the figure can be.
    """
    if not np.isfinite(values[0]):
        return Estimate(None, None, None)
    value = float(values[0])
    if groups and value in (0, 1) and ends == (0, 1):
        return Estimate(value, *interval_at_an_end(value, groups, confidence))
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return Estimate(value, None, None)
    if groups == 1 or np.ptp(drawn) < _ROUNDED_OFF:
        return Estimate(value, *ends)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))

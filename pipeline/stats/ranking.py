"""How well a score ranks defects above good images, with intervals for many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

Scores = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ranking:
    """An area under a curve with its interval.

    Attributes:
        value: of all rows.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


def auroc(scores: Scores, defect: Flags, confidence: float = 0.95) -> Ranking:
    """Area under the ROC curve, its interval from DeLong's variance; ties count a half.

    DeLong, DeLong and Clarke-Pearson 1988; by ranks as Sun and Xu 2014. Rows are taken to be
    independent. The interval is symmetric on the logit scale, so that it stays within 0 and 1.

    Args:
        scores: (N,) without NaN, larger for a defect.
        defect: (N,), with both kinds.
        confidence: of the interval.
    """
    above, below = scores[defect], scores[~defect]
    m, n = len(above), len(below)
    everyone = rankdata(np.concatenate([above, below]))
    # Of each defect the share of good images below it, of each good image that of defects above.
    beaten = (everyone[:m] - rankdata(above)) / n
    beating = 1 - (everyone[m:] - rankdata(below)) / m
    value = float(beaten.mean())
    variance = sum(
        float(part.var(ddof=1)) / len(part) for part in (beaten, beating) if len(part) > 1
    )
    if m == 1 or n == 1:
        variance = np.nan
    return _on_logit(value, np.sqrt(variance), min(m, n), confidence)


def average_precision(scores: Scores, defect: Flags, confidence: float = 0.95) -> Ranking:
    """Area under the precision–recall curve, one step per distinct score.

    Its interval is symmetric on the logit scale with the standard error of a proportion of the
    defects (Boyd, Eng and Page 2013); rows are taken to be independent.

    Args:
        scores: (N,) without NaN, larger for a defect.
        defect: (N,), with one defect at least.
        confidence: of the interval.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(defect[order])
    last = np.append(ordered[1:] != ordered[:-1], True)
    caught = hits[last]
    precision = caught / (np.flatnonzero(last) + 1)
    value = float((np.diff(caught, prepend=0) * precision).sum() / caught[-1])
    return _on_logit(value, np.sqrt(value * (1 - value) / caught[-1]), int(caught[-1]), confidence)


def _on_logit(value: float, deviation: float, rows: int, confidence: float) -> Ranking:
    """An interval that is symmetric in log(p / (1 - p)).

    At 0 and 1 the deviation is 0 and says nothing: there it is Clopper and Pearson's for as many
    rows of the rarer kind, all of them ranked right, or wrong.
    """
    tail = (1 - confidence) / 2
    if not 0 < value < 1:
        furthest = tail ** (1 / rows)
        return Ranking(value, furthest, 1.0) if value else Ranking(value, 0.0, 1 - furthest)
    if not np.isfinite(deviation):
        return Ranking(value, 0.0, 1.0)
    spread = ndtri(1 - tail) * deviation / (value * (1 - value))
    centre = np.log(value / (1 - value))
    low, high = (1 / (1 + np.exp(-(centre + sign * spread))) for sign in (-1, 1))
    return Ranking(value, float(low), float(high))

"""How well a score ranks defects above good images, with intervals for many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

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
    above, below = np.sort(scores[defect]), np.sort(scores[~defect])
    m, n = len(above), len(below)
    # Of each defect the share of good images below it, of each good image that of defects above.
    beaten = _midranks(below, above) / n
    beating = 1 - _midranks(above, below) / m
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
    above, below = np.sort(scores[defect]), np.sort(scores[~defect])
    m, n = len(above), len(below)
    # Each defect's own score as the threshold: what is flagged, and how much of it are defects.
    caught = m - np.searchsorted(above, above, "left")
    alarms = n - np.searchsorted(below, above, "left")
    value = float((caught / (caught + alarms)).mean())
    variance = np.nan if m == 1 or n == 1 else value * (1 - value) / m
    return _on_logit(value, np.sqrt(variance), m, confidence)


def _midranks(ordered: Scores, values: Scores) -> npt.NDArray[np.float64]:
    """Of each of the sorted values how many of `ordered` are below it, a tie being half below."""
    below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (below + up_to) / 2


def _on_logit(value: float, deviation: float, rows: int, confidence: float) -> Ranking:
    """An interval that is symmetric in log(p / (1 - p)); 0 to 1 where there is no deviation.

    It is NaN where a kind has one row, and 0 where all scores are equal, which says nothing of
    other rows.
    """
    if not 0 < value < 1:
        return Ranking(value, *interval_at_an_end(value, rows, confidence))
    if not deviation > 0:
        return Ranking(value, 0.0, 1.0)
    spread = ndtri((1 + confidence) / 2) * deviation / (value * (1 - value))
    centre = np.log(value / (1 - value))
    low, high = (1 / (1 + np.exp(-(centre + sign * spread))) for sign in (-1, 1))
    return Ranking(value, float(low), float(high))


def interval_at_an_end(value: float, rows: int, confidence: float) -> tuple[float, float]:
    """Lower and upper end where everything is ranked right, 1, or wrong, 0.

    There neither a deviation nor resamples differ from the value, which says nothing: it is Clopper
    and Pearson's interval of as many hits, or misses, as there are independent rows of the rarer
    kind.
    """
    furthest = ((1 - confidence) / 2) ** (1 / rows)
    return (furthest, 1.0) if value else (0.0, 1 - furthest)

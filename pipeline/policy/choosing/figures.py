"""Figures of policies: rates with their intervals, F-measures, averages over categories.

A rate whose denominator is 0 does not exist: NaN in arrays, None in records, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.policy.choosing.confusion import Confusion, Ints, Review
from pipeline.policy.choosing.intervals import CONFIDENCE, Floats, clopper_pearson, share, wilson
from pipeline.policy.choosing.measured import MeasuredOn

RATES = ("precision", "recall", "fpr", "fnr", "flagged_rate", "review_load")
F_MEASURES = ("f1", "f2")
COUNTS = ("tp", "fp", "tn", "fn", "review_defects", "review_goods", "defects", "goods")


@dataclass(frozen=True)
class Share:
    """Hits among trials, arrays of one shape."""

    hits: Ints
    of: Ints

    @property
    def value(self) -> Floats:
        """The rate; NaN of no trials."""
        return share(self.hits, self.of)


@dataclass(frozen=True)
class Shown:
    """How figures are made.

    Attributes:
        confidence: of the two-sided intervals.
        review: how reviewed images count in precision, recall, F-measures, FPR and FNR.
        independent: counts of one image per group, for the intervals; None: all images count as
            independent.
    """

    confidence: float = CONFIDENCE
    review: Review = "person"
    independent: Confusion | None = None


def shares(counts: Confusion, review: Review = "person") -> dict[str, Share]:
    """Every rate as hits among trials.

    With review by a person, recall is 1 − FNR: the share of defects that do not get through.
    Precision is the share of defects among what a line ends up taking out. `flagged_rate` is what
    the policy itself decides as a defect, `review_load` what goes to a person.

    Args:
        counts: of any shape.
        review: how reviewed images count in the first four.
    """
    two = counts.with_review(review)
    images = counts.defects + counts.goods
    return {
        "precision": Share(two.tp, two.tp + two.fp),
        "recall": Share(two.tp, two.defects),
        "fpr": Share(two.fp, two.goods),
        "fnr": Share(two.fn, two.defects),
        "flagged_rate": Share(counts.tp + counts.fp, images),
        "review_load": Share(counts.reviewed, images),
    }


def f_beta(counts: Confusion, beta: int, review: Review = "person") -> Floats:
    """F = (1+β²) TP / ((1+β²) TP + β² FN + FP); NaN where there is neither defect nor alarm."""
    two, weight = counts.with_review(review), beta * beta
    hits = (1 + weight) * two.tp
    return share(hits, hits + weight * two.fn + two.fp)


def columns(counts: Confusion, shown: Shown | None = None) -> dict[str, npt.NDArray[Any]]:
    """All figures by name, arrays of the counts' shape, as a table's columns.

    Beside each rate stand `_low` and `_high` (Wilson, for display), `_exact_low` and `_exact_high`
    (Clopper–Pearson, for claims) and `_of`, the images behind the interval. The F-measures are no
    binomial shares and get no interval.

    Args:
        counts: of any shape.
        shown: how figures are made.
    """
    shown = shown or Shown()
    table: dict[str, npt.NDArray[Any]] = {name: getattr(counts, name) for name in COUNTS}
    behind = counts if shown.independent is None else shown.independent
    independent = shares(behind, shown.review)
    for name, rate in shares(counts, shown.review).items():
        of = independent[name]
        table[name] = rate.value
        table[f"{name}_low"], table[f"{name}_high"] = wilson(of.hits, of.of, shown.confidence)
        exact = clopper_pearson(of.hits, of.of, shown.confidence)
        table[f"{name}_exact_low"], table[f"{name}_exact_high"] = exact
        table[f"{name}_of"] = of.of
    for beta in (1, 2):
        table[f"f{beta}"] = f_beta(counts, beta, shown.review)
    return table


def rates(counts: Confusion, review: Review = "person") -> dict[str, Floats]:
    """Rates and F-measures without intervals, for many policies at once."""
    found = {name: rate.value for name, rate in shares(counts, review).items()}
    return found | {f"f{beta}": f_beta(counts, beta, review) for beta in (1, 2)}


def macro(values: Floats) -> tuple[Floats, Ints]:
    """The mean over categories of those rates that exist, and how many those are.

    Args:
        values: (…, C), NaN where a category has no such rate.

    Returns:
        (…) means, NaN of none, and (…) the number of categories behind each.
    """
    there = np.isfinite(values)
    number = there.sum(-1)
    total = np.where(there, values, 0).sum(-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0), number


def record(
    table: Mapping[str, npt.NDArray[Any]], index: Any, measured_on: MeasuredOn
) -> dict[str, Any]:
    """One row of `columns` in plain numbers, None where a figure does not exist.

    Args:
        table: of `columns`, or `rates`.
        index: which element of the arrays.
        measured_on: which images the figures come from.
    """
    row = {name: _plain(array[index]) for name, array in table.items()}
    return row | {"measured_on": measured_on.says, "in_sample": measured_on.in_sample}


def _plain(value: Any) -> int | float | None:
    number: int | float = value.item()
    return None if math.isnan(number) else number

"""A challenger against the champion: which images change sides, and whether that is chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from pipeline.policy.choosing.confusion import DECISIONS, Ints
from pipeline.policy.choosing.intervals import Floats

_DEFECT, _GOOD = DECISIONS.index("defect"), DECISIONS.index("good")


@dataclass(frozen=True)
class Flips:
    """Decisions of two policies about the same images, of one truth; arrays (…).

    Attributes:
        fixed: the champion errs, the challenger does not.
        broken: the challenger errs, the champion does not.
        both: both err.
        to_review: the challenger sends to a person what the champion decided.
        from_review: the challenger decides what the champion sent to a person.
        images: all of this truth.
        p_value: of McNemar's exact test that fixing and breaking are equally likely; NaN where
            nothing is fixed or broken.
    """

    fixed: Ints
    broken: Ints
    both: Ints
    to_review: Ints
    from_review: Ints
    images: Ints
    p_value: Floats


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion.

    Attributes:
        defects: flips among defects, where an error is a miss.
        goods: flips among good images, where an error is a false alarm.
    """

    defects: Flips
    goods: Flips


def compare(crossed: Ints) -> Comparison:
    """Flips both ways, by truth.

    An error is a defect that is passed or a good image that is flagged; a reviewed image is none.
    The p-values assume independent images that did not choose the challenger.

    Args:
        crossed: (…, 2, 3, 3) images by truth (good, defect), the champion's decision and the
            challenger's, in the order of `DECISIONS`.
    """
    if crossed.shape[-3:] != (2, 3, 3):
        raise ValueError(f"crossed counts are {crossed.shape}, need (…, 2, 3, 3)")
    return Comparison(
        defects=_flips(crossed[..., 1, :, :], _GOOD), goods=_flips(crossed[..., 0, :, :], _DEFECT)
    )


def mcnemar(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Floats:
    """Two-sided exact p-value that discordant images fall either way with probability ½.

    McNemar (1947), by the binomial distribution: min(1, 2 P(X ≤ min(b, c))), X ~ Bin(b + c, ½).

    Args:
        one: (…) images that only one policy gets wrong.
        other: (…) images that only the other gets wrong.

    Returns:
        (…) p-values; NaN where there are none.
    """
    n = one + other
    tail = binom.cdf(np.minimum(one, other), n, 0.5)
    return np.where(n > 0, np.minimum(1.0, 2 * tail), np.nan)


def _flips(crossed: Ints, wrong: int) -> Flips:
    review = DECISIONS.index("review")
    both = crossed[..., wrong, wrong]
    fixed = crossed[..., wrong, :].sum(-1) - both
    broken = crossed[..., :, wrong].sum(-1) - both
    kept = crossed[..., review, review]
    return Flips(
        fixed=fixed,
        broken=broken,
        both=both,
        to_review=crossed[..., :, review].sum(-1) - kept,
        from_review=crossed[..., review, :].sum(-1) - kept,
        images=crossed.sum((-1, -2)),
        p_value=mcnemar(fixed, broken),
    )

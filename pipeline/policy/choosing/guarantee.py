"""Certifying a policy: Learn-then-Test, so that a limit holds on the next images too.

Angelopoulos, Bates, Candès, Jordan and Lei (2021), "Learn then test". The tuning images order the
candidates; the certifying images, which had no say in that, test for each the hypothesis that its
true rate exceeds the limit. The chance that any policy is certified wrongly is at most δ, whatever
the scores' distribution, if certifying and production images are exchangeable and independent.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from pipeline.errors import InputError
from pipeline.policy.choosing.budgets import choosable
from pipeline.policy.choosing.confusion import Confusion, Flags, Ints
from pipeline.policy.choosing.intervals import Floats
from pipeline.policy.choosing.limits import Guarantee, Limit

Method = Literal["fixed-sequence", "bonferroni"]

# Allowed errors up to which a needed number of images is looked for; beyond it nobody labels.
_MOST_HITS = 1 << 20
_WORDS = {"fnr": ("defects", "missed"), "fpr": ("good images", "flagged")}


@dataclass(frozen=True)
class Certificate:
    """What may be promised.

    Attributes:
        guarantee: what was asked for.
        policy: the certified policy with the fewest errors of the other kind on tuning; None: no
            policy can be certified.
        certified: (n,) all certified policies, in the order of testing.
        tested: how many candidates there were.
        method: how the chance of any wrong certificate was kept at δ.
        hits: errors of the limited kind on the certifying images: of the policy, or where there is
            none of the candidate that came nearest.
        of: the certifying images that the rate is a share of.
        needed: images that would certify a policy without an error.
        needed_at_share: images that would certify at the share of errors seen; None: no number
            would, or more than anyone labels.
        lacking: why there was no candidate to test; empty: there was one.
    """

    guarantee: Guarantee
    policy: int | None
    certified: Ints
    tested: int
    method: Method
    hits: int
    of: int
    needed: int
    needed_at_share: int | None
    lacking: str = ""

    @property
    def says(self) -> str:
        """The answer in words."""
        wanted, kind, error = self.guarantee.says, *_WORDS[self.guarantee.limit.rate]
        if self.lacking:
            return f"{wanted} is not certified, there is no candidate: {self.lacking}"
        if self.policy is not None:
            return (
                f"{wanted} certified: {self.hits} of {self.of} {kind} {error} on images that had "
                f"no say in the candidates' order; {len(self.certified)} of {self.tested} hold"
            )
        says = f"{wanted} cannot be certified with {self.of} {kind}; n needed: {self.needed}"
        if not self.hits:
            return f"{says}, none of them {error}"
        says += f" with none {error}; at the share seen, {self.hits} of {self.of}, "
        if self.needed_at_share is None:
            return f"{says}no number would do"
        return f"{says}{self.needed_at_share}"


def certify(
    guarantee: Guarantee,
    tuning: Confusion,
    certifying: Confusion,
    eligible: Flags | None = None,
    method: Method = "fixed-sequence",
) -> Certificate:
    """Certifies policies and takes the one with the fewest errors of the other kind on tuning.

    `fixed-sequence` tests along `path`, from the safest candidate on, each at the whole δ, until
    one fails: n images without an error are enough for a limit however many policies there are.
    `bonferroni` tests all candidates of the path at δ / their number.

    Args:
        guarantee: on `fnr`, then false alarms are to be few, or on `fpr`, then misses.
        tuning: (P,) counts that order the candidates.
        certifying: (P,) counts of other images, one of each group.
        eligible: (P,) which can be chosen; None: all.
        method: how many tests share δ.

    Raises:
        InputError: no policy to choose, or a part without images of the kind that is limited.
    """
    limit = guarantee.limit
    _require_images(tuning, limit, "tuning")
    _require_images(certifying, limit, "certifying")
    there = choosable(len(tuning.fn), eligible)
    candidates = there[path(tuning.at(there), limit)]
    hits = limit.hits(certifying)[candidates]
    of = int(limit.trials(certifying)[0])
    level = guarantee.error / (len(candidates) if method == "bonferroni" else 1)
    passed = rejected(p_values(hits, of, limit), level, method)
    chosen = int(np.flatnonzero(passed)[-1]) if passed.any() else None
    # In a fixed sequence the first candidate decides whether there is any certificate.
    nearest = 0 if method == "fixed-sequence" else int(hits.argmin())
    seen = int(hits[nearest if chosen is None else chosen])
    return Certificate(
        guarantee=guarantee,
        policy=None if chosen is None else int(candidates[chosen]),
        certified=candidates[passed],
        tested=len(candidates),
        method=method,
        hits=seen,
        of=of,
        needed=_needed_without(limit, level),
        needed_at_share=images_needed(limit, level, Fraction(seen, of)),
    )


def without_candidate(guarantee: Guarantee, certifying: Confusion, lacking: str) -> Certificate:
    """The answer where no policy may be a candidate: nothing is tested, nothing certified.

    Args:
        guarantee: what was asked for.
        certifying: (P,) counts of the images that would have certified.
        lacking: why, in words.

    Raises:
        InputError: no certifying images of the kind that is limited.
    """
    limit = guarantee.limit
    _require_images(certifying, limit, "certifying")
    return Certificate(
        guarantee=guarantee,
        policy=None,
        certified=np.zeros(0, np.int64),
        tested=0,
        method="fixed-sequence",
        hits=0,
        of=int(limit.trials(certifying)[0]),
        needed=_needed_without(limit, guarantee.error),
        needed_at_share=None,
        lacking=lacking,
    )


def path(counts: Confusion, limit: Limit) -> Ints:
    """The order of testing, from the safest candidate to the one with the fewest other errors.

    At each number of errors of the other kind the policy with the fewest of the limited kind, if
    none with fewer of the other kind has fewer still. Along it the one kind falls strictly, and
    the other never falls.

    Args:
        counts: (P,) of tuning images.
        limit: which kind is limited.
    """
    limited, other = (counts.fn, counts.fp) if limit.rate == "fnr" else (counts.fp, counts.fn)
    order = np.lexsort((limited, other))
    _, first = np.unique(other[order], return_index=True)
    best = order[first]
    least = np.minimum.accumulate(limited[best])
    return np.asarray(best[limited[best] == least][::-1])


def p_values(hits: Ints, of: int, limit: Limit) -> Floats:
    """P(X ≤ hits), X ~ Bin(of, limit): small where a rate above the limit is hard to believe.

    Args:
        hits: (…) errors seen.
        of: among so many images.
        limit: on their rate.
    """
    return np.asarray(binom.cdf(hits, of, float(limit.at_most)))


def rejected(p: Floats, level: float, method: Method) -> npt.NDArray[np.bool_]:
    """Which hypotheses are rejected, so that their policies are certified.

    Args:
        p: (…, S) p-values, in the order of testing.
        level: of each test.
        method: `fixed-sequence` stops at the first that is not rejected.
    """
    below = p <= level
    return np.logical_and.accumulate(below, axis=-1) if method == "fixed-sequence" else below


def images_needed(limit: Limit, level: float, share: Fraction = Fraction(0)) -> int | None:
    """The fewest images that certify a limit, if such a share of them are errors (rounded up).

    Args:
        limit: on the rate.
        level: of the test.
        share: of errors.

    Returns:
        None where no number does, or more errors would be allowed than anyone labels.
    """
    if share >= limit.at_most:
        return None
    if not share:
        return _needed_without(limit, level)
    start, size = 1, 64
    while start < _MOST_HITS:
        hits = np.arange(start, start + size)
        # The most images of which `hits` are the share, rounded up: the step's smallest p-value.
        most = hits * share.denominator // share.numerator
        enough = binom.cdf(hits, most, float(limit.at_most)) <= level
        if enough.any():
            step = int(enough.argmax())
            least = int((hits[step] - 1) * share.denominator // share.numerator) + 1
            return _first_enough(limit, level, int(hits[step]), range(least, int(most[step]) + 1))
        start, size = start + size, size * 2
    return None


def _first_enough(limit: Limit, level: float, hits: int, images: range) -> int:
    """The first number of images at which `hits` are few enough; p-values fall with images."""
    at = bisect_left(
        images, True, key=lambda n: bool(binom.cdf(hits, n, float(limit.at_most)) <= level)
    )
    return images[at]


def _needed_without(limit: Limit, level: float) -> int:
    about = math.ceil(math.log(level) / math.log1p(-float(limit.at_most)))
    # One more or less, where the logarithms round.
    return _first_enough(limit, level, 0, range(max(about - 1, 1), about + 2))


def _require_images(counts: Confusion, limit: Limit, part: str) -> None:
    if not limit.trials(counts).min():
        kind = _WORDS[limit.rate][0]
        raise InputError(
            f"guarantee {limit.says}: the {part} images have no {kind}; give that part another "
            "share, role or folds, or label more images"
        )

"""What may be claimed of the next image: exact binomial bounds, and images that count once."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

Ids = npt.NDArray[np.int64]


def miss_bound(allowed: int, images: int, confidence: float) -> float:
    """Upper bound on the rate of an event seen `allowed` times in `images` independent trials.

    Clopper and Pearson (1934), one-sided: the `confidence` quantile of Beta(k+1, n−k). It is also
    exact for the false-negative rate of the threshold at the (k+1)-th smallest of n defect
    scores, since that rate is distributed as Beta(k+1, n−k), whatever the scores' distribution.

    Raises:
        ValueError: k or n below 0, k above n, a confidence outside (0, 1).
    """
    if not 0 <= allowed <= images:
        raise ValueError(f"{allowed} events in {images} trials: needs 0 <= events <= trials")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, needs to be in (0, 1)")
    if allowed == images:
        return 1.0
    return float(beta.ppf(confidence, allowed + 1, images - allowed))


def one_per_group(groups: Ids, ids: Ids) -> npt.NDArray[np.bool_]:
    """Marks one image of every group: the one whose id has the smallest hash.

    The choice looks at no score and no label, so that it can be made before any of them is known.

    Args:
        groups: (N,) int64.
        ids: (N,) int64, all different.

    Returns:
        (N,) bool.
    """
    keys = np.fromiter((_hash(number) for number in ids.tolist()), np.uint64, len(ids))
    order = np.lexsort((ids, keys, groups))
    ordered = groups[order]
    first = np.ones(len(ids), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    chosen = np.zeros(len(ids), bool)
    chosen[order[first]] = True
    return chosen


def _hash(number: int) -> int:
    digest = hashlib.blake2b(number.to_bytes(8, "little", signed=True), digest_size=8).digest()
    return int.from_bytes(digest, "little")

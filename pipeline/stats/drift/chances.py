"""How often chance alone does as much: p-values, dependent images, and many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import kolmogorov
from scipy.stats import fisher_exact

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def effective_images(sizes: npt.NDArray[Any]) -> float:
    """How many independent images some groups are worth: n² / Σ n_g² (Kish 1965).

    A share's variance is that of so many independent images if the images of a group are all
    alike, the worst case; the number of images where each is alone.

    Args:
        sizes: (G,) images in each group.
    """
    squares = float(np.square(sizes, dtype=np.float64).sum())
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def ks_chance(distance: float, images: tuple[float, float]) -> float:
    """Chance of such a Kolmogorov–Smirnov distance, or a larger one, without any difference.

    The limit for many images (Smirnov 1948). Ties and bins make the distance smaller and the
    chance too large, never too small.

    Args:
        distance: in [0, 1].
        images: of both, independent ones.
    """
    n, m = images
    return float(kolmogorov(np.sqrt(n * m / (n + m)) * distance))


def rates_chance(hits: tuple[float, float], images: tuple[float, float]) -> float:
    """Chance that two shares differ as much without any difference: Fisher's exact test.

    Args:
        hits: of both.
        images: of both, independent ones; parts of an image are rounded.
    """
    of = [max(round(n), 1) for n in images]
    found = [min(round(k), n) for k, n in zip(hits, of, strict=True)]
    table = [[k, n - k] for k, n in zip(found, of, strict=True)]
    return float(fisher_exact(table).pvalue)


def levels_chance(counts: tuple[Counts, Counts], images: tuple[float, float]) -> float:
    """Chance that kinds, such as file formats, are shared out as differently.

    Fisher's exact test of each kind against the rest; the least chance, times the kinds. Unlike
    χ² it holds for kinds of a few images.

    Args:
        counts: (L,) of both.
        images: of both, independent ones.
    """
    first, second = counts
    scale = [n / one.sum() for n, one in zip(images, counts, strict=True)]
    chances = [
        rates_chance((a * scale[0], b * scale[1]), images)
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
        if a or b
    ]
    # Of two kinds, one is the other's rest.
    return min(1.0, min(chances) * (len(chances) if len(chances) > 2 else 1))


def holm(chances: Sequence[float]) -> Floats:
    """Chances corrected for their number: with those ≤ α taken, one is wrong at most so often.

    Holm's step-down (1979): holds however the comparisons depend on each other.

    Returns:
        (K,) never below the given ones.
    """
    values = np.asarray(chances, np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    stepped = np.maximum.accumulate(values[order] * factors) if len(values) else values
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected

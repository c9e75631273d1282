"""The moments of a fit against one matrix product of the same size, on one thread each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.stages.reduce import LEAF_IMAGES
from pipeline.stats.moments import MomentAccumulator
from tests.benchmarks.ratios import Ratio, in_turns, speed

CATEGORIES, WIDTH = 15, 512


def measure(turns: int, rows: int = 1_000_000) -> Ratio:
    """Rows a second of both; float64, as sums are, and in leaves, as a fit adds them."""
    rng = np.random.default_rng(5)
    features = rng.standard_normal((rows, 1, WIDTH), np.float32).astype(np.float64)
    matrix = features[:, 0]
    # Of each category every row in a run, as the images of a category come, sorted by id.
    bounds = np.linspace(0, rows, CATEGORIES + 1).astype(int)

    def ours() -> None:
        for low, high in pairwise(bounds):
            sums = MomentAccumulator(features[low])
            for start in range(low, high, LEAF_IMAGES):
                sums.add(features[start : min(high, start + LEAF_IMAGES)])

    with threadpool_limits(1):
        return in_turns(
            f"moments of {rows:,} × {WIDTH} in {CATEGORIES} categories / one product",
            lambda: speed(ours, rows),
            lambda: speed(lambda: matrix.T @ matrix, rows),
            turns,
            "rows/s",
        )


if __name__ == "__main__":
    print(measure(3, 200_000).row())

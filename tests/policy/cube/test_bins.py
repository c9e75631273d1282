"""Bins against a search one by one in Python's own numbers."""

from __future__ import annotations

import bisect
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.policy.cube.bins import Bins

TYPES = (np.float32, np.float64)


def searched(scores: npt.NDArray[np.floating], thresholds: npt.NDArray[np.float64]) -> list[int]:
    known = thresholds.tolist()
    return [
        0 if math.isnan(score) else 1 + bisect.bisect_right(known, score)
        for score in scores.tolist()
    ]


@settings(max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(TYPES),
    st.sampled_from([0, 1, 5, 28, 29, 100, 300, 3000]),
    st.sampled_from(["around 0", "positive", "close together", "all sizes"]),
)
def test_bins_are_exact_among_any_thresholds(
    seed: int, dtype: type, count: int, where: str
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=count)
    if where == "positive":
        values = np.abs(values)
    elif where == "close together":
        values = 0.9 + 1e-6 * values
    elif where == "all sizes":
        special = [0.0, np.inf, -np.inf, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal]
        values = np.append(values * 10.0 ** rng.integers(-30, 30, count), special)
    thresholds = np.unique(values.astype(dtype)).astype(np.float64)
    near = thresholds.astype(dtype)
    scores = np.concatenate(
        [
            near,
            np.nextafter(near, dtype(np.inf)),
            np.nextafter(near, dtype(-np.inf)),
            rng.normal(size=50).astype(dtype),
            np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype),
            # The other sign of NaN: what 0/0 gives.
            -np.array([np.nan], dtype),
        ]
    )
    rng.shuffle(scores)
    assert Bins(thresholds, dtype).codes(scores).tolist() == searched(scores, thresholds)


@pytest.mark.parametrize("dtype", TYPES)
def test_thresholds_too_close_for_a_table_are_searched(dtype: type) -> None:
    low = dtype(-1)
    thresholds = [low]
    while len(thresholds) < 200:
        thresholds.append(np.nextafter(thresholds[-1], dtype(0)))
    close = np.array([*thresholds, 1e30], np.float64)
    scores = np.array([*thresholds, np.nan, -2, 0, 1e30], dtype)
    assert Bins(close, dtype).codes(scores).tolist() == searched(scores, close)


def test_zero_has_two_signs_and_one_place() -> None:
    """A bucket starts at 0, and the one below it holds a threshold: -0 is at or above both."""
    one = np.float32(1)
    lowest = -np.nextafter(np.nextafter(one, np.float32(0)), np.float32(0))
    tiny = -np.finfo(np.float32).smallest_subnormal
    thresholds = np.array([lowest, tiny, 0, *np.arange(1, 40)], np.float64)
    scores = np.array([-0.0, 0.0, tiny, lowest], np.float32)
    assert Bins(thresholds, np.float32).codes(scores).tolist() == [4, 4, 3, 2]


def test_long_columns_are_binned_in_rounds() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=150_001).astype(np.float32)
    thresholds = np.sort(rng.normal(size=60).astype(np.float32)).astype(np.float64)
    wanted = 1 + np.searchsorted(thresholds, scores.astype(np.float64), side="right")
    np.testing.assert_array_equal(Bins(thresholds, np.float32).codes(scores), wanted)


def test_the_type_holds_every_bin() -> None:
    for count, bits in ((254, 8), (255, 16), (65_534, 16), (65_535, 32)):
        bins = Bins(np.arange(count, dtype=np.float64), np.float32)
        assert bins.codes(np.array([np.inf], np.float32)).tolist() == [count + 1]
        assert bins.type.itemsize * 8 == bits

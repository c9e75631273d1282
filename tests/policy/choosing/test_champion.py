"""Flips against a count of images one by one, and McNemar's test against scipy's binomial one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.policy.choosing.champion import compare, mcnemar


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_flips_both_ways_by_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, one, other = rng.integers(0, 2, 60), rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    crossed = np.zeros((2, 3, 3), np.int64)
    np.add.at(crossed, (truth, one, other), 1)
    found = compare(crossed)
    for kind, wrong, flips in ((1, 2, found.defects), (0, 0, found.goods)):
        pairs = [(a, b) for t, a, b in zip(truth, one, other, strict=True) if t == kind]
        assert flips.images == len(pairs)
        assert flips.fixed == sum(a == wrong != b for a, b in pairs)
        assert flips.broken == sum(b == wrong != a for a, b in pairs)
        assert flips.both == sum(a == b == wrong for a, b in pairs)
        assert flips.to_review == sum(b == 1 != a for a, b in pairs)
        assert flips.from_review == sum(a == 1 != b for a, b in pairs)
        if flips.fixed + flips.broken:
            expected = binomtest(int(flips.fixed), int(flips.fixed + flips.broken)).pvalue
            assert flips.p_value == pytest.approx(expected)


def test_categories_are_compared_at_once() -> None:
    rng = np.random.default_rng(0)
    crossed = rng.integers(0, 9, (4, 2, 3, 3))
    found = compare(crossed)
    for category in range(4):
        alone = compare(crossed[category])
        assert found.defects.fixed[category] == alone.defects.fixed
        assert found.goods.p_value[category] == alone.goods.p_value


def test_policies_that_never_differ_have_no_p_value() -> None:
    assert np.isnan(mcnemar(np.array(0), np.array(0)))
    assert mcnemar(np.array(5), np.array(0)) == pytest.approx(2 / 32)
    assert mcnemar(np.array(3), np.array(3)) == 1.0


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="need"):
        compare(np.zeros((3, 3), np.int64))

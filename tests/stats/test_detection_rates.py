"""Areas, thresholds and intervals against scikit-learn, scipy and plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pipeline.stats.detection_rates import (
    areas,
    clopper_pearson,
    cross_chosen_thresholds,
    estimate,
    f1_threshold,
    group_resamples,
    resampled_areas,
)


def rows(seed: int, count: int = 40, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores with many ties; both kinds are there."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.4
    truth[:2] = [True, False]
    return truth, rng.integers(0, levels, count) + 2.0 * truth


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_areas_are_scikit_learns_for_every_set_of_weights(seed: int) -> None:
    truth, scores = rows(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(truth))).astype(float)
    weights[:, :2] = 1
    found = areas(truth, scores, weights)
    for number, weight in enumerate(weights):
        used = weight > 0
        wanted = [
            function(truth[used], scores[used], sample_weight=weight[used])
            for function in (roc_auc_score, average_precision_score)
        ]
        np.testing.assert_allclose(
            [found.auroc[number], found.average_precision[number]], wanted, atol=1e-12
        )


def test_an_area_without_one_of_the_kinds_is_no_number() -> None:
    for truth in (np.ones(4, bool), np.zeros(4, bool)):
        found = areas(truth, np.arange(4.0), np.ones((1, 4)))
        assert np.isnan(found.auroc).all()
        assert np.isnan(found.average_precision).all()
        assert estimate(found.auroc).value is None


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_no_threshold_has_a_better_f1_than_the_one_found(seed: int) -> None:
    truth, scores = rows(seed)
    found = f1_threshold(truth, scores)
    assert found is not None
    by_threshold = {t: f1_score(truth, scores >= t) for t in np.unique(scores)}
    best = max(by_threshold.values())
    assert by_threshold[found] == pytest.approx(best)
    assert found == min(t for t, f1 in by_threshold.items() if f1 >= best - 1e-12)


def test_no_row_has_a_say_in_its_own_threshold() -> None:
    truth, scores = rows(3)
    parts = np.arange(len(truth)) % 4
    before = cross_chosen_thresholds(truth, scores, parts)
    changed = np.where(parts == 2, ~truth, truth)
    after = cross_chosen_thresholds(changed, np.where(parts == 2, -9.0, scores), parts)
    assert np.array_equal(before[parts == 2], after[parts == 2])
    assert not np.array_equal(before[parts != 2], after[parts != 2])


def test_without_both_kinds_elsewhere_there_is_no_threshold() -> None:
    truth = np.array([True, False, False, False])
    found = cross_chosen_thresholds(truth, np.arange(4.0), np.array([0, 0, 1, 1]))
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_ends_are_where_the_tails_are_two_and_a_half_percent(
    pair: tuple[int, int],
) -> None:
    hits, of = pair
    rate = clopper_pearson(hits, of)
    assert rate.low <= hits / of <= rate.high
    if hits:
        assert binom.sf(hits - 1, of, rate.low) == pytest.approx(0.025)
    if hits < of:
        assert binom.cdf(hits, of, rate.high) == pytest.approx(0.025)


@pytest.mark.parametrize(("hits", "of"), [(3, 2), (-1, 5)])
def test_a_share_outside_0_and_1_is_refused(hits: int, of: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} hits of {of}"):
        clopper_pearson(hits, of)


def test_resamples_draw_whole_groups_and_repeat_themselves() -> None:
    groups = np.array([5, 5, 9, 2, 2, 2, 7])
    found = group_resamples(groups, 200, seed=1)
    assert found.shape == (201, 7)
    assert (found[0] == 1).all()
    for name in np.unique(groups):
        members = found[:, groups == name]
        assert (members == members[:, :1]).all()
    drawn = found[1:, [0, 2, 3, 6]].sum(1)
    assert (drawn == 4).all()
    assert np.array_equal(found, group_resamples(groups, 200, seed=1))
    assert not np.array_equal(found, group_resamples(groups, 200, seed=2))


def test_near_duplicates_widen_the_interval_as_if_each_were_one_image() -> None:
    truth, scores = rows(8, count=30, levels=40)
    single = group_resamples(np.arange(30), 500, seed=0)
    copied = group_resamples(np.repeat(np.arange(30), 5), 500, seed=0)
    one = estimate(areas(truth, scores, single).auroc)
    five = estimate(areas(np.repeat(truth, 5), np.repeat(scores, 5), copied).auroc)
    assert (five.value, five.low, five.high) == pytest.approx((one.value, one.low, one.high))


@pytest.mark.parametrize("right", [True, False])
def test_what_every_resample_ranks_alike_is_as_sure_as_its_groups_are_many(right: bool) -> None:
    """Three groups of defects, however many images of each."""
    truth = np.repeat([True, False], [9, 5])
    groups = np.concatenate([np.repeat([1, 2, 3], 3), [4, 5, 6, 7, 8]])
    scores = np.where(truth == right, 2.0, 1.0) + np.arange(14) / 100
    found = resampled_areas(truth, scores, groups, seed=0)
    assert found.groups == 3
    one = estimate(found.auroc, groups=found.groups)
    exact = clopper_pearson(3 if right else 0, 3)
    assert (one.value, one.low, one.high) == pytest.approx((float(right), exact.low, exact.high))
    assert one.high - one.low > 0.7


@pytest.mark.parametrize("kind", [True, False])
def test_of_one_group_of_a_kind_nothing_is_known(kind: bool) -> None:
    """Resamples without it have no area, so that only the other kind varies in the rest."""
    rng = np.random.default_rng(4)
    truth = np.where(np.arange(203) < 3, kind, not kind)
    groups = np.maximum(np.arange(203), 2)
    scores = rng.normal(0, 1, 203) + np.where(truth, 1.5, 0)
    found = resampled_areas(truth, scores, groups, seed=0)
    assert found.groups == 1
    for values in (found.auroc, found.average_precision):
        one = estimate(values, groups=found.groups)
        assert one.value is not None
        assert 0 < one.value < 1
        assert (one.low, one.high) == (0.0, 1.0)


def test_equal_scores_say_nothing_of_the_next_ones() -> None:
    truth = np.arange(40) < 15
    found = resampled_areas(truth, np.full(40, 7.0), np.arange(40), seed=0)
    one = estimate(found.auroc, groups=found.groups)
    assert (one.value, one.low, one.high) == (0.5, 0.0, 1.0)


def test_resamples_that_differ_by_rounding_alone_say_nothing() -> None:
    """Every group is alike: a defect between good images, of which two are below it."""
    truth = np.tile([True, False, False, False], 9)
    scores = np.tile([2.0, 1.0, 1.0, 3.0], 9)
    found = resampled_areas(truth, scores, np.repeat(np.arange(9), 4), seed=0)
    for values in (found.auroc, found.average_precision):
        one = estimate(values, groups=found.groups)
        assert (one.low, one.high) == (0.0, 1.0)


def test_a_figure_of_which_nothing_is_known_may_lie_anywhere_between_its_ends() -> None:
    values = np.linspace(-0.2, 0.6, 1001)
    assert estimate(values, groups=1, ends=(-1.0, 1.0)).low == -1.0
    assert estimate(np.zeros(1001), groups=8, ends=(-1.0, 1.0)).high == 1.0
    known = estimate(values, groups=2, ends=(-1.0, 1.0))
    assert (known.low, known.high) == pytest.approx((-0.18, 0.58), abs=0.001)

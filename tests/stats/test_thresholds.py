"""Each rule against a count of every candidate one by one; ties, order, scale, missing scores."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.stats.thresholds import (
    Costs,
    Counts,
    conformal_threshold,
    cost_threshold,
    count,
    fbeta_threshold,
    normals_needed,
    safe_threshold,
    settled,
)

Scores = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
quick = settings(max_examples=150, deadline=None)
TYPES = (np.float32, np.float64)


@st.composite
def labelled(draw: st.DrawFn, both: bool = True) -> tuple[Scores, Flags]:
    """Scores with many ties, some missing, of good images and defects."""
    n = draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    defect = rng.random(n) < draw(st.sampled_from([0.2, 0.5, 0.8]))
    if both:
        assume(defect.any() and not defect.all())
    scores = rng.normal(size=n) + defect
    scores = np.round(scores, draw(st.integers(0, 2))).astype(draw(st.sampled_from(TYPES)))
    scores[rng.random(n) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    missing = draw(st.sampled_from(["missed", "flagged"]))
    return settled(scores, missing), defect


def confusion(scores: Scores, defect: Flags, threshold: float) -> tuple[int, int, int, int]:
    """tp, fp, tn, fn, image by image in Python's own numbers."""
    tp = fp = tn = fn = 0
    for score, bad in zip(scores.tolist(), defect.tolist(), strict=True):
        if score >= threshold:
            tp, fp = (tp + 1, fp) if bad else (tp, fp + 1)
        else:
            tn, fn = (tn, fn + 1) if bad else (tn + 1, fn)
    return tp, fp, tn, fn


def candidates(scores: Scores) -> list[float]:
    return sorted({score for score in scores.tolist() if math.isfinite(score)})


@quick
@given(labelled(), st.sampled_from([1, 2]))
def test_fbeta_is_the_best_of_all_scores_and_the_lowest_of_the_best(
    sample: tuple[Scores, Flags], beta: int
) -> None:
    scores, defect = sample

    def fbeta(threshold: float) -> Fraction:
        tp, fp, _, fn = confusion(scores, defect, threshold)
        return Fraction((1 + beta**2) * tp, (1 + beta**2) * tp + beta**2 * fn + fp)

    found = fbeta_threshold(scores, defect, beta)
    if not np.isfinite(scores[defect]).any():
        assert found == np.inf
    else:
        assert found == max(candidates(scores), key=lambda tau: (fbeta(tau), -tau))


@quick
@given(labelled(), st.tuples(*[st.integers(1, 50)] * 2), st.integers(1, 9))
def test_cost_is_the_least_of_all_scores_and_of_flagging_nothing(
    sample: tuple[Scores, Flags], prices: tuple[int, int], tenths: int
) -> None:
    scores, defect = sample
    goods, defects = int((~defect).sum()), int(defect.sum())
    rate = Fraction(tenths, 10)

    def cost(threshold: float) -> Fraction:
        _, fp, _, fn = confusion(scores, defect, threshold)
        alarms = (1 - rate) * prices[0] * Fraction(fp, goods)
        return alarms + rate * prices[1] * Fraction(fn, defects)

    found = cost_threshold(scores, defect, Costs(prices[0], prices[1], tenths / 10))
    known = candidates(scores)
    if not known:
        assert found == np.inf
        return
    above = float(np.nextafter(scores.dtype.type(known[-1]), scores.dtype.type(np.inf)))
    assert found == min([*known, above], key=lambda tau: (cost(tau), tau))


@quick
@given(labelled(both=False), st.integers(0, 3))
def test_safe_misses_no_more_than_allowed_and_no_higher_score_would_do(
    sample: tuple[Scores, Flags], allowed: int
) -> None:
    scores, defect = sample
    assume(defect.sum() > allowed)
    found = float(safe_threshold(scores[defect], allowed))
    assert found == sorted(scores[defect].tolist())[allowed]
    if math.isfinite(found):
        assert confusion(scores, defect, found)[3] <= allowed
        higher = [score for score in candidates(scores[defect]) if score > found]
        if higher:
            assert confusion(scores, defect, higher[0])[3] > allowed


@quick
@given(labelled(both=False), st.sampled_from([0.02, 0.05, 0.1, 0.3, 0.5, 0.9]))
def test_fpr_is_the_lowest_threshold_that_leaves_room_for_the_next_normal(
    sample: tuple[Scores, Flags], target: float
) -> None:
    """With the next image counted as flagged, at most α of m + 1 images are."""
    scores, _ = sample
    found = conformal_threshold(scores, target)
    m = len(scores)

    def allowed(threshold: float) -> bool:
        flagged = sum(score >= threshold for score in scores.tolist())
        return Fraction(flagged + 1, m + 1) <= Fraction(str(target))

    if m < normals_needed(target):
        assert found == np.inf
    if not math.isfinite(found):
        return
    assert allowed(found)
    below = float(np.nextafter(scores.dtype.type(found), scores.dtype.type(-np.inf)))
    assert below in candidates(scores)
    assert not allowed(below)


@pytest.mark.parametrize(
    ("target", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.03, 33), (0.5, 1), (0.001, 999)]
)
def test_fewer_normals_than_one_over_alpha_less_one_give_none(target: float, needed: int) -> None:
    assert normals_needed(target) == needed
    scores = np.arange(needed, dtype=np.float32)
    assert conformal_threshold(scores[1:], target) == np.inf
    assert conformal_threshold(scores, target) == np.nextafter(scores[-1], np.float32(np.inf))


def test_no_normals_give_no_threshold() -> None:
    assert conformal_threshold(np.empty(0, np.float32), 0.05) == np.inf


@quick
@given(labelled(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(sample: tuple[Scores, Flags], random: Any) -> None:
    scores, defect = sample
    order = list(range(len(scores)))
    random.shuffle(order)
    assert every_rule(scores, defect) == every_rule(scores[order], defect[order])


@quick
@given(labelled(), st.integers(-10, 10))
def test_thresholds_scale_with_the_scores(sample: tuple[Scores, Flags], power: int) -> None:
    """By a power of two, which no rounding blurs: an observed score stays that image's."""
    scores, defect = sample
    factor = scores.dtype.type(2.0**power)
    one, other = every_rule(scores, defect), every_rule(scores * factor, defect)
    for threshold, scaled in zip(one, other, strict=True):
        decided = confusion(scores, defect, threshold)
        assert decided == confusion(scores * factor, defect, scaled)
        if threshold in candidates(scores):
            assert scaled == threshold * float(factor)


def every_rule(scores: Scores, defect: Flags) -> list[float]:
    return [
        fbeta_threshold(scores, defect, 1),
        fbeta_threshold(scores, defect, 2),
        cost_threshold(scores, defect, Costs(1, 7, 0.125)),
        float(safe_threshold(scores[defect], 0)),
        conformal_threshold(scores[~defect], 0.25),
    ]


@quick
@given(labelled())
def test_a_threshold_is_a_number_of_the_columns_type(sample: tuple[Scores, Flags]) -> None:
    """So a comparison in that type, in float64, or in another engine decides alike."""
    scores, defect = sample
    for threshold in every_rule(scores, defect):
        assert float(scores.dtype.type(threshold)) == threshold
        wide = scores.astype(np.float64) >= threshold
        assert np.array_equal(wide, scores >= scores.dtype.type(threshold))
        assert count(scores, defect, threshold) == Counts(*confusion(scores, defect, threshold))


def test_equal_scores_fall_on_one_side() -> None:
    scores = np.array([1, 1, 1, 2, 2], np.float32)
    defect = np.array([True, False, True, False, True])
    assert safe_threshold(scores[defect], 0) == 1
    assert safe_threshold(scores[defect], 1) == 1  # one miss is allowed, a tie makes it none
    assert safe_threshold(scores[defect], 2) == 2
    assert count(scores, defect, 1) == Counts(tp=3, fp=2, tn=0, fn=0)
    assert count(scores, defect, 2) == Counts(tp=1, fp=1, tn=1, fn=2)


def test_a_defect_without_a_score_is_missed_unless_the_line_flags_it() -> None:
    scores, defect = np.array([np.nan, 3, 5], np.float32), np.array([True, True, True])
    missed, flagged = settled(scores, "missed"), settled(scores, "flagged")
    assert safe_threshold(missed, 0) == -np.inf  # no threshold catches it
    assert safe_threshold(missed, 1) == 3
    assert safe_threshold(flagged, 0) == 3
    assert count(missed, defect, 3).fn == 1
    assert count(flagged, defect, 3).fn == 0
    assert fbeta_threshold(settled(scores[:1], "missed"), defect[:1], 1) == np.inf


def test_rates_without_images_are_none() -> None:
    assert Counts(0, 1, 3, 0).fnr is None
    assert Counts(1, 0, 0, 3).fpr is None
    assert (Counts(1, 1, 3, 3).fpr, Counts(1, 1, 3, 3).fnr) == (0.25, 0.75)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["false_positive", "false_negative"])
def test_a_cost_that_is_none(name: str, value: float) -> None:
    costs = {"false_positive": 1.0, "false_negative": 1.0, "defect_rate": 0.1} | {name: value}
    with pytest.raises(ValueError, match=f"cost of a {name} is {value}, needs to be above 0"):
        Costs(**costs)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2, math.nan])
def test_a_defect_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match=f"defect rate is {rate}"):
        Costs(1, 1, rate)


@pytest.mark.parametrize("target", [0, 1, 5, -0.1, math.nan])
def test_a_false_positive_target_outside_its_range(target: float) -> None:
    with pytest.raises(ValueError, match=f"false-positive target is {target}"):
        conformal_threshold(np.zeros(3), target)


@pytest.mark.parametrize(("allowed", "n"), [(-1, 3), (3, 3), (0, 0)])
def test_more_misses_allowed_than_there_are_defects(allowed: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{allowed} misses allowed of {n} defects"):
        safe_threshold(np.zeros(n), allowed)


def test_scores_that_are_infinite_or_whole_numbers() -> None:
    with pytest.raises(ValueError, match=r"score at \[1\] is infinite"):
        settled(np.array([1, -np.inf]), "missed")
    with pytest.raises(ValueError, match="scores are int64, need float32 or float64"):
        settled(np.array([1, 2]), "missed")

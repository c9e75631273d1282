"""Figures against scikit-learn's and scipy's own, and figures that don't exist."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import fbeta_score, precision_score, recall_score

from pipeline.policy.choosing.confusion import Confusion
from pipeline.policy.choosing.figures import (
    RATES,
    Shown,
    columns,
    f_beta,
    macro,
    rates,
    record,
)
from pipeline.policy.choosing.intervals import clopper_pearson, share, upper_bound, wilson
from pipeline.policy.choosing.measured import MeasuredOn
from tests.policy.choosing.counting import counts_of

number = st.integers(0, 12)


@settings(max_examples=60)
@given(number, number, number, number)
def test_figures_are_those_of_scikit_learn(tp: int, fp: int, tn: int, fn: int) -> None:
    truth = [1] * (tp + fn) + [0] * (fp + tn)
    said = [1] * tp + [0] * fn + [1] * fp + [0] * tn
    found = rates(counts_of([fn], [fp], tp + fn, fp + tn))
    expected = {
        "precision": precision_score(truth, said, zero_division=np.nan) if truth else np.nan,
        "recall": recall_score(truth, said, zero_division=np.nan) if truth else np.nan,
        "f1": fbeta_score(truth, said, beta=1, zero_division=np.nan) if truth else np.nan,
        "f2": fbeta_score(truth, said, beta=2, zero_division=np.nan) if truth else np.nan,
        "fpr": fp / (fp + tn) if fp + tn else np.nan,
        "fnr": fn / (fn + tp) if fn + tp else np.nan,
        "flagged_rate": (tp + fp) / len(truth) if truth else np.nan,
        "review_load": 0.0 if truth else np.nan,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=1e-12, err_msg=name)


@settings(max_examples=60)
@given(number, number, number, number, number, number)
def test_recall_and_misses_add_up_to_one_whatever_is_reviewed(
    tp: int, sent: int, fn: int, fp: int, sent_good: int, tn: int
) -> None:
    numbers = (fn, fp, sent, sent_good, tp + sent + fn, fp + sent_good + tn)
    counts = Confusion(*(np.array([n]) for n in numbers))
    for review in ("person", "flagged"):
        found = rates(counts, review)
        np.testing.assert_allclose(found["recall"] + found["fnr"], 1 if tp + sent + fn else np.nan)
        precision, recall = found["precision"], found["recall"]
        if (precision + recall > 0).all():
            harmonic = 2 * precision * recall / (precision + recall)
            np.testing.assert_allclose(found["f1"], harmonic)
        assert (
            found["flagged_rate"] == share(np.array([tp + fp]), counts.defects + counts.goods)
        ).all() or not (counts.defects + counts.goods).any()


def test_labels_of_one_kind_give_no_rate_of_the_other() -> None:
    only_good = record(columns(counts_of([0], [2], 0, 10)), 0, MeasuredOn("all"))
    for name in ("recall", "fnr", "fnr_low", "fnr_high", "fnr_exact_low", "fnr_exact_high"):
        assert only_good[name] is None, name
    assert (only_good["fpr"], only_good["precision"], only_good["f1"]) == (0.2, 0.0, 0.0)
    nothing = record(columns(counts_of([0], [0], 0, 10)), 0, MeasuredOn("all"))
    assert nothing["precision"] is nothing["f1"] is nothing["f2"] is None
    only_bad = record(columns(counts_of([1], [0], 4, 0)), 0, MeasuredOn("all"))
    assert only_bad["fpr"] is None
    assert (only_bad["fnr"], only_bad["fn"], only_bad["fnr_of"]) == (0.25, 1, 4)


@settings(max_examples=80)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.999]))
def test_intervals_are_those_of_scipy(of: int, part: float, confidence: float) -> None:
    hits = round(part * of)
    test = binomtest(hits, of)
    for mine, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        expected = test.proportion_ci(confidence, method)
        found = mine(np.array([hits]), np.array([of]), confidence)
        np.testing.assert_allclose(np.ravel(found), [*expected], rtol=1e-9, atol=1e-12)
    one_sided = binomtest(hits, of, alternative="less").proportion_ci(confidence, "exact").high
    np.testing.assert_allclose(
        upper_bound(np.array(hits), np.array(of), confidence), one_sided, rtol=1e-9
    )


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 0.5])
@pytest.mark.parametrize("of", [10, 60, 300])
def test_the_exact_interval_covers_at_least_as_it_says(rate: float, of: int) -> None:
    hits = np.arange(of + 1)
    low, high = clopper_pearson(hits, np.full(of + 1, of))
    chance = binom.pmf(hits, of, rate)
    assert chance[(low <= rate) & (rate <= high)].sum() >= 0.95
    assert chance[rate <= upper_bound(hits, np.full(of + 1, of))].sum() >= 0.95


def test_no_trials_have_no_interval() -> None:
    for found in (*wilson(np.array(0), np.array(0)), *clopper_pearson(np.array(0), np.array(0))):
        assert np.isnan(found)
    assert np.isnan(upper_bound(np.array(0), np.array(0)))


@pytest.mark.parametrize(
    ("hits", "of", "confidence", "says"),
    [(3, 2, 0.95, "3 hits of 2"), (-1, 2, 0.95, "-1 hits"), (1, 2, 95, "confidence is 95")],
)
def test_impossible_shares_are_refused(hits: int, of: int, confidence: float, says: str) -> None:
    for interval in (wilson, clopper_pearson, upper_bound):
        with pytest.raises(ValueError, match=says):
            interval(np.array([hits]), np.array([of]), confidence)


def test_intervals_may_come_from_independent_images_alone() -> None:
    every, independent = counts_of([4], [8], 40, 80), counts_of([1], [2], 10, 20)
    found = columns(every, Shown(independent=independent))
    alone = columns(independent)
    assert found["fnr"] == every.fn / every.defects
    for name in RATES:
        for end in ("low", "high", "exact_low", "exact_high", "of"):
            assert found[f"{name}_{end}"] == alone[f"{name}_{end}"]


def test_macro_averages_leave_out_rates_that_do_not_exist_and_say_how_many_do() -> None:
    values = np.array([[0.1, np.nan, 0.3], [np.nan] * 3, [0.0, 0.0, 1.0]])
    means, numbers = macro(values)
    np.testing.assert_allclose(means, [0.2, np.nan, 1 / 3])
    assert numbers.tolist() == [2, 0, 3]


def test_a_figure_says_which_images_it_comes_from() -> None:
    chosen = MeasuredOn("tuning", best_of=10_000)
    row = record(columns(counts_of([1], [2], 10, 20)), 0, chosen)
    assert (row["measured_on"], row["in_sample"]) == ("tuning: in-sample, best of 10,000", True)
    each = MeasuredOn("all", best_of=7, per_category=True)
    assert each.says == "all: in-sample, best of 7 per category"
    for honest in (MeasuredOn("hold-out", best_of=100), MeasuredOn("tuning"), MeasuredOn("all")):
        assert not honest.in_sample
        assert "in-sample" not in honest.says


def test_figures_keep_the_shape_of_their_counts() -> None:
    counts = counts_of(np.zeros((3, 2, 4)), np.ones((3, 2, 4)), 5, 5)
    assert {array.shape for array in columns(counts).values()} == {(3, 2, 4)}
    assert f_beta(counts, 2).shape == (3, 2, 4)

"""Areas under both curves: scikit-learn's values, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.stats.ranking import auroc, average_precision


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    defect = rng.random(200) < 0.3
    scores = np.round(rng.normal(0, 1, 200) + defect, 1).astype(np.float32)
    assert auroc(scores, defect).value == pytest.approx(roc_auc_score(defect, scores), abs=1e-12)
    wanted = average_precision_score(defect, scores)
    assert average_precision(scores, defect).value == pytest.approx(wanted, abs=1e-12)


def test_the_variance_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    above, below = rng.normal(1, 1, 23), rng.normal(0, 1, 31)
    wins = (above[:, None] > below).astype(float)
    variance = wins.mean(1).var(ddof=1) / 23 + wins.mean(0).var(ddof=1) / 31
    defect = np.arange(54) < 23
    found = auroc(np.concatenate([above, below]), defect)
    logits = [np.log(p / (1 - p)) for p in (found.low, found.value, found.high)]
    half = 1.959964 * np.sqrt(variance) / (found.value * (1 - found.value))
    assert logits[2] - logits[1] == pytest.approx(half, rel=1e-5)
    assert logits[1] - logits[0] == pytest.approx(half, rel=1e-5)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    defect = np.arange(300) < 100
    truth = 0.7602499  # of two normals one standard deviation apart
    found = [auroc(rng.normal(0, 1, 300) + defect, defect) for _ in range(1000)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.93 < covered < 0.97


def test_the_average_precisions_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    many = np.arange(300_000) < 100_000
    truth = average_precision(rng.normal(0, 1, 300_000) + many, many).value
    defect = np.arange(300) < 100
    found = [average_precision(rng.normal(0, 1, 300) + defect, defect) for _ in range(1000)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert covered > 0.92


@pytest.mark.parametrize("rows", [2, 5, 30])
def test_a_perfect_ranking_of_few_rows_claims_little(rows: int) -> None:
    defect = np.arange(100) < rows
    best = auroc(defect.astype(float), defect)
    worst = auroc(-defect.astype(float), defect)
    lowest = 0.025 ** (1 / rows)
    assert (best.value, best.high, worst.value, worst.low) == (1.0, 1.0, 0.0, 0.0)
    assert best.low == pytest.approx(lowest)
    assert worst.high == pytest.approx(1 - lowest)
    assert average_precision(defect.astype(float), defect).low == pytest.approx(lowest)


@pytest.mark.parametrize("kind", [True, False])
def test_of_one_image_of_a_kind_nothing_is_known(kind: bool) -> None:
    scores, defect = np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4) == 1
    for area in (auroc, average_precision):
        found = area(scores, defect == kind)
        assert 0 < found.value < 1
        assert (found.low, found.high) == (0.0, 1.0)


def test_equal_scores_say_nothing_of_the_next_ones() -> None:
    found = auroc(np.full(40, 7.0), np.arange(40) < 15)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)

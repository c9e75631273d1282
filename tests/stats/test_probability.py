"""Probability maps against scikit-learn's own answers, errors against a plain count."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from pipeline.stats.probability import (
    METHODS,
    apply_map,
    cross_validated,
    fit_map,
    reliability,
)

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def overconfident(n: int, seed: int = 0) -> tuple[Array, Flags]:
    """Logits three times too large, and off by one: P(defect) = sigmoid((logit + 1) / 3)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 6, n)
    return logits, rng.random(n) < expit((logits + 1) / 3)


LOGITS, DEFECT = overconfident(1200)


def test_sigmoid_is_platts_fit() -> None:
    """A logistic regression on the two targets that Platt puts in place of 0 and 1."""
    found = fit_map("sigmoid", LOGITS, DEFECT)
    defects, goods = DEFECT.sum(), (~DEFECT).sum()
    target = np.where(DEFECT, (defects + 1) / (defects + 2), 1 / (goods + 2))
    doubled = np.concatenate([LOGITS, LOGITS])[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    model.fit(
        doubled, np.repeat([1, 0], len(LOGITS)), sample_weight=np.concatenate([target, 1 - target])
    )
    assert found["slope"] == pytest.approx(model.coef_[0, 0], rel=1e-3)
    assert found["intercept"] == pytest.approx(model.intercept_[0], rel=1e-3)
    assert apply_map(found, LOGITS) == pytest.approx(
        model.predict_proba(LOGITS[:, None])[:, 1], abs=1e-3
    )


def test_temperature_has_the_least_log_loss_of_all() -> None:
    found = fit_map("temperature", LOGITS, DEFECT)

    def loss(temperature: float) -> float:
        p = expit(LOGITS / temperature)
        return -float(np.mean(np.log(np.where(DEFECT, p, 1 - p))))

    best = found["temperature"]
    assert 2.5 < best < 3.5
    for factor in (0.5, 0.99, 1.01, 2):
        assert loss(best) < loss(best * factor)
    assert np.array_equal(apply_map(found, LOGITS), expit(LOGITS / best))


def test_isotonic_is_scikit_learns() -> None:
    found = fit_map("isotonic", LOGITS, DEFECT)
    model = IsotonicRegression(out_of_bounds="clip").fit(LOGITS, DEFECT)
    wide = np.linspace(-60, 60, 999)
    assert apply_map(found, wide) == pytest.approx(model.predict(wide), abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_numbers_that_json_keeps_exactly(method: str) -> None:
    found = fit_map(method, LOGITS, DEFECT)
    again = json.loads(json.dumps(found, allow_nan=False))
    probabilities = apply_map(again, LOGITS)
    assert np.array_equal(probabilities, apply_map(found, LOGITS))
    order = np.argsort(LOGITS)
    assert (np.diff(probabilities[order]) >= 0).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert np.isnan(apply_map(found, np.array([np.nan])))


@pytest.mark.parametrize("method", METHODS)
def test_calibration_lowers_the_error_on_images_that_took_no_part(method: str) -> None:
    found = fit_map(method, LOGITS, DEFECT)
    logits, defect = overconfident(4000, seed=1)
    before = reliability(expit(logits), defect).ece
    after = reliability(apply_map(found, logits), defect).ece
    assert after < 0.6 * before
    held_out = cross_validated(method, LOGITS, DEFECT, np.arange(len(LOGITS)))
    assert held_out is not None
    assert reliability(held_out, DEFECT).ece == pytest.approx(after, abs=0.03)


def test_an_image_is_calibrated_without_its_group() -> None:
    """Labels drawn by the toss of a coin, all images of a group alike: nothing can be learned."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 8)
    logits = np.repeat(rng.normal(size=200), 8)
    defect = np.repeat(rng.random(200) < 0.5, 8)
    grouped = cross_validated("isotonic", logits, defect, groups)
    leaking = cross_validated("isotonic", logits, defect, np.arange(len(groups)))
    assert grouped is not None
    assert leaking is not None
    assert reliability(leaking, defect).ece < reliability(grouped, defect).ece


def test_too_few_groups_have_no_held_out_answer() -> None:
    logits, defect = overconfident(60)
    assert cross_validated("sigmoid", logits, defect, np.where(defect, 0, np.arange(60))) is None
    few = np.arange(60) < 6
    assert cross_validated("sigmoid", logits, few, np.arange(60)) is None


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_reliability_is_a_plain_count(bins: int) -> None:
    p = expit(LOGITS)
    p[:5] = [0, 1, 0.25, 0.5, 0.75]  # on the edges of four bins
    found = reliability(p, DEFECT, bins)
    total = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        inside = (p > low) & (p <= high) | ((p == 0) & (place == 0))
        assert found.images[place] == inside.sum()
        if inside.any():
            assert found.predicted[place] == pytest.approx(p[inside].mean())
            assert found.observed[place] == pytest.approx(DEFECT[inside].mean())
            total += inside.sum() * abs(p[inside].mean() - DEFECT[inside].mean())
    assert found.images.sum() == len(p)
    assert found.ece == pytest.approx(total / len(p))
    observed, predicted = calibration_curve(DEFECT, p, n_bins=bins)
    filled = found.images > 0
    assert found.observed[filled] == pytest.approx(observed)
    assert found.predicted[filled] == pytest.approx(predicted)


def test_a_perfect_forecast_has_no_error() -> None:
    assert reliability(np.array([0.0, 0, 1, 1]), np.array([False, False, True, True])).ece == 0
    assert reliability(np.array([1.0, 1]), np.array([False, False])).ece == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_worse_than_chance_gets_no_map(method: str) -> None:
    with pytest.raises(ValueError, match="does not rise with the classifier's logit"):
        fit_map(method, -LOGITS, DEFECT)


def test_too_few_images() -> None:
    defect = np.arange(50) < 4
    with pytest.raises(ValueError, match="4 defects and 46 good images: a probability needs 5"):
        fit_map("sigmoid", LOGITS[:50], defect)
    with pytest.raises(ValueError, match="999 images: isotonic regression needs 1000"):
        fit_map("isotonic", LOGITS[:999], DEFECT[:999])


def test_an_unknown_map() -> None:
    unknown: dict[str, Any] = {"method": "beta"}
    with pytest.raises(ValueError, match="'beta': known are sigmoid, temperature, isotonic"):
        apply_map(unknown, LOGITS)

"""From a classifier's logit to a probability: maps fitted with scikit-learn, kept as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.stats.checks import Array
from pipeline.stats.thresholds import Flags

METHODS = ("sigmoid", "temperature", "isotonic")
# A map of two numbers from fewer images of a kind is noise; scikit-learn asks for as many.
MIN_IMAGES_PER_CLASS = 5
# Below it isotonic regression fits the noise (scikit-learn's user guide).
MIN_IMAGES_ISOTONIC = 1000
# The usual number for the expected calibration error (Guo et al. 2017, arXiv 1706.04599).
BINS = 15
FOLDS = 5
# At the edge of what scikit-learn searches (e^10) no temperature was found.
_MAX_TEMPERATURE = 1e4


@dataclass(frozen=True)
class Reliability:
    """How often images of each predicted probability are defects.

    Attributes:
        edges: (B+1,) of bins of equal width over [0, 1].
        images: (B,) int64 images in each.
        predicted: (B,) mean predicted probability; NaN in an empty bin.
        observed: (B,) share of defects; NaN in an empty bin.
    """

    edges: Array
    images: npt.NDArray[np.int64]
    predicted: Array
    observed: Array

    @property
    def ece(self) -> float:
        """Expected calibration error: |predicted − observed| averaged over images."""
        filled = self.images > 0
        gaps = np.abs(self.predicted[filled] - self.observed[filled])
        return float(np.average(gaps, weights=self.images[filled]))


def reliability(probabilities: Array, defect: Flags, bins: int = BINS) -> Reliability:
    """Predicted and observed shares of (N,) images, N ≥ 1, in bins of equal width."""
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], probabilities, side="left")
    images = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(places, probabilities, bins) / images
        observed = np.bincount(places, defect, bins) / images
    return Reliability(edges, images, predicted, observed)


def fit_map(method: str, logits: Array, defect: Flags) -> dict[str, Any]:
    """Fits a map from logits to probabilities, as plain numbers that `apply_map` understands.

    Args:
        method: `sigmoid` (Platt 1999), `temperature` (Guo et al. 2017) or `isotonic`.
        logits: (N,) float64, finite, of images that the classifier has not seen.
        defect: (N,) ground truth.

    Raises:
        ValueError: too few images, or scores that don't rise with the share of defects.
    """
    fewest = int(min(defect.sum(), (~defect).sum()))
    if fewest < MIN_IMAGES_PER_CLASS:
        raise ValueError(
            f"{int(defect.sum())} defects and {int((~defect).sum())} good images: a probability "
            f"needs {MIN_IMAGES_PER_CLASS} of each"
        )
    if method == "isotonic" and len(logits) < MIN_IMAGES_ISOTONIC:
        raise ValueError(
            f"{len(logits)} images: isotonic regression needs {MIN_IMAGES_ISOTONIC}; use sigmoid "
            "or temperature"
        )
    return _fit(method, logits, defect)


def _fit(method: str, logits: Array, defect: Flags) -> dict[str, Any]:
    column = logits[:, None]
    model = FrozenEstimator(_Logit().fit(column, defect))
    fitted = CalibratedClassifierCV(model, method=method).fit(column, defect)
    (calibrator,) = fitted.calibrated_classifiers_[0].calibrators
    if method == "isotonic":
        knots = [calibrator.X_thresholds_.tolist(), calibrator.y_thresholds_.tolist()]
        found = {"method": method, "logits": knots[0], "probabilities": knots[1]}
        rises = knots[1][-1] > knots[1][0]
    elif method == "sigmoid":
        found = {
            "method": method, "slope": -float(calibrator.a_), "intercept": -float(calibrator.b_)
        }  # fmt: skip
        rises = found["slope"] > 0
    else:
        # scikit-learn scales the pair (−x, x), whose softmax is the sigmoid of 2 β x.
        found = {"method": method, "temperature": 1 / (2 * float(calibrator.beta_))}
        rises = found["temperature"] < _MAX_TEMPERATURE
    if not rises:
        raise ValueError("the share of defects does not rise with the classifier's logit")
    return found


def apply_map(calibration: Mapping[str, Any], logits: Array) -> Array:
    """Calibrated probabilities of (N,) float64 logits; NaN stays NaN.

    Raises:
        ValueError: a method that is not known.
    """
    method = calibration["method"]
    result: Array
    if method == "sigmoid":
        result = expit(calibration["slope"] * logits + calibration["intercept"])
    elif method == "temperature":
        result = expit(logits / calibration["temperature"])
    elif method == "isotonic":
        result = np.interp(logits, calibration["logits"], calibration["probabilities"])
    else:
        raise ValueError(f"calibration method {method!r}: known are {', '.join(METHODS)}")
    return result


def cross_validated(
    method: str, logits: Array, defect: Flags, groups: npt.NDArray[np.int64]
) -> Array | None:
    """Probabilities of each image by a map that was fitted without its group.

    Args:
        method: as in `fit_map`.
        logits: (N,) float64, finite.
        defect: (N,) ground truth.
        groups: (N,) int64; like images share one.

    Returns:
        (N,) probabilities; None where the groups are too few for that.
    """
    result = np.full(len(logits), np.nan)
    if any(len(np.unique(groups[kind])) < FOLDS for kind in (defect, ~defect)):
        return None
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for fitting, held_out in folds.split(logits, defect, groups):
        kinds = defect[fitting]
        if min(kinds.sum(), (~kinds).sum()) < MIN_IMAGES_PER_CLASS:
            return None
        try:
            fold_map = _fit(method, logits[fitting], kinds)
        except ValueError:  # without these images no map rises
            return None
        result[held_out] = apply_map(fold_map, logits[held_out])
    return result


class _Logit(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose decision function is its one feature."""

    def fit(self, X: Array, y: Flags) -> _Logit:
        """Learns nothing but the names of the classes."""
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X: Array) -> Array:
        """The feature."""
        return X[:, 0]

    def predict(self, X: Array) -> Flags:
        """Whether it is above 0."""
        return X[:, 0] > 0

"""The three scorers of a bundle: arrays in, scores out; what actors, app and notebooks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from pipeline.errors import InputError
from pipeline.models.backbone import Backbone, Features
from pipeline.models.classifier import Classifier
from pipeline.models.detector import Detector
from pipeline.models.precision import lacking
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.specs import MODELS
from pipeline.models.weights import State, load_state
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    Bundle,
)
from pipeline.stats.gaussian import Gaussian, grid_score, mahalanobis

# Images whose distances are solved together.
DISTANCE_BATCH = 32


@dataclass(frozen=True)
class AnomalyScores:
    """Distances of N images; NaN where the category has no Gaussian, or the features no value.

    Attributes:
        cells: (N,) float64.
        pooled: (N,) float64.
        features: what the distances were computed from.
        finite: (N,) bool, false where a feature is NaN or infinite: the image has no score.
    """

    cells: np.ndarray
    pooled: np.ndarray
    features: Features
    finite: np.ndarray


class AnomalyScorer:
    """Backbone and Gaussians."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Loads the backbone; Gaussians are mapped when their category first comes.

        Raises:
            InputError: this machine lacks the bundle's precision.
        """
        _settle(bundle, threads)
        self._bundle = bundle
        self._threads = threads
        spec = bundle.spec
        self._backbone = Backbone(
            _state(bundle, BACKBONE_FILE),
            spec.features,
            spec.feature_batch,
            precision=spec.precision_of("features"),
        )
        self._gaussians: dict[tuple[str, str], Gaussian] = {}
        # Made once: looking for the libraries of a process takes 3 ms, the distances of a block 17.
        self._libraries = ThreadpoolController()

    def score(self, images: np.ndarray, categories: Sequence[str | None]) -> AnomalyScores:
        """Distances of (N, S, S, 3) uint8 RGB images, each in its own category."""
        features = self._backbone.features(images)
        finite = features.finite()
        usable = [name if good else None for name, good in zip(categories, finite, strict=True)]
        return AnomalyScores(
            self._distances("cells", features.cells, usable),
            self._distances("pooled", features.pooled[:, None, :], usable),
            features,
            finite,
        )

    def _distances(
        self, score: str, features: np.ndarray, categories: Sequence[str | None]
    ) -> np.ndarray:
        result = np.full(len(features), np.nan)
        grids = self._bundle.spec.features.grids if score == "cells" else (1,)
        known = {name for name in categories if name is not None} & set(self._bundle.categories)
        for category in sorted(known):
            rows = [i for i, name in enumerate(categories) if name == category]
            gaussian = self._gaussian(category, score)
            for start in range(0, len(rows), DISTANCE_BATCH):
                chunk = rows[start : start + DISTANCE_BATCH]
                # One shape for every call: the last bit depends on how many are solved at once.
                batch = np.zeros((DISTANCE_BATCH, *features.shape[1:]), features.dtype)
                batch[: len(chunk)] = features[chunk]
                with self._libraries.limit(limits=self._threads):
                    distances = mahalanobis(gaussian, batch)
                result[chunk] = grid_score(distances, grids)[: len(chunk)]
        return result

    def _gaussian(self, category: str, score: str) -> Gaussian:
        key = (category, score)
        if key not in self._gaussians:
            self._gaussians[key] = self._bundle.gaussian(category, score)
        return self._gaussians[key]


class DefectClassifier:
    """The bundle's classifier."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        _settle(bundle, threads)
        batch = bundle.spec.classifier_batch
        if batch is None:
            raise InputError("classifier: the bundle has none")
        self._model = Classifier(
            _state(bundle, CLASSIFIER_FILE),
            batch,
            precision=bundle.spec.precision_of("classifier"),
        )

    def score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logit and uncalibrated probability of `defect`, (N,) each, of (N, S, S, 3) uint8."""
        logits = self._model.defect_logits(images).astype(np.float64)
        with np.errstate(over="ignore"):
            return logits, 1 / (1 + np.exp(-logits))


def bundle_detector(bundle: Bundle, threads: int) -> Detector:
    """The bundle's detector.

    Raises:
        InputError: the bundle has none.
    """
    _settle(bundle, threads)
    if bundle.spec.detector is None:
        raise InputError("detector: the bundle has none")
    file = bundle.folder / DETECTOR_FILE
    precision = bundle.spec.precision_of("detector")
    return Detector(file, bundle.spec.detector, f"detector: {file}", precision)


def _state(bundle: Bundle, file: str) -> State:
    return load_state(str(bundle.folder / file), "bundle")


def _settle(bundle: Bundle, threads: int) -> None:
    missing = lacking({name: bundle.spec.precision_of(name) for name in MODELS})
    if missing:
        raise InputError(
            f"bundle: computes in {', '.join(missing)}, for which this machine has no hardware: "
            "score on one like that of the fit, or fit with precision=float32"
        )
    fix_arithmetic(threads)

"""The models that a bundle is made of, loaded and checked from a fit's settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config import ClassifierConfig, DetectorConfig, FitConfig
from pipeline.errors import InputError
from pipeline.models.backbone import Backbone
from pipeline.models.classifier import Classifier
from pipeline.models.detector import Detector
from pipeline.models.precision import lacking, settle
from pipeline.models.resnet import unused_after
from pipeline.models.specs import DetectorSettings, FeatureLayout
from pipeline.models.weights import named_weights, state_to_bytes, used_part
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    TRAINED_ON_FILES,
    ScorerSpec,
)
from pipeline.scoring.weights_files import local_weights, read_state, read_weights
from pipeline.tables.trained_models import trained_side
from pipeline.tables.trained_on import record_beside, trained_on_ids

# Weights are only looked at here, in a process that Ray gave no GPU.
_LOADED_ON = torch.device("cpu")

log = logging.getLogger("linescore")


@dataclass(frozen=True)
class Ingredients:
    """What a bundle holds beside its Gaussians.

    Attributes:
        spec: the settings that scores depend on.
        files: name in the bundle and content.
        backbone_saw: ids, int64, of the images that the backbone's own training used, where it
            left a record beside its weights; none for weights of somebody else's.
    """

    spec: ScorerSpec
    files: Mapping[str, bytes]
    backbone_saw: np.ndarray


def load_ingredients(config: FitConfig, elsewhere: bool = False) -> Ingredients:
    """Loads every model once, so that what is wrong with one is known before any work.

    Args:
        config: the fit's settings.
        elsewhere: the networks will run on other machines, which say themselves what they lack.

    Raises:
        InputError: weights that are missing, damaged, of another network, or not trusted; a
            precision that this machine lacks.
    """
    backbone = config.backbone
    layout = FeatureLayout(backbone.cell_layers, backbone.grids, backbone.pooled_layers)
    field = "backbone.weights"
    state = read_state(backbone.weights, field)
    Backbone(state, layout, backbone.batch_size, f"{field}: {backbone.weights}", device=_LOADED_ON)
    files = {BACKBONE_FILE: state_to_bytes(used_part(state, unused_after(layout.last_layer)))}
    if config.classifier is not None:
        files[CLASSIFIER_FILE] = _classifier(config.classifier, backbone.image_size)
    if config.detector is not None:
        files[DETECTOR_FILE] = _detector(config.detector)
    for name, model in (("classifier", config.classifier), ("detector", config.detector)):
        if model is not None and (seen := _trained_on(model.weights)) is not None:
            files[TRAINED_ON_FILES[name]] = seen
    spec = ScorerSpec(
        image_size=backbone.image_size,
        features=layout,
        feature_batch=backbone.batch_size,
        anomaly_score=config.anomaly_score,
        global_floor=config.global_floor,
        classifier_batch=config.classifier.batch_size if config.classifier else None,
        detector=_settings(config.detector) if config.detector else None,
        precision=_precision(config.precision, elsewhere),
    )
    seen = _trained_on(backbone.weights)
    saw = np.empty(0, np.int64) if seen is None else trained_on_ids(seen, backbone.weights)
    return Ingredients(spec, files, saw)


def _precision(wanted: str, elsewhere: bool) -> str | dict[str, str]:
    """That of each model, or of all where it is one."""
    settled = settle(wanted)
    if not elsewhere and (missing := lacking(settled)):
        raise InputError(
            f"precision: {', '.join(missing)}: this machine has no hardware for it; fit where "
            "there is, or with precision=float32"
        )
    kinds = set(settled.values())
    return settled if len(kinds) > 1 else kinds.pop()


def _classifier(config: ClassifierConfig, image_size: int) -> bytes:
    field = "classifier.weights"
    named = config.weights in named_weights()
    seen = None if named else trained_side(config.weights, "classifier")
    if seen not in (None, image_size):
        raise InputError(
            f"{field}: {config.weights}: was trained on squares of {seen} px, and "
            f"backbone.image_size is {image_size}, of which both models are given the same: train "
            f"it with image_size={image_size}, or fit with backbone.image_size={seen}"
        )
    state = read_state(config.weights, field)
    Classifier(state, config.batch_size, f"{field}: {config.weights}", device=_LOADED_ON)
    return state_to_bytes(used_part(state, ("num_batches_tracked",)))


def _detector(config: DetectorConfig) -> bytes:
    field = f"detector.weights: {config.weights}"
    if not config.trusted:
        raise InputError(
            f"{field}: an ultralytics .pt is a pickle, which can run code when it is loaded; "
            "if you know where it comes from, say so with detector.trusted=true"
        )
    content = read_weights(config.weights, "detector.weights")
    seen = trained_side(config.weights, "detector")
    if seen not in (None, config.image_size):
        raise InputError(
            f"{field}: was trained on squares of {seen} px, and detector.image_size is "
            f"{config.image_size}, so that every defect has another size than it learnt: fit with "
            f"detector.image_size={seen}, or train it with image_size={config.image_size}"
        )
    with local_weights(config.weights, "detector.weights") as file:
        detector = Detector(file, _settings(config), field, device=_LOADED_ON)
    # Somebody else's may be meant for many sizes.
    if seen is None and detector.trained_side not in (None, config.image_size):
        log.warning(
            "%s: was trained at %d px, by its own account, and detector.image_size is %d: it may "
            "miss what has another size than it learnt",
            field,
            detector.trained_side,
            config.image_size,
        )
    return content


def _trained_on(weights: str) -> bytes | None:
    """The table of images that a model was trained on, where it lies beside the weights."""
    return None if weights in named_weights() else record_beside(weights)


def _settings(config: DetectorConfig) -> DetectorSettings:
    return DetectorSettings(
        image_size=config.image_size,
        confidence_floor=config.confidence_floor,
        iou=config.iou,
        max_detections=config.max_detections,
        batch_size=config.batch_size,
    )

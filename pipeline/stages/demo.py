"""The demo: the whole way, on images made here, with a classifier trained just far enough."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import (
    BackboneConfig,
    ClassifierConfig,
    DemoConfig,
    DetectorConfig,
    FitConfig,
    IndexConfig,
    ScoreConfig,
)
from pipeline.errors import InputError
from pipeline.images.decode import DecodeLimits
from pipeline.models.training import TrainingSettings, train_small_classifier
from pipeline.models.weights import cached_weights_file, state_to_bytes
from pipeline.samples.spec import SampleSpec, demo_archive, demo_training
from pipeline.samples.write import write_sample
from pipeline.scoring.prepare import Failure, PrepareOptions, prepare
from pipeline.stages.cluster import connected
from pipeline.stages.fit import run_fit
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables import storage

_IMAGENET = "IMAGENET1K_V1"

log = logging.getLogger("linescore")


def run_demo(config: DemoConfig) -> dict[str, Any]:
    """Generates, indexes, trains, fits and scores.

    Returns:
        The score run's report, with the store, the backbone's origin and the bundle.

    Raises:
        InputError: weights that were named but can't be used, a folder that can't be written.
    """
    folder = Path(config.folder).absolute()
    storage.require_writable(str(folder), "folder")
    store = str(folder / "store")
    with connected(config.ray):
        archive = _make(folder / "archive", demo_archive(config.seed), store, "archive")
        training = _make(folder / "training", demo_training(config.seed), store, "training")
        size = demo_archive(config.seed).size
        classifier = _train(training, folder / "models" / "classifier.safetensors", size, config)
        backbone, origin = _backbone(config, classifier)
        fitted = run_fit(
            FitConfig(
                manifest=archive,
                store=store,
                backbone=BackboneConfig(weights=backbone, image_size=size),
                classifier=ClassifierConfig(weights=str(classifier)),
                detector=_detector(config),
                ray=config.ray,
            )
        )
        score = ScoreConfig(manifest=archive, bundle=fitted["bundle"], store=store, ray=config.ray)
        report = run_score(score)
    return report | {"store": store, "backbone": origin, "bundle": fitted["bundle"]}


def _make(folder: Path, spec: SampleSpec, store: str, name: str) -> str:
    """Images of one sample, indexed; the manifest's place."""
    write_sample(folder, spec)
    report = run_index(IndexConfig(source=str(folder), store=store, name=name))
    log.info("%s: %d images made and indexed, seed %d", name, report["images"], spec.seed)
    manifest: str = report["manifest"]
    return manifest


def _train(manifest: str, target: Path, size: int, config: DemoConfig) -> Path:
    """A classifier trained on the training sample, none of whose images is in the archive."""
    images, masks = _labelled_images(manifest, size)
    settings = TrainingSettings(seed=config.seed)
    log.info(
        "training a ResNet-18 on %d images (%d defects), %d epochs: the longest step",
        len(images),
        masks.any(axis=(1, 2)).sum(),
        settings.epochs,
    )
    state = train_small_classifier(images, masks, settings)
    storage.write_bytes(str(target), state_to_bytes(state))
    return target


def _labelled_images(manifest: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, S, S, 3) uint8 and masks (N, S, S) bool."""
    options = PrepareOptions(DecodeLimits(), square=size, verify=False)
    images, masks = [], []
    for row in storage.read_parquet(manifest, ["uri", "mask_uri"]).to_pylist():
        images.append(_square(row["uri"], options))
        mask = row["mask_uri"]
        empty = np.zeros((size, size), bool)
        masks.append(_square(mask, options)[:, :, 0] > 0 if mask else empty)
    return np.stack(images), np.stack(masks)


def _square(uri: str, options: PrepareOptions) -> np.ndarray:
    image = prepare(uri, None, options)
    if isinstance(image, Failure) or image.square is None:
        raise InputError(f"{uri}: was made a moment ago and can't be read: {image}")
    return image.square


def _backbone(config: DemoConfig, classifier: Path) -> tuple[str, str]:
    if config.backbone_weights:
        return config.backbone_weights, f"the weights given: {config.backbone_weights}"
    if cached_weights_file(_IMAGENET) is not None:
        return _IMAGENET, f"{_IMAGENET}, found in torch's cache"
    return str(classifier), (
        "the classifier trained here, as no ImageNet weights were given (backbone_weights=FILE) "
        "or cached"
    )


def _detector(config: DemoConfig) -> DetectorConfig | None:
    if not config.detector_weights:
        return None
    return DetectorConfig(weights=config.detector_weights, trusted=True, image_size=256)

"""The demo: the whole way, on images made here, with a classifier trained just far enough."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import (
    BackboneConfig,
    ClassifierConfig,
    DemoConfig,
    DetectorConfig,
    FitConfig,
    IndexConfig,
    ScoreConfig,
    TrainDetectorConfig,
)
from pipeline.errors import InputError
from pipeline.images.decode import DecodeLimits
from pipeline.models.training import TrainingSettings, train_small_classifier
from pipeline.models.weights import cached_weights_file, state_to_bytes
from pipeline.samples.spec import SampleSpec, demo_archive, demo_training
from pipeline.samples.write import write_sample
from pipeline.scoring.bundle import DETECTOR_FILE
from pipeline.scoring.prepare import Failure, PrepareOptions, prepare
from pipeline.stages.cluster import connected
from pipeline.stages.fit import run_fit
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.stages.train_detector import run_train_detector
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest, write_manifest
from pipeline.tables.roles import FIT, VALIDATION

_IMAGENET = "IMAGENET1K_V1"
# The detector sees the sample's 128 px a little enlarged: its smallest defects are 4 px wide.
_DETECTOR_SIZE = 160
_DETECTOR_EPOCHS = 12
_DETECTOR_BATCH = 16
# What the training may take, looked at after each epoch.
_DETECTOR_MINUTES = 3.0
# A third as many good images as defects: they are all alike.
_DETECTOR_GOOD = 0.33
# One in so many training images of a kind is held out, to judge the detector.
_HELD_OUT = 5

log = logging.getLogger("linescore")


def run_demo(config: DemoConfig) -> dict[str, Any]:
    """Generates, indexes, trains, fits and scores.

    Returns:
        The score run's report, with the store, the backbone's origin and the bundle.

    Raises:
        InputError: weights that were named but can't be used, a folder that can't be written.
    """
    folder = Path(storage.absolute(config.folder))
    storage.require_writable(str(folder), "folder")
    store = str(folder / "store")
    with connected(config.ray):
        archive = _make(folder / "archive", demo_archive(config.seed), store, "archive")
        training = _make(folder / "training", demo_training(config.seed), store, "training")
        size = demo_archive(config.seed).size
        classifier = _train(training, folder / "models" / "classifier.safetensors", size, config)
        backbone, origin = _backbone(config, classifier)
        detector = _train_detector(training, store, config)
        fitted = run_fit(
            FitConfig(
                manifest=archive,
                store=store,
                backbone=BackboneConfig(weights=backbone, image_size=size),
                classifier=ClassifierConfig(weights=str(classifier)),
                detector=_detector(detector),
                ray=config.ray,
            )
        )
        score = ScoreConfig(manifest=archive, bundle=fitted["bundle"], store=store, ray=config.ray)
        report = run_score(score)
    return report | {
        "store": store,
        "backbone": origin,
        "bundle": fitted["bundle"],
        "detector": detector,
    }


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


def _train_detector(training: str, store: str, config: DemoConfig) -> dict[str, Any] | None:
    """A detector trained on the training sample; None if none is wanted."""
    if not config.train_detector:
        return None
    manifest = _with_roles(training, storage.join(store, "manifests", "training-roles.parquet"))
    log.info("training a YOLOv8n detector, about %g minutes at most", _DETECTOR_MINUTES)
    return run_train_detector(
        TrainDetectorConfig(
            manifest=manifest,
            store=store,
            # The sample is written anew each time: another training, under another name.
            name=f"detector-{open_manifest(manifest).digest[:12]}",
            weights=config.detector_weights,
            trusted=config.detector_weights is not None,
            image_size=_DETECTOR_SIZE,
            epochs=_DETECTOR_EPOCHS,
            batch_size=_DETECTOR_BATCH,
            good_per_defect=_DETECTOR_GOOD,
            minutes=_DETECTOR_MINUTES,
            seed=config.seed,
        )
    )


def _with_roles(manifest: str, target: str) -> str:
    """A copy of a sample's manifest in which one in five of each kind is held out."""
    rows = storage.read_parquet(manifest).sort_by("image_id")
    seen: Counter[tuple[str, str]] = Counter()
    roles = []
    for kind in zip(
        *(rows.column(n).to_pylist() for n in ("category", "defect_type")), strict=True
    ):
        seen[kind] += 1
        roles.append(FIT if seen[kind] % _HELD_OUT else VALIDATION)
    place = rows.schema.get_field_index("role")
    write_manifest(target, rows.set_column(place, "role", pa.array(roles, pa.string())))
    return target


def _detector(trained: dict[str, Any] | None) -> DetectorConfig | None:
    if trained is None:
        return None
    weights = storage.join(trained["folder"], DETECTOR_FILE)
    return DetectorConfig(weights=weights, trusted=True, image_size=_DETECTOR_SIZE)

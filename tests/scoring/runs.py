"""A bundle and a published run made directly, without models or Ray."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.models.specs import DetectorSettings, FeatureLayout
from pipeline.scoring.build import BundleBuilder
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    TRAINED_ON_FILES,
    ScorerSpec,
    open_bundle,
)
from pipeline.tables import storage
from pipeline.tables.publication import PublishedFile, published_record
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import RUN_TABLES
from pipeline.tables.trained_on import trained_on_bytes

SPEC = ScorerSpec(
    image_size=64,
    features=FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",)),
    feature_batch=16,
    anomaly_score="cells",
    global_floor=0.1,
    classifier_batch=16,
    detector=DetectorSettings(
        image_size=64, confidence_floor=0.05, iou=0.7, max_detections=10, batch_size=8
    ),
)
FILES = {BACKBONE_FILE: b"back" * 999, CLASSIFIER_FILE: b"class" * 99, DETECTOR_FILE: b"yolo" * 9}
MODELS = ("gaussians", "classifier", "detector")


def make_bundle(store: str, seen: Mapping[str, Iterable[int]] | None = None) -> str:
    """A bundle whose models have seen these ids; a model that isn't named has no record."""
    with BundleBuilder(store, SPEC) as builder:
        for name, content in FILES.items():
            builder.add_file(name, content)
        for model, ids in (seen or {}).items():
            content = trained_on_bytes(np.array(list(ids), np.int64), np.empty(0, np.int64))
            builder.add_file(TRAINED_ON_FILES[model], content)
        uri, _ = builder.finish({"started_at": "2026-01-01"})
    return uri


def make_run(
    store: str,
    bundle: str,
    rows: list[dict[str, Any]],
    errors: Iterable[dict[str, Any]] = (),
    run_id: str = "r",
) -> None:
    """Publishes rows of `scores` and `errors` as a run, scored with a bundle."""
    places, opened = RunPlaces(store, run_id), open_bundle(bundle, store)
    files = []
    for name, found in (("scores", rows), ("errors", list(errors))):
        content = storage.parquet_bytes(pa.Table.from_pylist(found, schema=RUN_TABLES[name]))
        uri = storage.join(places.table(name), "part-00000.parquet")
        storage.write_bytes(uri, content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(PublishedFile(name, uri, len(found), len(content), digest))
    facts = {
        "schema_version": "1",
        "run_id": run_id,
        "kind": "score",
        "finished_at": "2026-01-02T00:00:00+00:00",
        "manifest_digest": "ab" * 32,
        "scorer_digest": opened.scorer_digest,
        "bundle_digest": opened.bundle_digest,
        "feature_digest": opened.feature_digest,
    }
    storage.write_json(places.published, published_record(store, files, facts))


def image_rows(
    first: int, count: int, role: str, defect: bool | None, **changes: Any
) -> list[dict[str, Any]]:
    """Rows with the ids from `first` on, each a group of its own, scores rising with the id."""
    rng = np.random.default_rng(first)
    rows = []
    for number in range(first, first + count):
        anomaly = rng.normal(20 + 8 * bool(defect), 4)
        logit = rng.normal(3 * bool(defect) - 2, 2)
        row = {
            "image_id": number,
            "uri": f"{number}.png",
            "category": "tile",
            "role": role,
            "group_id": number,
            "is_defect": defect,
            "anomaly_score": anomaly,
            "anomaly_cells": anomaly,
            "anomaly_pooled": anomaly / 2,
            "defect_logit": logit,
            "defect_probability": 1 / (1 + np.exp(-logit)),
            "detection_count": 1,
            "detection_max_confidence": float(rng.uniform(0.1, 0.9)),
        }
        rows.append(row | changes)
    return rows


def usual_rows(categories: Iterable[str] = ("tile", "bolt")) -> list[dict[str, Any]]:
    """Two categories with every role: 30 good, 20 defects to validate on, 25 normals."""
    rows = []
    for place, category in enumerate(categories):
        first = 1000 * place
        rows += image_rows(first, 20, "fit", False, category=category)
        rows += image_rows(first + 100, 30, "validation", False, category=category)
        rows += image_rows(first + 200, 20, "validation", True, category=category)
        rows += image_rows(first + 300, 25, "normal_calibration", False, category=category)
        rows += image_rows(first + 400, 10, "test", True, category=category)
    return rows


FIT_IDS = [*range(20), *range(1000, 1020)]

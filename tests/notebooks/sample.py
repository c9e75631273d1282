"""A store as `make demo` leaves one, only smaller, made without Ray and in about a minute."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.api import load_manifest, load_scorer
from pipeline.images.decode import DecodeLimits
from pipeline.models.backbone import Backbone
from pipeline.models.specs import FeatureLayout
from pipeline.models.training import TrainingSettings, train_small_classifier
from pipeline.models.weights import state_to_bytes
from pipeline.samples.spec import DEMO_TRAINING_SEED_SHIFT, SampleSpec
from pipeline.samples.write import write_sample
from pipeline.scoring.build import BundleBuilder
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    ScorerSpec,
    open_bundle,
)
from pipeline.scoring.bundle_copy import file_digest
from pipeline.scoring.direct import Scored
from pipeline.scoring.prepare import Prepared, PrepareOptions, prepare
from pipeline.stats.gaussian import fit_global_floor, fit_ledoit_wolf
from pipeline.stats.moments import MomentAccumulator, Moments
from pipeline.tables import storage
from pipeline.tables.layout import list_source
from pipeline.tables.manifest import image_id, write_manifest
from pipeline.tables.publication import PublishedFile, published_record
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import MANIFEST

SIDE = 96
SEED = 0
CATEGORIES = ("label", "washer")
RUN_ID = "sample"
LAYOUT = FeatureLayout(("layer2", "layer3"), (4, 8), ("layer3",))
# Enough that the classifier is better than chance, few enough for two cores.
EPOCHS = 3


def write_store(folder: Path) -> Path:
    """Makes, indexes, trains, fits and scores; the store's place."""
    store = folder / "store"
    archive = _indexed(folder / "archive", SampleSpec(SEED, SIDE, 40, 30, 10, CATEGORIES), store)
    other = SampleSpec(SEED + DEMO_TRAINING_SEED_SHIFT, SIDE, 60, 0, 15, CATEGORIES)
    training = _indexed(folder / "training", other, store)
    weights = _classifier(training)
    (folder / "models").mkdir()
    (folder / "models" / "classifier.safetensors").write_bytes(weights)
    bundle = _fitted(archive, weights, store)
    scored = load_scorer(open_bundle(bundle, str(store))).rows(load_manifest(archive))
    _publish(store, bundle, archive, scored)
    return store


def _indexed(folder: Path, spec: SampleSpec, store: Path) -> str:
    write_sample(folder, spec)
    rows = []
    for entry in list_source(str(folder)).entries:
        digest = file_digest(Path(entry.uri))
        names = {"image_id": image_id(digest), "uri": entry.uri, "sha256": digest}
        rows.append(entry.labels | names | {"bytes": entry.size, "duplicate_uris": []})
    manifest = str(store / "manifests" / f"{folder.name}.parquet")
    write_manifest(manifest, pa.Table.from_pylist(rows, schema=MANIFEST))
    return manifest


def _square(uri: str) -> np.ndarray:
    found = prepare(uri, None, PrepareOptions(DecodeLimits(), square=SIDE))
    assert isinstance(found, Prepared) and found.square is not None
    return found.square


def _classifier(manifest: str) -> bytes:
    rows = load_manifest(manifest).to_pylist()
    images = np.stack([_square(row["uri"]) for row in rows])
    empty = np.zeros((SIDE, SIDE), bool)
    masks = [_square(row["mask_uri"])[:, :, 0] > 0 if row["mask_uri"] else empty for row in rows]
    settings = TrainingSettings(seed=SEED, epochs=EPOCHS, threads=1)
    return state_to_bytes(train_small_classifier(images, np.stack(masks), settings))


def _moments(features: np.ndarray) -> Moments:
    sums = MomentAccumulator(features[0].astype(np.float64))
    sums.add(features)
    return sums.moments()


def _fitted(manifest: str, weights: bytes, store: Path) -> str:
    from safetensors.torch import load

    spec = ScorerSpec(SIDE, LAYOUT, 16, "cells", 0.1, classifier_batch=16)
    backbone = Backbone(load(weights), LAYOUT, 16)
    rows = load_manifest(manifest).to_pandas().query("split == 'train'")
    with BundleBuilder(str(store), spec) as builder:
        builder.add_file(BACKBONE_FILE, weights)
        builder.add_file(CLASSIFIER_FILE, weights)
        for category, mine in rows.groupby("category"):
            found = backbone.features(np.stack([_square(uri) for uri in mine.uri]))
            cells, pooled = _moments(found.cells), _moments(found.pooled[:, None, :])
            builder.add_gaussian(category, "cells", fit_global_floor(cells, spec.global_floor))
            builder.add_gaussian(category, "pooled", fit_ledoit_wolf(pooled))
        uri, _ = builder.finish({"started_at": "2026-01-01"})
    return uri


def _publish(store: Path, bundle: str, manifest: str, scored: Scored) -> None:
    places, files = RunPlaces(str(store), RUN_ID), []
    tables: dict[str, pa.Table] = {"scores": scored.scores, "errors": scored.errors}
    for name, table in tables.items():
        ordered = table.sort_by([("category", "ascending"), ("image_id", "ascending")])
        content = storage.parquet_bytes(ordered)
        uri = storage.join(places.table(name), "part-00000.parquet")
        storage.write_bytes(uri, content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(PublishedFile(name, uri, len(table), len(content), digest))
    opened = open_bundle(bundle, str(store))
    facts: dict[str, Any] = {
        "schema_version": "1",
        "run_id": RUN_ID,
        "kind": "score",
        "finished_at": "2026-01-02T00:00:00+00:00",
        "scorer_digest": opened.scorer_digest,
        "bundle_digest": opened.bundle_digest,
        "feature_digest": opened.feature_digest,
    }
    about = {"manifest": manifest, "bundle": {"uri": bundle}}
    storage.write_json(places.record, facts | about)
    storage.write_json(places.published, published_record(str(store), files, facts))


if __name__ == "__main__":
    print(write_store(Path(sys.argv[1])))

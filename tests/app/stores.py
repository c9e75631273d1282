"""Stores for the app: a small one of sample images, and one of a million rows without any."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.config import AppConfig
from pipeline.images.geometry import resize_square
from pipeline.samples.spec import SampleSpec
from pipeline.samples.write import write_sample
from pipeline.stats.moments import MomentAccumulator, Moments
from pipeline.tables import storage
from pipeline.tables.manifest import image_id, write_manifest
from pipeline.tables.publication import PublishedFile, published_record
from pipeline.tables.runs import RunPlaces, start_or_continue
from pipeline.tables.schemas import DETECTIONS, ERRORS, MANIFEST, SCORES

# Names that would be markup, or code, where they are not escaped.
EVIL = "<img src=x onerror=alert(1)> **b** [l](javascript:alert(1)) :red[x]"
SCORER = "5c" * 32


@dataclass(frozen=True)
class Place:
    """A store, here or in a bucket, and policies that fit it."""

    folder: Path
    bucket: str | None = None

    @property
    def store(self) -> str:
        return f"{self.bucket}/store" if self.bucket else str(self.folder / "store")

    @property
    def policies(self) -> Path:
        return self.folder / "policies"

    @property
    def thresholds(self) -> Path:
        return self.folder / "thresholds.json"

    def config(self, **changes: Any) -> AppConfig:
        given = {
            "store": self.store,
            "policies": (str(self.policies),),
            "thresholds": (str(self.thresholds),),
        }
        return AppConfig.model_validate(given | changes)

    def policy(self, name: str, decide: Any, **more: Any) -> None:
        document = {"policy": "v1", "name": name, "decide": decide, "on_missing": "review"} | more
        self.policies.mkdir(exist_ok=True)
        (self.policies / f"{name}.json").write_text(json.dumps(document))


def at_least(score: str, threshold: Any) -> dict[str, Any]:
    return {"score": score, "ge": threshold}


def usual_policies(place: Place, categories: Sequence[str]) -> None:
    """One threshold; one of each category; two scores and a review band."""
    place.policy("anomaly", at_least("anomaly_score", 24.0))
    place.policy("by-category", at_least("anomaly_score", {"ref": "mine"}))
    either = {"any": [at_least("anomaly_score", 26.0), at_least("defect_probability", 0.7)]}
    place.policy("either", either, review=at_least("defect_probability", 0.4))
    place.policy("asks-for-more", at_least("anomaly_score", {"ref": "nobody.knows"}))
    mine = {name: 22.0 + place_ for place_, name in enumerate(categories)}
    place.thresholds.write_text(json.dumps({"mine": mine}))


def put_run(
    store: str,
    run_id: str,
    scores: pa.Table,
    *,
    detections: pa.Table | None = None,
    manifest: str | None = None,
    bundle: str | None = None,
    finished: str = "2026-03-02T02:00:00+00:00",
    file_rows: int = 500_000,
) -> None:
    """Publishes a run, as publishing does, without a bundle or Ray."""
    places = RunPlaces(store, run_id)
    facts = {"run_id": run_id, "started_at": finished, "config": {"manifest": manifest}}
    facts |= {"bundle": {"uri": bundle}} if bundle else {}
    start_or_continue(places, {"kind": "score", "scorer_digest": SCORER}, facts)
    order = [("category", "ascending"), ("image_id", "ascending")]
    tables = {"scores": scores.sort_by(order), "errors": ERRORS.empty_table()}
    if detections is not None:
        tables["detections"] = detections.sort_by(order)
    files = []
    for name, table in tables.items():
        for number, start in enumerate(range(0, table.num_rows, file_rows)):
            content = storage.parquet_bytes(table.slice(start, file_rows))
            uri = storage.join(places.table(name), f"part-{number:05d}.parquet")
            storage.write_bytes(uri, content)
            rows = min(file_rows, table.num_rows - start)
            digest = hashlib.sha256(content).hexdigest()
            files.append(PublishedFile(name, uri, rows, len(content), digest))
    record = {
        "schema_version": "1",
        "run_id": run_id,
        "kind": "score",
        "finished_at": finished,
        "scorer_digest": SCORER,
    }
    storage.write_json(places.published, published_record(store, files, record))
    storage.write_json(places.report, record)


def small_store(
    folder: Path,
    *,
    evil: bool = False,
    size: int = 128,
    weights: Path | None = None,
    bucket: str | None = None,
) -> Place:
    """Two runs, `monday` and `tuesday`, of sample images; with a bundle where weights are given."""
    place = Place(folder, bucket)
    archive = folder / "archive"
    spec = SampleSpec(3, size, train_good=4, test_good=14, per_defect=7)
    write_sample(archive, spec)
    rows = [_row(file, archive, evil=evil) for file in sorted(archive.rglob("*.png"))]
    images = [row for row in rows if row is not None]
    if bucket is not None:
        images = [_moved(row, str(folder), bucket) for row in images]
    manifest = storage.join(place.store, "manifests", "sample.parquet")
    columns = {f.name: [r.get(f.name) for r in images] for f in MANIFEST}
    write_manifest(manifest, pa.table(columns, schema=MANIFEST))
    bundle = None if weights is None else _bundle(place.store, images, weights)
    for number, run_id in enumerate(("monday", "tuesday")):
        scored = _scored(images, number, size)
        put_run(
            place.store,
            run_id,
            scored,
            detections=_boxes(images),
            manifest=manifest,
            bundle=bundle,
            finished=f"2026-03-0{number + 2}T02:00:00+00:00",
        )
    usual_policies(place, sorted({str(row["category"]) for row in images}))
    return place


def _moved(row: dict[str, Any], folder: str, bucket: str) -> dict[str, Any]:
    """The same image in a bucket, and its mask."""
    found = dict(row)
    for name in ("uri", "mask_uri"):
        if row[name] is not None:
            found[name] = row[name].replace(folder, bucket)
            storage.write_bytes(found[name], Path(row[name]).read_bytes())
    return found


def _bundle(store: str, images: Sequence[dict[str, Any]], weights: Path) -> str:
    """A bundle of small networks, whose Gaussians are of the good images in `train`."""
    from pipeline.models.backbone import Backbone
    from pipeline.models.specs import FeatureLayout
    from pipeline.models.weights import load_state
    from pipeline.scoring.build import BundleBuilder
    from pipeline.scoring.bundle import BACKBONE_FILE, CLASSIFIER_FILE, ScorerSpec
    from pipeline.stats.gaussian import fit_global_floor, fit_ledoit_wolf

    layout = FeatureLayout(("layer2",), (2,), ("layer2",))
    backbone = Backbone(load_state(str(weights), "backbone"), layout, 8)
    with BundleBuilder(store, ScorerSpec(64, layout, 8, "cells", 0.1, 8)) as builder:
        for name in (BACKBONE_FILE, CLASSIFIER_FILE):
            builder.add_file(name, weights.read_bytes())
        for category in sorted({str(row["category"]) for row in images}):
            good = [r["uri"] for r in images if (r["category"], r["role"]) == (category, "fit")]
            found = backbone.features(np.stack([_square(uri) for uri in good]))
            builder.add_gaussian(category, "cells", fit_global_floor(_moments(found.cells), 0.1))
            pooled = _moments(found.pooled[:, None, :])
            builder.add_gaussian(category, "pooled", fit_ledoit_wolf(pooled))
        uri, _ = builder.finish({"started_at": "2026-03-01"})
    return uri


def _square(uri: str) -> np.ndarray:
    return resize_square(np.asarray(Image.open(uri).convert("RGB")), 64)


def _moments(features: np.ndarray) -> Moments:
    sums = MomentAccumulator(features[0].astype(np.float64))
    sums.add(features)
    return sums.moments()


def _row(file: Path, archive: Path, *, evil: bool) -> dict[str, Any] | None:
    category, split, kind, name = file.relative_to(archive).parts
    if split == "ground_truth":
        return None
    if evil and kind not in ("good",) and file.name == "000.png":
        kind = EVIL
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    mask = archive / category / "ground_truth" / file.parent.name / name.replace(".", "_mask.")
    return {
        "image_id": image_id(digest),
        "uri": str(file),
        "sha256": digest,
        "bytes": file.stat().st_size,
        "category": category,
        "split": split,
        "role": "test" if split == "test" else "fit",
        "defect_type": kind,
        "is_defect": None if split == "test" and name == "013.png" else kind != "good",
        "mask_uri": str(mask) if mask.exists() else None,
    }


def _scored(images: Sequence[dict[str, Any]], number: int, size: int) -> pa.Table:
    rng = np.random.default_rng(11 + number)
    defect = np.array([row["defect_type"] != "good" for row in images])
    anomaly = np.random.default_rng(5).normal(20, 3, len(images)) + 7 * defect
    anomaly = (anomaly + number * rng.normal(0, 1, len(images))).astype(np.float32)
    logit = (rng.normal(-2, 1.5, len(images)) + 3.5 * defect).astype(np.float32)
    columns: dict[str, Any] = {
        name: [row.get(name) for row in images] for name in SCORES.names if name in MANIFEST.names
    }
    columns |= {
        "width": [size] * len(images),
        "height": [size] * len(images),
        "anomaly_score": anomaly,
        "anomaly_cells": anomaly,
        "anomaly_pooled": (anomaly / 2).astype(np.float32),
        "defect_logit": logit,
        "defect_probability": (1 / (1 + np.exp(-logit))).astype(np.float32),
    }
    return _table(columns, len(images), SCORES)


def _boxes(images: Sequence[dict[str, Any]]) -> pa.Table:
    """Two boxes around the mask of each defect, the second one wider and less sure."""
    found = []
    for row in images:
        if row["mask_uri"] is None:
            continue
        with Image.open(io.BytesIO(storage.read_bytes(row["mask_uri"]))) as mask:
            left, top, right, bottom = mask.getbbox() or (0, 0, 1, 1)
        for box, (wider, confidence) in enumerate(((3, 0.9), (9, 0.65))):
            corners = (left - wider, top - wider, right + wider, bottom + wider)
            found.append(
                dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, corners), strict=True))
                | {"image_id": row["image_id"], "category": row["category"], "box_index": box}
                | {"confidence": confidence, "class_id": 0, "class_name": row["defect_type"]}
            )
    return pa.Table.from_pylist(found, schema=DETECTIONS)


def _table(columns: dict[str, Any], rows: int, schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(rows, f.type)
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def large_store(folder: Path, rows: int, categories: int = 12) -> Place:
    """One run, `big`, of so many rows; its images lie nowhere."""
    place = Place(folder)
    rng = np.random.default_rng(7)
    names = np.array([f"part-{n:02d}" for n in range(categories)])
    kinds = np.array(["good", "dent", "scratch", "stain"])
    category = rng.integers(0, categories, rows)
    truth = rng.choice(4, rows, p=[0.85, 0.05, 0.05, 0.05])
    anomaly = (rng.normal(20, 3, rows) + 7 * (truth > 0)).astype(np.float32)
    logit = (rng.normal(-2, 1.5, rows) + 3.5 * (truth > 0)).astype(np.float32)
    ids = rng.choice(2**62, rows, replace=False) if rows < 10**5 else _ids(rng, rows)
    uris = pa.array([f"s3://archive/2026/03/{n:08d}.png" for n in range(rows)])
    columns = {
        "image_id": ids,
        "uri": uris,
        "category": pa.array(names[category]),
        "role": pa.repeat("test", rows),
        "defect_type": pa.array(kinds[truth]),
        "is_defect": truth > 0,
        "anomaly_score": anomaly,
        "anomaly_cells": anomaly,
        "anomaly_pooled": (anomaly / 2).astype(np.float32),
        "defect_logit": logit,
        "defect_probability": (1 / (1 + np.exp(-logit))).astype(np.float32),
        "detection_max_confidence": rng.random(rows, dtype=np.float32),
    }
    put_run(place.store, "big", _table(columns, rows, SCORES))
    usual_policies(place, names.tolist())
    return place


def _ids(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.unique(rng.integers(0, 2**62, rows + rows // 100))[:rows]

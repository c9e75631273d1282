"""Published runs made directly from numbers: nights of a line, with and without a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config import MonitorConfig
from pipeline.evaluation.monitor.run import run_monitor
from pipeline.tables import storage
from pipeline.tables.publication import PublishedFile, published_record
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import RUN_TABLES

SCORER = "5c" * 32
# Several to a night, so that one is read in pieces.
ROW_GROUP = 250


def images(seed: int, count: int = 300, category: str | None = "tile", **changes: Any) -> Any:
    """Rows of `scores` as a data frame: a camera's usual night, and what is different.

    Args:
        seed: of everything random.
        count: images.
        category: theirs.
        changes: columns, from arrays, single values or functions of the usual column.
    """
    rng = np.random.default_rng(seed)
    anomaly = rng.gamma(40, 0.5, count)
    confidence = np.where(rng.random(count) < 0.6, 0.0, rng.uniform(0.1, 0.9, count))
    rows: dict[str, Any] = {
        "image_id": rng.integers(1, 2**62, count),
        "category": [category] * count,
        "width": 640,
        "height": 480,
        "format": "PNG",
        "bytes": rng.normal(300_000, 9_000, count).astype(np.int64),
        "brightness": rng.normal(131, 3, count),
        "contrast": rng.normal(40, 2, count),
        "sharpness": rng.normal(0.5, 0.03, count),
        "anomaly_score": anomaly,
        "anomaly_cells": anomaly,
        "defect_logit": rng.normal(-3, 1.5, count),
        "detection_count": (confidence > 0) * rng.integers(1, 4, count),
        "detection_max_confidence": confidence,
    }
    for name, value in changes.items():
        rows[name] = value(rows[name]) if callable(value) else value
    frame = pd.DataFrame(rows)
    frame["uri"] = [f"{number}.png" for number in frame["image_id"]]
    return frame


def failed(
    count: int, category: str | None = "tile", kind: str = "truncated", split: str | None = None
) -> Any:
    """Rows of `errors`."""
    return pd.DataFrame(
        {
            "image_id": np.arange(count) + 10**9,
            "uri": "gone.png",
            "category": [category] * count,
            "split": [split] * count,
            "error_type": kind,
            "error_message": "ends too early",
        }
    )


@dataclass(frozen=True)
class Line:
    """A store that nights are published in and compared."""

    folder: Path
    place: str | None = None

    @property
    def store(self) -> str:
        return self.place or str(self.folder / "store")

    def publish(
        self,
        run_id: str,
        *scored: Any,
        errors: Iterable[Any] = (),
        scorer: str = SCORER,
        finished_at: str = "2026-01-02T00:00:00+00:00",
        skipped: int = 0,
    ) -> None:
        """A run of these rows, a file of each frame."""
        places, files = RunPlaces(self.store, run_id), []
        for name, frames in (("scores", scored), ("errors", tuple(errors))):
            for number, frame in enumerate(frames):
                content = storage.parquet_bytes(_table(frame, RUN_TABLES[name]), ROW_GROUP)
                uri = storage.join(places.table(name), f"part-{number:05d}.parquet")
                storage.write_bytes(uri, content)
                digest = hashlib.sha256(content).hexdigest()
                files.append(PublishedFile(name, uri, len(frame), len(content), digest))
        facts = {
            "run_id": run_id,
            "kind": "score",
            "finished_at": finished_at,
            "manifest_digest": "ab" * 32,
            "scorer_digest": scorer,
            "bundle_digest": "cd" * 32,
            "skipped": skipped,
        }
        storage.write_json(places.published, published_record(self.store, files, facts))

    def policy(self, name: str, score: str, threshold: float, **more: Any) -> str:
        """A policy's file."""
        file = self.folder / f"{name}.json"
        document = {"policy": "v1", "name": name, "decide": {"score": score, "ge": threshold}}
        file.write_text(json.dumps(document | more))
        return str(file)

    def settings(self, **changes: Any) -> dict[str, Any]:
        given = {"store": self.store, "run_id": "night", "reference": "first"} | changes
        return {name: value for name, value in given.items() if value is not None}

    def arguments(self, **changes: Any) -> list[str]:
        return [f"{name}={value}" for name, value in self.settings(**changes).items()]

    def monitor(self, **changes: Any) -> dict[str, Any]:
        """Compares; the report."""
        return run_monitor(MonitorConfig.model_validate(self.settings(**changes)))

    def compare(self, first: Any, night: Any, **changes: Any) -> dict[str, Any]:
        """Publishes both and compares; the report."""
        self.publish("first", first)
        self.publish("night", night)
        return self.monitor(**changes)

    def read(self, name: str, report: str = "drift-night") -> pd.DataFrame:
        """A table of the report."""
        file = Path(self.store) / "reports" / report / f"{name}.parquet"
        return pd.read_parquet(file)


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.array(frame[field.name], from_pandas=True).cast(field.type, safe=False)
        if field.name in frame
        else pa.nulls(len(frame), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)

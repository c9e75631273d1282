"""A small store with everything that the pages ask of one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import EvaluateConfig
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.tables.schemas import DETECTIONS, MANIFEST
from tests.docs.pages import blocks
from tests.scoring.runs import make_bundle, make_run, usual_rows

_RUN = re.compile(r"run=([\w-]+)")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`store` in a folder of its own: a run for each that a page names, and an evaluation."""
    store = tmp_path_factory.mktemp("docs") / "store"
    bundle = make_bundle(str(store))
    asked = {run for block in blocks("sql", "python") for run in _RUN.findall(block.text)}
    for run in sorted(asked | {"april"}):
        rows = [scored(row) for row in usual_rows(("bolt", "tile"))]
        failed = [{"image_id": -1, "uri": "x.png", "category": "tile"}]
        errors = [row | {"error_type": "truncated", "error_message": "ends"} for row in failed]
        make_run(str(store), bundle, rows, errors, run_id=run)
        put(store / "tables/detections" / f"run={run}", [box(row) for row in rows], DETECTIONS)
    listed = [{name: row.get(name) for name in MANIFEST.names} for row in rows]
    put(store / "manifests", listed, MANIFEST)
    evaluate(store)
    return store


def scored(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what the runs of other tests leave out."""
    kind = "dent" if row["is_defect"] else "good"
    return row | {"split": "test", "defect_type": kind, "width": 64, "height": 64, "format": "PNG"}


def box(row: dict[str, Any]) -> dict[str, Any]:
    """The image's box."""
    corners = {"x_min": 2, "y_min": 3, "x_max": 20, "y_max": 30}
    told = {"box_index": 0, "confidence": row["detection_max_confidence"], "class_name": "defect"}
    return {"image_id": row["image_id"], "category": row["category"]} | corners | told


def put(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """A table of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "part-00000.parquet")


def evaluate(store: Path) -> None:
    """The evaluation of one policy, with its decisions."""
    policy = {"policy": "v1", "name": "mine", "decide": {"score": "anomaly_score", "ge": 24}}
    file = store.parent / "mine.json"
    file.write_text(json.dumps(policy))
    settings = {"store": str(store), "run_id": "april", "policies": str(file), "decide": "mine"}
    run_evaluate(EvaluateConfig.model_validate(settings))

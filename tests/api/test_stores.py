"""Manifests, runs and bundles from Python, and the errors of what isn't there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api import Run, load_bundle, load_manifest, load_run, published_runs
from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.manifest import write_manifest
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import MANIFEST, SCORES
from tests.conftest import ROOT, job_environment


def test_a_runs_tables_are_those_that_were_published(run: Run) -> None:
    scores = run.scores()
    assert scores.schema.equals(SCORES)
    assert scores.num_rows == 218
    assert run.scores(["image_id", "anomaly_score"]).column_names == ["image_id", "anomaly_score"]
    assert run.errors()["error_type"].to_pylist() == ["not_found"]
    assert run.detections().num_rows == run.features().num_rows == 0


def test_the_latest_run_is_the_one_that_ended_last(tmp_path: Path) -> None:
    for run_id, end in (("zero", "2026-01-01"), ("first", "2026-01-03"), ("second", "2026-01-02")):
        record = {"run_id": run_id, "finished_at": end, "tables": {}}
        storage.write_json(RunPlaces(str(tmp_path), run_id).published, record)
    assert published_runs(tmp_path) == ["zero", "second", "first"]
    assert load_run(tmp_path).run_id == "first"
    assert load_run(tmp_path, "zero").scores().num_rows == 0


def test_a_run_knows_its_bundle(tmp_path: Path) -> None:
    places = RunPlaces(str(tmp_path), "r")
    storage.write_json(places.published, {"run_id": "r", "tables": {}})
    with pytest.raises(InputError, match="run: "):
        _ = load_run(tmp_path).bundle
    storage.write_json(places.record, {"bundle": {"uri": "s3://plant/bundles/1"}})
    assert load_run(tmp_path).bundle == "s3://plant/bundles/1"


def test_a_bundle_opens_by_name_digest_and_folder(store: str) -> None:
    latest = load_bundle(store)
    assert latest.thresholds is not None
    for reference in (latest.uri, latest.bundle_digest, latest.bundle_digest[:8]):
        assert load_bundle(store, reference).bundle_digest == latest.bundle_digest


def test_a_manifest_has_every_column_of_its_schema(tmp_path: Path) -> None:
    rows = pa.table({"image_id": [1, 2], "uri": ["a", "b"], "sha256": ["0" * 64] * 2})
    write_manifest(str(tmp_path / "m.parquet"), rows.append_column("category", pa.nulls(2)))
    found = load_manifest(tmp_path / "m.parquet")
    assert found.schema.equals(MANIFEST)
    assert found["uri"].to_pylist() == ["a", "b"]


def test_what_is_not_there_is_told_with_the_way_out(tmp_path: Path, run: Run) -> None:
    with pytest.raises(InputError, match=r"nowhere: there is no such folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no published run; make one with jobs/score\.py"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="run other: isn't in the store"):
        load_run(run.store, "other")
    with pytest.raises(InputError, match="has no column 'anomaly'; image_id"):
        run.scores(["anomaly"])
    with pytest.raises(InputError, match="make one with jobs/fit"):
        load_bundle(tmp_path)
    with pytest.raises(InputError, match="no such bundle"):
        load_bundle(run.store, "feed")
    with pytest.raises(InputError, match=r"manifest: .*m\.parquet"):
        load_manifest(tmp_path / "m.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no column 'image_id'"):
        load_manifest(tmp_path / "other.parquet")


def test_reading_a_run_and_deciding_load_neither_torch_nor_ray(store: str) -> None:
    program = f"""
import sys
from pipeline import api
run = api.load_run({store!r})
safe = api.load_policy({{"policy": "v1", "name": "safe",
    "decide": {{"score": "anomaly_score", "ge": {{"ref": "anomaly_score.safe"}}}}}})
bundle = api.load_bundle({store!r})
api.decide(safe, run.scores(), bundle)
api.evaluate(run, safe, thresholds=bundle)
print(sorted({{"torch", "torchvision", "ultralytics", "ray"}} & sys.modules.keys()))
"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=job_environment(None) | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert found.stdout.strip() == "[]", found.stderr

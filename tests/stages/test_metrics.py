"""What Prometheus reads from the node while a run lasts is what the run's report says."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.config import IndexConfig
from pipeline.stages.index import run_index
from pipeline.stages.metrics import (
    EXPORT_PREFIX,
    MOST_CATEGORIES,
    NO_CATEGORY,
    OTHER_CATEGORIES,
    RunMetrics,
)
from pipeline.stages.score import run_score
from tests.conftest import ROOT, TinyStore, job_environment, write_archive
from tests.stages.exported import exported_names

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

SERIES = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Longer than Ray's interval of export, on a loaded machine too.
PATIENCE_S = 60


def scraped() -> list[tuple[str, dict[str, str], float]]:
    """Every series of linescore's that the node exports: name, labels, value."""
    node = next(node for node in ray.nodes() if node["Alive"])
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return [
        (name, dict(LABEL.findall(labels)), float(value))
        for name, labels, value in SERIES.findall(text)
        if name.startswith(f"{EXPORT_PREFIX}linescore_")
    ]


def total(series: list[tuple[str, dict[str, str], float]], name: str, **labels: str) -> float:
    return sum(
        value
        for found, own, value in series
        if found == EXPORT_PREFIX + name and labels.items() <= own.items()
    )


def wait_for(name: str, wanted: float, **labels: str) -> list[tuple[str, dict[str, str], float]]:
    deadline = time.monotonic() + PATIENCE_S
    while total(series := scraped(), name, **labels) < wanted and time.monotonic() < deadline:
        time.sleep(1)
    return series


def test_the_endpoint_counts_what_the_report_counts(tiny_store: TinyStore, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", good=5, test=3)
    (archive / "bolt/test/good/000.png").write_bytes(b"no image")
    manifest = run_index(IndexConfig(source=str(archive), store=str(tmp_path), name="m"))
    (archive / "tile/test/good/001.png").unlink()
    before = scraped()
    report: dict[str, Any] = run_score(
        tiny_store.score_config(tmp_path / "s", manifest=manifest["manifest"], run_id="r")
    )
    counts = {name: report["images"][name] for name in ("manifest", "scored", "errors")}
    assert counts == {"manifest": 22, "scored": 20, "errors": 2}

    name = "linescore_images_total"
    series = wait_for(name, total(before, name, verb="score") + 22, verb="score")

    def grown(name: str, **labels: str) -> float:
        labels |= {"verb": "score"}
        return total(series, name, **labels) - total(before, name, **labels)

    assert grown(name, status="scored", error_type="") == 20
    assert grown(name, status="error") == 2
    for kind, images in report["errors_by_type"].items():
        assert grown(name, status="error", error_type=kind) == images == 1
    for entry in report["categories"]:
        by_category = grown("linescore_category_images_total", category=entry["category"])
        assert by_category == entry["images"] == 11
    sizes = [path.stat().st_size for path in archive.rglob("[0-9][0-9][0-9].png")]
    assert len(sizes) == 21
    gone = len(b"no image")
    assert gone < grown("linescore_read_bytes_total") == report["read"]["bytes"] >= sum(sizes)
    stages = {entry["stage"]: entry for entry in report["stages"]}
    assert list(stages) == ["decode", "detector", "features", "classifier", "commit"]
    for stage, entry in stages.items():
        assert grown("linescore_image_seconds_count", stage=stage) == entry["images"] == 22
        seconds = grown("linescore_stage_seconds_total", stage=stage)
        assert seconds == pytest.approx(entry["seconds"], rel=1e-6)
        assert entry["seconds"] > 0
    assert total(series, "linescore_queue_images", verb="score") == 0
    # And nothing else: the dashboard's test relies on these names.
    assert {name for name, _, _ in series} == set().union(*exported_names().values())


def test_a_category_for_each_image_is_no_series_for_each_image(cluster: str) -> None:
    categories: dict[str | None, int] = {f"c{n:04d}": 2000 - n for n in range(1000)}
    metrics = RunMetrics("many", categories | {None: 5000})
    counts = [
        {"category": name, "error_type": None, "images": 1} for name in (*categories, None, "new")
    ]
    metrics.add({"counts": counts, "bytes": 0, "spent": []})
    metrics.left(5)
    series = wait_for("linescore_category_images_total", 1002, verb="many")
    name = f"{EXPORT_PREFIX}linescore_category_images_total"
    found = {
        own["category"]: value for at, own, value in series if at == name and own["verb"] == "many"
    }
    assert len(found) == MOST_CATEGORIES + 1
    assert found[NO_CATEGORY] == 1
    assert found["c0000"] == 1
    assert found[OTHER_CATEGORIES] == 1002 - MOST_CATEGORIES
    assert total(series, "linescore_queue_images", verb="many") == 5


def test_without_ray_and_with_its_metrics_off_nothing_fails() -> None:
    program = (
        "from pipeline.stages.metrics import RunMetrics\n"
        "commit = {'counts': [{'category': 'a', 'error_type': None, 'images': 3}], 'bytes': 5,\n"
        "          'spent': [{'stage': 'decode', 'seconds': 1.0, 'images': 3}]}\n"
        "metrics = RunMetrics('score', {'a': 3})\n"
        "metrics.add(commit)\n"
        "metrics.left(1)\n"
        "print('counted')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=job_environment(None) | {"RAY_enable_metrics_collection": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "counted\n", done.stderr

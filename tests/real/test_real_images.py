"""The whole job on real images with real weights, against a plain script."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.config import (
    BackboneConfig,
    ClassifierConfig,
    DetectorConfig,
    FitConfig,
    IndexConfig,
    PoolConfig,
    ScoreConfig,
)
from pipeline.report.quality import auroc_by_category
from pipeline.stages.fit import run_fit
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.real.reference import image_files, reference_boxes, reference_scores

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

FLOOR, IOU, MOST = 0.05, 0.7, 100
WEIGHTS = "weights/resnet18_imagenet_to_layer3_bnfolded.safetensors"
YOLO = "weights/yolov8n_coco.pt"


@dataclass(frozen=True)
class RealRun:
    """One run over the real images, all three pools at work."""

    root: Path
    head: dict[str, torch.Tensor]
    index: dict
    fit: dict
    report: dict
    scores: pa.Table
    detections: pa.Table
    config: ScoreConfig


def classifier_weights(shared: Path, folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """The given backbone with a seeded two-class head on layer3, where it ends."""
    generator = torch.Generator().manual_seed(11)
    head = {
        "fc.weight": torch.randn(2, 256, generator=generator),
        "fc.bias": torch.randn(2, generator=generator),
    }
    file = folder / "classifier.safetensors"
    save_file(load_file(shared / WEIGHTS) | head, file)
    return file, head


def some_of(real: Path, folder: Path, tiles: int) -> Path:
    """The archive with one of so many magnetic tiles, of which there are most."""
    number = 0
    for path in sorted(path for path in real.rglob("*") if path.is_file()):
        relative = path.relative_to(real)
        if "magnetic_tile" in relative.parts and relative.parts[1] in ("train", "test"):
            number += 1
            if number % tiles:
                continue
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / relative)
    return folder


def score_real(shared: Path, folder: Path, detector_side: int, tiles: int = 1) -> RealRun:
    """Index, fit, score; with one of so many magnetic tiles."""
    classifier, head = classifier_weights(shared, folder)
    store = str(folder / "store")
    real = some_of(shared / "real", folder / "real", tiles)
    index = run_index(IndexConfig(source=str(real), store=store, name="real"))
    fit = run_fit(
        FitConfig(
            manifest=index["manifest"],
            store=store,
            backbone=BackboneConfig(weights=str(shared / WEIGHTS)),
            classifier=ClassifierConfig(weights=str(classifier)),
            detector=DetectorConfig(
                weights=str(shared / YOLO),
                trusted=True,
                image_size=detector_side,
                confidence_floor=FLOOR,
                iou=IOU,
                max_detections=MOST,
            ),
            features=PoolConfig(size=1),
        )
    )
    # All tiles by three pools, some of them by two fused actors, which start sooner.
    fused = {} if tiles == 1 else {"fuse_models": True, "pools": {"fused": {"size": 2}}}
    values = {"manifest": index["manifest"], "bundle": fit["bundle"], "store": store}
    config = ScoreConfig.model_validate(values | {"run_id": "real", "fuse_models": False} | fused)
    report = run_score(config)
    scores, detections = (load_table(store, "real", name) for name in ("scores", "detections"))
    return RealRun(real, head, index, fit, report, scores, detections, config)


@pytest.fixture(
    scope="module", params=[3, pytest.param(1, marks=pytest.mark.slow)], ids=["a third", "all"]
)
def real_run(
    request: pytest.FixtureRequest,
    shared: Path,
    cluster: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> RealRun:
    return score_real(shared, tmp_path_factory.mktemp("real"), 256, request.param)


def is_whole(run: RealRun) -> bool:
    return len(run.scores) == 347


@pytest.fixture(scope="module")
def expected(real_run: RealRun, shared: Path) -> dict[str, dict[str, float]]:
    return reference_scores(real_run.root.absolute(), shared / WEIGHTS, real_run.head)


def test_every_image_is_indexed_scored_and_none_lost(real_run: RealRun) -> None:
    counts = {entry["category"]: entry["images"] for entry in real_run.report["categories"]}
    tiles = 279 if is_whole(real_run) else 93
    assert counts == {"grid": 17, "hazelnut": 51, "magnetic_tile": tiles}
    images = real_run.report["images"]
    total = 17 + 51 + tiles
    assert {"manifest": total, "scored": total, "errors": 0}.items() <= images.items()
    stray = {Path(entry["uri"]).name for entry in real_run.index["stray"]}
    assert stray == {"README.md", "license.txt", "readme.txt"}
    assert real_run.index["missing_masks"] == []
    assert len(set(real_run.scores["image_id"].to_pylist())) == total


@pytest.mark.parametrize("score", ["cells", "pooled"])
def test_anomaly_scores_equal_a_plain_script(
    real_run: RealRun, expected: dict[str, dict[str, float]], score: str
) -> None:
    found = real_run.scores[f"anomaly_{score}"].to_numpy()
    wanted = np.array([expected[uri][score] for uri in real_run.scores["uri"].to_pylist()])
    assert np.abs(found / wanted - 1).max() < 1e-4
    # The files' own values differ far more than that: equality is no accident.
    assert wanted.std() / wanted.mean() > 0.1


def test_the_anomaly_score_is_the_configured_one(real_run: RealRun) -> None:
    assert real_run.scores["anomaly_score"].equals(real_run.scores["anomaly_cells"])


def test_the_classifier_equals_a_plain_script(
    real_run: RealRun, expected: dict[str, dict[str, float]]
) -> None:
    uris = real_run.scores["uri"].to_pylist()
    wanted = np.array([expected[uri]["logit"] for uri in uris])
    assert np.abs(real_run.scores["defect_logit"].to_numpy() - wanted).max() < 1e-4
    probability = 1 / (1 + np.exp(-wanted))
    assert np.abs(real_run.scores["defect_probability"].to_numpy() - probability).max() < 1e-5


def check_detections(run: RealRun, weights: Path, side: int) -> None:
    """Boxes, confidences and classes against ultralytics' own predict."""
    files = [path for group in image_files(run.root.absolute()).values() for path in group]
    expected = reference_boxes(files, weights, side, FLOOR, IOU, MOST)
    rows = run.detections.to_pandas().groupby("image_id")
    boxes = {key: group.sort_values("box_index") for key, group in rows}
    assert sum(map(len, expected.values())) == len(run.detections) > 100
    for row in run.scores.to_pylist():
        wanted = expected[row["uri"]]
        assert row["detection_count"] == len(wanted)
        if not len(wanted):
            assert row["detection_max_confidence"] == 0
            continue
        found = boxes[row["image_id"]]
        corners = found[["x_min", "y_min", "x_max", "y_max"]].to_numpy()
        assert np.abs(corners - wanted[:, :4]).max() < 0.05
        assert np.abs(found["confidence"].to_numpy() - wanted[:, 4]).max() < 1e-5
        assert (found["class_id"].to_numpy() == wanted[:, 5]).all()
        assert row["detection_max_confidence"] == found["confidence"].iloc[0]


def test_detections_equal_ultralytics_own(real_run: RealRun, shared: Path) -> None:
    check_detections(real_run, shared / YOLO, 256)


def test_the_fitted_state_is_reported(real_run: RealRun) -> None:
    facts = {entry["category"]: entry for entry in real_run.fit["categories"]}
    assert {name: entry["images"] for name, entry in facts.items()} == {
        "grid": 10,
        "hazelnut": 28,
        "magnetic_tile": 130 if is_whole(real_run) else 44,
    }
    cells = 80 * 384 * (384 + 1) * 8
    assert {entry["gaussians"]["cells"]["bytes"] for entry in facts.values()} == {cells}
    assert real_run.fit["bytes"] > 3 * cells


def test_anomaly_scores_separate_real_defects(real_run: RealRun) -> None:
    areas = {
        entry["category"]: entry
        for entry in auroc_by_category(real_run.scores, ["anomaly_cells", "anomaly_pooled"])
    }
    assert areas["hazelnut"]["anomaly_cells"] > 0.95
    assert areas["magnetic_tile"]["anomaly_cells"] > 0.85
    if is_whole(real_run):
        kinds = Counter(real_run.scores["defect_type"].to_pylist())
        assert areas["magnetic_tile"]["defects"] == 104 and kinds["blowhole"] == 28


@pytest.mark.slow
def test_full_size_detector_equals_ultralytics_own(
    shared: Path, cluster: str, tmp_path: Path
) -> None:
    run = score_real(shared, tmp_path, detector_side=640)
    check_detections(run, shared / YOLO, 640)


@pytest.mark.slow
def test_real_tables_are_equal_with_1_2_and_5_actors(real_run: RealRun) -> None:
    for size in (2, 5):
        pools = {name: {"size": size} for name in ("detector", "features", "classifier")}
        values = real_run.config.model_dump() | {
            "run_id": f"actors-{size}",
            "pools": pools,
            "reuse": False,
        }
        run_score(ScoreConfig.model_validate(values))
        for name in ("scores", "detections"):
            found = load_table(real_run.config.store, f"actors-{size}", name)
            assert found.equals(getattr(real_run, name))

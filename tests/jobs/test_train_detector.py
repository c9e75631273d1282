"""Training a detector end to end, tiny: what lies in the store, what a second call does, a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from jobs.train_detector import main
from pipeline.config import BoxesConfig, LimitsConfig, TrainDetectorConfig
from pipeline.errors import InputError
from pipeline.models.detector import Detector, load_network
from pipeline.models.specs import DetectorSettings
from pipeline.report.detector import training_summary
from pipeline.scoring.detector_quality import detector_quality
from pipeline.scoring.labelled import label_options
from pipeline.scoring.train_detector import (
    check_training,
    judge_detector,
    model_places,
    train_detector,
)
from pipeline.stages.train_detector import run_train_detector
from pipeline.tables.trained_models import trained_side
from pipeline.tables.trained_on import trained_on_bytes, trained_on_ids
from tests.conftest import ROOT, TinyModels, job_environment
from tests.detection import BOX, manifest, small_archive, table

pytestmark = pytest.mark.timeout(240)
OPTIONS = label_options(BoxesConfig(), LimitsConfig())


def config(folder: Path, rows: list[dict], **changes: object) -> TrainDetectorConfig:
    values: dict[str, object] = {
        "manifest": manifest(folder, rows),
        "store": str(folder / "store"),
        "image_size": 64,
        "epochs": 1,
        "batch_size": 4,
        "threads": 1,
        "good_per_defect": 0.67,
        "confidences": [0.001, 0.9],
    }
    return TrainDetectorConfig.model_validate(values | changes)


def start(tiny_models: TinyModels) -> dict[str, object]:
    return {"weights": str(tiny_models.detector), "trusted": True}


def ids(rows: list[dict], role: str) -> set[int]:
    return {row["image_id"] for row in rows if row["role"] == role}


@pytest.mark.ray
def test_a_detector_is_trained_judged_and_left_alone_afterwards(
    cluster: str, tmp_path: Path, tiny_models: TinyModels
) -> None:
    rows = small_archive(tmp_path / "archive")
    ours = config(tmp_path, rows, **start(tiny_models))
    report = run_train_detector(ours)
    folder = tmp_path / "store/models/detector"
    names = ["detector.pt", "trained_on.parquet", "training.json"]
    assert sorted(path.name for path in folder.iterdir()) == names

    record = json.loads((folder / "training.json").read_text())
    assert record["identity"]["manifest_digest"]
    assert record["config"]["epochs"] == 1
    assert record["environment"]["packages"]["ultralytics-opencv-headless"]
    assert trained_side(str(folder / "detector.pt"), "detector") == ours.image_size
    seen = set(trained_on_ids((folder / "trained_on.parquet").read_bytes(), "x").tolist())
    defects = {row["image_id"] for row in rows if row["role"] == "fit" and row["is_defect"]}
    assert defects < seen < ids(rows, "fit")  # and two of its four good images
    assert len(seen) == 5

    metrics = record["metrics"]["validation"]
    assert (metrics["images"], metrics["good"], metrics["defects"]) == (7, 4, 3)
    kinds = [(e["defect_type"], e["n"]) for e in metrics["hits"] if e["confidence"] == 0.001]
    assert kinds == [("crack", 1), ("dent", 2), (None, 3)]
    assert 0 <= metrics["map50"] <= 1
    text = training_summary(report)
    assert "7 images of the role validation" in text
    assert "trained on 5 images of the role fit (3 with defects), 1 epochs" in text

    detector = Detector(folder / "detector.pt", DetectorSettings(64, 0.01, 0.7, 9, 4), "x")
    assert detector.class_names == {0: "defect"}

    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = run_train_detector(ours)
    assert again["already_trained"]
    assert "nothing to do" in training_summary(again)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    other_role = run_train_detector(ours.model_copy(update={"evaluate_role": "test"}))
    assert sorted(other_role["metrics"]) == ["test", "validation"]
    assert (folder / "detector.pt").stat().st_mtime_ns == before["detector.pt"]
    with pytest.raises(InputError, match=r"settings\.epochs was 1, is now 2\. Use another name"):
        run_train_detector(ours.model_copy(update={"epochs": 2}))


@pytest.mark.ray
def test_a_mask_that_is_found_wrong_on_a_worker_is_bad_input(
    cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = small_archive(tmp_path / "archive")
    bad = next(row["mask_uri"] for row in rows if row["role"] == "fit" and row["is_defect"])
    Image.fromarray(np.full((64, 70), 255, np.uint8)).save(bad)
    settings = [f"manifest={manifest(tmp_path, rows)}", f"store={tmp_path / 'store'}"]
    assert main([*settings, "image_size=64", "epochs=1"]) == 2
    said = capsys.readouterr().err
    assert f"error: {bad}: the mask has 70 × 64 pixels" in said
    assert "Traceback" not in said
    assert not (tmp_path / "store/models/detector/training.json").exists()
    assert not (tmp_path / "store/models/detector/detector.pt").exists()


def test_a_row_that_judges_is_found_wrong_before_the_training(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    rows = small_archive(tmp_path / "archive")
    row = next(row for row in rows if row["role"] == "validation" and row["is_defect"])
    row["mask_uri"] = None
    ours = config(tmp_path, rows, state_s=0, **start(tiny_models))
    places = model_places(ours.store, "detector")
    with pytest.raises(InputError, match=rf"{row['uri']}: is a defect .* and has no mask"):
        train_detector(ours, places)
    assert not Path(places.folder).exists()
    assert train_detector(ours.model_copy(update={"boxes": BoxesConfig(unmarked="skip")}), places)[
        "classes"
    ] == ["defect"]


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    rows = small_archive(tmp_path / "archive")
    ours = config(tmp_path, rows, epochs=4, state_s=0, **start(tiny_models))
    whole, cut = (model_places(str(tmp_path / name), "d") for name in ("whole", "cut"))
    train_detector(ours, whole)

    script = (
        "import sys; from pipeline.config import TrainDetectorConfig as C\n"
        "from pipeline.scoring.train_detector import ModelPlaces, train_detector\n"
        "train_detector(C.model_validate_json(sys.argv[1]), ModelPlaces(sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, ours.model_dump_json(), cut.folder]
    process = subprocess.Popen(command, cwd=ROOT, env=job_environment(None))
    while not Path(cut.state).exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not Path(cut.weights).exists(), "it ended before it was killed"

    facts = train_detector(ours, cut)
    assert facts["progress"]["epoch"] == 4
    first, second = (load_network(Path(p.weights), "x").state_dict() for p in (whole, cut))
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_training_that_goes_on_names_what_only_its_first_attempt_could_read(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    """The first attempt ends here after its last epoch, before it has written the model."""
    rows = small_archive(tmp_path / "archive")
    ours = config(tmp_path, rows, state_s=0, **start(tiny_models))
    places = model_places(ours.store, "detector")
    first = train_detector(ours, places)
    whole = trained_on_ids(Path(places.trained_on).read_bytes(), "x")
    weights = load_network(Path(places.weights), "x").state_dict()
    for written in (places.weights, places.trained_on):
        Path(written).unlink()
    gone = next(row for row in rows if row["role"] == "fit" and row["is_defect"])
    Path(gone["uri"]).unlink()

    facts = train_detector(ours, places)
    assert facts["trained_on"]["left_out"] == {"not_found": 1}
    seen = trained_on_ids(Path(places.trained_on).read_bytes(), "x")
    assert gone["image_id"] in seen
    assert np.array_equal(seen, whole)
    assert facts["progress"] == first["progress"]
    again = load_network(Path(places.weights), "x").state_dict()
    assert all(np.array_equal(weights[key], again[key]) for key in weights)


@pytest.mark.parametrize("role", ["test", "fit", None])
def test_judging_on_rows_of_another_role_is_an_error(
    tmp_path: Path, tiny_models: TinyModels, role: str | None
) -> None:
    rows = small_archive(tmp_path / "archive")
    strange = next(row for row in rows if row["role"] == "test") | {"role": role}
    judged = [row for row in rows if row["role"] == "validation"]
    detector = Detector(tiny_models.detector, DetectorSettings(64, 0.01, 0.7, 9, 4), "x")
    with pytest.raises(InputError, match=rf"image {strange['image_id']} has the role {role!r}"):
        detector_quality(detector, table([*judged, strange]), "validation", OPTIONS, (0.5,))


def test_a_detector_is_not_judged_on_what_it_has_seen(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    rows = small_archive(tmp_path / "archive")
    places = model_places(str(tmp_path / "store"), "detector")
    Path(places.folder).mkdir(parents=True)
    Path(places.weights).write_bytes(tiny_models.detector.read_bytes())
    seen = sorted(ids(rows, "validation"))[:1]
    Path(places.trained_on).write_bytes(trained_on_bytes(np.array(seen), np.empty(0, np.int64)))
    with pytest.raises(InputError, match=rf"image {seen[0]} is among the 1 that"):
        judge_detector(config(tmp_path, rows), places)


class Oracle:
    """A detector that finds the one box of an image that is bright there, and nothing else."""

    settings = DetectorSettings(144, 0.001, 0.7, 9, 4)
    class_names: ClassVar[dict[int, str]] = {0: "defect"}

    def __init__(self, confidence: float, on_good: bool = False) -> None:
        self.confidence, self.on_good = confidence, on_good

    def detect(self, images: np.ndarray) -> list:
        from pipeline.models.detector import Boxes

        bright = images.max() > 220 or self.on_good
        corners = np.array([BOX], np.float32) * 2 + [0, 8, 0, 8]  # 72 × 64 in a square of 144
        count = 1 if bright else 0
        confidence = np.full(count, self.confidence, np.float32)
        return [Boxes(corners[:count].astype(np.float32), confidence, np.zeros(count, np.int32))]


def test_the_figures_are_those_of_a_detector_that_is_always_right(tmp_path: Path) -> None:
    rows = [r for r in small_archive(tmp_path / "archive") if r["role"] == "validation"]
    found = detector_quality(Oracle(0.5), table(rows), "validation", OPTIONS, (0.25, 0.75))
    assert [(e["confidence"], e["defect_type"], e["hits"], e["n"]) for e in found["hits"]] == [
        (0.25, "crack", 1, 1),
        (0.25, "dent", 2, 2),
        (0.25, None, 3, 3),
        (0.75, "crack", 0, 1),
        (0.75, "dent", 0, 2),
        (0.75, None, 0, 3),
    ]
    low, high = found["hits"][2]["low"], found["hits"][2]["high"]
    assert (low, high) == (pytest.approx(0.025 ** (1 / 3)), 1)
    assert found["map50"] == pytest.approx(1, abs=0.01)
    assert [entry["boxes"] for entry in found["false_boxes"]] == [0, 0]


def test_boxes_on_good_images_are_counted_as_false(tmp_path: Path) -> None:
    rows = [r for r in small_archive(tmp_path / "archive") if r["role"] == "validation"]
    found = detector_quality(Oracle(0.5, True), table(rows), "validation", OPTIONS, (0.25, 0.75))
    assert [e["per_image"] for e in found["false_boxes"]] == [1, 0]
    assert [e["images_with_box"] for e in found["false_boxes"]] == [4, 0]
    assert found["map50"] == pytest.approx(3 / 7, abs=0.2)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> str:
    """What the job says before any work."""
    given = [f"manifest={folder / 'manifest.parquet'}", f"store={folder / 'store'}", *settings]
    assert main(given) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert not (folder / "store").exists()
    return said[0]


def test_what_is_refused_before_any_work(
    tmp_path: Path, tiny_models: TinyModels, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = small_archive(tmp_path / "archive")
    manifest(tmp_path, rows)
    weights = f"weights={tiny_models.detector}"
    assert "trusted=true" in refusal(tmp_path, capsys, weights)
    missing = f"weights={tmp_path / 'none.pt'}"
    assert "none.pt: can't be read" in refusal(tmp_path, capsys, missing, "trusted=true")
    manifest(tmp_path, [row for row in rows if not row["is_defect"]])
    assert "rows to train on is a defect" in refusal(tmp_path, capsys)
    manifest(tmp_path, [row for row in rows if row["role"] != "validation"])
    assert "no image of" in refusal(tmp_path, capsys)
    manifest(tmp_path, [row | {"role": None} for row in rows])
    assert "column 'role' is empty" in refusal(tmp_path, capsys)


def test_what_the_weights_depend_on_is_their_identity(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    rows = small_archive(tmp_path / "archive")
    ours = config(tmp_path, rows, **start(tiny_models))
    identity = check_training(ours)
    same = {"name": "b", "confidences": (0.5,), "evaluate_role": "test", "state_s": 1.0}
    assert check_training(ours.model_copy(update=same)) == identity
    for change in ({"seed": 1}, {"epochs": 9}, {"threads": 2}, {"weights": None}):
        assert check_training(ours.model_copy(update=change)) != identity

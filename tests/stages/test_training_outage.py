"""An archive that is out of reach while a model is trained: the training stops, unlike at a few."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import LimitsConfig, TrainClassifierConfig, TrainDetectorConfig
from pipeline.errors import RunError
from pipeline.models.epochs import Team
from pipeline.scoring.prepare import options_for
from pipeline.scoring.train_detector import judge_detector, model_places, train_detector
from pipeline.stages.classifier_failures import Failures
from pipeline.stages.classifier_plan import plan_fits
from pipeline.stages.decode import prepare_block
from pipeline.stages.train_classifier import fit_facts, run_train_classifier
from pipeline.stages.train_detector import run_train_detector
from pipeline.tables.trained_on import trained_on_bytes
from pipeline.tables.training_rows import labelled_rows
from tests.conftest import TinyModels
from tests.detection import manifest, row, small_archive, table

# One more than a handful.
GONE = 11


def archive(folder: Path, role: str) -> list[dict]:
    """A small archive, and defect images that are no longer there."""
    rows = small_archive(folder)
    gone = [row(folder, seed, role, "dent") for seed in range(300, 300 + GONE)]
    for lost in gone:
        Path(lost["uri"]).unlink()
    return rows + gone


def detector(folder: Path, rows: list[dict], **changes: object) -> TrainDetectorConfig:
    values: dict[str, object] = {
        "manifest": manifest(folder, rows),
        "store": str(folder / "store"),
        "image_size": 64,
        "epochs": 1,
        "threads": 1,
        "batch_size": 4,
    }
    return TrainDetectorConfig.model_validate(values | changes)


def test_a_detector_is_not_trained_on_what_an_outage_leaves(tmp_path: Path) -> None:
    ours = detector(tmp_path, archive(tmp_path / "archive", "fit"))
    places = model_places(ours.store, "detector")
    with pytest.raises(RunError, match=r"max_unreachable: the files of 11 images .*0\.2 of 18"):
        train_detector(ours, places)
    assert not Path(places.folder).exists()
    lost = ours.model_copy(update={"max_unreachable": 1.0})
    facts = train_detector(lost, places)
    assert (facts["trained_on"]["images"], facts["trained_on"]["defects"]) == (7, 3)
    assert facts["trained_on"]["left_out"] == {"not_found": GONE}


def test_a_detector_is_not_judged_on_what_an_outage_leaves(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    ours = detector(tmp_path, archive(tmp_path / "archive", "validation"))
    places = model_places(ours.store, "detector")
    Path(places.folder).mkdir(parents=True)
    Path(places.weights).write_bytes(tiny_models.detector.read_bytes())
    none = np.empty(0, np.int64)
    Path(places.trained_on).write_bytes(trained_on_bytes(none, none))
    with pytest.raises(RunError, match=r"max_unreachable: the files of 11 images .*0\.2 of 18"):
        judge_detector(ours, places)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_detector_that_could_not_be_judged_is_not_trained_again(
    cluster: str, tmp_path: Path
) -> None:
    ours = detector(tmp_path, archive(tmp_path / "archive", "validation"))
    with pytest.raises(RunError, match=r"max_unreachable"):
        run_train_detector(ours)
    places = model_places(ours.store, "detector")
    trained = Path(places.weights).stat().st_mtime_ns
    assert json.loads(Path(places.record).read_text())["metrics"] == {}
    report = run_train_detector(ours.model_copy(update={"max_unreachable": 1.0}))
    assert report["metrics"]["validation"]["images"] == 7
    assert Path(places.weights).stat().st_mtime_ns == trained


def test_files_that_are_gone_count_once_and_together_over_workers(tmp_path: Path) -> None:
    rows = archive(tmp_path, "fit")
    Path(rows[0]["uri"]).write_bytes(b"no image")  # changed, but within reach
    ours = table(rows).select(["image_id", "uri", "sha256", "is_defect"])
    block = prepare_block(ours, options_for(LimitsConfig(), square=32))
    part = block.slice(0, len(rows) - 1)
    failures = Failures(images=len(rows), max_unreachable=0.2)
    for _ in range(3):
        failures.add(part)
    alone = failures.of_all(Team())
    assert set(alone) == {r["image_id"] for r in [rows[0], *rows[-GONE:-1]]}

    id_of_last = np.array([rows[-1]["image_id"]])
    last = (id_of_last, np.array(["not_found"], object), np.array(["gone"], object))
    with pytest.raises(RunError, match=r"the files of 11 images .*0\.2 of 34"):
        failures.of_all(Team(gather=lambda mine: [mine, last]))
    with pytest.raises(RunError, match=r"the files of 11 images"):
        failures.add(block)


def test_counts_hold_no_image_that_was_not_read(tmp_path: Path) -> None:
    uri = manifest(tmp_path, small_archive(tmp_path / "archive"))
    rows = labelled_rows(uri, ("fit", "validation"))
    config = TrainClassifierConfig(manifest=uri, store="s", name="n")
    fit = plan_fits(rows, config, uri).fits[0]
    one = [int(ids[0]) for ids in (fit.training, fit.stopping, fit.scored)]
    epoch = {"average_precision": 0.5}
    result = {"best_epoch": 1, "epochs": 1, "continued_after_epoch": 0, "history": [epoch]}
    whole = fit_facts(rows, fit, result | {"unreadable": {}})
    facts = fit_facts(rows, fit, result | {"unreadable": {str(i): "gone" for i in one}})
    for side, lost in (("training", one[0]), ("stopping", one[1])):
        assert facts[side]["images"] == whole[side]["images"] - 1
        is_defect = bool(rows.of(np.array([lost])).is_defect[0])
        assert facts[side]["defects"] == whole[side]["defects"] - is_defect
    assert facts["scored"] == whole["scored"] - 1 == len(fit.scored) - 1


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_classifier_is_not_trained_on_what_an_outage_leaves(
    cluster: str, tmp_path: Path, tiny_models: TinyModels
) -> None:
    config = TrainClassifierConfig(
        manifest=manifest(tmp_path, archive(tmp_path / "archive", "fit")),
        store=str(tmp_path / "store"),
        name="april",
        weights=str(tiny_models.backbone),
        image_size=32,
        epochs=1,
        threads=1,
    )
    with pytest.raises(RunError, match=r"max_unreachable: the files of 11 images .*0\.2 of 25"):
        run_train_classifier(config)
    folder = tmp_path / "store/models/april"
    assert not (folder / "training.json").exists()
    assert not list(folder.rglob("*.safetensors"))
    assert not list(folder.rglob("*.parquet"))

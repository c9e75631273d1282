"""Weights from a store that is no local disk: the same models, the same errors for people."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import FitConfig, TrainClassifierConfig, TrainDetectorConfig
from pipeline.errors import InputError
from pipeline.models import backbone, classifier, detector, precision
from pipeline.models.detector import load_network
from pipeline.scoring.bundle import DETECTOR_FILE, TRAINED_ON_FILES
from pipeline.scoring.ingredients import load_ingredients
from pipeline.scoring.train_detector import check_training, model_places, train_detector
from pipeline.scoring.weights_files import read_state
from pipeline.stages.classifier_work import open_work
from pipeline.stages.train_classifier import trained_on_table
from pipeline.tables import storage
from pipeline.tables.trained_on import trained_on_bytes, trained_on_ids
from tests.conftest import TinyModels
from tests.detection import manifest, small_archive


@pytest.fixture
def remote(tiny_models: TinyModels) -> str:
    """The tiny models in memory, as URIs' common part."""
    place = f"memory://weights-{uuid.uuid4().hex[:8]}"
    storage.write_bytes(f"{place}/c/net.safetensors", tiny_models.classifier.read_bytes())
    storage.write_bytes(f"{place}/d/yolo.pt", tiny_models.detector.read_bytes())
    seen = trained_on_bytes(np.array([5]), np.array([7]))
    storage.write_bytes(f"{place}/d/trained_on.parquet", seen)
    return place


def fit(net: str, yolo: str) -> FitConfig:
    values = {
        "manifest": "m",
        "store": "s",
        "backbone": {"weights": net},
        "classifier": {"weights": net},
        "detector": {"weights": yolo, "trusted": True},
    }
    return FitConfig.model_validate(values)


def test_a_bundle_is_made_of_remote_weights(remote: str, tiny_models: TinyModels) -> None:
    ours = load_ingredients(fit(f"{remote}/c/net.safetensors", f"{remote}/d/yolo.pt"))
    local = load_ingredients(fit(str(tiny_models.classifier), str(tiny_models.detector)))
    assert ours.spec == local.spec
    seen = TRAINED_ON_FILES["detector"]
    assert {name: content for name, content in ours.files.items() if name != seen} == local.files
    assert ours.files[DETECTOR_FILE] == tiny_models.detector.read_bytes()
    assert ours.files[seen] == storage.read_bytes(f"{remote}/d/trained_on.parquet")


def test_weights_below_the_home_folder(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = load_ingredients(fit(str(tiny_models.classifier), str(tiny_models.detector)))
    (tmp_path / "c.safetensors").write_bytes(tiny_models.classifier.read_bytes())
    (tmp_path / "d.pt").write_bytes(tiny_models.detector.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_ingredients(fit("~/c.safetensors", "~/d.pt")).spec == local.spec


def test_a_fit_looks_at_its_models_without_the_gpus_that_ray_gives_out(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken() -> None:
        raise AssertionError("a GPU was asked for, in a process that was given none")

    for module in (backbone, classifier, detector):
        monkeypatch.setattr(module, "default_device", taken)
    monkeypatch.setattr(precision, "has_bfloat16", taken)
    load_ingredients(fit(str(tiny_models.classifier), str(tiny_models.detector)))


def test_a_classifier_of_another_size_is_refused(remote: str, tiny_models: TinyModels) -> None:
    """It would be given other squares than it learnt from; the record beside it knows."""
    content = tiny_models.classifier.read_bytes()
    record = {"kind": "classifier", "config": {"image_size": 128}}
    weights, beside = f"{remote}/c/net.safetensors", f"{remote}/c/training.json"
    config = fit(weights, f"{remote}/d/yolo.pt")
    storage.write_json(beside, record | {"weights_sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(InputError, match=r"on squares of 128 px, and backbone.image_size is 256"):
        load_ingredients(config)
    # A record of other weights says nothing of these.
    storage.write_json(beside, record | {"weights_sha256": "ab" * 32})
    load_ingredients(config)


def test_a_detector_of_another_size_is_refused(remote: str, tiny_models: TinyModels) -> None:
    """Every defect would have another size than it learnt; the record beside it knows."""
    content = tiny_models.detector.read_bytes()
    record = {"model": "detector", "config": {"image_size": 320}}
    weights, beside = f"{remote}/d/yolo.pt", f"{remote}/d/training.json"
    config = fit(f"{remote}/c/net.safetensors", weights)
    storage.write_json(beside, record | {"weights_sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(InputError, match=r"on squares of 320 px, and detector.image_size is 640"):
        load_ingredients(config)
    assert config.detector
    same = config.detector.model_copy(update={"image_size": 320})
    load_ingredients(config.model_copy(update={"detector": same}))
    # A record of other weights says nothing of these.
    storage.write_json(beside, record | {"weights_sha256": "ab" * 32})
    load_ingredients(config)


@pytest.mark.parametrize(("side", "warnings"), [(320, 1), (640, 0), (None, 0)])
def test_somebody_elses_detector_of_another_size_is_told(
    side: int | None,
    warnings: int,
    tmp_path: Path,
    tiny_models: TinyModels,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its checkpoint may know; COCO's weights are used at many sizes, so it's no error."""
    file = tmp_path / "theirs.pt"
    content = torch.load(tiny_models.detector, weights_only=False)
    torch.save(content | ({} if side is None else {"train_args": {"imgsz": side}}), file)
    with caplog.at_level("WARNING", "linescore"):
        load_ingredients(fit(str(tiny_models.classifier), str(file)))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == warnings
    assert all("theirs.pt: was trained at 320 px, by its own account, and" in text for text in said)


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_a_remote_pickle_is_read_as_a_local_one(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"net.{suffix}"
    torch.save({"a": torch.arange(3.0)}, file)
    uri = f"memory://{uuid.uuid4().hex}/net.{suffix}"
    storage.write_bytes(uri, file.read_bytes())
    assert torch.equal(read_state(uri, "weights")["a"], read_state(str(file), "weights")["a"])


@pytest.mark.parametrize("kind", ["c/gone.safetensors", "d/gone.pt"])
def test_remote_weights_that_are_not_there(remote: str, kind: str) -> None:
    net, yolo = f"{remote}/c/net.safetensors", f"{remote}/d/yolo.pt"
    gone = f"{remote}/{kind}"
    config = fit(gone, yolo) if kind[0] == "c" else fit(net, gone)
    with pytest.raises(InputError, match=rf"weights: {gone}: there is no such file"):
        load_ingredients(config)


def test_trainings_start_from_remote_weights(
    remote: str, tmp_path: Path, tiny_models: TinyModels
) -> None:
    uri = manifest(tmp_path, small_archive(tmp_path / "archive"))
    here = {"manifest": uri, "store": str(tmp_path / "store"), "name": "n", "image_size": 64}
    net = TrainClassifierConfig(**here, weights=f"{remote}/c/net.safetensors")
    local = net.model_copy(update={"weights": str(tiny_models.classifier)})
    assert open_work(net).weights == open_work(local).weights

    values = {"weights": f"{remote}/d/yolo.pt", "trusted": True, "epochs": 1, "threads": 1}
    yolo = TrainDetectorConfig(**here, **values, batch_size=4)
    assert check_training(yolo) == check_training(
        yolo.model_copy(update={"weights": str(tiny_models.detector)})
    )
    remote_places, local_places = (model_places(str(tmp_path), name) for name in ("r", "l"))
    train_detector(yolo, remote_places)
    train_detector(yolo.model_copy(update={"weights": str(tiny_models.detector)}), local_places)
    first, second = (
        load_network(Path(p.weights), "x").state_dict() for p in (remote_places, local_places)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_the_starting_weights_have_seen_a_training_has_seen(
    remote: str, tmp_path: Path, tiny_models: TinyModels
) -> None:
    rows = small_archive(tmp_path / "archive")
    here = {"manifest": manifest(tmp_path, rows), "store": str(tmp_path), "name": "n"}
    seen = storage.read_bytes(f"{remote}/d/trained_on.parquet")
    storage.write_bytes(f"{remote}/c/trained_on.parquet", seen)
    net = TrainClassifierConfig(**here, weights=f"{remote}/c/net.safetensors")
    work = open_work(net)
    fixed = work.plan.fits[0]
    wanted = {5, 7, *fixed.training, *fixed.stopping}
    assert set(trained_on_ids(trained_on_table(work, b"w"), "x")) == wanted
    named = TrainClassifierConfig(**here, weights=str(tiny_models.classifier))
    assert set(trained_on_ids(trained_on_table(open_work(named), b"w"), "x")) == wanted - {5, 7}

    values = {"weights": f"{remote}/d/yolo.pt", "trusted": True, "epochs": 1, "threads": 1}
    yolo = TrainDetectorConfig(**here, **values, batch_size=4, image_size=64)
    places = model_places(str(tmp_path), "r")
    train_detector(yolo, places)
    fit_ids = {row["image_id"] for row in rows if row["role"] == "fit"}
    found = set(trained_on_ids(storage.read_bytes(places.trained_on), "x"))
    assert {5, 7} < found <= {5, 7} | fit_ids

    judged = next(row["image_id"] for row in rows if row["role"] == "validation")
    content = trained_on_bytes(np.array([judged]), np.array([7]))
    storage.write_bytes(f"{remote}/d/trained_on.parquet", content)
    with pytest.raises(InputError, match=rf"image {judged} is among the 2 that .*yolo.pt was"):
        check_training(yolo)


def test_a_classifier_scores_no_row_that_its_starting_weights_have_seen(
    remote: str, tmp_path: Path
) -> None:
    rows = small_archive(tmp_path / "archive")
    here = {"manifest": manifest(tmp_path, rows), "store": str(tmp_path), "name": "n"}
    scored = next(row["image_id"] for row in rows if row["role"] == "validation")
    seen = trained_on_bytes(np.array([scored]), np.array([7]))
    storage.write_bytes(f"{remote}/c/trained_on.parquet", seen)
    net = TrainClassifierConfig(**here, weights=f"{remote}/c/net.safetensors")
    with pytest.raises(InputError, match=rf"has seen image {scored}, .*\(1 such images\)"):
        open_work(net)

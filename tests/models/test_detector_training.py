"""Fine-tuning: repeatable, continued exactly, silent, and its result is what the detector loads."""

from __future__ import annotations

import io
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import InputError, RunError
from pipeline.models.detector import Detector, load_network
from pipeline.models.detector_training import fine_tune, mean_average_precision
from pipeline.models.specs import DetectorSettings, Epoch, FineTuning
from tests.conftest import TinyModels
from tests.detection import BOX, HEIGHT, WIDTH, defect_pixels, good_pixels

SIZE = 64
AUGMENT = {"fliplr": 0.5, "flipud": 0.5, "hsv_v": 0.2, "translate": 0.1, "scale": 0.2}
# Mosaic remembers images between epochs, which a continued training must not need.
WITH_MOSAIC = AUGMENT | {"mosaic": 0.5}


def settings(weights: Path | None, **changes: object) -> FineTuning:
    plain = FineTuning(weights, SIZE, 2, 4, 1e-3, 0, None, 3, 1, WITH_MOSAIC)
    return replace(plain, **changes)


def dataset(folder: Path, count: int = 6) -> Path:
    """Every other image has the defect; the folder of the images."""
    x0, y0, x1, y1 = np.array(BOX) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    line = f"0 {(x0 + x1) / 2} {(y0 + y1) / 2} {x1 - x0} {y1 - y0}\n"
    images, labels = folder / "images" / "train", folder / "labels" / "train"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for seed in range(count):
        pixels = defect_pixels(seed) if seed % 2 else good_pixels(seed)
        Image.fromarray(pixels).save(images / f"{seed}.png")
        (labels / f"{seed}.txt").write_text(line if seed % 2 else "")
    return images


def train(
    folder: Path, how: FineTuning, state: bytes | None = None
) -> tuple[bytes, list[Epoch], list[bytes]]:
    epochs: list[Epoch] = []
    states: list[bytes] = []

    def keep(epoch: Epoch) -> None:
        epochs.append(epoch)
        states.append(epoch.state())

    return fine_tune(dataset(folder), ("defect",), how, keep, state), epochs, states


def weights_of(checkpoint: bytes, folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "loaded.pt"
    file.write_bytes(checkpoint)
    return load_network(file, "x").state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def of_a_gpu(state: bytes, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The same state, as it would be written where its tensors lie on a GPU."""
    found, written = torch.load(io.BytesIO(state), weights_only=True), io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(found, written)
    return written.getvalue()


def test_a_continued_training_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have begun on a GPU: tensors of a state then belong there."""
    how = settings(tiny_models.detector, epochs=3)
    whole, epochs, states = train(tmp_path / "whole", how)
    state = of_a_gpu(states[0], monkeypatch)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
            torch.load(io.BytesIO(state), weights_only=True)
    rest, later, _ = train(tmp_path / "rest", how, state)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert [epoch.number for epoch in later] == [2, 3]
    assert later[0].seconds > epochs[0].seconds  # time adds up over the attempts
    found = weights_of(whole, tmp_path)
    assert same(found, weights_of(rest, tmp_path))
    done, none, _ = train(tmp_path / "done", how, states[-1])
    assert none == []
    assert same(found, weights_of(done, tmp_path))
    assert not torch.are_deterministic_algorithms_enabled()  # as after a training
    other, _, _ = train(tmp_path / "other", replace(how, epochs=1, seed=4))
    once, _, _ = train(tmp_path / "once", replace(how, epochs=1))
    assert not same(weights_of(other, tmp_path), weights_of(once, tmp_path))


def test_training_moves_the_weights_but_not_the_frozen_layers(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    checkpoint, epochs, _ = train(tmp_path, settings(tiny_models.detector, epochs=1, freeze=10))
    before = load_network(tiny_models.detector, "x").half().float().state_dict()
    after = weights_of(checkpoint, tmp_path)
    names = [n for n in after if n.endswith("conv.weight") and "dfl" not in n]
    frozen = [n for n in names if int(n.split(".")[1]) < 10]
    moved = [n for n in names if int(n.split(".")[1]) >= 10]
    assert len(frozen) > 10
    assert all(torch.equal(before[n], after[n]) for n in frozen)
    assert any(not torch.equal(before[n], after[n]) for n in moved)
    assert set(epochs[0].loss) == {"box_loss", "cls_loss", "dfl_loss"}


def test_the_checkpoint_is_loaded_as_a_detector_with_its_classes_and_without_paths(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    checkpoint, _, _ = train(tmp_path / "data", settings(tiny_models.detector, epochs=1))
    file = tmp_path / "detector.pt"
    file.write_bytes(checkpoint)
    detector = Detector(file, DetectorSettings(SIZE, 0.001, 0.7, 5, 2), "x")
    assert detector.class_names == {0: "defect"}
    assert detector.trained_side == SIZE
    found = detector.detect(np.zeros((3, SIZE, SIZE, 3), np.uint8))
    assert len(found) == 3
    assert str(tmp_path).encode() not in checkpoint
    assert str(Path.home()).encode() + b"/" not in checkpoint
    assert b"site-packages" not in checkpoint


def test_nothing_is_sent_installed_or_written_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    train(tmp_path / "data", settings(None, epochs=1))
    assert tried == []
    assert list(here.iterdir()) == []
    assert list(home.iterdir()) == []


def test_epochs_are_lowered_to_the_time_there_is(tmp_path: Path, tiny_models: TinyModels) -> None:
    how = settings(tiny_models.detector, epochs=50, seconds=1e-3)
    _, epochs, _ = train(tmp_path, how)
    assert [(epoch.number, epoch.epochs) for epoch in epochs] == [(1, 1)]


def test_weights_that_are_none_are_refused_with_their_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.pt"
    file.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"weights: .*broken\.pt: is no ultralytics checkpoint"):
        train(tmp_path, settings(file))


def interpolated(right: np.ndarray, confidence: np.ndarray, count: int) -> float:
    """Average precision at 101 recalls, by loops: the best precision from each recall on."""
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    points = [(hit / count, hit / (n + 1)) for n, hit in enumerate(hits)]
    best = [
        max([p for r, p in points if r >= recall - 1e-12], default=0.0)
        for recall in np.linspace(0, 1, 101)
    ]
    return float(np.trapezoid(best, np.linspace(0, 1, 101)))


def test_precision_is_that_of_101_recalls_averaged_over_the_classes() -> None:
    rng = np.random.default_rng(5)
    confidence = rng.permutation(np.linspace(0.01, 0.99, 300))
    found = rng.integers(0, 2, 300)
    right = rng.random(300) < confidence
    true = np.repeat([0, 1], [160, 120])
    each = [
        interpolated(right[found == c], confidence[found == c], (true == c).sum()) for c in (0, 1)
    ]
    value = mean_average_precision(right, confidence, found, true)
    assert value == pytest.approx(np.mean(each), abs=0.01)


def test_precision_of_perfect_of_absent_and_of_a_class_never_found() -> None:
    ones = np.ones(4)
    both = np.array([0, 0, 1, 1])
    assert mean_average_precision(ones > 0, ones, both, both) == pytest.approx(1, abs=0.01)
    nothing = np.empty(0)
    assert mean_average_precision(nothing > 0, nothing, nothing.astype(int), both) == 0
    first = both == 0
    value = mean_average_precision(ones[first] > 0, ones[first], both[first], both)
    assert value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_that_finds_no_memory_is_told_instead_of_halved(
    batch: int, tmp_path: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what a GPU says where its memory ends; the first half of a batch would find room."""
    from ultralytics.nn.tasks import DetectionModel

    loss = DetectionModel.loss

    def with_little_memory(model: DetectionModel, images: dict[str, torch.Tensor]) -> object:
        if len(images["img"]) > batch / 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return loss(model, images)

    monkeypatch.setattr(DetectionModel, "loss", with_little_memory)
    how = settings(tiny_models.detector, batch_size=batch)
    with pytest.raises(RunError, match=rf"no memory for a batch of {batch} images of {SIZE} px"):
        train(tmp_path, how)

"""The detector against ultralytics' own way: every anchor decoded, images from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.models.detector import Boxes, Detector, load_network
from pipeline.models.specs import DetectorSettings

SIDE, BATCH = 64, 4


def saved(folder: Path, plan: str, seed: int = 5) -> Path:
    """A seeded network of one of ultralytics' plans, its outputs spread over all confidences."""
    from ultralytics.nn import tasks

    kind = next(
        name
        for suffix, name in (
            ("-seg", "SegmentationModel"),
            ("-pose", "PoseModel"),
            ("-obb", "OBBModel"),
            ("", "DetectionModel"),
        )
        if suffix in plan
    )
    torch.manual_seed(seed)
    model = getattr(tasks, kind)(f"{plan}.yaml", nc=3, verbose=False)
    model.names = {0: "scratch", 1: "hole", 2: "stain"}
    # Batch norms that know the pictures: their outputs are spread, and so are the head's.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(pictures(8)).permute(0, 3, 1, 2).float() / 255)
        for name, value in model.named_parameters():
            if "cv3." in name and name.endswith(".2.bias"):
                value.fill_(-1)
            if ("cv3." in name or "cv2." in name) and name.endswith(".2.weight"):
                value.normal_(0, 0.1)
    if "v10" in plan:
        model.end2end = True
    file = folder / f"{plan}.pt"
    torch.save({"model": model}, file)
    return file


def settings_of(floor: float, most: int = 300) -> DetectorSettings:
    return DetectorSettings(
        image_size=SIDE, confidence_floor=floor, iou=0.7, max_detections=most, batch_size=BATCH
    )


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def plain_boxes(file: Path, images: np.ndarray, floor: float) -> list[np.ndarray]:
    """(M, 6) corners, confidence and class of each image, as ultralytics makes them."""
    from ultralytics.utils.nms import non_max_suppression

    network = load_network(file, "x").fuse(verbose=False).eval()
    found = []
    with torch.inference_mode():
        for image in images:
            one = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            kept = non_max_suppression(
                network(one), floor, 0.7, end2end=network.end2end, max_time_img=1e6
            )
            found.append(kept[0].numpy())
    return found


def assert_equal_boxes(
    found: Sequence[Boxes], wanted: Sequence[np.ndarray], px: float = 0.02
) -> None:
    assert len(found) == len(wanted)
    for boxes, rows in zip(found, wanted, strict=True):
        assert len(boxes.confidence) == len(rows)
        if not len(rows):
            continue
        mine = np.column_stack([boxes.corners, 1e2 * boxes.confidence, 1e3 * boxes.class_id])
        theirs = rows * [1, 1, 1, 1, 1e2, 1e3]
        apart = np.abs(mine[:, None] - theirs[None]).max(axis=2)
        # In px: sharp distributions over distances make much of a last bit.
        assert apart.min(axis=1).max() < px
        assert len(set(apart.argmin(axis=1).tolist())) == len(rows)
        assert (np.diff(boxes.confidence) <= 0).all()


@pytest.mark.parametrize("plan", ["yolov8n", "yolov10n"])
@pytest.mark.parametrize("floor", [0.0, 0.05, 0.6])
def test_candidates_give_the_boxes_that_all_anchors_give(
    tmp_path: Path, plan: str, floor: float
) -> None:
    file, images = saved(tmp_path, plan), pictures(6)
    wanted = plain_boxes(file, images, floor)
    assert sum(map(len, wanted)) > 6
    detector = Detector(file, settings_of(floor), "x")
    assert detector._model.end2end == ("v10" in plan)
    assert_equal_boxes(detector.detect(images), wanted)


def decoded(detector: Detector, image: np.ndarray) -> torch.Tensor:
    """(4 + classes, M): what the head makes of one image."""
    with torch.inference_mode():
        found: torch.Tensor = detector._model(torch.from_numpy(image).permute(2, 0, 1)[None] * 1.0)[
            0
        ][0]
    return found


def test_what_is_far_below_the_floor_is_not_decoded(tmp_path: Path) -> None:
    file, image = saved(tmp_path, "yolov8n"), pictures(1)[0]
    every, few = (decoded(Detector(file, settings_of(f), "x"), image) for f in (0.0, 0.6))
    assert every.shape[1] == (SIDE // 8) ** 2 + (SIDE // 16) ** 2 + (SIDE // 32) ** 2 + 4
    confident = int((every[4:].amax(0) > 0.6).sum())
    assert 0 < confident <= few.shape[1] < every.shape[1] / 2


def test_six_candidates_are_not_taken_for_boxes_that_are_suppressed_already(
    tmp_path: Path,
) -> None:
    file, images = saved(tmp_path, "yolov8n"), pictures(1)
    best = decoded(Detector(file, settings_of(0.0), "x"), images[0])[4:].amax(0)
    ordered = best.sort(descending=True).values
    floor = float(ordered[5] + ordered[6]) / 2
    # Wider apart than what is decoded below the floor, in logits.
    assert ordered[5] - ordered[6] > 0.01
    candidates = Detector(file, settings_of(floor), "x")
    assert decoded(candidates, images[0]).shape[1] == 8
    assert_equal_boxes(candidates.detect(images), plain_boxes(file, images, floor))


def test_a_network_that_begins_otherwise_gets_pixels_from_0_to_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, images = saved(tmp_path, "yolov8n"), pictures(3)
    wanted = plain_boxes(file, images, 0.3)
    monkeypatch.setattr("ultralytics.nn.modules.Conv", type("Another", (), {}))
    assert_equal_boxes(Detector(file, settings_of(0.3), "x").detect(images), wanted)


def test_nothing_is_confident_enough(tmp_path: Path) -> None:
    found = Detector(saved(tmp_path, "yolov8n"), settings_of(1.0), "x").detect(pictures(2))
    assert [len(boxes.confidence) for boxes in found] == [0, 0]


def test_an_images_boxes_are_the_same_bits_whatever_is_beside_it(tmp_path: Path) -> None:
    images = pictures(2 * BATCH)
    detector = Detector(saved(tmp_path, "yolov8n"), settings_of(0.3), "x")
    together = detector.detect(images)
    assert len({len(boxes.confidence) for boxes in together}) > 1
    for place, boxes in enumerate(together):
        (alone,) = detector.detect(images[place : place + 1])
        assert np.array_equal(alone.corners, boxes.corners)
        assert np.array_equal(alone.confidence, boxes.confidence)
        assert np.array_equal(alone.class_id, boxes.class_id)


@pytest.mark.parametrize("most", [1, 5, 6, 7])
def test_the_most_confident_boxes_are_kept(tmp_path: Path, most: int) -> None:
    file, images = saved(tmp_path, "yolov8n"), pictures(3)
    every = Detector(file, settings_of(0.05), "x").detect(images)
    some = Detector(file, settings_of(0.05, most), "x").detect(images)
    for boxes, kept in zip(every, some, strict=True):
        assert len(boxes.confidence) > most
        assert np.array_equal(kept.confidence, boxes.confidence[:most])


def test_an_image_of_which_a_network_gives_no_number_has_no_boxes_and_says_so(
    tmp_path: Path,
) -> None:
    detector = Detector(saved(tmp_path, "yolov8n"), settings_of(0.3), "x")
    images = pictures(3)
    images[1] = 255
    first, forward = detector._model.model[0], detector._model.model[0].forward_fuse

    def overflowing(batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = forward(batch)
        found[(batch.flatten(1).amin(1) == 255)] = torch.inf
        return found

    first.forward = overflowing
    found = detector.detect(images)
    assert [boxes.finite for boxes in found] == [True, False, True]
    assert len(found[0].confidence) > 0
    assert len(found[1].confidence) == 0


@pytest.mark.parametrize("task", ["seg", "pose", "obb"])
def test_networks_of_other_tasks_are_refused(tmp_path: Path, task: str) -> None:
    file = saved(tmp_path, f"yolov8n-{task}")
    with pytest.raises(
        InputError, match=r"weights: its head is a \w+, .*give a detection checkpoi"
    ):
        Detector(file, settings_of(0.3), "weights")


@pytest.mark.parametrize("name", ["best.onnx", "best.pth", "best"])
def test_weights_of_another_name_are_refused_in_words(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"weights")
    with pytest.raises(InputError, match=rf"^detector\.weights: is called '{name}', and .* \.pt"):
        load_network(file, "detector.weights")

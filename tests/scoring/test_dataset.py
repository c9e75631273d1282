"""The exported dataset: what ultralytics reads from it is what the masks say, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.export_detection import main
from pipeline.config import BoxesConfig, ExportDetectionConfig, LimitsConfig
from pipeline.errors import InputError
from pipeline.images.decode import decode
from pipeline.report.detector import export_summary
from pipeline.scoring.dataset import DatasetPlan, label_lines, write_dataset
from pipeline.scoring.export import run_export
from pipeline.scoring.labelled import label_options
from pipeline.tables.manifest import image_id
from tests.detection import BOX, HEIGHT, WIDTH, box_mask, defect_pixels, manifest, row, table
from tests.detection import small_archive as archive

OPTIONS = label_options(BoxesConfig(), LimitsConfig())


def export(folder: Path, rows: list[dict], **settings: object) -> dict:
    config = {"manifest": manifest(folder, rows), "target": str(folder / "set")}
    return run_export(ExportDetectionConfig.model_validate(config | settings))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_by_ultralytics(folder: Path, split: str) -> dict[str, np.ndarray]:
    """Per image id its boxes in px with their class, as ultralytics' own dataset reads them."""
    from ultralytics.data.dataset import YOLODataset

    data = yaml.safe_load((folder / "data.yaml").read_text()) | {"channels": 3}
    source = str(folder / data[split])
    dataset = YOLODataset(img_path=source, data=data, task="detect", imgsz=64, augment=False)
    result = {}
    for label in dataset.labels:
        height, width = label["shape"]
        centre, size = np.split(label["bboxes"] * [width, height, width, height], 2, axis=1)
        corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        result[Path(label["im_file"]).stem] = np.concatenate([label["cls"], corners], axis=1)
    return result


def test_ultralytics_reads_the_boxes_of_the_masks(tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive")
    report = export(tmp_path, rows, boxes=BoxesConfig(classes="category_defecttype"))
    assert report["classes"] == ["tile_crack", "tile_dent"]
    for split, role in (("train", "fit"), ("val", "validation")):
        found = read_by_ultralytics(tmp_path / "set", split)
        expected = {str(r["image_id"]): r for r in rows if r["role"] == role}
        assert found.keys() == expected.keys()
        for name, boxes in found.items():
            kind = expected[name]["defect_type"]
            number = [] if kind == "good" else [report["classes"].index(f"tile_{kind}")]
            truth = [[n, *BOX] for n in number]
            np.testing.assert_allclose(boxes, np.array(truth).reshape(-1, 5), atol=1e-3)


def test_only_fit_and_validation_leave_and_good_images_have_empty_labels(tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive")
    report = export(tmp_path, rows)
    names = files(tmp_path / "set/images/train") + files(tmp_path / "set/images/val")
    allowed = {f"{r['image_id']}.png" for r in rows if r["role"] in ("fit", "validation")}
    assert set(names) == allowed
    good = next(r for r in rows if r["role"] == "fit" and not r["is_defect"])
    assert (tmp_path / f"set/labels/train/{good['image_id']}.txt").read_text() == ""
    counts = report["roles"]["fit"]
    assert (counts["images"], counts["good"], counts["defects"]) == (7, 4, 3)
    assert counts["boxes"] == {"defect": 3}
    assert "validation  good, without a box       4" in export_summary(report)
    assert not Path(yaml.safe_load((tmp_path / "set/data.yaml").read_text())["train"]).is_absolute()


@pytest.mark.parametrize("role", ["test", "normal_calibration", None])
def test_a_row_of_another_role_is_an_error_however_it_came_in(
    tmp_path: Path, role: str | None
) -> None:
    rows = archive(tmp_path / "archive")
    ours = [r for r in rows if r["role"] == "fit"]
    strange = row(tmp_path, 7, role, "dent")
    plan = DatasetPlan(tmp_path, ("defect",), OPTIONS)
    with pytest.raises(InputError, match=rf"train images: image {strange['image_id']} .*{role!r}"):
        write_dataset({"fit": table([*ours, strange])}, plan)
    with pytest.raises(InputError, match="'test' never leave"):
        write_dataset({"test": table([strange])}, plan)


def test_pixels_are_written_as_they_were_decoded_in_grey_and_in_colour(tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive")
    export(tmp_path, rows)
    for r in (r for r in rows if r["role"] == "fit"):
        stored = tmp_path / f"set/images/train/{r['image_id']}.png"
        expected = decode(Path(r["uri"]).read_bytes()).pixels
        assert np.array_equal(cv2.imread(str(stored))[..., ::-1], expected)
        channels = 3 if r["is_defect"] else 1
        assert cv2.imread(str(stored), cv2.IMREAD_UNCHANGED).size == HEIGHT * WIDTH * channels


def test_an_image_that_exif_turns_is_written_upright_with_its_box(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    lying = Image.fromarray(np.rot90(defect_pixels(1)).copy())
    lying.save(tmp_path / "turned.png", exif=exif)
    content = (tmp_path / "turned.png").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    upright = row(tmp_path, 1, "fit", "dent")
    turned = upright | {
        "uri": str(tmp_path / "turned.png"),
        "sha256": sha256,
        "image_id": image_id(sha256),
    }
    export(tmp_path, [turned, row(tmp_path, 2, "validation")])
    stored = cv2.imread(str(tmp_path / f"set/images/train/{turned['image_id']}.png"))
    assert np.array_equal(stored[..., ::-1], defect_pixels(1))
    found = read_by_ultralytics(tmp_path / "set", "train")[str(turned["image_id"])]
    np.testing.assert_allclose(found[0, 1:], BOX, atol=1e-3)


def test_larger_images_are_shrunk_and_their_boxes_stay_where_they_are(tmp_path: Path) -> None:
    export(tmp_path, archive(tmp_path / "archive"), max_side=36)
    for split in ("train", "val"):
        for boxes in read_by_ultralytics(tmp_path / "set", split).values():
            np.testing.assert_allclose(boxes[:, 1:] * 2, np.repeat([BOX], len(boxes), 0), atol=1e-3)
    stored = [cv2.imread(str(file)) for file in (tmp_path / "set/images/train").iterdir()]
    assert {image.shape for image in stored} == {(32, 36, 3)}


@given(
    st.lists(
        st.tuples(
            st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH),
            st.integers(1, HEIGHT),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_label_lines_are_shares_that_give_the_boxes_back(
    spots: list[tuple[int, int, int, int]],
) -> None:
    boxes = np.array(
        [(x, y, min(x + w, WIDTH), min(y + h, HEIGHT)) for x, y, w, h in spots], np.int64
    ).reshape(-1, 4)
    lines = label_lines(boxes, 3, WIDTH, HEIGHT).splitlines()
    assert len(lines) == len(boxes)
    for line, box in zip(lines, boxes, strict=True):
        number, *values = line.split()
        x, y, w, h = (float(v) for v in values)
        assert number == "3"
        assert all(0 <= v <= 1 for v in (x, y, w, h))
        back = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        np.testing.assert_allclose(back * [WIDTH, HEIGHT, WIDTH, HEIGHT], box, atol=1e-3)


def with_mask(folder: Path, mask: np.ndarray | None) -> list[dict]:
    """An archive in which one `fit` defect has another mask, or none."""
    rows = archive(folder / "archive")
    place = next(i for i, r in enumerate(rows) if r["role"] == "fit" and r["is_defect"])
    if mask is None:
        rows[place]["mask_uri"] = None
    else:
        Image.fromarray(mask).save(rows[place]["mask_uri"])
    return rows


def refused(folder: Path, rows: list[dict], capsys: pytest.CaptureFixture[str]) -> str:
    """What the job says when it refuses; nothing is left of the dataset."""
    before = files(folder)
    place = manifest(folder, rows)
    assert main([f"manifest={place}", f"target={folder / 'set'}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert set(files(folder)) - set(before) <= {"manifest.parquet"}
    return said[0]


def test_a_mask_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(tmp_path, with_mask(tmp_path, box_mask()[:, :70]), capsys)
    assert "_mask.png: the mask has 70 × 64 pixels, its image" in said
    assert "72 × 64; a mask has the size of the upright image" in said


def test_a_mask_that_lies_on_its_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "EXIF" in refused(tmp_path, with_mask(tmp_path, box_mask().T.copy()), capsys)


def test_a_mask_that_is_not_binary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = box_mask()
    mask[50:60, 2:12] = 100
    said = refused(tmp_path, with_mask(tmp_path, mask), capsys)
    assert "_mask.png: is not a binary mask: it holds 3 values (0, 100, 255)" in said


@pytest.mark.parametrize("mask", [None, box_mask(0)], ids=["missing", "empty"])
def test_a_defect_without_a_box_is_refused_or_skipped(
    tmp_path: Path, mask: np.ndarray | None, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = with_mask(tmp_path, mask)
    said = refused(tmp_path, rows, capsys)
    assert "dent" in said
    assert "boxes.unmarked=skip" in said
    report = export(tmp_path, rows, boxes=BoxesConfig(unmarked="skip"))
    assert report["roles"]["fit"]["left_out"] == {"no_box_in_mask": 1}
    assert report["roles"]["fit"]["defects"] == 2
    assert "1 fit images left out, no_box_in_mask" in export_summary(report)


def test_a_mask_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = with_mask(tmp_path, box_mask())
    lost = next(r for r in rows if r["role"] == "fit" and r["is_defect"])
    Path(lost["mask_uri"]).unlink()
    assert f"mask of {lost['uri']}: {lost['mask_uri']}: there is no such" in refused(
        tmp_path, rows, capsys
    )


def test_a_good_image_whose_mask_marks_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = with_mask(tmp_path, box_mask())
    next(r for r in rows if r["role"] == "fit" and r["is_defect"])["is_defect"] = False
    assert "marks 1 defects, but the manifest says" in refused(tmp_path, rows, capsys)


def test_no_defects_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [r for r in archive(tmp_path / "archive") if not r["is_defect"]]
    said = refused(tmp_path, rows, capsys)
    assert "none of the 4 rows to train on is a defect" in said
    assert "'fit'" in said


def test_a_manifest_without_roles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [r | {"role": None} for r in archive(tmp_path / "archive")]
    assert "column 'role' is empty" in refused(tmp_path, rows, capsys)


def test_a_target_that_is_there_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = archive(tmp_path / "archive")
    (tmp_path / "set").mkdir()
    assert f"target: {tmp_path / 'set'}: is there already" in refused(tmp_path, rows, capsys)
    assert files(tmp_path / "set") == []


def test_a_target_that_is_not_local(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"target: s3://a/b: .*local folder"):
        export(tmp_path, archive(tmp_path / "archive"), target="s3://a/b")


def test_images_that_cant_be_used_are_left_out_with_their_reason(tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive")
    fit = [r for r in rows if r["role"] == "fit" and not r["is_defect"]]
    Path(fit[0]["uri"]).write_bytes(b"no image")
    Path(fit[1]["uri"]).unlink()
    fit[2]["is_defect"] = None
    counts = export(tmp_path, rows)["roles"]["fit"]
    assert counts["left_out"] == {"content_changed": 1, "not_found": 1, "not_labelled": 1}
    assert counts["images"] == 4

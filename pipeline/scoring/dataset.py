"""Labelled images as a dataset on disk, in the format that ultralytics trains on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import yaml

from pipeline.errors import InputError
from pipeline.scoring.labelled import LabelOptions, class_name, read_labelled
from pipeline.scoring.prepare import Failure
from pipeline.tables.roles import FIT, VALIDATION, require_roles

# The folder of each role's images: what trains, and what its user's training may look at.
FOLDERS = {FIT: "train", VALIDATION: "val"}
# Grain barely compresses: the lowest level is several times as fast.
_PNG_LEVEL = 1
# Rows whose images are read ahead: results are small, but a list of all would not be.
_CHUNK = 1024


@dataclass(frozen=True)
class DatasetPlan:
    """How a dataset is written.

    Attributes:
        folder: where; it exists.
        names: the classes, in the order of their numbers.
        options: how labelled images are read.
        max_side: larger images are shrunk to this longer side, px; None: never.
        threads: images at once; None: one per CPU.
    """

    folder: Path
    names: tuple[str, ...]
    options: LabelOptions
    max_side: int | None = None
    threads: int | None = None


@dataclass
class Written:
    """What a dataset holds of one role.

    Attributes:
        image_ids: of the images that were written, in order.
        good: images without a box.
        defects: images with boxes.
        boxes: boxes per class.
        left_out: images that were not written, per reason.
        examples: the first message of each reason.
    """

    image_ids: list[int] = field(default_factory=list)
    good: int = 0
    defects: int = 0
    boxes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """Everything but the ids, for a report."""
        return {
            "images": len(self.image_ids),
            "good": self.good,
            "defects": self.defects,
            "boxes": dict(sorted(self.boxes.items())),
            "left_out": dict(sorted(self.left_out.items())),
            "examples": self.examples,
        }


def write_dataset(rows: Mapping[str, pa.Table], plan: DatasetPlan) -> dict[str, Written]:
    """Writes images, labels and data.yaml.

    `images/train` and `labels/train` hold the rows of the role fit, `…/val` those of validation;
    files are named by the image's id. Images are written as PNG and upright, so that boxes and
    pixels agree in every program.

    Args:
        rows: by role, each with the manifest's columns.
        plan: how.

    Returns:
        What was written, by role.

    Raises:
        InputError: a row of another role, a mask that can't be used.
    """
    written = {}
    for role, table in rows.items():
        if role not in FOLDERS:
            raise InputError(f"dataset: rows of the role {role!r} never leave for a training")
        require_roles(table, {role}, f"writing the detector's {FOLDERS[role]} images")
        written[role] = _write_role(table, FOLDERS[role], plan)
    _write_description(plan)
    return written


def _write_role(rows: pa.Table, name: str, plan: DatasetPlan) -> Written:
    for kind in ("images", "labels"):
        (plan.folder / kind / name).mkdir(parents=True, exist_ok=True)
    result = Written()
    workers = plan.threads or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows.slice(start, _CHUNK).to_pylist()
            outcomes = pool.map(partial(_write_one, name=name, plan=plan), chunk)
            for row, outcome in zip(chunk, outcomes, strict=True):
                _count(result, row, outcome, class_name(row, plan.options))
    return result


def _count(result: Written, row: Mapping[str, Any], outcome: int | Failure, kind: str) -> None:
    if isinstance(outcome, Failure):
        result.left_out[outcome.error_type] += 1
        result.examples.setdefault(outcome.error_type, outcome.message)
        return
    result.image_ids.append(row["image_id"])
    if outcome:
        result.defects += 1
        result.boxes[kind] += outcome
    else:
        result.good += 1


def _write_one(row: Mapping[str, Any], name: str, plan: DatasetPlan) -> int | Failure:
    """Writes one image and its label file; how many boxes it has, or why it was left out."""
    image = read_labelled(row, plan.options)
    if isinstance(image, Failure):
        return image
    height, width = image.pixels.shape[:2]
    lines = ""
    if len(image.boxes):
        number = plan.names.index(class_name(row, plan.options))
        lines = label_lines(image.boxes, number, width, height)
    stem = str(row["image_id"])
    (plan.folder / "labels" / name / f"{stem}.txt").write_text(lines)
    png = _png(_shrunk(image.pixels, plan.max_side))
    (plan.folder / "images" / name / f"{stem}.png").write_bytes(png)
    return len(image.boxes)


def label_lines(boxes: np.ndarray, number: int, width: int, height: int) -> str:
    """Boxes (M, 4) in px as lines `class x_centre y_centre width height`, shares of the image."""
    size = np.array([width, height], np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / size
    sides = (boxes[:, 2:] - boxes[:, :2]) / size
    values = np.concatenate([centres, sides], axis=1).tolist()
    return "".join(f"{number} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in values)


def _shrunk(pixels: np.ndarray, max_side: int | None) -> np.ndarray:
    height, width = pixels.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return pixels
    ratio = max_side / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    shrunk: np.ndarray = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    return shrunk


def _png(pixels: np.ndarray) -> bytes:
    grey = (pixels[..., :1] == pixels).all()
    stored = pixels[..., 0] if grey else pixels[..., ::-1]  # OpenCV's order is BGR
    _, content = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    return content.tobytes()


def _write_description(plan: DatasetPlan) -> None:
    """data.yaml; its paths are relative to itself, so that the folder can be moved."""
    description = {
        "train": f"images/{FOLDERS[FIT]}",
        "val": f"images/{FOLDERS[VALIDATION]}",
        "names": dict(enumerate(plan.names)),
    }
    (plan.folder / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False))

"""How good a detector is on held-out rows: defects hit, false boxes, mean average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.images.geometry import letterbox, letterbox_to_image
from pipeline.models.detector import Boxes, Detector
from pipeline.models.detector_training import mean_average_precision
from pipeline.scoring.labelled import Labelled, LabelOptions, class_name, read_labelled
from pipeline.scoring.prepare import Failure
from pipeline.stats.detection import (
    best_confidence,
    pairwise_iou,
    share_with_interval,
    true_positives,
)
from pipeline.tables.roles import require_roles

# Overlap with which a box says where a defect is, for people who then look there.
HIT_IOU = 0.1
# Overlap of the usual mean average precision.
MAP_IOU = 0.5


@dataclass(frozen=True)
class _Judged:
    """One image and what was found in it.

    Attributes:
        row: the manifest's.
        hits: (M,) highest confidence that hit each defect, 0: none.
        whole: (M,) whether a box around the whole image would hit it.
        right: (N,) which found boxes count as right for the precision.
        confidence: (N,) theirs.
        class_names: (N,) theirs.
    """

    row: Mapping[str, Any]
    hits: np.ndarray
    whole: np.ndarray
    right: np.ndarray
    confidence: np.ndarray
    class_names: list[str]


def detector_quality(
    detector: Detector,
    rows: pa.Table,
    role: str,
    options: LabelOptions,
    confidences: Sequence[float],
) -> dict[str, Any]:
    """Judges a detector on labelled images of one held-out role.

    A defect is hit at a confidence when a box of at least that confidence, of whatever class,
    overlaps it with an IoU of `HIT_IOU`.

    Returns:
        For a report: counts; `hits` per confidence, category and defect type with exact 95 %
        intervals; `false_boxes` on good images per confidence; `map50`, null without defects.

    Raises:
        InputError: rows of another role, a mask that can't be used.
    """
    require_roles(rows, {role}, f"judging the detector on {role} rows")
    judged, left_out = [], []
    for row in rows.to_pylist():
        image = read_labelled(row, options)
        if isinstance(image, Failure):
            left_out.append(image.error_type)
        else:
            judged.append(_judge(detector, row, image, class_name(row, options)))
    good = [image for image in judged if not len(image.hits)]
    bad = [image for image in judged if len(image.hits)]
    return {
        "role": role,
        "images": len(judged),
        "good": len(good),
        "defects": len(bad),
        "boxes": int(sum(len(image.hits) for image in bad)),
        "left_out": pd.Series(left_out, dtype=str).value_counts().sort_index().to_dict(),
        "hit_iou": HIT_IOU,
        "map50": _map50(judged, options) if bad else None,
        "hits": [entry for floor in confidences for entry in _hits(bad, floor)],
        "false_boxes": [_false_boxes(good, floor) for floor in confidences] if good else [],
    }


def _judge(detector: Detector, row: Mapping[str, Any], image: Labelled, kind: str) -> _Judged:
    size = detector.settings.image_size
    height, width = image.pixels.shape[:2]
    found = detector.detect(letterbox(image.pixels, size)[None])[0]
    iou = pairwise_iou(letterbox_to_image(found.corners, size, width, height), image.boxes)
    whole = pairwise_iou(np.array([[0, 0, width, height]]), image.boxes)[0] >= HIT_IOU
    names = [detector.class_names.get(int(number), "") for number in found.class_id]
    return _Judged(
        row,
        best_confidence(iou, found.confidence, HIT_IOU),
        whole,
        _right(iou, found, np.array([name == kind for name in names], bool)),
        found.confidence,
        names,
    )


def _right(iou: np.ndarray, found: Boxes, of_kind: np.ndarray) -> np.ndarray:
    """Which boxes are right: an image's defects are of one class, so others never are."""
    right = np.zeros(len(found.confidence), bool)
    right[of_kind] = true_positives(iou[of_kind], MAP_IOU)
    return right


def _map50(judged: Sequence[_Judged], options: LabelOptions) -> float:
    found = [name for image in judged for name in image.class_names]
    true = [class_name(image.row, options) for image in judged for _ in image.hits]
    numbers = {name: number for number, name in enumerate(sorted({*found, *true}))}
    return mean_average_precision(
        np.concatenate([image.right for image in judged]),
        np.concatenate([image.confidence for image in judged]),
        np.array([numbers[name] for name in found], np.int64),
        np.array([numbers[name] for name in true], np.int64),
    )


def _hits(bad: Sequence[_Judged], floor: float) -> list[dict[str, Any]]:
    """Hits at one confidence: per category and defect type, and of all."""
    kinds = sorted({_kind(image) for image in bad})
    entries = [
        {"confidence": floor, "category": category, "defect_type": defect_type}
        | _share([image for image in bad if _kind(image) == (category, defect_type)], floor)
        for category, defect_type in kinds
    ]
    everything = {"confidence": floor, "category": None, "defect_type": None}
    return [*entries, everything | _share(bad, floor)] if entries else []


def _kind(image: _Judged) -> tuple[str, str]:
    return image.row["category"] or "unknown", image.row["defect_type"] or "unknown"


def _share(images: Sequence[_Judged], floor: float) -> dict[str, Any]:
    best = np.concatenate([image.hits for image in images])
    hits = int((best >= floor).sum())
    share, low, high = share_with_interval(hits, len(best))
    whole = np.concatenate([image.whole for image in images])
    return {
        "images": len(images),
        "n": len(best),
        "hits": hits,
        "share": share,
        "low": low,
        "high": high,
        "whole_image_share": float(whole.mean()),
    }


def _false_boxes(good: Sequence[_Judged], floor: float) -> dict[str, Any]:
    counts = np.array([(image.confidence >= floor).sum() for image in good])
    with_box = int((counts > 0).sum())
    share, low, high = share_with_interval(with_box, len(good))
    return {
        "confidence": floor,
        "good": len(good),
        "boxes": int(counts.sum()),
        "per_image": float(counts.mean()),
        "images_with_box": with_box,
        "share": share,
        "low": low,
        "high": high,
    }

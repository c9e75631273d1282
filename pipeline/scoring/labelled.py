"""Labelled images of a manifest: which rows a step may use, their pixels, and boxes from masks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import BoxesConfig, LimitsConfig
from pipeline.errors import InputError
from pipeline.images.boxes import BoxRules, marked, mask_boxes
from pipeline.scoring.prepare import Failure, PrepareOptions, options_for, read_image
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest, with_all_columns
from pipeline.tables.roles import require_roles

# The one class of a detector that doesn't tell defect types apart.
DEFECT = "defect"
# Why an image isn't used, beside the reasons of reading it.
UNMARKED, UNLABELLED = "no_box_in_mask", "not_labelled"
# Rows that are looked at before the next are taken from the manifest.
_CHUNK = 1024

_COLUMNS = [
    "image_id",
    "uri",
    "sha256",
    "category",
    "role",
    "group_id",
    "defect_type",
    "is_defect",
    "mask_uri",
]


@dataclass(frozen=True)
class LabelOptions:
    """How labelled images are read.

    Attributes:
        prepare: what is refused, and how often a read is tried.
        rules: how a mask becomes boxes.
        by_type: classes are category and defect type, not `defect` alone.
        skip_unmarked: leave a defect image without boxes out, instead of refusing it.
    """

    prepare: PrepareOptions
    rules: BoxRules
    by_type: bool
    skip_unmarked: bool


@dataclass(frozen=True)
class Labelled:
    """One labelled image.

    Attributes:
        pixels: (H, W, 3) uint8, upright.
        boxes: (M, 4) int64 x_min, y_min, x_max, y_max in px of `pixels`; none: a good image.
    """

    pixels: np.ndarray
    boxes: np.ndarray


def label_options(boxes: BoxesConfig, limits: LimitsConfig) -> LabelOptions:
    """The settings of a config."""
    return LabelOptions(
        options_for(limits),
        BoxRules(boxes.min_area, boxes.merge_distance),
        boxes.classes != DEFECT,
        boxes.unmarked == "skip",
    )


def rows_by_role(manifest: str, roles: Collection[str], step: str) -> dict[str, pa.Table]:
    """Rows of the roles that a step may use, sorted by id, and no others.

    Raises:
        InputError: the manifest can't be used, or gives no image a role.
    """
    open_manifest(manifest)
    content = pa.BufferReader(storage.read_bytes(manifest))
    rows = with_all_columns(pq.read_table(content)).select(_COLUMNS).sort_by("image_id")
    if rows.column("role").null_count == len(rows):
        raise InputError(
            f"manifest: {manifest}: column 'role' is empty: {step} needs roles, so that no image "
            "that judges a model has trained it; split the manifest first"
        )
    found = {role: rows.filter(pc.equal(rows.column("role"), role)) for role in roles}
    for role, chosen in found.items():
        require_roles(chosen, {role}, step)
    return found


def read_labelled(row: Mapping[str, Any], options: LabelOptions) -> Labelled | Failure:
    """One image with its boxes, or why it is left out.

    Raises:
        InputError: a mask that can't be read, doesn't fit its image, isn't binary, or
            contradicts the label; a defect image without a box, unless those are skipped.
    """
    uri = row["uri"]
    if row["is_defect"] is None:
        return Failure(UNLABELLED, f"{uri}: nobody knows whether it is good")
    image = read_image(uri, row["sha256"], options.prepare)
    if isinstance(image, Failure):
        return image
    boxes = _boxes(row, image.pixels.shape[:2], options)
    if row["is_defect"] and not len(boxes):
        failure = _unmarked(row, options)
        if not options.skip_unmarked:
            raise InputError(failure.message)
        return failure
    if len(boxes) and not row["is_defect"]:
        raise InputError(
            f"{row['mask_uri']}: marks {len(boxes)} defects, but the manifest says that {uri} is "
            "good; correct is_defect, or remove mask_uri"
        )
    return Labelled(image.pixels, boxes)


def require_labels(rows: pa.Table, options: LabelOptions) -> None:
    """Reads every image with its mask, to find what is wrong before work that takes hours.

    An image that can't be read is left out by whoever reads it next, and counted there.

    Raises:
        InputError: as `read_labelled`.
    """

    def look(row: Mapping[str, Any]) -> None:
        read_labelled(row, options)  # what it gives is let go: a thread holds one image

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(rows), _CHUNK):
            list(pool.map(look, rows.slice(start, _CHUNK).to_pylist()))


def _boxes(row: Mapping[str, Any], shape: tuple[int, ...], options: LabelOptions) -> np.ndarray:
    what = row["mask_uri"]
    if what is None:
        return np.empty((0, 4), np.int64)
    mask = read_image(what, None, options.prepare)
    if isinstance(mask, Failure):
        raise InputError(f"mask of {row['uri']}: {mask.message}")
    if mask.pixels.shape[:2] != shape:
        height, width = shape
        turned = mask.pixels.shape[:2] == (width, height)
        hint = " (the image is turned by its EXIF orientation, the mask isn't)" if turned else ""
        raise InputError(
            f"{what}: the mask has {mask.width} × {mask.height} pixels, its image {row['uri']} "
            f"{width} × {height}{hint}; a mask has the size of the upright image"
        )
    return mask_boxes(marked(mask.pixels, what), options.rules, what)


def _unmarked(row: Mapping[str, Any], options: LabelOptions) -> Failure:
    if row["mask_uri"] is None:
        what = f"{row['uri']}: is a defect ({row['defect_type']}) and has no mask"
    else:
        what = (
            f"{row['mask_uri']}: the mask of a defect ({row['defect_type']}) holds no box of at "
            f"least {options.rules.min_area} marked pixels"
        )
    return Failure(UNMARKED, f"{what}; add it, or leave such images out with boxes.unmarked=skip")


def class_name(row: Mapping[str, Any], options: LabelOptions) -> str:
    """The detector's class of a row's defects."""
    if not options.by_type:
        return DEFECT
    return f"{row['category'] or 'unknown'}_{row['defect_type'] or DEFECT}"


def class_names(rows: pa.Table, options: LabelOptions) -> tuple[str, ...]:
    """The classes of the defects among rows, sorted.

    Raises:
        InputError: there is no defect.
    """
    defects = rows.filter(pc.fill_null(rows.column("is_defect"), False))
    if not defects.num_rows:
        raise InputError(
            f"manifest: none of the {rows.num_rows} rows to train on is a defect (is_defect); a "
            "detector learns from defects with masks: give some the role 'fit'"
        )
    kinds = defects.select(["category", "defect_type"]).to_pylist()
    return tuple(sorted({class_name(kind, options) for kind in kinds}))

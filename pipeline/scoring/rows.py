"""Rows of the tables from what the models say of images: the same on Ray and without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.images.geometry import letterbox_to_image
from pipeline.scoring.prepare import Failure, Prepared
from pipeline.scoring.reuse.join import BOX
from pipeline.tables.schemas import DETECTIONS, NOT_FINITE, SCORES

if TYPE_CHECKING:  # it loads torch
    from pipeline.models.detector import Boxes

# Of `ImageFacts`.
_FACTS = ("brightness", "contrast", "sharpness")
_REASON = ("error_type", "error_message")


def image_columns(results: Sequence[Prepared | Failure], *, facts: bool) -> dict[str, pa.Array]:
    """What is known of N images before any model: size, format, facts, or why there is none.

    Args:
        results: one of each image.
        facts: light, contrast and focus were measured.
    """
    images = [result if isinstance(result, Prepared) else None for result in results]
    failures = [result if isinstance(result, Failure) else None for result in results]
    columns = {
        "width": pa.array([image and image.width for image in images], pa.int32()),
        "height": pa.array([image and image.height for image in images], pa.int32()),
        "format": pa.array([image and image.format for image in images], pa.string()),
        "error_type": pa.array([bad and bad.error_type for bad in failures], pa.string()),
        "error_message": pa.array([bad and bad.message for bad in failures], pa.string()),
    }
    if facts:
        columns |= {name: _fact(images, name) for name in _FACTS}
    return columns


def _fact(images: list[Prepared | None], name: str) -> pa.Array:
    values = [getattr(image.facts, name) if image else math.nan for image in images]
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def spread(values: np.ndarray, rows: np.ndarray, total: int, kind: pa.DataType) -> pa.Array:
    """Values of some rows as a column of all rows; the others, and NaN, are null."""
    full = np.full(total, np.nan)
    full[rows] = values
    return pa.array(full, mask=np.isnan(full)).cast(kind, safe=False)


def box_rows(
    found: Boxes, side: int, width: int, height: int, names: Mapping[int, str]
) -> list[dict[str, object]]:
    """One image's boxes, as the column `boxes` has them.

    Args:
        found: in px of the letterboxed square.
        side: of that square, px.
        width: of the image, px.
        height: of the image, px.
        names: of the classes.
    """
    corners = letterbox_to_image(found.corners, side, width, height)
    return [
        dict(
            zip(
                BOX.names,
                (*map(float, xyxy), float(confidence), int(kind), names.get(int(kind))),
                strict=True,
            )
        )
        for xyxy, confidence, kind in zip(corners, found.confidence, found.class_id, strict=True)
    ]


def without_value(rows: pa.Table, strange: np.ndarray, what: str) -> pa.Table:
    """Makes rows of which a network gave no number to errors, instead of nulls or a lost run."""
    message = f"its {what} are not finite (NaN or infinity); do the weights fit this kind of image?"
    return as_errors(rows, strange, NOT_FINITE, message)


def as_errors(rows: pa.Table, which: np.ndarray, kind: str, message: str) -> pa.Table:
    """Gives rows (M,) by number an error, where they have none yet."""
    if not len(which):
        return rows
    types, messages = (rows.column(name).to_pylist() for name in _REASON)
    for row in which:
        types[row] = types[row] or kind
        messages[row] = messages[row] or f"{rows.column('uri')[int(row)]}: {message}"
    for name, values in zip(_REASON, (types, messages), strict=True):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, pa.array(values, pa.string()))
    return rows


def failed_rows(rows: pa.Table) -> pa.Table:
    """Rows whose image could not be had."""
    return rows.filter(pc.is_valid(rows.column("error_type")))


def usable_rows(rows: pa.Table) -> pa.Table:
    """Rows that went through the models."""
    return rows.filter(pc.is_null(rows.column("error_type")))


def fill_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, from rows that may lack some; those are null."""
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def score_rows(rows: pa.Table, anomaly_score: str) -> pa.Table:
    """Rows of `scores`.

    Args:
        rows: that went through the models.
        anomaly_score: which distance is `anomaly_score`: cells or pooled.
    """
    chosen = f"anomaly_{anomaly_score}"
    if chosen in rows.schema.names:
        rows = rows.append_column("anomaly_score", rows.column(chosen))
    if "boxes" in rows.schema.names:
        counts, best = _strongest(rows.column("boxes").combine_chunks())
        rows = rows.append_column("detection_count", pa.array(counts, pa.int32()))
        rows = rows.append_column("detection_max_confidence", pa.array(best, pa.float32()))
    return fill_columns(rows, SCORES)


def _strongest(boxes: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """How many boxes each image has, and the highest confidence; 0 without a box."""
    counts = pc.list_value_length(boxes).to_numpy(zero_copy_only=False).astype(np.int32)
    best = np.zeros(len(counts), np.float32)
    confidence = pc.struct_field(boxes.flatten(), "confidence").to_numpy()
    starts = np.cumsum(counts) - counts
    some = counts > 0
    if some.any():
        best[some] = np.maximum.reduceat(confidence, starts[some])
    return counts, best


def detection_rows(rows: pa.Table) -> pa.Table:
    """Rows of `detections`: one per box, in the order of confidence."""
    column = rows.column("boxes").combine_chunks()
    parents = pc.list_parent_indices(column).to_numpy()
    boxes = column.flatten()
    first = np.searchsorted(parents, parents)  # where each image's boxes begin
    order = pa.table(
        {
            "image_id": rows.column("image_id").take(pa.array(parents)),
            "category": rows.column("category").take(pa.array(parents)),
            "box_index": pa.array(np.arange(len(parents)) - first, pa.int32()),
        }
    )
    for field in boxes.type:
        order = order.append_column(field.name, pc.struct_field(boxes, field.name))
    return fill_columns(order, DETECTIONS)

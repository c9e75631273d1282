"""The Arrow schema of every table: the one place where columns, types, units and meanings stand."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"


def _field(
    name: str, kind: pa.DataType, meaning: str, unit: str = "", null: bool = True
) -> pa.Field:
    metadata = {"description": meaning} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=null, metadata=metadata)


def _schema(table: str, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(
        fields, metadata={"linescore.table": table, "linescore.schema_version": SCHEMA_VERSION}
    )


IMAGE_ID = _field("image_id", pa.int64(), "first 63 bits of the content's sha256", null=False)
_URI = _field("uri", pa.string(), "where the image lies", null=False)
_CATEGORY = _field("category", pa.string(), "what the image shows: one product or surface")
_LABELS = [
    _field("split", pa.string(), "the folder that the image came from: train, test, …"),
    _field("role", pa.string(), "fit, normal_calibration, validation or test; null: none given"),
    _field("group_id", pa.int64(), "near-duplicates and images of one part share it"),
    _field("defect_type", pa.string(), "good, or the kind of defect; null: not known"),
    _field("is_defect", pa.bool_(), "ground truth; null: nobody knows"),
]

MANIFEST = _schema(
    "manifest",
    [
        IMAGE_ID,
        _URI,
        _field("duplicate_uris", pa.list_(pa.string()), "other places with the same content"),
        _field("sha256", pa.string(), "of the content; null: it could not be read"),
        _field("bytes", pa.int64(), "size of the file", "bytes"),
        _field("etag", pa.string(), "the object store's ETag"),
        _field("modified_at", pa.timestamp("us", tz="UTC"), "when the file was last changed"),
        _CATEGORY,
        *_LABELS[:2],
        _field("fold", pa.int32(), "fold of cross-fitting"),
        *_LABELS[2:],
        _field("mask_uri", pa.string(), "where the ground-truth mask lies"),
        _field("captured_at", pa.timestamp("us", tz="UTC"), "when the image was taken"),
        _field("line", pa.string(), "the production line"),
        _field("index_error", pa.string(), "why the file could not be read while indexing"),
    ],
)

SCORES = _schema(
    "scores",
    [
        IMAGE_ID,
        _URI,
        _CATEGORY,
        *_LABELS,
        _field("width", pa.int32(), "width after EXIF rotation", "px"),
        _field("height", pa.int32(), "height after EXIF rotation", "px"),
        _field("format", pa.string(), "file format, by content"),
        _field("anomaly_score", pa.float32(), "the configured distance", "Mahalanobis distance"),
        _field(
            "anomaly_cells", pa.float32(), "largest cell distances, added", "Mahalanobis distance"
        ),
        _field(
            "anomaly_pooled",
            pa.float32(),
            "distance of the pooled features",
            "Mahalanobis distance",
        ),
        _field("defect_logit", pa.float32(), "classifier: logit of defect over good", "logit"),
        _field(
            "defect_probability", pa.float32(), "sigmoid of the logit, uncalibrated", "probability"
        ),
        _field("detection_count", pa.int32(), "boxes at or above the confidence floor", "boxes"),
        _field(
            "detection_max_confidence", pa.float32(), "highest confidence; 0: no box", "probability"
        ),
    ],
)

DETECTIONS = _schema(
    "detections",
    [
        IMAGE_ID,
        _CATEGORY,
        _field("box_index", pa.int32(), "0 is the most confident box of the image", null=False),
        _field("x_min", pa.float32(), "left edge", "px of the image after EXIF rotation"),
        _field("y_min", pa.float32(), "upper edge", "px of the image after EXIF rotation"),
        _field("x_max", pa.float32(), "right edge", "px of the image after EXIF rotation"),
        _field("y_max", pa.float32(), "lower edge", "px of the image after EXIF rotation"),
        _field("confidence", pa.float32(), "the detector's confidence", "probability"),
        _field("class_id", pa.int32(), "class number of the detector"),
        _field("class_name", pa.string(), "class name of the detector"),
    ],
)

FEATURES = _schema(
    "features",
    [
        IMAGE_ID,
        _CATEGORY,
        _field("pooled", pa.list_(pa.float32()), "layers averaged over the image"),
        _field(
            "cells", pa.binary(), "little-endian float16, cells × channels; shape in the bundle"
        ),
    ],
)

ERRORS = _schema(
    "errors",
    [
        IMAGE_ID,
        _URI,
        _CATEGORY,
        *_LABELS,
        _field("error_type", pa.string(), "kind of failure, a closed list", null=False),
        _field("error_message", pa.string(), "what, where, which value, what to do", null=False),
    ],
)

# Why an image could not be had: it may be there the next time, so a run that continues tries again.
UNREACHABLE_ERRORS = ("not_found", "permission_denied", "read_error")
# Why an image could not be scored, beside the kinds that decoding tells: what a network made of
# it is no number, and what fetching found.
NOT_FINITE = "not_finite"
FETCH_ERRORS = (*UNREACHABLE_ERRORS, "content_changed", "not_a_file")

RUN_TABLES = {"scores": SCORES, "detections": DETECTIONS, "errors": ERRORS, "features": FEATURES}

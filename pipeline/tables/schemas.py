"""The Arrow schema of every table: the one place where columns, types, units and meanings stand."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"


def described(
    name: str, kind: pa.DataType, meaning: str, unit: str = "", null: bool = True
) -> pa.Field:
    """A column with its meaning and unit, which travel with every file."""
    metadata = {"description": meaning} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=null, metadata=metadata)


def table_schema(table: str, fields: list[pa.Field]) -> pa.Schema:
    """A table's columns, under its name and this version."""
    return pa.schema(
        fields, metadata={"linescore.table": table, "linescore.schema_version": SCHEMA_VERSION}
    )


IMAGE_ID = described("image_id", pa.int64(), "first 63 bits of the content's sha256", null=False)
_URI = described("uri", pa.string(), "where the image lies", null=False)
_BYTES = described("bytes", pa.int64(), "size of the file", "bytes")
_CATEGORY = described("category", pa.string(), "what the image shows: one product or surface")
_LABELS = [
    described("split", pa.string(), "the folder that the image came from: train, test, …"),
    described("role", pa.string(), "fit, normal_calibration, validation or test; null: none given"),
    described("group_id", pa.int64(), "near-duplicates and images of one part share it"),
    described("defect_type", pa.string(), "good, or the kind of defect; null: not known"),
    described("is_defect", pa.bool_(), "ground truth; null: nobody knows"),
]

MANIFEST = table_schema(
    "manifest",
    [
        IMAGE_ID,
        _URI,
        described("duplicate_uris", pa.list_(pa.string()), "other places with the same content"),
        described(
            "duplicate_stamps",
            pa.list_(pa.string()),
            "size and ETag or time of each of duplicate_uris, as they were when it was read",
        ),
        described("sha256", pa.string(), "of the content; null: it could not be read"),
        _BYTES,
        described("etag", pa.string(), "the object store's ETag"),
        described("modified_at", pa.timestamp("us", tz="UTC"), "when the file was last changed"),
        _CATEGORY,
        *_LABELS[:2],
        described("fold", pa.int32(), "fold of cross-fitting"),
        *_LABELS[2:],
        described("mask_uri", pa.string(), "where the ground-truth mask lies"),
        described("captured_at", pa.timestamp("us", tz="UTC"), "when the image was taken"),
        described("line", pa.string(), "the production line"),
        described("index_error", pa.string(), "why the file could not be read while indexing"),
    ],
)

SCORES = table_schema(
    "scores",
    [
        IMAGE_ID,
        _URI,
        _CATEGORY,
        *_LABELS,
        described("width", pa.int32(), "width after EXIF rotation", "px"),
        described("height", pa.int32(), "height after EXIF rotation", "px"),
        described("format", pa.string(), "file format, by content"),
        _BYTES,
        described("brightness", pa.float32(), "mean of grey (ITU-R 601 luma)", "0 to 255"),
        described("contrast", pa.float32(), "standard deviation of grey", "grey levels"),
        described(
            "sharpness",
            pa.float32(),
            "root mean square of grey's Laplacian over grey's standard deviation, of the image "
            "shrunk to 256 × 256 px in area; null: the image is flat",
            "ratio",
        ),
        described("anomaly_score", pa.float32(), "the configured distance", "Mahalanobis distance"),
        described(
            "anomaly_cells", pa.float32(), "largest cell distances, added", "Mahalanobis distance"
        ),
        described(
            "anomaly_pooled",
            pa.float32(),
            "distance of the pooled features",
            "Mahalanobis distance",
        ),
        described("defect_logit", pa.float32(), "classifier: logit of defect over good", "logit"),
        described(
            "defect_probability", pa.float32(), "sigmoid of the logit, uncalibrated", "probability"
        ),
        described("detection_count", pa.int32(), "boxes at or above the confidence floor", "boxes"),
        described(
            "detection_max_confidence", pa.float32(), "highest confidence; 0: no box", "probability"
        ),
        described("origin", pa.string(), "run whose columns were taken over; null: none were"),
        described(
            "features_origin",
            pa.string(),
            "run whose stored features the distances were computed from; null: from none",
        ),
    ],
)

# The columns of `scores` that each model gives, and those that the manifest does; what is left
# are facts of the image, and where they come from.
MODEL_COLUMNS = {
    "detector": ("detection_count", "detection_max_confidence"),
    "features": ("anomaly_score", "anomaly_cells", "anomaly_pooled"),
    "classifier": ("defect_logit", "defect_probability"),
}
MANIFEST_PART = (
    *(IMAGE_ID.name, _URI.name, _CATEGORY.name, _BYTES.name),
    *(label.name for label in _LABELS),
)
ORIGINS = ("origin", "features_origin")
IMAGE_FACTS = tuple(
    name
    for name in SCORES.names
    if name not in (*MANIFEST_PART, *ORIGINS, *(c for own in MODEL_COLUMNS.values() for c in own))
)

DETECTIONS = table_schema(
    "detections",
    [
        IMAGE_ID,
        _CATEGORY,
        described("box_index", pa.int32(), "0 is the most confident box of the image", null=False),
        described("x_min", pa.float32(), "left edge", "px of the image after EXIF rotation"),
        described("y_min", pa.float32(), "upper edge", "px of the image after EXIF rotation"),
        described("x_max", pa.float32(), "right edge", "px of the image after EXIF rotation"),
        described("y_max", pa.float32(), "lower edge", "px of the image after EXIF rotation"),
        described("confidence", pa.float32(), "the detector's confidence", "probability"),
        described("class_id", pa.int32(), "class number of the detector"),
        described("class_name", pa.string(), "class name of the detector"),
    ],
)

FEATURES = table_schema(
    "features",
    [
        IMAGE_ID,
        _CATEGORY,
        described("pooled", pa.list_(pa.float32()), "layers averaged over the image"),
        described(
            "cells", pa.binary(), "little-endian float16, cells × channels; shape in the bundle"
        ),
    ],
)

ERRORS = table_schema(
    "errors",
    [
        IMAGE_ID,
        _URI,
        _CATEGORY,
        *_LABELS,
        described("error_type", pa.string(), "kind of failure, a closed list", null=False),
        described("error_message", pa.string(), "what, where, which value, what to do", null=False),
    ],
)

# Why an image could not be had: it may be there the next time, so a run that continues tries again.
UNREACHABLE_ERRORS = ("not_found", "permission_denied", "read_error", "broken_body")
# Why an image could not be scored, beside the kinds that decoding tells: what a network made of
# it is no number, it killed its decoder, it is more than memory holds, and what fetching found.
NOT_FINITE = "not_finite"
WORKER_CRASH = "worker_crash"
OUT_OF_MEMORY = "out_of_memory"
FETCH_ERRORS = (*UNREACHABLE_ERRORS, "content_changed", "not_a_file")

RUN_TABLES = {"scores": SCORES, "detections": DETECTIONS, "errors": ERRORS, "features": FEATURES}

_ONE_SCORE = [
    described("score", pa.string(), "the column that is thresholded or calibrated", null=False),
    described("category", pa.string(), "null: all categories together"),
]

THRESHOLDS = table_schema(
    "thresholds",
    [
        *_ONE_SCORE,
        described("rule", pa.string(), "f1, f2, safe, fpr or cost", null=False),
        described("value", pa.float64(), "flag from here on; null: none, for the reason given"),
        described("fallback", pa.string(), "the rule that was used instead; null: its own"),
        described("good", pa.int64(), "good validation images", "images", null=False),
        described("defects", pa.int64(), "defects in validation", "images", null=False),
        described("good_without_score", pa.int64(), "of the good ones", "images", null=False),
        described("defects_without_score", pa.int64(), "of the defects", "images", null=False),
        described("normals", pa.int64(), "independent held-out normals, for fpr", "images"),
        described("tp", pa.int64(), "defects flagged", "images"),
        described("fp", pa.int64(), "good images flagged", "images"),
        described("tn", pa.int64(), "good images passed", "images"),
        described("fn", pa.int64(), "defects missed", "images"),
        described("fpr", pa.float64(), "fp / good on these images", "share"),
        described("fnr", pa.float64(), "fn / defects on these images", "share"),
        described(
            "in_sample", pa.bool_(), "the images of these counts chose the value", null=False
        ),
        described("bound_on", pa.string(), "fnr or expected_fpr; null: no exact bound"),
        described("bound", pa.float64(), "of the next exchangeable image", "share"),
        described("bound_confidence", pa.float64(), "null: the bound is on a mean", "share"),
        described("bound_n", pa.int64(), "independent images behind the bound", "images"),
        described("says", pa.string(), "the answer in words", null=False),
    ],
)

RELIABILITY = table_schema(
    "reliability",
    [
        *_ONE_SCORE,
        described("map", pa.string(), "none, sigmoid, temperature or isotonic", null=False),
        described("rows", pa.string(), "as_scored, cross_validated or in_sample", null=False),
        described(
            "bin_low", pa.float64(), "lower edge, excluded but for 0", "probability", null=False
        ),
        described("bin_high", pa.float64(), "upper edge, included", "probability", null=False),
        described("images", pa.int64(), "validation images in the bin", "images", null=False),
        described("predicted", pa.float64(), "mean predicted probability", "probability"),
        described("observed", pa.float64(), "share of defects", "share"),
    ],
)

# What cross-fitting and the judged roles leave beside a trained classifier.
CLASSIFIER_SCORES = table_schema(
    "classifier_scores",
    [
        IMAGE_ID,
        _CATEGORY,
        described("defect_type", pa.string(), "good, or the kind of defect"),
        described("is_defect", pa.bool_(), "ground truth", null=False),
        described("role", pa.string(), "fit, validation or test", null=False),
        described("group_id", pa.int64(), "as in the manifest; without one the image's id"),
        described("fold", pa.int32(), "fold whose model scored it; null: the model of all rows"),
        described(
            "defect_logit",
            pa.float32(),
            "logit of defect over good, by a model that never saw the image or its group",
            "logit",
            null=False,
        ),
    ],
)

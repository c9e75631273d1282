"""The fetch-and-decode stage: manifest rows in, images or reasons out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import pyarrow as pa

from pipeline.scoring.prepare import Failure, Prepared, PrepareOptions, prepare
from pipeline.stages.columns import pack
from pipeline.tables import storage

SQUARE = "square"
LETTERBOXED = "letterboxed"

# Columns of the manifest that travel with an image.
MANIFEST_COLUMNS = [
    "image_id",
    "uri",
    "sha256",
    "bytes",
    "category",
    "split",
    "role",
    "group_id",
    "defect_type",
    "is_defect",
]

# Reads in flight per task on a remote store, where a read mostly waits.
_REMOTE_READS = 8


def prepare_block(rows: pa.Table, options: PrepareOptions) -> pa.Table:
    """Adds the images of a block of manifest rows, and a reason where there is none.

    Columns added: width, height, format, error_type, error_message, and `square` and
    `letterboxed` as far as the options ask for them.
    """
    cv2.setNumThreads(1)  # a task reserves one CPU
    uris, digests = rows.column("uri").to_pylist(), rows.column("sha256").to_pylist()
    if any(storage.is_remote(uri) for uri in uris):
        with ThreadPoolExecutor(_REMOTE_READS) as pool:
            results = list(pool.map(prepare, uris, digests, [options] * len(uris)))
    else:
        results = [prepare(*item, options) for item in zip(uris, digests, strict=True)]
    return _with_results(rows.drop_columns(["sha256"]), results, options)


def _with_results(
    rows: pa.Table, results: list[Prepared | Failure], options: PrepareOptions
) -> pa.Table:
    images = [result if isinstance(result, Prepared) else None for result in results]
    failures = [result if isinstance(result, Failure) else None for result in results]
    columns = {
        "width": pa.array([image and image.width for image in images], pa.int32()),
        "height": pa.array([image and image.height for image in images], pa.int32()),
        "format": pa.array([image and image.format for image in images], pa.string()),
        "error_type": pa.array([bad and bad.error_type for bad in failures], pa.string()),
        "error_message": pa.array([bad and bad.message for bad in failures], pa.string()),
    }
    if options.square:
        squares = [image.square if image else None for image in images]
        columns[SQUARE] = pack(squares, options.square)
    if options.letterboxed:
        boxed = [image.letterboxed if image else None for image in images]
        columns[LETTERBOXED] = pack(boxed, options.letterboxed)
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows

"""The fetch-and-decode stage: manifest rows in, images or reasons out."""

from __future__ import annotations

import os
import sys
from functools import cache

import cv2
import pyarrow as pa

from pipeline.scoring.isolated import IsolatedPreparer
from pipeline.scoring.prepare import (
    Failure,
    Prepared,
    PrepareOptions,
    each_in_flight,
    fetch,
    prepare_content,
    reads_ahead,
)
from pipeline.scoring.rows import image_columns
from pipeline.stages.attempts import attempt
from pipeline.stages.columns import pack

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
    "index_error",
]


def prepare_block(rows: pa.Table, options: PrepareOptions) -> pa.Table:
    """Adds the images of a block of manifest rows, and a reason where there is none.

    Columns added: width, height, format, error_type, error_message, and the facts, `square` and
    `letterboxed` as far as the options ask for them.
    """
    results = prepare_images(rows, options)
    return _with_results(rows.drop_columns(["sha256"]), results, options)


def prepare_images(rows: pa.Table, options: PrepareOptions) -> list[Prepared | Failure]:
    """The images of manifest rows (`uri`, `sha256`, `bytes`), each prepared or with its reason.

    In a task whose worker died before, one of them may have killed it: then each is decoded in a
    process that may die.
    """
    cv2.setNumThreads(1)  # a task reserves one CPU
    if options.square:
        _one_thread()
    uris, digests = rows.column("uri").to_pylist(), rows.column("sha256").to_pylist()
    if attempt():
        with IsolatedPreparer() as isolated:
            return [isolated.prepare(*item, options) for item in zip(uris, digests, strict=True)]
    sizes = rows.column("bytes").to_pylist() if "bytes" in rows.column_names else []
    contents = each_in_flight(
        lambda uri: fetch(uri, options.attempts, options.max_bytes), uris, reads_ahead(sizes)
    )

    def prepared(content: bytes | Failure, uri: str, digest: str | None) -> Prepared | Failure:
        return prepare_content(uri, content, digest, options)

    # Reads go on while the images before them are decoded, on the task's one CPU. A loop's own
    # names would hold a file that is done with while the next are read.
    return list(map(prepared, contents, uris, digests))


@cache
def _one_thread() -> None:
    """The same for the resize to the square, which loads PyTorch only for shapes that it halves."""
    loaded = sys.modules.get("torch")
    if loaded is None:
        os.environ["OMP_NUM_THREADS"] = "1"  # read when PyTorch is loaded
    else:
        loaded.set_num_threads(1)


def _with_results(
    rows: pa.Table, results: list[Prepared | Failure], options: PrepareOptions
) -> pa.Table:
    images = [result if isinstance(result, Prepared) else None for result in results]
    columns = image_columns(results, facts=options.facts)
    if options.square:
        squares = [image.square if image else None for image in images]
        columns[SQUARE] = pack(squares, options.square)
    if options.letterboxed:
        boxed = [image.letterboxed if image else None for image in images]
        columns[LETTERBOXED] = pack(boxed, options.letterboxed)
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows

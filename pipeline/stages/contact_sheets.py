"""The pairs around a category's threshold, drawn for people to judge it."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipeline.images.sheet import TILE, SheetPair, contact_sheet
from pipeline.scoring.prepare import Failure, PrepareOptions, prepare
from pipeline.stages.groups import CategoryPairs
from pipeline.tables import storage

_COLUMNS = 4
# Characters of a file's place that fit above a pair.
_LETTERS = 50


def draw_sheets(
    folder: str, rows: pa.Table, pairs: list[CategoryPairs], options: PrepareOptions
) -> list[str]:
    """One PNG a category that has pairs to show; their places.

    Args:
        folder: where they go.
        rows: the manifest rows that the pairs point to.
        pairs: pairs of each category.
        options: how images are read.
    """
    options = replace(options, square=TILE, letterboxed=None)
    uris, digests = rows.column("uri").to_pylist(), rows.column("sha256").to_pylist()
    written = []
    for place, found in enumerate(pairs):
        drawn = [_pair(found, example, (uris, digests), options) for example in found.examples]
        readable = [pair for pair in drawn if pair]
        if readable:
            buffer = io.BytesIO()
            contact_sheet(readable, _COLUMNS).save(buffer, "PNG")
            # A category may have any name, a file may not.
            name = re.sub(r"[^A-Za-z0-9._-]", "_", found.category or "none")
            uri = storage.join(folder, f"near_duplicates_{place:02d}_{name}.png")
            storage.write_bytes(uri, buffer.getvalue())
            written.append(uri)
    return written


def _pair(
    found: CategoryPairs,
    example: np.ndarray,
    files: tuple[list[str], list[str | None]],
    options: PrepareOptions,
) -> SheetPair | None:
    distance, *places = example.tolist()
    uris = [files[0][place] for place in places]
    images = [prepare(files[0][place], files[1][place], options) for place in places]
    squares = [None if isinstance(image, Failure) else image.square for image in images]
    if squares[0] is None or squares[1] is None:
        return None
    names = [uri[-_LETTERS:].split("/", 1)[-1] for uri in uris]
    joined = distance <= found.max_distance
    lines = (f"{distance:3d}  {names[0]}", f"     {names[1]}")
    return SheetPair(squares[0], squares[1], joined, lines)

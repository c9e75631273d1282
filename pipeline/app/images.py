"""Places, boxes and masks of a run's images: only what the store's own tables name is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.lookup import DamagedTableError, TableFile, rows_of, table_files, wanted
from pipeline.tables.run_catalogue import published_paths

# Where images may lie. A table is somebody else's work: this process asks no other kind of place.
_SCHEMES = ("s3", "s3a", "file", "local")
_BOX = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True)
class Box:
    """A detection, in px of the upright image.

    Attributes:
        corners: x_min, y_min, x_max, y_max.
        confidence: the detector's.
        name: of its class.
    """

    corners: tuple[float, float, float, float]
    confidence: float
    name: str


@dataclass(frozen=True)
class Shown:
    """What a run's tables say of an image that is shown.

    Attributes:
        image_id: its id.
        uri: where it lies.
        category: what it shows; None: not known.
        facts: other columns of `scores`.
    """

    image_id: int
    uri: str
    category: str | None
    facts: Mapping[str, Any]


def checked_record(record: Mapping[str, Any], run_id: str) -> Mapping[str, Any]:
    """A published record whose files lie in the store.

    Raises:
        InputError: one names a place outside.
    """
    for path in published_paths(record):
        parts = PurePosixPath(path).parts
        if path.startswith("/") or "://" in path or ".." in parts or not parts:
            raise InputError(f"run {run_id}: its record names {path!r}, outside the store")
    return record


def shown_images(
    store: str,
    record: Mapping[str, Any],
    ids: npt.NDArray[np.int64],
    categories: Sequence[str | None],
) -> dict[int, Shown]:
    """What the `scores` table says of some images, by id.

    Raises:
        InputError: a file of the table is gone or damaged.
    """
    if not len(ids):
        return {}
    names = ["image_id", "uri", "category", "width", "height", "format", "bytes"]
    rows = _rows(table_files(store, record, "scores"), ids, categories, names)
    found = {}
    for row in rows.to_pylist():
        facts = {name: row.get(name) for name in names[3:]}
        found[row["image_id"]] = Shown(row["image_id"], row["uri"], row["category"], facts)
    return found


def boxes_of(
    store: str, record: Mapping[str, Any], image_id: int, category: str | None
) -> list[Box]:
    """The detections of an image, most confident first.

    Raises:
        InputError: a file of the table is gone or damaged.
    """
    names = ["image_id", "box_index", *_BOX, "confidence", "class_name"]
    ids = np.array([image_id], np.int64)
    rows = _rows(table_files(store, record, "detections"), ids, [category], names).to_pylist()
    return [
        Box(
            (row["x_min"], row["y_min"], row["x_max"], row["y_max"]),
            row["confidence"],
            row["class_name"] or "no name",
        )
        for row in sorted(rows, key=lambda row: row["box_index"])
    ]


def _rows(
    files: Sequence[TableFile],
    ids: npt.NDArray[np.int64],
    categories: Sequence[str | None],
    names: Sequence[str],
) -> pa.Table:
    try:
        return rows_of(files, wanted(ids, categories), names)
    except DamagedTableError as error:
        raise InputError(f"run {error.run_id}: {error.file}: {error.reason}") from None


def mask_uri(manifest: pa.Table | None, image_id: int) -> str | None:
    """Where an image's mask lies, as the manifest says."""
    if manifest is None:
        return None
    found = manifest.filter(pc.equal(manifest.column("image_id"), image_id))
    uris = found.column("mask_uri").drop_null().to_pylist()
    return uris[0] if uris else None


def masks(uri: str | None) -> pa.Table | None:
    """The ids and masks of a manifest; None where it isn't there any more, or has none."""
    if uri is None:
        return None
    try:
        with storage.errors_for(uri, "manifest"):
            table = storage.read_parquet(uri, ["image_id", "mask_uri"])
    except InputError:
        return None
    return table.filter(pc.is_valid(table.column("mask_uri")))


def require_allowed(uri: str) -> str:
    """A place that images are read from.

    Raises:
        InputError: it is neither on a disk of this machine nor in a bucket.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.lower() not in _SCHEMES:
        raise InputError(f"{uri}: images are read from folders and s3:// only")
    return uri

"""What lies in an archive: the MVTec AD layout, a plain folder, or a list of URIs."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.access import require_no_secret
from pipeline.tables.defect_types import GOOD, doubtful_in_list, may_mean_good, require_plain_good

IMAGE_SUFFIXES = frozenset(
    (
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    )
)
LIST_SUFFIXES = (".csv", ".parquet")
# Of these strays people have to know: they are lacking until somebody renames them.
NOT_UTF8 = "images whose path is not UTF-8: rename the file or folder"
_SPLITS = ("train", "validation", "test")
_MASKS = "ground_truth"
# Columns of a list that are carried into the manifest when they are there.
_LIST_COLUMNS = ("category", "split", "role", "group_id", "defect_type", "is_defect", "mask_uri")
_LIST_MORE = ("captured_at", "line")
_NO_LABELS: dict[str, Any] = {}
# As they stand in a CSV: a category 007 is no number, and neither is an id of 63 bits a float.
_CSV_TYPES = {
    "uri": str,
    "category": str,
    "split": str,
    "role": str,
    "group_id": "Int64",
    "defect_type": str,
    "mask_uri": str,
    "captured_at": str,
    "line": str,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that was found, before its content was read; entries may share their labels."""

    uri: str
    size: int | None = None
    etag: str | None = None
    modified_at: datetime | None = None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        layout: how it was understood: mvtec, folder or list.
        entries: the images, sorted by URI.
        stray: files that are no images, and why.
        missing_masks: URIs of defect images without a mask.
        doubtful_types: defect types that may mean good, with their counts of images.
    """

    layout: str
    entries: list[Entry]
    stray: list[tuple[str, str]]
    missing_masks: list[str]
    doubtful_types: dict[str, int] = field(default_factory=dict)


def list_source(source: str, layout: str = "auto", category: str | None = None) -> Listing:
    """Everything in a source.

    Args:
        source: a folder, an s3:// prefix, or a CSV/Parquet list.
        layout: mvtec, folder, list, or auto.
        category: category of images that have none of their own.

    Raises:
        InputError: the source isn't there, holds no image, has another layout, or a path that
            isn't UTF-8, or a type that is `good` in other letters.
    """
    if (told := _printable(source)) != source:
        raise InputError(f"source: {told}: its path is not UTF-8, as URIs are; rename it")
    if layout == "list" or (layout == "auto" and source.lower().endswith(LIST_SUFFIXES)):
        return _read_list(source, category)
    with storage.errors_for(source, "source"):
        files, stray = _walk(source)
    if layout == "auto":
        mvtec = any(_mvtec_labels(source, entry.uri) is not None for entry in files)
        layout = "mvtec" if mvtec else "folder"
    if layout == "folder":
        labels = {"category": category}
        entries = [replace(entry, labels=labels) for entry in files]
        listing = Listing("folder", entries, stray, [])
    else:
        listing = _mvtec_listing(source, files, stray)
    if not listing.entries:
        unnamed = [uri for uri, reason in stray if reason == NOT_UTF8]
        hint = f"; {len(unnamed)} of them, as {unnamed[0]}, are {NOT_UTF8}" if unnamed else ""
        raise InputError(
            f"source: {source}: holds no image in the layout {layout!r} "
            f"({len(files)} image files, {len(stray)} others were seen){hint}"
        )
    return listing


def _walk(source: str) -> tuple[list[Entry], list[tuple[str, str]]]:
    fs, root = storage.filesystem(source)
    fs.invalidate_cache()
    if fs.info(root)["type"] != "directory":
        raise InputError(
            f"source: {source}: is a file; give a folder, or a list ending in .csv or .parquet"
        )
    remote = storage.is_remote(source)
    scheme = source.split("://", 1)[0] + "://" if remote else ""
    entries: list[Entry] = []
    stray: list[tuple[str, str]] = []
    found = sorted(fs.find(root, detail=True).items()) if remote else _local_files(root)
    for path, info in found:
        relative = path[len(root) :].strip("/")
        uri = scheme + _printable(path)
        if any(part.startswith(".") for part in relative.split("/")):
            stray.append((uri, "hidden"))
        elif info["type"] == "directory":
            stray.append((uri, "a link to a folder, not followed: index it as a source of its own"))
        elif info["type"] == "other":
            stray.append((uri, "no regular file"))
        elif os.path.splitext(path)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122
            stray.append((uri, "no image suffix"))
        elif uri != scheme + path:
            stray.append((uri, NOT_UTF8))
        else:
            entries.append(_entry(uri, info))
    return entries, stray


def _printable(path: str) -> str:
    """A path as text; what isn't UTF-8 in it, lone surrogates to Python, as escaped bytes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _local_files(root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file below a folder, and links to folders, sorted, as fsspec's `find` tells them.

    fsspec leaves out sub-folders that it can't read, without a word. Here only one that vanished
    since its parent was listed is passed over.
    """
    before = os.stat(root)  # noqa: PTH116

    def not_listed(error: OSError) -> None:
        vanished = isinstance(error, FileNotFoundError | NotADirectoryError)
        # Where the source itself vanished or was unmounted, all of its folders are gone.
        gone = error.filename == root or not os.path.samestat(before, os.stat(root))  # noqa: PTH116
        if gone or not vanished:
            raise error

    found: list[str] = []
    for folder, folders, names in os.walk(root, onerror=not_listed):
        found += (os.path.join(folder, name) for name in names)  # noqa: PTH118
        inner = (os.path.join(folder, name) for name in folders)  # noqa: PTH118
        found += (path for path in inner if os.path.islink(path))  # noqa: PTH114
    # Each is looked at when its turn comes: a million's states at once are 300 MB.
    return ((path, _local_info(path)) for path in sorted(found))


def _local_info(path: str) -> dict[str, Any]:
    try:
        facts = os.stat(path)  # noqa: PTH116
    except OSError:  # a link to nothing, or in a circle: an image that can't be read, no stray
        return {"type": "file"}
    kind = "file" if stat.S_ISREG(facts.st_mode) else "other"
    if stat.S_ISDIR(facts.st_mode):
        kind = "directory"
    return {"type": kind, "size": facts.st_size, "mtime": facts.st_mtime}


def _entry(uri: str, info: dict[str, Any]) -> Entry:
    modified = info.get("LastModified", info.get("mtime"))
    if isinstance(modified, int | float):
        modified = datetime.fromtimestamp(modified, UTC)
    etag = info.get("ETag")
    return Entry(uri, info.get("size"), etag.strip('"') if etag else None, modified, _NO_LABELS)


def _mvtec_parts(source: str, uri: str) -> tuple[str, str, str, str] | None:
    root = storage.absolute(source).rstrip("/")
    parts = uri[len(root) :].strip("/").split("/")
    if len(parts) == 3:  # the source is one category's own folder
        parts = [root.rsplit("/", 1)[-1], *parts]
    return (parts[0], parts[1], parts[2], parts[3]) if len(parts) == 4 else None


def _mvtec_labels(source: str, uri: str) -> dict[str, Any] | None:
    parts = _mvtec_parts(source, uri)
    if parts is None or parts[1] not in _SPLITS:
        return None
    category, split, defect_type, _ = parts
    return {
        "category": category,
        "split": split,
        "defect_type": defect_type,
        "is_defect": defect_type != GOOD,
    }


def _mvtec_listing(source: str, files: list[Entry], stray: list[tuple[str, str]]) -> Listing:
    masks: dict[tuple[str, str, str], str] = {}
    shared: dict[tuple[Any, ...], dict[str, Any]] = {}
    images: list[Entry] = []
    strays = list(stray)
    for entry in files:
        labels = _mvtec_labels(source, entry.uri)
        parts = _mvtec_parts(source, entry.uri)
        if labels is not None:
            require_plain_good(labels["defect_type"], entry.uri.rsplit("/", 1)[0])
            labels = shared.setdefault(tuple(labels.values()), labels)
            images.append(replace(entry, labels=labels))
        elif parts is not None and parts[1] == _MASKS:
            masks[parts[0], parts[2], _stem(entry.uri).removesuffix("_mask")] = entry.uri
        else:
            strays.append((entry.uri, "outside <category>/<train|validation|test>/<defect type>/"))
    entries, missing = _with_masks(images, masks)
    doubtful = may_mean_good(entry.labels["defect_type"] for entry in entries)
    return Listing("mvtec", entries, strays, missing, doubtful)


def _with_masks(
    images: list[Entry], masks: dict[tuple[str, str, str], str]
) -> tuple[list[Entry], list[str]]:
    entries: list[Entry] = []
    missing: list[str] = []
    for entry in images:
        if not entry.labels["is_defect"]:
            entries.append(entry)
            continue
        key = (entry.labels["category"], entry.labels["defect_type"], _stem(entry.uri))
        mask = masks.get(key)
        if mask is None:
            missing.append(entry.uri)
        entries.append(replace(entry, labels=entry.labels | {"mask_uri": mask}))
    return entries, missing


def _stem(uri: str) -> str:
    return os.path.splitext(uri.rsplit("/", 1)[-1])[0]  # noqa: PTH122


def _read_list(source: str, category: str | None) -> Listing:
    with storage.errors_for(source, "source"):
        content = storage.read_bytes(source)
    try:
        if source.lower().endswith(".parquet"):
            # Nullable types: whole numbers with gaps stay whole.
            frame = pd.read_parquet(io.BytesIO(content), dtype_backend="numpy_nullable")
        else:
            frame = pd.read_csv(io.BytesIO(content), dtype=_CSV_TYPES)
    except (ValueError, *storage.DAMAGED_PARQUET) as error:
        raise InputError(f"source: {source}: can't be read as a list: {error}") from None
    if "uri" not in frame.columns:
        have = ", ".join(map(str, frame.columns))
        raise InputError(f"source: {source}: has no column 'uri' (it has {have})")
    empty = np.flatnonzero(frame["uri"].isna() | (frame["uri"].astype(str).str.strip() == ""))
    if len(empty):
        raise InputError(f"source: {source}: row {empty[0]}: uri is empty; every image needs one")
    if frame.empty:
        raise InputError(f"source: {source}: lists no image")
    base = storage.absolute(source).rsplit("/", 1)[0]
    doubtful = doubtful_in_list(frame, source)
    entries = [_list_entry(row, base, category) for row in frame.to_dict("records")]
    return Listing("list", sorted(entries, key=lambda entry: entry.uri), [], [], doubtful)


def _list_entry(row: dict[str, Any], base: str, category: str | None) -> Entry:
    labels = {name: _known(row.get(name)) for name in (*_LIST_COLUMNS, *_LIST_MORE)}
    labels = {name: value for name, value in labels.items() if value is not None}
    if labels.get("defect_type") is not None and "is_defect" not in labels:
        labels["is_defect"] = labels["defect_type"] != GOOD
    if "mask_uri" in labels:
        labels["mask_uri"] = _beside_list(labels["mask_uri"], base)
    uri = _beside_list(row["uri"], base)
    # Of a remote object a list tells no state; asking would cost a request for each.
    entry = _entry(uri, {} if storage.is_remote(uri) else _local_info(uri))
    return replace(entry, labels={"category": category} | labels)


def _beside_list(uri: Any, base: str) -> str:
    """A URI of a list; relative ones start in the list's folder."""
    place = str(uri)
    require_no_secret(place)
    full = "://" in place or os.path.isabs(place)  # noqa: PTH117
    return storage.absolute(place if full else storage.join(base, place))


def _known(value: Any) -> Any:
    return None if value is None or (not isinstance(value, list) and pd.isna(value)) else value


def defect_images(entries: Iterable[Entry]) -> int:
    """How many entries are known to be defective."""
    return sum(bool(entry.labels.get("is_defect")) for entry in entries)

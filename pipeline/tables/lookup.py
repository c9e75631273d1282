"""Rows of published tables by the ids of their images, without reading the rest of the files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tables import storage
from pipeline.tables.parquet_parts import few_parts_of


@dataclass(frozen=True)
class TableFile:
    """One file of a published table, as the run's record names it.

    Attributes:
        run_id: the run.
        uri: where it lies.
        sha256: of its content.
        rows: rows in it.
        bytes: its size.
    """

    run_id: str
    uri: str
    sha256: str
    rows: int = 0
    bytes: int = 0


class DamagedTableError(RuntimeError):
    """A published file is gone, or not what its run's record says."""

    def __init__(self, run_id: str, file: str, reason: str) -> None:
        super().__init__(run_id, file, reason)
        self.run_id, self.file, self.reason = run_id, file, reason


def table_files(store: str, record: Mapping[str, Any], table: str) -> tuple[TableFile, ...]:
    """The files of one table in the record of a published run."""
    entries = record["tables"].get(table, {"files": []})["files"]
    return tuple(
        TableFile(
            record["run_id"],
            storage.join(store, entry["path"]),
            entry["sha256"],
            entry["rows"],
            entry["bytes"],
        )
        for entry in entries
    )


@dataclass(frozen=True)
class Wanted:
    """Images to look up.

    Attributes:
        ids: (N,) int64, sorted.
        spans: per category (None: without) the first and the last id; what is outside is still
            found, at the price of reading every row group.
    """

    ids: np.ndarray
    spans: Mapping[str | None, tuple[int, int]]


def wanted(ids: np.ndarray, categories: Sequence[str | None]) -> Wanted:
    """Images by id, (N,) int64, and the category in which each probably stands."""
    table = pa.table({"id": pa.array(ids, pa.int64()), "category": pa.array(categories)})
    grouped = table.group_by("category").aggregate([("id", "min_max")]).to_pylist()
    spans = {
        row["category"]: (row["id_min_max"]["min"], row["id_min_max"]["max"]) for row in grouped
    }
    return Wanted(np.sort(ids), spans)


def rows_of(files: Sequence[TableFile], images: Wanted, columns: Sequence[str]) -> pa.Table:
    """Rows of some images: those of the columns that the files have, `image_id` among them.

    Raises:
        DamagedTableError: as `found_rows`.
    """
    pieces = list(found_rows(files, images, columns))
    if not pieces:
        return pa.table({"image_id": pa.array([], pa.int64())})
    return pa.concat_tables(pieces, promote_options="default")


def found_rows(
    files: Sequence[TableFile], images: Wanted, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Rows of some images, a row group at a time.

    Raises:
        DamagedTableError: a file is gone, changed since it was published, or can't be read.
    """
    missing = np.ones(len(images.ids), bool)
    for pruned in (True, False):
        # The second time for images that stand under another category than was thought.
        left = Wanted(images.ids[missing], images.spans)
        for file in files if len(left.ids) else ():
            for rows in pieces_of(file, left, columns, pruned=pruned):
                missing[np.searchsorted(images.ids, rows.column("image_id").to_numpy())] = False
                yield rows


def pieces_of(
    file: TableFile, images: Wanted, columns: Sequence[str], *, pruned: bool = True
) -> Iterator[pa.Table]:
    """Rows of some images in one file, a row group at a time.

    Args:
        file: the file; its content is compared with its digest before a row is read.
        images: which rows.
        columns: those of them that the file has are read.
        pruned: leave out row groups that hold none of the images' spans.

    Raises:
        DamagedTableError: as `rows_of`.
    """
    with _damage(file):
        groups = [
            number
            for number, group in enumerate(_groups(file.uri, _state(file.uri)))
            if not pruned or group.may_hold(images.spans)
        ]
        if not groups:
            return
        parquet = pq.ParquetFile(pa.BufferReader(_content(file, _state(file.uri))))
        there = [name for name in columns if name in parquet.schema_arrow.names]
        for number in groups:
            ids = parquet.read_row_group(number, columns=["image_id"]).column(0).to_numpy()
            hits = member(ids, images.ids)
            if hits.any():
                rows = parquet.read_row_group(number, columns=there)
                yield rows if hits.all() else rows.filter(pa.array(hits))


def member(ids: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """(N,) bool: which ids (N,) are among sorted ones."""
    if not len(ordered):
        return np.zeros(len(ids), bool)
    places = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
    found: np.ndarray = ordered[places] == ids
    return found


def columns_of(file: TableFile, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of a whole file, a row group at a time, compared with its digest before.

    Raises:
        DamagedTableError: as `rows_of`.
    """
    with _damage(file):
        parquet = pq.ParquetFile(pa.BufferReader(_content(file, _state(file.uri))))
        there = [name for name in columns if name in parquet.schema_arrow.names]
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number, columns=there)


def listed_ids(file: TableFile) -> np.ndarray:
    """Ids of a file's images, int64, without reading the rest or checking its digest.

    Raises:
        DamagedTableError: as `rows_of`.
    """
    with _damage(file):
        return _listed(file.uri, _state(file.uri))


# A plan asks for them, then the pieces that come of it: of a million images 8 MB.
@lru_cache(maxsize=4096)
def _listed(uri: str, state: tuple[int, int]) -> np.ndarray:
    with few_parts_of(uri) as parquet:
        ids: np.ndarray = parquet.read(columns=["image_id"]).column(0).to_numpy()
    ids.flags.writeable = False
    return ids


def forget_listed_ids() -> None:
    """Gives back what `listed_ids` keeps, eight bytes an image, when nobody asks again."""
    _listed.cache_clear()


@contextmanager
def opened(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file to be read in order; a remote one is fetched ahead, in large pieces."""
    fs, path = storage.filesystem(uri)
    if not storage.is_remote(uri):
        with pq.ParquetFile(path, memory_map=True) as parquet:
            yield parquet
        return
    with fs.open(path, "rb") as handle, pq.ParquetFile(handle, pre_buffer=True) as parquet:
        yield parquet


@contextmanager
def _damage(file: TableFile) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DamagedTableError(file.run_id, file.uri, "is gone") from None
    except storage.DAMAGED_PARQUET as error:
        raise DamagedTableError(file.run_id, file.uri, f"can't be read: {error}") from None


@dataclass(frozen=True)
class _Group:
    """What a footer says of a row group; None: nothing."""

    categories: tuple[str, str] | None
    ids: tuple[int, int] | None
    nulls: bool

    def may_hold(self, spans: Mapping[str | None, tuple[int, int]]) -> bool:
        return any(self._may_hold(category, *span) for category, span in spans.items())

    def _may_hold(self, category: str | None, first: int, last: int) -> bool:
        if self.ids is not None and not (first <= self.ids[1] and last >= self.ids[0]):
            return False
        if category is None:
            return self.nulls
        return self.categories is not None and self.categories[0] <= category <= self.categories[1]


def _state(uri: str) -> tuple[int, int]:
    """What tells that a local file was touched since it was checked."""
    if storage.is_remote(uri):
        return (0, 0)
    stat = os.stat(storage.absolute(uri))  # noqa: PTH116
    return (stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _groups(uri: str, state: tuple[int, int]) -> tuple[_Group, ...]:
    with few_parts_of(uri) as parquet:
        places = {parquet.schema_arrow.names[i]: i for i in range(len(parquet.schema_arrow.names))}
        meta = parquet.metadata
        return tuple(
            _Group(
                _bounds(meta.row_group(i).column(places["category"])),
                _bounds(meta.row_group(i).column(places["image_id"])),
                _has_nulls(meta.row_group(i).column(places["category"])),
            )
            for i in range(meta.num_row_groups)
        )


def _bounds(column: Any) -> Any:
    facts = column.statistics
    return (facts.min, facts.max) if facts is not None and facts.has_min_max else None


def _has_nulls(column: Any) -> bool:
    facts = column.statistics
    return facts is None or not facts.has_null_count or facts.null_count > 0


# Scores, detections and features of a run are read in turn.
@lru_cache(maxsize=3)
def _content(file: TableFile, state: tuple[int, int]) -> pa.Buffer:
    """A file's content, compared with its digest; mapped where the disk is this machine's."""
    if storage.is_remote(file.uri):
        content = pa.py_buffer(storage.read_bytes(file.uri))
    else:
        content = pa.memory_map(storage.absolute(file.uri)).read_buffer()
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DamagedTableError(
            file.run_id, file.uri, f"changed since it was published (sha256 {found[:12]}…)"
        )
    return content

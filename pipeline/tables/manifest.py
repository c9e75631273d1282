"""Manifests: one row per distinct image, checked before anything is built on them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.parquet_parts import few_parts_of
from pipeline.tables.schemas import MANIFEST

# Rows per row group: what a reader that wants a few rows has to load.
MANIFEST_ROW_GROUP = 10_000

_REQUIRED = ("image_id", "uri", "sha256", "category")
_ID_BITS = 63
# Image ids are below it; the one content in 2^63 whose bits are all set is refused.
ID_END = 2**63 - 1


@dataclass(frozen=True)
class Manifest:
    """A manifest that passed the checks.

    Attributes:
        uri: where it lies.
        digest: sha256 of the file.
        rows: number of images.
        categories: images per category; the key None counts those without.
    """

    uri: str
    digest: str
    rows: int
    categories: Mapping[str | None, int]

    @property
    def image_ids(self) -> np.ndarray:
        """(N,) int64, in the manifest's order; read when they are asked for."""
        fs, path = storage.filesystem(self.uri)
        with fs.open(path, "rb") as handle:
            table = pq.read_table(handle, columns=["image_id"])
        return np.asarray(table.column("image_id").to_numpy())


def image_id(sha256: str) -> int:
    """The id of a content: the first 63 bits of its sha256 (hex), so that it fits an int64."""
    return int(sha256[:16], 16) >> (64 - _ID_BITS)


def uri_id(uri: str) -> int:
    """The id of a file that could not be read."""
    return image_id(hashlib.sha256(uri.encode()).hexdigest())


def write_manifest(uri: str, table: pa.Table) -> None:
    """Writes rows of the manifest schema."""
    content = storage.parquet_bytes(with_all_columns(table), MANIFEST_ROW_GROUP)
    storage.write_bytes(uri, content)


def open_manifest(uri: str, field: str = "manifest") -> Manifest:
    """Reads and checks a manifest, piece by piece; keeps nothing of its rows.

    Raises:
        InputError: no file, not Parquet, a column that is missing or of another type, a
            null URI, an id that stands twice or is none.
    """
    with storage.errors_for(uri, field), _opened(uri) as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        handle.seek(0)
        try:
            file = pq.ParquetFile(handle)
            _check_schema(file.schema_arrow, uri, field)
            rows, counts = _scan(file, uri, field)
        except InputError:
            raise
        except storage.DAMAGED_PARQUET as error:
            raise InputError(f"{field}: {uri}: can't be read as Parquet: {error}") from None
    return Manifest(uri, digest, rows, counts)


def _opened(uri: str) -> io.BufferedIOBase:
    """A local file as it lies; of a bucket's the whole content, fetched with its retries."""
    if storage.is_remote(uri):
        return io.BytesIO(storage.read_bytes(uri))
    fs, path = storage.filesystem(uri)
    handle: io.BufferedIOBase = fs.open(path, "rb")
    return handle


def _check_schema(schema: pa.Schema, uri: str, field: str) -> None:
    for name in _REQUIRED:
        if name not in schema.names:
            raise InputError(
                f"{field}: {uri}: has no column {name!r} (it has {', '.join(schema.names)}); "
                "make the manifest with jobs/index.py"
            )
    for wanted in MANIFEST:
        if wanted.name in schema.names:
            kind = schema.field(wanted.name).type
            if not _fits(kind, wanted.type):
                raise InputError(
                    f"{field}: {uri}: column {wanted.name!r} is {kind}, where {wanted.type} "
                    "belongs; convert it, or make the manifest with jobs/index.py"
                )


def _fits(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column can be read as the wanted type; pandas and polars write their own texts."""
    same = pa.types
    families = [
        (same.is_timestamp, (same.is_timestamp,)),
        (same.is_string, (same.is_string, same.is_large_string, same.is_string_view)),
        (same.is_list, (same.is_list, same.is_large_list)),
    ]
    for belongs, readable in families:
        if belongs(wanted) and any(test(kind) for test in readable):
            return True
    return bool(kind == wanted or same.is_null(kind))


def _scan(file: pq.ParquetFile, uri: str, field: str) -> tuple[int, dict[str | None, int]]:
    ids = np.empty(file.metadata.num_rows, np.int64)
    counts: dict[str | None, int] = {}
    start = 0
    for batch in file.iter_batches(columns=["image_id", "uri", "category"]):
        for name in ("image_id", "uri"):
            column = batch.column(name)
            if column.null_count:
                row = start + column.is_null().index(True).as_py()
                raise InputError(
                    f"{field}: {uri}: row {row}: {name} is null; every image needs one"
                )
        ids[start : start + len(batch)] = batch.column("image_id").to_numpy()
        for entry in pc.value_counts(batch.column("category")).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
        start += len(batch)
    pa.default_memory_pool().release_unused()  # Arrow keeps what it read by
    _check_range(ids, uri, field)
    _check_unique(ids, uri, field)
    return len(ids), counts


def _check_range(ids: np.ndarray, uri: str, field: str) -> None:
    strange = ids[(ids < 0) | (ids >= ID_END)]
    if len(strange):
        raise InputError(
            f"{field}: {uri}: image_id {strange[0]} is not in [0, 2^63 - 1), where the first 63 "
            "bits of a sha256 lie; make the manifest with jobs/index.py"
        )


def _check_unique(ids: np.ndarray, uri: str, field: str) -> None:
    ids.sort()
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise InputError(
            f"{field}: {uri}: image_id {twice[0]} stands more than once "
            f"({len(twice)} such rows); an image is one row, its other places are duplicate_uris"
        )


def rows_at(uri: str, places: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Some rows of a manifest that has been checked, by (N,) sorted row numbers.

    Raises:
        InputError: the file isn't the one any more that was checked: it has fewer rows.
    """
    with few_parts_of(uri) as file:
        meta = file.metadata
        if len(places) and places[-1] >= meta.num_rows:
            raise _changed(uri)
        ends = np.cumsum([meta.row_group(i).num_rows for i in range(meta.num_row_groups)])
        groups = np.unique(np.searchsorted(ends, places, side="right"))
        there = [name for name in columns if name in file.schema_arrow.names]
        read = file.read_row_groups(groups.tolist(), columns=there)
    starts = ends - np.diff(ends, prepend=0)
    # Where a group's rows begin in what was read.
    begins = np.cumsum(np.diff(ends, prepend=0)[groups]) - np.diff(ends, prepend=0)[groups]
    own = np.searchsorted(ends, places, side="right")
    where = places - starts[own] + begins[np.searchsorted(groups, own)]
    return with_all_columns(read.take(pa.array(where))).select(list(columns))


def pieces(uri: str, rows: int) -> list[tuple[int, int, int]]:
    """A manifest that has been checked, cut into pieces that are read one by one.

    Args:
        uri: where it lies.
        rows: of a piece, at most.

    Returns:
        Of each piece its row group, its first row there, and how many rows it has.
    """
    with few_parts_of(uri) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    return [
        (group, start, min(rows, size - start))
        for group, size in enumerate(sizes)
        for start in range(0, size, rows)
    ]


def read_piece(uri: str, piece: tuple[int, int, int], columns: Sequence[str]) -> pa.Table:
    """The rows of a piece, with these columns; one that the file lacks is null.

    Raises:
        InputError: the file isn't the one any more that was cut into pieces.
    """
    group, start, count = piece
    with few_parts_of(uri) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        if group >= file.num_row_groups:
            raise _changed(uri)
        read = file.read_row_group(group, columns=there).slice(start, count)
    if len(read) != count:
        raise _changed(uri)
    return with_all_columns(read).select(list(columns))


def require_unchanged(manifest: Manifest) -> None:
    """Looks whether a manifest is what it was when it was opened.

    Raises:
        InputError: it isn't, or it is gone.
    """
    with storage.errors_for(manifest.uri, "manifest"), _opened(manifest.uri) as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != manifest.digest:
        raise _changed(manifest.uri)


def _changed(uri: str) -> InputError:
    """What to tell of a manifest that was written anew while a run reads it."""
    return InputError(
        f"manifest: {uri}: was written anew while this run read it; nothing was published. Give "
        "another run_id, and index under another name, or at another time, than a run reads"
    )


def with_all_columns(table: pa.Table) -> pa.Table:
    """Rows of a manifest with every column of the schema, the absent ones null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(table.num_rows, field.type)
        for field in MANIFEST
    ]
    return pa.table(columns, schema=MANIFEST)

"""Indexing: a listing in, its content hashed in parallel, a manifest out."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import IndexConfig
from pipeline.errors import InputError
from pipeline.scoring.prepare import Failure, fetch
from pipeline.stages.chain import quiet
from pipeline.stages.cluster import connected, plain_errors
from pipeline.tables import storage
from pipeline.tables.layout import Entry, Listing, list_source
from pipeline.tables.manifest import image_id, uri_id, write_manifest
from pipeline.tables.merge import Duplicates, merge_contents
from pipeline.tables.schemas import MANIFEST

# Files per task: enough to be worth a task, few enough to share out.
_FILES_PER_TASK = 64
_ATTEMPTS = 3
_HASHES = pa.schema(
    [
        ("place", pa.int64()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("index_error", pa.string()),
    ]
)


def run_index(config: IndexConfig) -> dict[str, Any]:
    """Indexes a source and writes the manifest.

    Returns:
        What was found: counts, stray files, duplicates, missing masks, and the manifest's place.

    Raises:
        InputError: no source, no image in it, a list that can't be used, a store that can't be
            written.
    """
    store = storage.absolute(config.store)
    listing = list_source(storage.absolute(config.source), config.layout, config.category)
    storage.require_writable(store, "store")
    with connected(config.ray):
        hashes = _hash_all([entry.uri for entry in listing.entries], config.max_bytes)
    rows = _rows(listing.entries, hashes)
    table, duplicates = merge_contents(rows)
    uri = storage.join(store, "manifests", f"{config.name}.parquet")
    write_manifest(uri, table)
    return _report(uri, listing, table, duplicates)


def _hash_all(uris: list[str], max_bytes: int) -> pa.Table:
    """sha256 and size of every file, in the order of `uris`."""
    quiet()
    places = pa.table({"place": pa.array(range(len(uris)), pa.int64()), "uri": uris})
    blocks = [places.slice(i, _FILES_PER_TASK) for i in range(0, len(uris), _FILES_PER_TASK)]
    hashed = ray.data.from_arrow(blocks).map_batches(
        _hash_block,
        fn_kwargs={"max_bytes": max_bytes},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=1,
    )
    with plain_errors():
        found = list(hashed.iter_batches(batch_size=None, batch_format="pyarrow"))
    tables = [_HASHES.empty_table(), *found]
    return pa.concat_tables(table.cast(_HASHES) for table in tables).sort_by("place")


def _hash_block(rows: pa.Table, max_bytes: int) -> pa.Table:
    results: list[dict[str, Any]] = []
    for place, uri in zip(rows["place"].to_pylist(), rows["uri"].to_pylist(), strict=True):
        content = fetch(uri, _ATTEMPTS, max_bytes)
        if isinstance(content, Failure):
            results.append(
                {"place": place, "index_error": f"{content.error_type}: {content.message}"}
            )
        else:
            digest = hashlib.sha256(content).hexdigest()
            results.append({"place": place, "sha256": digest, "bytes": len(content)})
    return pa.Table.from_pylist(results, schema=_HASHES)


def _rows(entries: list[Entry], hashes: pa.Table) -> pa.Table:
    """One manifest row per file."""
    values: dict[str, list[Any]] = {name: [] for name in MANIFEST.names}
    for entry, found in zip(entries, hashes.to_pylist(), strict=True):
        digest = found["sha256"]
        facts = entry.labels | {
            "image_id": image_id(digest) if digest else uri_id(entry.uri),
            "uri": entry.uri,
            "duplicate_uris": [],
            "sha256": digest,
            "bytes": found["bytes"] if digest else entry.size,
            "etag": entry.etag,
            "modified_at": entry.modified_at,
            "index_error": found["index_error"],
        }
        for name, column in values.items():
            column.append(facts.get(name))
    columns = [_column(field, values[field.name]) for field in MANIFEST]
    return pa.table(columns, schema=MANIFEST)


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    """Values of a list in the manifest's type.

    Raises:
        InputError: a value that isn't of that type.
    """
    if pa.types.is_boolean(field.type):
        values = [_truth(value) for value in values]
    if pa.types.is_timestamp(field.type):
        values = [value if value is None else _time(value, field.name) for value in values]
    if pa.types.is_string(field.type):
        values = [value if value is None else str(value) for value in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"source: column {field.name!r}: {error}; it holds {field.type}") from None


def _truth(value: Any) -> Any:
    words = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    return words.get(str(value).lower(), value)


def _time(value: Any, column: str) -> Any:
    try:
        stamp = pd.Timestamp(value)
    except ValueError as error:
        raise InputError(f"source: column {column!r}: {value!r} is no time: {error}") from None
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _report(uri: str, listing: Listing, table: pa.Table, duplicates: Duplicates) -> dict[str, Any]:
    counts = Counter(
        zip(
            *(table.column(name).to_pylist() for name in ("category", "split", "defect_type")),
            strict=True,
        )
    )
    ordered = sorted(
        counts.items(), key=lambda item: [(part is None, part or "") for part in item[0]]
    )
    unreadable = table.filter(pc.is_valid(table.column("index_error")))
    return {
        "manifest": uri,
        "layout": listing.layout,
        "files": len(listing.entries),
        "images": table.num_rows,
        "counts": [
            {"category": category, "split": split, "defect_type": kind, "images": count}
            for (category, split, kind), count in ordered
        ],
        "stray": [{"uri": place, "reason": reason} for place, reason in listing.stray],
        "duplicates": duplicates.copies,
        "label_conflicts": duplicates.conflicts,
        "missing_masks": listing.missing_masks,
        "unreadable": unreadable.select(["uri", "index_error"]).to_pylist(),
    }

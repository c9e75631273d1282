"""Indexing: a listing in, its content hashed in parallel, a manifest out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import IndexConfig
from pipeline.errors import InputError
from pipeline.scoring.outage import OutageGuard
from pipeline.scoring.prepare import Failure, each_in_flight, fetch, reads_ahead
from pipeline.stages.block_stats import forget_blocks
from pipeline.stages.chain import quiet
from pipeline.stages.cluster import connected
from pipeline.stages.consuming import batches_of
from pipeline.stages.worker_errors import driver_errors, plain_errors
from pipeline.tables import storage
from pipeline.tables.earlier import (
    GONE,
    Comparison,
    Earlier,
    carried_over,
    compare,
    place_of,
    read_earlier,
    require_present,
)
from pipeline.tables.labels import (
    LatestLabels,
    label_files,
    labels_folder,
    places_of,
    read_labels,
    relabelled,
)
from pipeline.tables.layout import Entry, Listing, list_source
from pipeline.tables.manifest import image_id, uri_id, write_manifest
from pipeline.tables.merge import Duplicates, merge_contents
from pipeline.tables.schemas import MANIFEST, UNREACHABLE_ERRORS

# Files per task: enough to be worth a task, few enough to share out.
_FILES_PER_TASK = 64
_ATTEMPTS = 3
# Rows that are Python's objects at a time.
_ROWS_AT_ONCE = 10_000
_HASHES = pa.schema(
    [
        ("place", pa.int64()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("index_error", pa.string()),
        ("unreachable", pa.bool_()),
    ]
)
# A file's sha256, its size, and why it has none.
_Hash = tuple[str | None, int | None, str | None]
_OUTAGE = "an outage, rights that are lacking, or a list of another place. No manifest was written"


def run_index(config: IndexConfig) -> dict[str, Any]:
    """Indexes a source and writes the manifest.

    With `since`, only what an earlier manifest doesn't know is read; the rows are those of a
    full index, with the roles that the earlier ones had.

    Returns:
        What was found: counts, stray files, duplicates, missing masks, and the manifest's place.

    Raises:
        InputError: no source, no image in it, a list that can't be used, a store that can't be
            written.
        RunError: more files can't be had than `max_unreachable` allows, or the store failed; no
            manifest was written.
    """
    with driver_errors(f"index {config.name}"):
        return _indexed(config)


def _indexed(config: IndexConfig) -> dict[str, Any]:
    store = storage.absolute(config.store)
    listing = list_source(storage.absolute(config.source), config.layout, config.category)
    uri = storage.join(store, "manifests", f"{config.name}.parquet")
    earlier = _earlier(config, store, uri)
    comparison = _compare(config, listing, earlier)
    labels = _labels(config, store)
    storage.require_writable(store, "store")
    files = len(listing.entries)
    rows = [_rows(listing.entries, _hashes(config, listing.entries, comparison))]
    listing.entries.clear()  # their rows have it all
    table, duplicates = merge_contents(rows.pop())  # which then holds them alone
    labelled = 0
    if labels is not None:
        # Before rows are compared with an earlier manifest, which has people's labels too.
        table, labelled = _with_labels(table, labels)
    changed: list[str] = []
    if earlier is not None:
        known = () if labels is None else frozenset(labels.image_id.tolist())
        table, changed = carried_over(table, earlier, known)
    write_manifest(uri, table)
    changes = {"files": dict(comparison.counts), "relabelled": changed}
    told = {"since": changes if earlier else None, "labelled": labelled}
    return _report(uri, listing, files, table, duplicates) | told


def _labels(config: IndexConfig, store: str) -> LatestLabels | None:
    """The labels that people gave; None: they aren't asked for, or nobody has given one yet."""
    if config.labels is None:
        return None
    place, own = storage.absolute(config.labels), labels_folder(store)
    if place.rstrip("/") == own:
        # The app makes the folder with the first label: a night may come before.
        with storage.errors_for(own, "labels"):
            if not label_files(own):
                return None
    return read_labels(place)


def _with_labels(table: pa.Table, labels: LatestLabels) -> tuple[pa.Table, int]:
    """The manifest with people's labels, and how many of its images have one."""
    table = table.combine_chunks()
    asked = ("is_defect", "defect_type", "mask_uri")
    columns = {name: _chunk(table.column(name)) for name in ("image_id", *asked)}
    for name, column in relabelled(columns, asked, labels).items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, MANIFEST.field(name), column)
    return table, int((places_of(columns["image_id"], labels) >= 0).sum())


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _earlier(config: IndexConfig, store: str, uri: str) -> Earlier | None:
    if config.since is None:
        return None
    before = place_of(config.since, store)
    if before == uri:
        with storage.errors_for(before, "since"):
            if not storage.exists(before):
                return None  # the first night
    return read_earlier(before)


def _compare(config: IndexConfig, listing: Listing, earlier: Earlier | None) -> Comparison:
    if earlier is None:
        return Comparison([None] * len(listing.entries), [False] * len(listing.entries))
    comparison = compare(listing.entries, earlier)
    require_present(earlier, comparison.counts[GONE], config.max_gone)
    return comparison


def _hashes(config: IndexConfig, entries: list[Entry], comparison: Comparison) -> Iterator[_Hash]:
    """What `_rows` needs of every entry, from the earlier index or from its content.

    Raises:
        RunError: an outage.
    """
    known = comparison.known
    places = [place for place, before in enumerate(known) if before is None]
    fresh = _HASHES.empty_table()
    if places:  # else not even a cluster is needed
        failed = [comparison.failed[place] for place in places]
        unread = _unread([entries[place] for place in places], failed)
        with connected(config.ray):
            fresh = _hash_all(unread, config)
    names = ("sha256", "bytes", "index_error")
    found = (
        values
        for some in fresh.select(names).to_batches(_ROWS_AT_ONCE)
        for values in zip(*(column.to_pylist() for column in some.columns), strict=True)
    )
    for before in known:
        yield next(found) if before is None else (before.sha256, before.bytes, None)


def _unread(entries: list[Entry], failed: list[bool]) -> pa.Table:
    """Files to read, their sizes, and which of them could not be read the time before."""
    return pa.table(
        {
            "place": pa.array(range(len(entries)), pa.int64()),
            "uri": pa.array([entry.uri for entry in entries], pa.string()),
            "bytes": pa.array([entry.size for entry in entries], pa.int64()),
            "failed": pa.array(failed, pa.bool_()),
        }
    )


def _hash_all(unread: pa.Table, config: IndexConfig) -> pa.Table:
    """sha256 and size of every file, in the order of `place`.

    Args:
        unread: `place`, `uri`, `bytes` as the source tells, and whether it `failed` before.
        config: the settings.

    Raises:
        RunError: more files can't be had than `max_unreachable` allows.
    """
    quiet()
    count = unread.num_rows
    blocks = [unread.slice(i, _FILES_PER_TASK) for i in range(0, count, _FILES_PER_TASK)]
    hashed = ray.data.from_arrow(blocks).map_batches(
        _hash_block,
        fn_kwargs={"max_bytes": config.max_bytes},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=1,
    )
    forget_blocks(hashed.context)
    # What could not be read before is no sign of an outage, and would be one every night.
    fresh = count - pc.sum(unread["failed"]).as_py()
    outage = OutageGuard(fresh, config.max_unreachable, _OUTAGE)
    tables = [_HASHES.empty_table()]
    with plain_errors(), batches_of(hashed) as blocks_hashed:
        for found in blocks_hashed:
            tables.append(found.cast(_HASHES))
            outage.add(pc.sum(found["unreachable"]).as_py())
    return pa.concat_tables(tables).sort_by("place")


def _hash_block(rows: pa.Table, max_bytes: int) -> pa.Table:
    uris, sizes = rows["uri"].to_pylist(), rows["bytes"].to_pylist()
    found = each_in_flight(lambda uri: _hash(uri, max_bytes), uris, reads_ahead(sizes))
    results = []
    for place, failed, facts in zip(
        rows["place"].to_pylist(), rows["failed"].to_pylist(), found, strict=True
    ):
        fresh = facts.pop("unreachable", False) and not failed
        results.append(facts | {"place": place, "unreachable": fresh})
    return pa.Table.from_pylist(results, schema=_HASHES)


def _hash(uri: str, max_bytes: int) -> dict[str, Any]:
    content = fetch(uri, _ATTEMPTS, max_bytes)
    if isinstance(content, Failure):
        return {
            "index_error": f"{content.error_type}: {content.message}",
            "unreachable": content.error_type in UNREACHABLE_ERRORS,
        }
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _rows(entries: list[Entry], hashes: Iterator[_Hash]) -> pa.Table:
    """One manifest row per file."""
    known = zip(entries, hashes, strict=True)
    parts = [MANIFEST.empty_table()]
    while some := list(islice(known, _ROWS_AT_ONCE)):
        parts.append(_rows_of(some))
    return pa.concat_tables(parts)


def _rows_of(files: list[tuple[Entry, _Hash]]) -> pa.Table:
    values: dict[str, list[Any]] = {name: [] for name in MANIFEST.names}
    for entry, (digest, size, error) in files:
        facts = entry.labels | {
            "image_id": image_id(digest) if digest else uri_id(entry.uri),
            "uri": entry.uri,
            "duplicate_uris": (),
            "sha256": digest,
            "bytes": size if digest else entry.size,
            "etag": entry.etag,
            "modified_at": entry.modified_at,
            "index_error": error,
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


def _report(
    uri: str, listing: Listing, files: int, table: pa.Table, duplicates: Duplicates
) -> dict[str, Any]:
    counts: Counter[tuple[str | None, ...]] = Counter()
    for some in table.select(("category", "split", "defect_type")).to_batches(_ROWS_AT_ONCE):
        counts.update(zip(*(column.to_pylist() for column in some.columns), strict=True))
    ordered = sorted(
        counts.items(), key=lambda item: [(part is None, part or "") for part in item[0]]
    )
    unreadable = table.filter(pc.is_valid(table.column("index_error")))
    return {
        "manifest": uri,
        "layout": listing.layout,
        "files": files,
        "images": table.num_rows,
        "counts": [
            {"category": category, "split": split, "defect_type": kind, "images": count}
            for (category, split, kind), count in ordered
        ],
        "stray": [{"uri": place, "reason": reason} for place, reason in listing.stray],
        "duplicates": duplicates.copies,
        "label_conflicts": duplicates.conflicts,
        "missing_masks": listing.missing_masks,
        "doubtful_types": listing.doubtful_types,
        "unreadable": unreadable.select(["uri", "index_error"]).to_pylist(),
    }

"""What an earlier manifest knows of a source's files, so that only the others are read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.layout import Entry
from pipeline.tables.manifest import open_manifest, with_all_columns
from pipeline.tables.schemas import MANIFEST

NEW, CHANGED, UNCHANGED, TRIED_AGAIN, GONE = "new", "changed", "unchanged", "tried_again", "gone"
# What a split and people give to rows, kept as long as the listing says nothing else.
_GIVEN = (
    "category", "split", "role", "fold", "group_id", "defect_type", "is_defect", "mask_uri",
    "captured_at", "line",
)  # fmt: skip
# An image whose truth changed has lost what was given to it for what it was.
_TRUTH = ("category", "is_defect")
# What a person's label speaks of, also by leaving it open; and, where it says good, the mask.
_LABELLED, _LABELLED_GOOD = ("is_defect", "defect_type"), ("is_defect", "defect_type", "mask_uri")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What a text column can hold at least, and rows whose texts surely fit into one.
_MOST_BYTES, _ROWS_A_STEP = 1 << 31, 1 << 20
# Rows that are Python's objects at a time.
_ROWS_READ = 10_000
# Fewer are files that somebody moved, whatever their share of a small archive.
_GONE_FILES = 10


def stamp(size: int | None, etag: str | None, modified_at: datetime | None) -> str | None:
    """What tells two states of a file apart without reading it; None: nothing does.

    Stamps are compared for equality only: a clock that ran backwards makes no file older.
    """
    if size is not None and etag is not None:
        return f"{size} {etag}"
    if size is not None and modified_at is not None:
        return f"{size} @{(modified_at - _EPOCH) // timedelta(microseconds=1)}"
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """A file as an earlier index left it.

    Attributes:
        sha256: of its content; None: it could not be read.
        bytes: of its content.
        stamp: of the state that was read.
    """

    sha256: str | None
    bytes: int | None
    stamp: str | None


@dataclass(frozen=True)
class Earlier:
    """An earlier manifest.

    Attributes:
        uri: where it lies.
        rows: its rows.
        files: what is known by each file's URI, copies included.
    """

    uri: str
    rows: pa.Table
    files: Mapping[str, Known]


@dataclass(frozen=True)
class Comparison:
    """A listing beside an earlier manifest.

    Attributes:
        known: per entry what is taken over; None: it has to be read.
        failed: per entry whether the earlier index could not read it.
        counts: files by what became of them.
    """

    known: Sequence[Known | None]
    failed: Sequence[bool]
    counts: Mapping[str, int] = field(default_factory=dict)


def read_earlier(uri: str) -> Earlier:
    """An earlier manifest, checked.

    Raises:
        InputError: it isn't there, or is no manifest.
    """
    open_manifest(uri, "since")
    rows = with_all_columns(storage.read_parquet(uri))
    files: dict[str, Known] = {}
    names = ("uri", "duplicate_uris", "duplicate_stamps", "sha256", "bytes", "etag", "modified_at")
    for some in rows.select(names).to_batches(_ROWS_READ):
        for row in some.to_pylist():
            digest, size = row["sha256"], row["bytes"]
            files[row["uri"]] = Known(digest, size, stamp(size, row["etag"], row["modified_at"]))
            copies = row["duplicate_uris"] or []
            stamps = row["duplicate_stamps"] or [None] * len(copies)
            for copy, seen in zip(copies, stamps, strict=True):
                files[copy] = Known(digest, size, seen)
    return Earlier(uri, rows, files)


def compare(entries: Sequence[Entry], earlier: Earlier) -> Comparison:
    """Which files of a listing an earlier index read in the state that they are in now."""
    known: list[Known | None] = []
    failed: list[bool] = []
    counts: Counter[str] = Counter()
    for entry in entries:
        before = earlier.files.get(entry.uri)
        state = _state(entry, before)
        counts[state] += 1
        known.append(before if state == UNCHANGED else None)
        failed.append(state == TRIED_AGAIN)
    counts[GONE] = len(earlier.files.keys() - {entry.uri for entry in entries})
    states = (NEW, CHANGED, UNCHANGED, TRIED_AGAIN, GONE)
    return Comparison(known, failed, {state: counts[state] for state in states})


def _state(entry: Entry, before: Known | None) -> str:
    if before is None:
        return NEW
    if before.sha256 is None:
        return TRIED_AGAIN
    now = stamp(entry.size, entry.etag, entry.modified_at)
    return UNCHANGED if now is not None and now == before.stamp else CHANGED


def require_present(earlier: Earlier, gone: int, share: float) -> None:
    """Stops where so many files are gone that the source itself must be away.

    Raises:
        InputError: they are more than `share` of the earlier ones, beyond a handful.
    """
    if gone > max(_GONE_FILES, share * len(earlier.files)):
        raise InputError(
            f"since: {gone} of the {len(earlier.files)} files of {earlier.uri} are gone, more than "
            f"max_gone={share:g} allows: a folder that isn't mounted, or another source. Their "
            "roles would be lost; when the files are back the same command works, and max_gone=1 "
            "takes them for removed"
        )


def carried_over(
    rows: pa.Table, earlier: Earlier, labelled: Collection[int] = ()
) -> tuple[pa.Table, list[str]]:
    """Gives images what the earlier manifest says of them and the listing doesn't.

    An image is its content: one that was moved keeps its role. One whose category or truth is
    another now keeps nothing: a role for good images means something else for a defect.

    Args:
        rows: of the listing.
        earlier: the manifest of before.
        labelled: images that people labelled: what they left open stays open.

    Returns:
        The rows by category and image, and the URIs of those whose truth changed.
    """
    # Columns as a whole: a row as Python's objects takes a kilobyte.
    ids = rows.column("image_id")
    places = pc.index_in(ids, earlier.rows.column("image_id"))
    before = earlier.rows.select(_GIVEN).take(places)
    contradicts = pc.or_(*(_differs(rows.column(name), before.column(name)) for name in _TRUTH))
    by_people = pc.is_in(ids, pa.array(list(labelled), ids.type))
    good = pc.equal(rows.column("is_defect"), False).fill_null(False)
    given = {}
    for name in _GIVEN:
        now = rows.column(name)
        keeps = pc.or_(contradicts, now.is_valid())
        if name in _LABELLED:
            keeps = pc.or_(keeps, by_people)
        elif name in _LABELLED_GOOD:
            keeps = pc.or_(keeps, pc.and_(by_people, good))
        given[name] = pc.if_else(keeps, now, before.column(name))
    relabelled = rows.column("uri").filter(contradicts).to_pylist()
    for name, column in given.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, MANIFEST.field(name), column)
    return in_order(rows), relabelled


def _differs(now: pa.ChunkedArray, was: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where both are known, and aren't the same."""
    return pc.not_equal(now, was).fill_null(False)


def in_order(rows: pa.Table) -> pa.Table:
    """A manifest's rows by category, those without one last, and image_id."""
    keys = [("category", "ascending"), ("image_id", "ascending")]
    order = pc.sort_indices(rows, sort_keys=keys)
    if rows.nbytes < _MOST_BYTES:
        return rows.take(order)
    # A column's text, taken at once, may need offsets of 64 bits.
    wide = rows.cast(pa.schema([_wide(field) for field in rows.schema])).combine_chunks()
    steps = range(0, len(rows), _ROWS_A_STEP)
    taken = [wide.take(order.slice(start, _ROWS_A_STEP)).cast(rows.schema) for start in steps]
    return pa.concat_tables(taken)


def _wide(field: pa.Field) -> pa.Field:
    if pa.types.is_list(field.type):
        return field.with_type(pa.large_list(pa.large_string()))
    return field.with_type(pa.large_string()) if pa.types.is_string(field.type) else field


def place_of(since: str, store: str) -> str:
    """A manifest's URI from its name in the store or its path."""
    if "/" in since or since.lower().endswith(".parquet"):
        return storage.absolute(since)
    return storage.join(store, "manifests", f"{since}.parquet")


def copies_of(same: Iterable[Mapping[str, Any]], kept: str) -> dict[str, list[Any]]:
    """The columns that note the other places of a content.

    Args:
        same: rows of files with one content.
        kept: the URI that stays the image's own.
    """
    stamps = {row["uri"]: stamp(row["bytes"], row["etag"], row["modified_at"]) for row in same}
    others = sorted(stamps.keys() - {kept})
    return {"duplicate_uris": others, "duplicate_stamps": [stamps[uri] for uri in others]}

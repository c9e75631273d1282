"""From committed parts to published tables: well-sized, sorted files, then one record."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables import storage
from pipeline.tables.ledger import Commit, Part, Span, read_part, rows_in
from pipeline.tables.manifest import ID_END
from pipeline.tables.schemas import RUN_TABLES

# The smaller of the two: rows of scores are short, those of features long.
_GROUP_ROWS = 100_000
_GROUP_BYTES = 24 * 1024**2
# What tells two rows of a table apart; the first of two equal ones is kept.
_KEYS = {"detections": ["image_id", "box_index"]}


@dataclass(frozen=True)
class IdRange:
    """The images of one category with low <= image_id < high."""

    category: str | None
    low: int
    high: int


@dataclass(frozen=True)
class Source:
    """A committed part to read.

    Attributes:
        commit: the commit's name.
        part: the part.
        repeated: ids whose rows an earlier commit gives: a task that ran twice.
    """

    commit: str
    part: Part
    repeated: tuple[int, ...] = ()


@dataclass(frozen=True)
class FilePlan:
    """One published file: what goes in, and where it is read from."""

    table: str
    uri: str
    ranges: tuple[IdRange, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class PublishedFile:
    """One published file, as the record names it."""

    table: str
    uri: str
    rows: int
    bytes: int
    sha256: str


def split_ranges(spans: Iterable[Span], file_rows: int) -> list[tuple[IdRange, ...]]:
    """Ranges of images, one tuple a file, in the order (category, image_id), nulls last.

    Ids are hashes, evenly spread: equal widths of id space hold about equal numbers of rows.
    A category over `file_rows` is cut; small ones share a file.
    """
    counts: dict[str | None, int] = {}
    for span in spans:
        counts[span.category] = counts.get(span.category, 0) + span.rows
    files: list[tuple[IdRange, ...]] = []
    shared: list[IdRange] = []
    used = 0
    for category in sorted(counts, key=lambda name: (name is None, name or "")):
        pieces = math.ceil(counts[category] / file_rows)
        rows = counts[category] / pieces
        edges = [ID_END * piece // pieces for piece in range(pieces)] + [ID_END]
        for low, high in itertools.pairwise(edges):
            if shared and used + rows > file_rows:
                files.append(tuple(shared))
                shared, used = [], 0
            shared.append(IdRange(category, low, high))
            used += math.ceil(rows)
    return [*files, tuple(shared)] if shared else files


@dataclass(frozen=True)
class FileLimits:
    """How large a published file may be: the smaller of the two counts.

    Attributes:
        rows: images.
        memory: bytes of its rows as an Arrow table, which its writer holds a few times over.
    """

    rows: int
    memory: int


def plan_files(
    commits: Sequence[Commit],
    table: str,
    folder: str,
    limits: FileLimits,
    repeated: Mapping[str, tuple[int, ...]],
) -> list[FilePlan]:
    """The files of one table and, for each, the committed parts that it needs.

    Args:
        commits: all of the run.
        table: the table's name.
        folder: where its files will lie.
        limits: of a file.
        repeated: per commit, the ids that an earlier one scored too. All rows of an image come
            from one commit: where two runs of a task differ by a rounding, its score and its
            boxes still belong together.
    """
    holding = [commit for commit in commits if table in commit.parts]
    # Each once, though most files need most commits.
    source_of = [
        Source(commit.name, commit.parts[table], repeated.get(commit.name, ()))
        for commit in holding
    ]
    file_rows = _images_per_file(holding, table, limits)
    files = split_ranges((span for commit in holding for span in commit.spans), file_rows)
    plans: list[FilePlan] = []
    for ranges in files:
        sources = tuple(
            source
            for source, commit in zip(source_of, holding, strict=True)
            if any(_overlaps(span, wanted) for span in commit.spans for wanted in ranges)
        )
        uri = storage.join(folder, f"part-{len(plans):05d}.parquet")
        plans.append(FilePlan(table, uri, ranges, sources))
    return plans


def _images_per_file(holding: Sequence[Commit], table: str, limits: FileLimits) -> int:
    """Spans count images, so the limit in bytes becomes one in images, by the mean of each."""
    memory = sum(commit.parts[table].memory for commit in holding)
    images = sum(span.rows for commit in holding for span in commit.spans)
    return max(1, min(limits.rows, limits.memory * images // max(memory, 1)))


def _overlaps(span: Span, wanted: IdRange) -> bool:
    same = span.category == wanted.category
    return same and span.first_id < wanted.high and span.last_id >= wanted.low


def build_file(run_folder: str, plan: FilePlan, excluded: np.ndarray) -> PublishedFile | None:
    """Reads, sorts and writes one published file; None when nothing falls in its ranges.

    Args:
        run_folder: the run's folder.
        plan: the file.
        excluded: ids that don't belong in this table.

    Raises:
        DamagedPartError: a part is not what its commit says.
    """
    schema = RUN_TABLES[plan.table]
    pieces = []
    for source in plan.sources:
        part = _without(read_part(run_folder, source.commit, source.part), source.repeated)
        pieces += [rows_in(part, r.category, r.low, r.high) for r in plan.ranges]
    rows = pa.concat_tables([schema.empty_table(), *(piece.cast(schema) for piece in pieces)])
    rows = _without(rows, excluded)
    rows = _first_of_each(rows, _KEYS.get(plan.table, ["image_id"]))
    if not rows.num_rows:
        return None
    content = storage.parquet_bytes(rows, _group_rows(rows))
    storage.write_bytes(plan.uri, content)
    digest = hashlib.sha256(content).hexdigest()
    return PublishedFile(plan.table, plan.uri, rows.num_rows, len(content), digest)


def _group_rows(rows: pa.Table) -> int:
    """Rows per row group: what a reader that wants a few images has to load."""
    short = int(_GROUP_BYTES * rows.num_rows // max(rows.nbytes, 1))
    return max(1, min(_GROUP_ROWS, short))


def _without(rows: pa.Table, ids: Sequence[int] | np.ndarray) -> pa.Table:
    if not len(ids):
        return rows
    return rows.filter(pc.invert(pc.is_in(rows.column("image_id"), pa.array(ids, pa.int64()))))


def _first_of_each(rows: pa.Table, key: list[str]) -> pa.Table:
    order = [("category", "ascending")] + [(name, "ascending") for name in key]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order))  # stable, nulls last
    same = np.ones(max(rows.num_rows - 1, 0), bool)
    for name in key:
        values = rows.column(name).to_numpy()
        same &= values[1:] == values[:-1]
    if not same.any():
        return rows
    return rows.filter(pa.array(np.concatenate([[True], ~same])))


def published_record(
    store: str, files: Iterable[PublishedFile], facts: dict[str, Any]
) -> dict[str, Any]:
    """The record of a finished run: its files, relative to the store, with their digests."""
    tables: dict[str, Any] = {}
    for file in files:
        entry = tables.setdefault(file.table, {"rows": 0, "files": []})
        entry["rows"] += file.rows
        relative = file.uri.removeprefix(store.rstrip("/") + "/")
        details = {k: v for k, v in asdict(file).items() if k not in ("table", "uri")}
        entry["files"].append({"path": relative} | details)
    return facts | {"tables": tables}

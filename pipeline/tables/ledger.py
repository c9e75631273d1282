"""The ledger of a run: part files, and commits that make them count."""

from __future__ import annotations

import hashlib
import time
import uuid
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.schemas import UNREACHABLE_ERRORS

_PARTS = "parts"
_COMMITS = "commits"
# Commits are small files: reading them waits for the store, not for the processor.
_READERS = 16
_READ_AHEAD = 8 * _READERS


@dataclass(frozen=True, slots=True)
class Part:
    """One file of one table in a commit.

    Attributes:
        file: its name.
        rows: rows in it.
        sha256: of the file.
        memory: bytes of its rows as an Arrow table.
    """

    file: str
    rows: int
    sha256: str
    memory: int


@dataclass(frozen=True, slots=True)
class Span:
    """The ids of one category in a commit, both ends included."""

    category: str | None
    first_id: int
    last_id: int
    rows: int


@dataclass(frozen=True)
class Spent:
    """What a stage took for the images of a commit: seconds of its workers, added up."""

    stage: str
    seconds: float
    images: int


@dataclass(frozen=True)
class Work:
    """What it took to make a commit; empty where nobody measured it.

    Attributes:
        spent: of each stage.
        bytes: of the image files that were read.
    """

    spent: Sequence[Spent] = ()
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """Rows that count from the moment when this record exists.

    Attributes:
        name: the record's file name.
        parts: file per table; tables without rows have none.
        scored: ids with a row in the primary table; int64, eight bytes each.
        failed: ids with a row in `errors`.
        unreachable: those of the failed whose file could not be had, perhaps only then.
        spans: where the ids lie, so that a reader skips files.
        work: what it took.
        made: how: the images were decoded, or stored features reused, or rows carried over.
    """

    name: str
    parts: Mapping[str, Part]
    scored: array[int]
    failed: array[int]
    unreachable: array[int]
    spans: list[Span]
    work: Work = field(default_factory=Work)
    made: str = "decoded"


def commit_tables(
    run_folder: str,
    tables: Mapping[str, pa.Table],
    primary: str = "scores",
    work: Work | None = None,
    made: str = "decoded",
) -> Commit:
    """Writes the parts of one batch of images, then the commit that names them.

    A kill before the last step leaves files that no commit names: nobody sees them. A task
    that is run twice leaves two commits with the same ids: publication counts an id once.

    Args:
        run_folder: the run's folder.
        tables: rows per table; the primary one and `errors` hold each image once between them.
        primary: the table with one row per image that went well.
        work: what the stages before took; the time of writing the parts is added.
        made: how they were made: decoded, reused or carried.
    """
    started = time.perf_counter()
    key = uuid.uuid4().hex
    parts = {}
    for name, table in tables.items():
        if table.num_rows:
            content = storage.parquet_bytes(table)
            file = f"{key}.{name}.parquet"
            storage.write_bytes(storage.join(run_folder, _PARTS, file), content)
            digest = hashlib.sha256(content).hexdigest()
            parts[name] = Part(file, table.num_rows, digest, table.nbytes)
    errors = tables.get("errors")
    ids = {
        "scored": _ids(tables.get(primary)),
        "failed": _ids(errors),
        "unreachable": _ids(_unreachable(errors)),
    }
    spans = [
        span for name in (primary, "errors") if name in tables for span in _spans(tables[name])
    ]
    if work is not None:
        images = len(ids["scored"]) + len(ids["failed"])
        writing = Spent("commit", time.perf_counter() - started, images)
        work = Work((*work.spent, writing), work.bytes)
    commit = Commit(
        f"{key}.json",
        parts,
        ids["scored"],
        ids["failed"],
        ids["unreachable"],
        spans,
        work or Work(),
        made,
    )
    record = asdict(commit) | {name: values.tolist() for name, values in ids.items()}
    storage.write_json(storage.join(run_folder, _COMMITS, commit.name), record)
    return commit


def _ids(table: pa.Table | None) -> array[int]:
    return array("q", [] if table is None else table.column("image_id").to_pylist())


def _unreachable(errors: pa.Table | None) -> pa.Table | None:
    if errors is None:
        return None
    return errors.filter(pc.is_in(errors.column("error_type"), pa.array(UNREACHABLE_ERRORS)))


def _spans(table: pa.Table) -> list[Span]:
    grouped = table.group_by("category").aggregate([("image_id", "min_max"), ("image_id", "count")])
    return [
        Span(
            row["category"],
            row["image_id_min_max"]["min"],
            row["image_id_min_max"]["max"],
            row["image_id_count"],
        )
        for row in grouped.to_pylist()
    ]


def read_commits(run_folder: str) -> Iterator[Commit]:
    """Every commit of a run, in a fixed order, one by one: their ids are eight bytes an image.

    Raises:
        InputError: a commit that can't be understood.
    """
    folder = storage.join(run_folder, _COMMITS)
    names = storage.list_names(folder)
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(names), _READ_AHEAD):
            some = names[start : start + _READ_AHEAD]
            yield from pool.map(lambda name: _read_commit(folder, name), some)


def _read_commit(folder: str, name: str) -> Commit:
    uri = storage.join(folder, name)
    record = storage.read_json(uri)
    try:
        return Commit(
            name=name,
            parts={table: Part(**part) for table, part in record["parts"].items()},
            scored=array("q", record["scored"]),
            failed=array("q", record["failed"]),
            unreachable=array("q", record["unreachable"]),
            spans=[Span(**span) for span in record["spans"]],
            work=_work(record.get("work", {})),
            made=record.get("made", "decoded"),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{uri}: is no commit of this version ({error}); "
            "remove it to have its images scored again"
        ) from None


def _work(record: Mapping[str, Any]) -> Work:
    """Of a commit of an older version: none."""
    spent = tuple(Spent(**one) for one in record.get("spent", ()))
    return Work(spent, record.get("bytes", 0))


def drop_commit(run_folder: str, name: str) -> None:
    """Makes the rows of a commit not count any more, so that they are scored again."""
    storage.remove(storage.join(run_folder, _COMMITS, name))


class DamagedPartError(RuntimeError):
    """A part file is not what its commit says."""

    def __init__(self, file: str, commit: str, reason: str) -> None:
        super().__init__(file, commit, reason)
        self.file, self.commit, self.reason = file, commit, reason


def read_part(run_folder: str, commit_name: str, part: Part) -> pa.Table:
    """A committed part, compared with its digest.

    Raises:
        DamagedPartError: it is gone, or its bytes changed since the commit.
    """
    uri = storage.join(run_folder, _PARTS, part.file)
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError:
        raise DamagedPartError(uri, commit_name, "is gone") from None
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise DamagedPartError(uri, commit_name, "changed since its commit (sha256)")
    return pq.read_table(pa.BufferReader(content))


def rows_in(table: pa.Table, category: str | None, low: int, high: int) -> pa.Table:
    """Rows of one category whose id lies in [low, high)."""
    ids = table.column("image_id")
    if category is None:
        same = pc.is_null(table.column("category"))
    else:
        same = pc.fill_null(pc.equal(table.column("category"), category), False)
    inside = pc.and_(pc.greater_equal(ids, low), pc.less(ids, high))
    return table.filter(pc.and_(same, inside))


def remove_work(run_folder: str) -> None:
    """Removes parts and commits of a run whose tables are published."""
    for name in (_PARTS, _COMMITS):
        storage.remove(storage.join(run_folder, name))

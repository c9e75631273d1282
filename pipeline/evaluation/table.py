"""A table of scores to evaluate: of published runs, or anybody's Parquet with named columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.runs import load_published
from pipeline.tables.schemas import RUN_TABLES

# What a column may mean, beside the scores; all but the first two lie in every table of ours.
MEANINGS = (
    "image_id",
    "uri",
    "category",
    "defect_type",
    "is_defect",
    "role",
    "split",
    "group_id",
    "fold",
)
REQUIRED = ("category", "is_defect")
# Rows that are in memory at once, per column.
BATCH_ROWS = 1 << 19
_NUMBERS = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
_IDS = ("image_id", "group_id", "fold")
_TEXTS = ("uri", "category", "defect_type", "role", "split")
_FLOATS = (pa.types.is_float16, pa.types.is_float32, pa.types.is_float64)


@dataclass(frozen=True)
class ScoredTable:
    """Rows with labels and scores, read in batches.

    Attributes:
        name: for people.
        uris: its Parquet files, in order.
        columns: by meaning the column's name; a meaning that no column has is left out.
        scores: by name the type of every column that may be a score, floats or not.
        rows: how many.
        origin: what it is made of: runs, digests.
        names: of all its columns, also those that are neither a meaning nor a score.
        runs: the run of each file, and the folder where what is kept of it lies; none: no runs.
    """

    name: str
    uris: tuple[str, ...]
    columns: Mapping[str, str]
    scores: Mapping[str, np.dtype[Any]]
    rows: int
    origin: Mapping[str, Any]
    names: frozenset[str]
    runs: tuple[tuple[str, str], ...] = ()

    def of_file(self, number: int) -> ScoredTable:
        """The rows of one of its files."""
        return replace(self, uris=(self.uris[number],), runs=self.runs[number : number + 1])

    def batches(
        self, meanings: Sequence[str], scores: Sequence[str] = ()
    ) -> Iterator[Mapping[str, pa.Array]]:
        """Columns by meaning or score, a batch of rows at a time; strings as dictionaries.

        A meaning that the table has no column for is null in every row.

        Raises:
            InputError: a file is damaged.
        """
        present = [meaning for meaning in meanings if meaning in self.columns]
        names = list(dict.fromkeys([*(self.columns[m] for m in present), *scores]))
        for uri in self.uris:
            with _opened(uri) as file:
                for batch in _record_batches(file, names, uri):
                    found = {score: batch.column(score) for score in scores}
                    found |= {m: batch.column(self.columns[m]) for m in present}
                    blank = pa.nulls(batch.num_rows)
                    yield found | {m: blank for m in meanings if m not in present}


def open_runs(store: str, run_ids: Sequence[str]) -> ScoredTable:
    """The score tables of published runs, one after the other; no row where no image was scored.

    Raises:
        InputError: no such run, one that isn't finished, or runs of different scorers.
    """
    twice = sorted({run_id for run_id in run_ids if run_ids.count(run_id) > 1})
    if twice:
        raise InputError(f"run_id: {twice[0]}: is named twice, and its images would count twice")
    records = [load_published(store, run_id) for run_id in run_ids]
    digests = {str(record.get("scorer_digest")): record["run_id"] for record in records}
    if len(digests) > 1:
        listed = ", ".join(f"{run} ({digest[:12]}…)" for digest, run in digests.items())
        raise InputError(
            f"run_id: {listed}: were scored by different scorers, so that one threshold means "
            "different things; evaluate them one by one"
        )
    files = [file for r in records for file in r["tables"].get("scores", {"files": []})["files"]]
    uris = [storage.join(store, file["path"]) for file in files]
    table = _opened_or_empty(uris, "scores", ", ".join(run_ids))
    unscored = sum(r["tables"].get("errors", {"rows": 0})["rows"] for r in records)
    origin = {
        "runs": list(run_ids),
        "scorer_digest": next(iter(digests)),
        "files": [{"path": f["path"], "sha256": f["sha256"]} for f in files],
        "images_without_scores": unscored,
        "images_left_to_others": sum(r.get("skipped", 0) for r in records),
    }
    # What is kept of a file is named by its content: a run that is published anew starts anew.
    runs = tuple(
        (record["run_id"], storage.join(store, "cells", f"run={record['run_id']}", f["sha256"]))
        for record in records
        for f in record["tables"].get("scores", {"files": []})["files"]
    )
    return replace(table, rows=sum(f["rows"] for f in files), origin=origin, runs=runs)


def open_errors(store: str, run_id: str) -> ScoredTable:
    """The images of a published run that have no scores, with what the manifest says of them.

    Raises:
        InputError: no such run, or a damaged file.
    """
    entry = load_published(store, run_id)["tables"].get("errors", {"files": []})
    uris = [storage.join(store, file["path"]) for file in entry["files"]]
    return _opened_or_empty(uris, "errors", run_id)


def _opened_or_empty(uris: Sequence[str], table: str, name: str) -> ScoredTable:
    if uris:
        return open_parquet(uris, {}, name)
    schema = RUN_TABLES[table]
    columns = _columns(schema, {}, name)
    scores = _scores(schema, columns)
    return ScoredTable(name, (), columns, scores, 0, {"files": []}, frozenset(schema.names))


def repeated_images(table: ScoredTable) -> int:
    """How many rows are of an image that stands there before: it would count again.

    Rows without an image_id are not looked at.
    """
    if "image_id" not in table.columns:
        return 0
    parts = [
        columns["image_id"].drop_null().to_numpy(zero_copy_only=False)
        for columns in table.batches(["image_id"])
    ]
    ids = np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))
    return int((ids[1:] == ids[:-1]).sum())


def open_files(place: str, names: Mapping[str, str]) -> ScoredTable:
    """A Parquet file, or all of a folder, with a mapping of its columns' names.

    Args:
        place: of the file or folder.
        names: by meaning the column's name, where it isn't called so.

    Raises:
        InputError: there is nothing, it is no Parquet, or a column isn't there.
    """
    field = "table"
    with storage.errors_for(place, field):
        fs, path = storage.filesystem(place)
        if fs.isdir(path):
            uris = [
                storage.join(place, name)
                for name in storage.list_names(place)
                if name.endswith(".parquet")
            ]
        else:
            uris = [place] if fs.exists(path) else []
    if not uris:
        raise InputError(f"{field}: {place}: there is no Parquet file")
    return open_parquet(uris, names, place.rstrip("/").rsplit("/", 1)[-1])


def open_parquet(uris: Sequence[str], names: Mapping[str, str], name: str) -> ScoredTable:
    """Parquet files of one schema.

    Raises:
        InputError: as `open_files`.
    """
    rows, schema = 0, None
    for uri in uris:
        with _opened(uri) as file:
            rows += file.metadata.num_rows
            own = file.schema_arrow
        if schema is not None and not own.equals(schema):
            raise InputError(f"table: {uri}: has other columns than {uris[0]}")
        schema = own
    assert schema is not None  # noqa: S101 - for the type checker
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise InputError(f"table: {uris[0]}: has the column {twice[0]} twice; leave one")
    columns = _columns(schema, names, uris[0])
    return ScoredTable(
        name,
        tuple(uris),
        columns,
        _scores(schema, columns),
        rows,
        {"files": list(uris)},
        frozenset(schema.names),
    )


def _scores(schema: pa.Schema, columns: Mapping[str, str]) -> dict[str, np.dtype[Any]]:
    taken = set(columns.values())
    return {
        field.name: np.dtype(field.type.to_pandas_dtype())
        for field in schema
        if field.name not in taken and any(test(field.type) for test in _NUMBERS)
    }


def _columns(schema: pa.Schema, names: Mapping[str, str], uri: str) -> dict[str, str]:
    unknown = sorted(set(names) - set(MEANINGS))
    if unknown:
        raise InputError(
            f"columns.{unknown[0]}: is no meaning of a column; known: {', '.join(MEANINGS)}"
        )
    there = ", ".join(schema.names)
    lost = [f"columns.{m}: {name!r}" for m, name in names.items() if name not in schema.names]
    if lost:
        raise InputError(f"{lost[0]}: {uri} has no such column; it has {there}")
    found = {m: m for m in MEANINGS if m in schema.names} | dict(names)
    lacking = [meaning for meaning in REQUIRED if meaning not in found]
    if lacking:
        raise InputError(
            f"columns.{lacking[0]}: {uri} has no column {lacking[0]}; name the one that means it, "
            f"of {there}"
        )
    for meaning, column in found.items():
        check_type(meaning, schema.field(column), uri)
    return found


def check_type(meaning: str, field: pa.Field, uri: str) -> None:
    """Refuses a column that can't mean what it is taken for.

    Raises:
        InputError: with its type and what belongs there.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    whole = pa.types.is_integer(kind) or pa.types.is_null(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    says = None
    if meaning in _IDS and pa.types.is_uint64(kind):
        says = "numbers that fit 64 bits with a sign belong there; cast it to int64"
    elif meaning in _IDS and not whole:
        says = "whole numbers belong there; rename the column, or give one of numbers"
    elif meaning in _TEXTS and not (text or whole or pa.types.is_boolean(kind)):
        says = "text belongs there"
    elif meaning == "is_defect" and not (
        (whole or pa.types.is_boolean(kind)) and kind == field.type
    ):
        says = "true or 1 for a defect, false or 0 for a good image, null for not known"
    if says:
        raise InputError(f"columns.{meaning}: {field.name} of {uri} is {field.type}; {says}")


def is_float(kind: pa.DataType) -> bool:
    """Whether a score of this type can be compared."""
    return any(test(kind) for test in _FLOATS)


class _opened:  # noqa: N801 - reads as a verb
    """A Parquet file in a store, closed in the end."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> pq.ParquetFile:
        with storage.errors_for(self._uri, "table"):
            fs, path = storage.filesystem(self._uri)
            self._file = fs.open(path, "rb")
        try:
            return pq.ParquetFile(self._file, pre_buffer=True)
        except storage.DAMAGED_PARQUET as error:
            self._file.close()
            raise InputError(f"table: {self._uri}: can't be read as Parquet: {error}") from None

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _record_batches(
    file: pq.ParquetFile, names: Sequence[str], uri: str
) -> Iterator[pa.RecordBatch]:
    try:
        for group in range(file.metadata.num_row_groups):
            # A row group at a time: iterating over several decodes strings anew in each batch.
            table = file.read_row_group(group, columns=list(names), use_threads=True)
            yield from table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
    except storage.DAMAGED_PARQUET as error:
        raise InputError(f"table: {uri}: can't be read as Parquet: {error}") from None

"""Where rows come from: runs, files, or memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.api.stores import Run
from pipeline.errors import InputError

# Rows in columns, as they come out of a run, a query or a notebook.
Frame: TypeAlias = pa.Table | pd.DataFrame
# A run or several, a Parquet file or folder of them, or rows in memory.
Source: TypeAlias = Run | Sequence[Run] | str | Path | Frame

_WHOLE = ("image_id", "group_id", "fold", "is_defect")
# Above it not every whole number is a float64.
_EXACT = 2.0**53


class Folder:
    """A folder that goes with the last thing that holds it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="linescore-rows-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class Placed:
    """Rows as an evaluation's settings name them.

    Attributes:
        settings: `store` and `run_id`, or `table`.
        rows: the folder of rows that were in memory; None: they weren't.
    """

    settings: Mapping[str, Any]
    rows: Folder | None = None


def placed(source: Source) -> Placed:
    """Rows where they can be read; those in memory are written to a folder of their own.

    Raises:
        InputError: runs of several stores, or no rows at all.
    """
    if isinstance(source, Run) or _are_runs(source):
        runs = [source] if isinstance(source, Run) else list(source)
        return Placed({"store": _one_store(runs), "run_id": tuple(run.run_id for run in runs)})
    if isinstance(source, str | Path):
        return Placed({"table": str(source)})
    table, folder = as_arrow(source), Folder()
    file = folder.path / "rows.parquet"
    pq.write_table(table, file)
    return Placed({"table": str(file)}, folder)


def as_arrow(rows: Any) -> pa.Table:
    """Rows as an Arrow table.

    Raises:
        InputError: they are something else.
    """
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pd.DataFrame):
        return _with_whole_numbers(pa.Table.from_pandas(rows, preserve_index=False))
    raise InputError(
        f"rows: are a {type(rows).__name__}; give an Arrow table or a pandas data frame"
    )


def _with_whole_numbers(table: pa.Table) -> pa.Table:
    """Ids and labels as whole numbers again: pandas makes floats of a column with a null.

    Raises:
        InputError: an id that a float doesn't hold.
    """
    for name in set(_WHOLE) & set(table.column_names):
        column = table[name]
        if not pa.types.is_floating(column.type):
            continue
        largest = pc.max(pc.abs(column)).as_py() or 0
        if largest > _EXACT:
            raise InputError(
                f"rows: {name}: pandas has made floats of it, which don't hold ids as large as "
                f"{largest:.0f}; give the Arrow table, or to_pandas(types_mapper=pandas.ArrowDtype)"
            )
        if pc.all(pc.equal(column, pc.round(column))).as_py() is not False:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, column.cast(pa.int64()))
    return table


def _are_runs(source: Source) -> TypeGuard[Sequence[Run]]:
    return isinstance(source, list | tuple) and all(isinstance(one, Run) for one in source)


def _one_store(runs: Sequence[Run]) -> str:
    stores = list(dict.fromkeys(run.store for run in runs))
    if len(stores) != 1:
        says = ", ".join(stores) or "there is none"
        raise InputError(f"source: give one run, or runs of one store; {says}")
    return stores[0]

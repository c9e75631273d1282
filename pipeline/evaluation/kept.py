"""Cells of runs, kept in the store: a night is counted once for the same thresholds and groups."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.evaluation.alike import alike
from pipeline.evaluation.counting import Counting, Way, engine_rows
from pipeline.evaluation.groups import Codes, Group, Grouping, Sides, group_counts
from pipeline.evaluation.overlap import Ids, overlaps
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.cube import Cells, Grid, Layout, cells, counts, merge
from pipeline.tables import storage
from pipeline.tables.runs import load_published

# Of how cells are counted: what an older one kept is counted anew.
_COUNTING = "1"
_SCHEMA = pa.schema(
    [pa.field("key", pa.int64(), nullable=False), pa.field("count", pa.int64(), nullable=False)],
    metadata={"linescore.table": "cells", "linescore.schema_version": "1"},
)


def layout_of(work: Counting) -> Layout:
    """Where the cells of some rules lie."""
    return Layout(Grid.of(work.rules), work.groups)


def cells_of(work: Counting, table: ScoredTable, layout: Layout) -> Cells:
    """The cells of a table that is a part of the work's own, from its rows."""
    return cells(layout, engine_rows(table, work.grouping, work.scores))


def no_cells(layout: Layout) -> Cells:
    """The cells of no row."""
    none = np.zeros(0, np.int64)
    return Cells(layout.digest, none, none)


def to_table(found: Cells) -> pa.Table:
    """Cells as two columns."""
    return pa.table([found.keys, found.counts], schema=_SCHEMA)


def from_table(table: pa.Table, layout: Layout) -> Cells:
    """Cells from two columns."""
    arrays = [table.column(name).to_numpy().astype(np.int64) for name in _SCHEMA.names]
    return Cells(layout.digest, *arrays)


class KeptCells:
    """Counts runs file by file, from kept cells where there are some, and keeps what is new.

    The groups of a file are kept as well, so that a night that was counted is not read at all.
    """

    def __init__(self, table: ScoredTable) -> None:
        """Raises InputError for a table that is of no run: nothing says that it stays as it is."""
        if not table.runs:
            raise InputError(
                f"keep_cells: {table.name}: is no published run, which never changes; leave "
                "keep_cells out"
            )
        self.read, self.counted = 0, 0

    @property
    def way(self) -> Way:
        """To count with."""
        return Way(self.count, self.grouping, self.overlaps, _alike)

    def grouping(self, table: ScoredTable, sides: Sides, *, types: bool = True) -> Grouping:
        """The groups of all files, as `Grouping.of`."""
        total: dict[Group | None, int] = {}
        for number in range(len(table.uris)):
            for group, count in _groups(table, number, sides, types=types).items():
                total[group] = total.get(group, 0) + count
        return Grouping.from_counts(total, sides, types=types)

    def overlaps(self, table: ScoredTable, sides: Sides, ids: Ids) -> dict[str, Codes]:
        """How many rows of all files are of given images, as `overlap.overlaps`."""
        found = {what: np.zeros(len(sides.names), np.int64) for what in ids}
        name = _name_of_ids(sides.identity, ids)
        for number in range(len(table.uris) if ids else 0):
            for what, rows in _overlaps(table, number, sides, ids, name).items():
                found[what] += np.array(rows, np.int64)
        return found

    def count(self, work: Counting) -> tuple[list[Codes], str]:
        """Counts (P, G) of each of the rules, and how, in words."""
        layout = layout_of(work)
        parts = [self._of_file(work, number, layout) for number in range(len(work.table.uris))]
        says = f"cells of {self.read} files read, {self.counted} files counted and kept"
        return counts(merge(parts), layout, work.rules), says

    def _of_file(self, work: Counting, number: int, layout: Layout) -> Cells:
        _, folder = work.table.runs[number]
        file = storage.join(folder, f"{_name(work, layout)}.parquet")
        kept = _kept(file, layout)
        if kept is not None:
            self.read += 1
            return kept
        self.counted += 1
        found = cells_of(work, work.table.of_file(number), layout)
        storage.write_bytes(file, storage.parquet_bytes(to_table(found)))
        return found


def _kept(file: str, layout: Layout) -> Cells | None:
    """What was kept; None where there is nothing, or nothing that can be used."""
    if not storage.exists(file):
        return None
    try:
        return from_table(storage.read_parquet(file), layout)
    except (KeyError, ValueError):
        # A damaged file costs a count of the rows; what it said is not believed.
        return None


def _name(work: Counting, layout: Layout) -> str:
    """Thresholds, group codes and what each code stands for: equal names have equal cells."""
    found = hashlib.sha256((_COUNTING + layout.digest).encode())
    for part in (*work.grouping.groups, work.grouping.identity):
        found.update(repr(part).encode() + b"\0")
    return found.hexdigest()[:32]


def _groups(
    table: ScoredTable, number: int, sides: Sides, *, types: bool
) -> dict[Group | None, int]:
    """The groups of a file, from what was kept or from its labels."""
    _, folder = table.runs[number]
    named = hashlib.sha256(repr((_COUNTING, sides.identity, types)).encode()).hexdigest()[:32]
    file = storage.join(folder, f"groups-{named}.json")
    if storage.exists(file):
        return {
            None if group is None else Group(*group): count
            for group, count in storage.read_json(file)
        }
    found = group_counts(table.of_file(number), sides, types=types)
    told = [
        [None if g is None else [g.category, g.defect_type, g.is_defect, g.side], count]
        for g, count in found.items()
    ]
    storage.write_json(file, told)
    return found


def _overlaps(
    table: ScoredTable, number: int, sides: Sides, ids: Ids, name: str
) -> dict[str, list[int]]:
    """Of a file, from what was kept or from its ids."""
    _, folder = table.runs[number]
    file = storage.join(folder, f"overlaps-{name}.json")
    if storage.exists(file):
        kept: dict[str, list[int]] = storage.read_json(file)
        return kept
    found = overlaps(table.of_file(number), sides, ids)
    told = {what: rows.tolist() for what, rows in found.items()}
    storage.write_json(file, told)
    return told


def _alike(
    table: ScoredTable, store: str, run_id: str, ids: Ids
) -> dict[str, npt.NDArray[np.int64]] | None:
    """As `alike.alike`, from what was kept or from the run's groups."""
    folders = [folder for run, folder in table.runs if run == run_id]
    if not folders:
        return alike(table, store, run_id, ids)
    # Its other tables too may be others, where a run was published anew.
    whole = repr((folders, load_published(store, run_id).get("finished_at")))
    file = storage.join(folders[0], f"alike-{_name_of_ids(whole, ids)}.json")
    if storage.exists(file):
        kept: dict[str, list[int]] = storage.read_json(file)
        return {what: np.array(images, np.int64) for what, images in kept.items()}
    found = alike(table, store, run_id, ids)
    if found is not None:
        storage.write_json(file, {what: images.tolist() for what, images in found.items()})
    return found


def _name_of_ids(identity: str, ids: Ids) -> str:
    """Equal names: the same rows take part, and the same images are looked for."""
    found = hashlib.sha256(repr((_COUNTING, identity)).encode())
    for what, known in sorted(ids.items()):
        found.update(f"\0{what} {len(known)}\0".encode() + known.tobytes())
    return found.hexdigest()[:32]

"""A run held in memory: its columns are read once, whatever is then asked of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.counting import numbers
from pipeline.evaluation.groups import Group, Grouping, Sides
from pipeline.evaluation.sides import judging, require_rows
from pipeline.evaluation.table import BATCH_ROWS, ScoredTable, is_float
from pipeline.policy.language import Part

# What the app asks of a row beside its scores; places of images are looked up when they are shown.
_MEANINGS = ("image_id", "category", "defect_type", "is_defect", "role", "split")
_WORDS = ("category", "defect_type", "role", "split")

Codes = npt.NDArray[np.intp]
Scores = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True)
class HeldTable(ScoredTable):
    """A table whose columns are in memory.

    Attributes:
        held: by column name, one array each; strings as dictionaries.
    """

    held: Mapping[str, pa.Array] = field(default_factory=dict)

    def batches(
        self, meanings: Sequence[str], scores: Sequence[str] = ()
    ) -> Iterator[Mapping[str, pa.Array]]:
        """As `ScoredTable.batches`, from memory."""
        for start in range(0, self.rows, BATCH_ROWS):
            size = min(BATCH_ROWS, self.rows - start)
            blank = pa.nulls(size)
            found = {name: self.held[name].slice(start, size) for name in scores}
            for meaning in meanings:
                name = self.columns.get(meaning)
                column = self.held.get(name) if name is not None else None
                found[meaning] = blank if column is None else column.slice(start, size)
            yield found


def hold(table: ScoredTable) -> HeldTable:
    """Reads labels and scores of a table into memory: about 50 bytes a row.

    Raises:
        InputError: a file is gone or damaged.
    """
    meanings = [name for name in _MEANINGS if name in table.columns]
    scores = [name for name, kind in table.scores.items() if kind.kind == "f"]
    pieces: dict[str, list[pa.Array]] = {name: [] for name in (*meanings, *scores)}
    for columns in table.batches(meanings, scores):
        for name, found in pieces.items():
            found.append(_compact(columns[name], name in _WORDS))
    held = {table.columns.get(name, name): _one(found) for name, found in pieces.items()}
    rows = len(next(iter(held.values()))) if held else 0
    own = {f.name: getattr(table, f.name) for f in fields(ScoredTable)}
    kept = {name: kind for name, kind in table.scores.items() if name in held}
    return HeldTable(**(own | {"rows": rows, "scores": kept}), held=held)


def _compact(column: pa.Array, words: bool) -> pa.Array:
    if not words or pa.types.is_dictionary(column.type) or pa.types.is_null(column.type):
        return column
    return column.dictionary_encode()


def _one(pieces: Sequence[pa.Array]) -> pa.Array:
    if not pieces:
        return pa.nulls(0)
    whole = pa.chunked_array(pieces)
    if pa.types.is_dictionary(whole.type):
        whole = whole.unify_dictionaries()
    found = whole.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


@dataclass(frozen=True)
class Held:
    """The rows of a run that judge, as policies and people read them.

    Attributes:
        table: the whole run.
        grouping: of the rows that judge.
        says: which rows judge, in words.
        image_id: (N,) int64.
        group: (N,) codes into `grouping.groups`.
        scores: (N,) each; NaN where there is none.
        lacking: the scores that some row lacks.
        spread: each score's standard deviation; 1 where it has none.
        ends: each score's least and largest finite value; 0 and 1 where it has none.
        serial: tells it from every other one of this process.
    """

    table: HeldTable
    grouping: Grouping
    says: str
    image_id: npt.NDArray[np.int64]
    group: Codes
    scores: Scores
    lacking: frozenset[str]
    spread: Mapping[str, float]
    ends: Mapping[str, tuple[float, float]]
    serial: int = field(default_factory=itertools.count().__next__)

    @property
    def groups(self) -> tuple[Group, ...]:
        """What rows are counted by: category, defect type, label."""
        return self.grouping.groups

    @property
    def categories(self) -> list[str]:
        """Names of the categories there are."""
        return [name for name in self.grouping.categories if name is not None]

    @property
    def defect_types(self) -> list[str]:
        """Types of the defects there are, sorted."""
        return sorted({g.defect_type for g in self.groups if g.is_defect and g.defect_type})

    def part(self, row: int, *, by_type: bool = False) -> Part:
        """What a policy knows of a row beside its scores."""
        group = self.groups[int(self.group[row])]
        return Part(group.category, group.defect_type if by_type else None)

    def row_of(self, image_id: int) -> int | None:
        """The row of an image; None: it isn't among those that judge."""
        found = np.flatnonzero(self.image_id == image_id)
        return int(found[0]) if len(found) else None

    def score_of(self, row: int) -> dict[str, float | None]:
        """The scores of a row by name; None: it has none."""
        values = {name: float(column[row]) for name, column in self.scores.items()}
        return {name: None if np.isnan(value) else value for name, value in values.items()}


def judged(table: HeldTable, *, calibrated: bool) -> Held:
    """The rows that judge policies, as an evaluation chooses them.

    Args:
        table: the run.
        calibrated: thresholds come from a calibration, for the words.

    Raises:
        InputError: no row judges, or a label is none.
    """
    sides = judging(table, None, calibrated=calibrated)
    grouping = Grouping.of(table, sides)
    require_rows(table, int(grouping.counts.sum()))
    return _held(table, sides, grouping)


def _held(table: HeldTable, sides: Sides, grouping: Grouping) -> Held:
    wanted = ["image_id", *grouping.meanings]
    codes = np.concatenate([grouping.codes(columns) for columns in table.batches(wanted)])
    kept = codes >= 0
    every = bool(kept.all())
    scores = {}
    for name in table.scores:
        if is_float(table.held[name].type):
            column = numbers(table.held[name])
            scores[name] = column if every else column[kept]
    ids = table.held[table.columns["image_id"]].to_numpy()
    return Held(
        table,
        grouping,
        sides.says,
        ids if every else ids[kept],
        (codes if every else codes[kept]).astype(np.intp, copy=False),
        scores,
        frozenset(name for name, column in scores.items() if np.isnan(column).any()),
        {name: _spread(column) for name, column in scores.items()},
        {name: _ends(column) for name, column in scores.items()},
    )


def _spread(column: npt.NDArray[np.floating]) -> float:
    values = column[np.isfinite(column)]
    found = float(values.std(dtype=np.float64)) if len(values) else 0.0
    return found if found > 0 else 1.0


def _ends(column: npt.NDArray[np.floating]) -> tuple[float, float]:
    values = column[np.isfinite(column)]
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)

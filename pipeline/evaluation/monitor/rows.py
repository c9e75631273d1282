"""The rows of a run that are compared, category by category."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.counting import numbers
from pipeline.evaluation.groups import Columns, Sides
from pipeline.evaluation.monitor.sketch import Category
from pipeline.evaluation.sides import NO_ROLE, judging, role_counts
from pipeline.evaluation.table import ScoredTable
from pipeline.tables.labels import truth_codes
from pipeline.tables.roles import FIT, ROLES

NO_GROUP = np.int64(-1)
LABELS = ("category", "is_defect", "image_id", "group_id")
# Also the Gaussians' own images may be compared where somebody asks for them by name.
_NOT_FIT = (*(role for role in ROLES if role != FIT), NO_ROLE)


@dataclass(frozen=True)
class Chosen:
    """Which rows are compared.

    Attributes:
        sides: by their role, or where none has one by their split.
        good_only: without those that are labelled as defects.
        says: in words.
    """

    sides: Sides
    good_only: bool
    says: str

    def mask(self, columns: Columns) -> npt.NDArray[np.bool_]:
        """(N,) of rows with the columns `is_defect` and those of the sides."""
        is_defect = columns["is_defect"]
        kept = np.ones(len(is_defect), bool)
        if self.sides.side_of is not None:
            kept &= self.sides.side_of(columns) >= 0
        if self.good_only:
            kept &= truth_codes(is_defect) != 1
        return kept


def chosen_rows(table: ScoredTable, roles: Sequence[str] | None, *, good_only: bool) -> Chosen:
    """The rows of a run that are compared.

    Args:
        table: the run's.
        roles: whose; None: all but fit, or where no row has a role those outside `train`.
        good_only: without labelled defects.

    Raises:
        InputError: a role that no row has.
    """
    without = set(role_counts(table)) <= {NO_ROLE}
    wanted = roles if roles is not None or without else _NOT_FIT
    sides = judging(table, wanted, calibrated=False)
    says = sides.says.partition(";")[0]
    return Chosen(sides, good_only, f"{says}, without labelled defects" if good_only else says)


@dataclass(frozen=True)
class Slice:
    """N rows of one category.

    Attributes:
        category: theirs.
        ids: (N,) of the images.
        groups: (N,); NO_GROUP where an image has none.
        labels: (N,) 1 for a defect, 0 for good, -1 for not known.
        numbers: (N,) each, in their own type; NaN where missing.
        kinds: texts (N,) each, of those columns that the table has.
    """

    category: Category
    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    numbers: Mapping[str, npt.NDArray[np.floating]]
    kinds: Mapping[str, pa.Array]


def slices(
    table: ScoredTable, chosen: Chosen, names: Sequence[str], kinds: Sequence[str] = ()
) -> Iterator[Slice]:
    """The rows that are compared, as they are read; a category may come in several slices.

    Raises:
        InputError: a file is damaged.
    """
    wanted = list(dict.fromkeys([*LABELS, *chosen.sides.meanings]))
    there = [name for name in kinds if name in table.names]
    for columns in table.batches(wanted, [*names, *there]):
        kept = np.flatnonzero(chosen.mask(columns))
        for category, mine in _by_category(columns["category"], kept):
            taken = pa.array(mine)
            yield Slice(
                category,
                _whole(columns["image_id"].take(taken)),
                _whole(columns["group_id"].take(taken)),
                truth_codes(columns["is_defect"].take(taken)),
                {name: numbers(columns[name].take(taken)) for name in names},
                {name: columns[name].take(taken) for name in there},
            )


def _by_category(
    column: pa.Array, kept: npt.NDArray[np.intp]
) -> Iterator[tuple[Category, npt.NDArray[np.intp]]]:
    coded = column.cast(pa.string()).dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)[kept]
    words = coded.dictionary.to_pylist()
    for code in np.unique(codes).tolist():
        yield None if code < 0 else words[code], kept[codes == code]


def _whole(column: pa.Array) -> npt.NDArray[np.int64]:
    filled = pc.fill_null(column.cast(pa.int64()), int(NO_GROUP))
    values: npt.NDArray[np.int64] = filled.to_numpy(zero_copy_only=False)
    return values

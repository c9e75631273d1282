"""How many of the rows that take part are among given images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.groups import Codes, Columns, Sides
from pipeline.evaluation.table import ScoredTable
from pipeline.tables.lookup import member

# By what the images did, their ids, sorted int64.
Ids = Mapping[str, npt.NDArray[np.int64]]


class OverlapOf(Protocol):
    """How rows are looked up."""

    def __call__(self, table: ScoredTable, sides: Sides, ids: Ids) -> dict[str, Codes]:
        """As `overlaps`."""


def overlaps(table: ScoredTable, sides: Sides, ids: Ids) -> dict[str, Codes]:
    """By what the images did, how many rows (S,) of each side are among them.

    Args:
        table: rows with whole numbers for an image_id.
        sides: which rows take part.
        ids: of the images; the table isn't read where there is none.
    """
    wanted = list(dict.fromkeys(["image_id", *sides.meanings]))
    found = {what: np.zeros(len(sides.names), np.int64) for what in ids}
    if not any(len(known) for known in ids.values()):
        return found
    for columns in table.batches(wanted):
        side, images = _taking_part(columns, sides)
        for what, known in ids.items():
            inside = side[member(images, known)]
            found[what] += np.bincount(inside, minlength=len(sides.names))
    return found


def _taking_part(columns: Columns, sides: Sides) -> tuple[Codes, Codes]:
    """Sides and ids (n,) of the rows that take part; a row without an id is no known image."""
    image: pa.Array = columns["image_id"]
    known = image.is_valid().to_numpy(zero_copy_only=False)
    side = np.zeros(len(image), np.int64) if sides.side_of is None else sides.side_of(columns)
    kept = known & (side >= 0)
    numbers = pc.fill_null(image.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return side[kept], numbers[kept]

"""A table whose labels are those that people gave later: joined by image_id, the latest wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.evaluation.table import ScoredTable
from pipeline.tables.labels import DEFECT, GOOD, UNSURE, LatestLabels

# What a label says of `is_defect`.
_TRUTH = {GOOD: False, DEFECT: True, UNSURE: None}


@dataclass(frozen=True)
class LabelledTable(ScoredTable):
    """A table with later labels.

    Attributes:
        table: the table itself.
        labels: what people said.
    """

    table: ScoredTable | None = None
    labels: LatestLabels | None = None

    def of_file(self, number: int) -> LabelledTable:
        """The rows of one of its files."""
        if self.table is None or self.labels is None:
            raise TypeError("a labelled table is made by with_labels")
        return with_labels(self.table.of_file(number), self.labels)

    def batches(
        self, meanings: Sequence[str], scores: Sequence[str] = ()
    ) -> Iterator[Mapping[str, pa.Array]]:
        """As `ScoredTable.batches`; `is_defect` and `defect_type` are the labels' where any is."""
        if self.table is None or self.labels is None:
            raise TypeError("a labelled table is made by with_labels")
        asked = [name for name in ("is_defect", "defect_type") if name in meanings]
        wanted = list(dict.fromkeys([*meanings, *(("image_id",) if asked else ())]))
        for columns in self.table.batches(wanted, scores):
            replaced = _replaced(columns, asked, self.labels) if asked else {}
            yield {**columns, **replaced}


def with_labels(table: ScoredTable, labels: LatestLabels) -> LabelledTable:
    """The table with those labels instead of its own, image by image.

    `unsure` takes an image's label away: nobody knows.

    Raises:
        InputError: the table has no image_id to join by.
    """
    if "image_id" not in table.columns:
        raise InputError(
            f"labels: {table.name}: has no column image_id to join labels by; name it with "
            "columns.image_id="
        )
    own = {field.name: getattr(table, field.name) for field in fields(ScoredTable)}
    columns = {"defect_type": "defect_type", **own["columns"]}
    return LabelledTable(**(own | {"columns": columns}), table=table, labels=labels)


def joined(table: ScoredTable, labels: LatestLabels) -> int:
    """How many rows of a table have a label."""
    return sum(
        int((_places(columns["image_id"], labels) >= 0).sum())
        for columns in table.batches(["image_id"])
    )


def _places(ids: pa.Array, labels: LatestLabels) -> np.ndarray:
    """(N,) the label of each row; -1: none."""
    there = pc.fill_null(ids.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    if not len(labels.image_id):
        return np.full(len(there), -1)
    places = np.minimum(np.searchsorted(labels.image_id, there), len(labels.image_id) - 1)
    found: np.ndarray = np.where(labels.image_id[places] == there, places, -1)
    return found


def _replaced(
    columns: Mapping[str, pa.Array], asked: Sequence[str], labels: LatestLabels
) -> dict[str, pa.Array]:
    places = _places(columns["image_id"], labels)
    rows = np.flatnonzero(places >= 0)
    if not len(rows):
        return {}
    mask = pa.array(places >= 0)
    words = labels.label.take(pa.array(places[rows]))
    kinds = labels.defect_type.take(pa.array(places[rows]))
    truth = pa.array([_TRUTH[word] for word in words.to_pylist()], pa.bool_())
    # A good image's type is `good`, as layouts name it.
    kind = pc.if_else(pc.equal(words, GOOD), GOOD, kinds)
    found = {}
    for name, values in (("is_defect", truth), ("defect_type", kind)):
        if name in asked:
            found[name] = pc.replace_with_mask(
                _own(columns[name], values.type), mask, values.cast(values.type)
            )
    return found


def _own(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The table's own column in the labels' type."""
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_boolean(kind) and not pa.types.is_boolean(plain.type):
        return (
            plain.cast(pa.int64()).cast(kind)
            if not pa.types.is_null(plain.type)
            else pa.nulls(len(plain), kind)
        )
    return plain.cast(kind)

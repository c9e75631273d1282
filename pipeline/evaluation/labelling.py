"""A table whose labels are those that people gave later: joined by image_id, the latest wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.evaluation.table import ScoredTable
from pipeline.tables.labels import LatestLabels, places_of, read_labels, relabelled


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
            replaced = relabelled(columns, asked, self.labels) if asked else {}
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
        int((places_of(columns["image_id"], labels) >= 0).sum())
        for columns in table.batches(["image_id"])
    )


def labelled_from(table: ScoredTable, place: str) -> LabelledTable:
    """The table with the labels of a place, and word of them for the record.

    Raises:
        InputError: as `read_labels` and `with_labels`.
    """
    labels = read_labels(place)
    found = with_labels(table, labels)
    told = {"place": place, "images": len(labels.image_id), "rows": labels.rows}
    told["joined"] = joined(table, labels)
    return replace(found, origin={**table.origin, "labels": told})

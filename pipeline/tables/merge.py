"""One row per content: files with the same bytes become one image with a note of its copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.tables.earlier import copies_of, in_order
from pipeline.tables.schemas import MANIFEST

_LABELS = ("category", "split", "defect_type", "is_defect")


@dataclass(frozen=True)
class Duplicates:
    """Files that held a content that another file held too.

    Attributes:
        copies: files that became a note on another file's row.
        conflicts: URIs of rows whose copies had other labels.
    """

    copies: int
    conflicts: list[str]


def merge_contents(rows: pa.Table) -> tuple[pa.Table, Duplicates]:
    """Merges manifest rows with the same content; sorted by category and image_id.

    Where copies are labelled differently, the row keeps the labels that can do least harm: a
    defect before a good one, since a missed defect costs more; anything before `train`, so that
    nothing is judged that was trained on.

    Raises:
        InputError: two contents with one image_id.
    """
    _, place, counts = np.unique(
        rows.column("image_id").to_numpy(), return_inverse=True, return_counts=True
    )
    # Nearly all of an archive's: they never become Python's objects, a kilobyte each.
    alone = pa.array(counts[place] == 1)
    merged: list[dict[str, Any]] = []
    conflicts: list[str] = []
    copies = 0
    ordered = sorted(rows.filter(pc.invert(alone)).to_pylist(), key=lambda row: row["image_id"])
    for _, group in groupby(ordered, key=lambda row: row["image_id"]):
        same = sorted(group, key=_preference)
        _require_one_content(same)
        merged.append(same[0] | copies_of(same, same[0]["uri"]))
        copies += len(same) - 1
        if len({tuple(row[name] for name in _LABELS) for row in same}) > 1:
            conflicts.append(same[0]["uri"])
    # Under the name of what isn't needed any more: two of them at a time are enough.
    rows = _without_copies(rows.filter(alone))
    rows = pa.concat_tables([rows, pa.Table.from_pylist(merged, schema=MANIFEST)])
    return in_order(rows), Duplicates(copies, conflicts)


def _without_copies(rows: pa.Table) -> pa.Table:
    """Rows whose content lies nowhere else."""
    starts = pa.array(np.zeros(len(rows) + 1, np.int32))
    nothing = pa.ListArray.from_arrays(starts, pa.array([], pa.string()))
    for name in copies_of((), ""):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, MANIFEST.field(name), nothing)
    return rows


def _preference(row: dict[str, Any]) -> tuple[bool, bool, str, str]:
    # The whole row comes last: a URI may be listed twice, in any order.
    return (not row["is_defect"], row["split"] == "train", row["uri"], str(row))


def _require_one_content(same: Iterable[dict[str, Any]]) -> None:
    contents = {row["sha256"] or row["uri"]: row["uri"] for row in same}
    if len(contents) > 1:
        places = " and ".join(sorted(contents.values())[:2])
        raise InputError(
            f"{places} differ but have the same image_id, the first 63 bits of their sha256; "
            "index them into two manifests"
        )

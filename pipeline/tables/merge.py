"""One row per content: files with the same bytes become one image with a note of its copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.tables.earlier import copies_of
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
    merged: list[dict[str, Any]] = []
    conflicts: list[str] = []
    copies = 0
    ordered = sorted(rows.to_pylist(), key=lambda row: row["image_id"])
    for _, group in groupby(ordered, key=lambda row: row["image_id"]):
        same = sorted(group, key=_preference)
        _require_one_content(same)
        merged.append(same[0] | copies_of(same, same[0]["uri"]))
        copies += len(same) - 1
        if len({tuple(row[name] for name in _LABELS) for row in same}) > 1:
            conflicts.append(same[0]["uri"])
    merged.sort(key=lambda row: (row["category"] is None, row["category"] or "", row["image_id"]))
    return pa.Table.from_pylist(merged, schema=MANIFEST), Duplicates(copies, conflicts)


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

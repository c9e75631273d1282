"""Rows of a run as the stages commit them, made from ids, and the naive truth about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.tables.ledger import Commit, commit_tables
from pipeline.tables.schemas import DETECTIONS, ERRORS, SCORES


@dataclass(frozen=True)
class Image:
    """One image of a test's manifest."""

    id: int
    category: str | None

    @property
    def boxes(self) -> int:
        """How many boxes the detector finds: 0 to 3."""
        return self.id % 4


def images(count: int, categories: Sequence[str | None] = ("bolt", "tile", None)) -> list[Image]:
    """Images whose ids are spread over the id space as hashes are."""
    step = (2**63 - 1) // (count + 2) | 1  # odd: every number of boxes comes up
    return [Image((i + 1) * step, categories[i % len(categories)]) for i in range(count)]


def scores(found: Iterable[Image]) -> pa.Table:
    """Their rows in `scores`."""
    return _table(
        SCORES,
        [
            _common(image)
            | {
                "uri": f"file-{image.id}.png",
                "is_defect": [True, False, None][image.id % 3],
                "width": 640,
                "height": 480,
                "format": "PNG",
                "anomaly_score": image.id % 1000 / 8,
                "defect_probability": image.id % 100 / 100,
                "detection_count": image.boxes,
            }
            for image in found
        ],
    )


def detections(found: Iterable[Image]) -> pa.Table:
    """Their boxes, those of an image in the order of confidence."""
    return _table(
        DETECTIONS,
        [
            _common(image)
            | {
                "box_index": box,
                "x_min": 1.5 * box,
                "confidence": 0.9 - box / 10,
                "class_name": "hole",
            }
            for image in found
            for box in range(image.boxes)
        ],
    )


def errors(found: Iterable[Image]) -> pa.Table:
    """Their rows in `errors`."""
    return _table(
        ERRORS,
        [
            _common(image)
            | {"uri": f"file-{image.id}.png", "error_type": "not_found", "error_message": "gone"}
            for image in found
        ],
    )


def commit(run_folder: str, scored: Iterable[Image], failed: Iterable[Image] = ()) -> Commit:
    """Commits a batch, as the sink of the stages does."""
    scored = list(scored)
    return commit_tables(
        run_folder,
        {"scores": scores(scored), "errors": errors(failed), "detections": detections(scored)},
    )


def in_order(found: Iterable[Image]) -> list[tuple[str | None, int]]:
    """(category, id) in the order of a published table: by both, no category last."""
    ordered = sorted(found, key=lambda i: (i.category is None, i.category or "", i.id))
    return [(image.category, image.id) for image in ordered]


def keys(table: pa.Table) -> list[tuple[str | None, int]]:
    """(category, id) of each row."""
    return list(zip(table["category"].to_pylist(), table["image_id"].to_pylist(), strict=True))


def _common(image: Image) -> dict[str, Any]:
    return {"image_id": image.id, "category": image.category}


def _table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)

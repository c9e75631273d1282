"""How well scores tell defects from good images, from the published tables."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score


def auroc_by_category(
    scores: pa.Table, columns: list[str], split: str = "test"
) -> list[dict[str, Any]]:
    """Area under the ROC curve of each score in each category.

    Args:
        scores: rows of the scores table.
        columns: the scores.
        split: the folder whose rows are judged; training images would flatter.

    Returns:
        Per category: `category`, `good`, `defects`, and each column's area, None where it has
        no values or one of the two kinds is absent.
    """
    judged = scores.filter(
        pc.and_(pc.equal(scores["split"], split), pc.is_valid(scores["is_defect"]))
    )
    names = sorted(set(judged.column("category").to_pylist()) - {None})
    return [
        _areas(judged.filter(pc.equal(judged["category"], name)), name, columns) for name in names
    ]


def _areas(rows: pa.Table, name: str, columns: list[str]) -> dict[str, Any]:
    truth = rows.column("is_defect").to_numpy()
    result: dict[str, Any] = {
        "category": name,
        "good": int((~truth).sum()),
        "defects": int(truth.sum()),
    }
    for column in columns:
        values = rows.column(column)
        usable = values.null_count == 0 and truth.any() and not truth.all()
        result[column] = float(roc_auc_score(truth, values.to_numpy())) if usable else None
    return result

"""How well each score ranks defects above good images, by category and over all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.counting import numbers
from pipeline.evaluation.groups import Grouping
from pipeline.evaluation.table import ScoredTable
from pipeline.stats.ranking import auroc, average_precision
from pipeline.tables.evaluation_schemas import QUALITY

# Up to so many rows whole groups are drawn; more are taken one by one, by formula.
MOST_DRAWN = 4000
_BY_FORMULA = "DeLong (AUROC), logit (average precision); images taken as independent"


@dataclass(frozen=True)
class _Labelled:
    """N labelled rows of one table: category codes, labels, groups, one score each."""

    category: npt.NDArray[np.int64]
    defect: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64] | None
    scores: dict[str, npt.NDArray[np.floating]]


def quality(
    table: ScoredTable, grouping: Grouping, scores: Sequence[str], confidence: float, seed: int
) -> pa.Table:
    """AUROC and average precision of scores with intervals (`quality` table).

    Args:
        table: the rows.
        grouping: of the table, which has a row at least.
        scores: names of float columns.
        confidence: of the intervals.
        seed: of the bootstrap.
    """
    if not scores:
        return QUALITY.empty_table()
    rows = _read(table, grouping, scores)
    records: list[dict[str, Any]] = []
    for score in scores:
        values = rows.scores[score]
        for name, chosen in _parts(rows, grouping):
            there = chosen & ~np.isnan(values)
            record = {
                "score": score,
                "category": name,
                "good": int((there & ~rows.defect).sum()),
                "defects": int((there & rows.defect).sum()),
                "missing": int(chosen.sum() - there.sum()),
            }
            records.append(record | _areas(rows, values, there, (confidence, seed)))
    return pa.Table.from_pylist(records, schema=QUALITY)


def _parts(
    rows: _Labelled, grouping: Grouping
) -> Iterator[tuple[str | None, npt.NDArray[np.bool_]]]:
    categories = grouping.categories
    yield None, np.ones(len(rows.defect), bool)
    for place, name in enumerate(categories):
        if name is not None:
            yield name, rows.category == place


def _read(table: ScoredTable, grouping: Grouping, scores: Sequence[str]) -> _Labelled:
    places = {name: place for place, name in enumerate(grouping.categories)}
    category_of = np.array([places[group.category] for group in grouping.groups], np.int64)
    label_of = np.array(
        [-1 if g.is_defect is None else int(g.is_defect) for g in grouping.groups], np.int64
    )
    parts: list[tuple[Any, ...]] = []
    grouped = "group_id" in table.columns and "image_id" in table.columns
    meanings = [*grouping.meanings, *(("group_id", "image_id") if grouped else ())]
    for columns in table.batches(list(dict.fromkeys(meanings)), scores):
        codes = grouping.codes(columns)
        kept = codes >= 0
        kept[kept] = label_of[codes[kept]] >= 0
        chosen = codes[kept]
        group = _group(columns)[kept] if grouped else None
        values = [numbers(columns[name])[kept] for name in scores]
        parts.append((category_of[chosen], label_of[chosen] == 1, group, *values))
    joined: list[Any] = [
        None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)
    ]
    scores_of = dict(zip(scores, joined[3:], strict=True))
    return _Labelled(joined[0], joined[1], joined[2], scores_of)


def _group(columns: Any) -> npt.NDArray[np.int64]:
    """A row without a group is a group of its own, by its image id."""
    filled = pc.coalesce(columns["group_id"].cast(pa.int64()), columns["image_id"].cast(pa.int64()))
    values: npt.NDArray[np.int64] = filled.to_numpy(zero_copy_only=False)
    return values


def _areas(
    rows: _Labelled,
    values: npt.NDArray[np.floating],
    there: npt.NDArray[np.bool_],
    how: tuple[float, int],
) -> dict[str, Any]:
    confidence, seed = how
    scores, defect = values[there], rows.defect[there]
    result: dict[str, Any] = {}
    if not defect.any() or defect.all():
        return result
    if rows.group is None or len(scores) > MOST_DRAWN:
        for name, function in (("auroc", auroc), ("average_precision", average_precision)):
            found = function(scores, defect, confidence)
            result |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return result | {"interval": _BY_FORMULA}
    # scikit-learn takes half a second to load, which large tables can do without.
    from pipeline.stats.detection_rates import RESAMPLES, estimate, resampled_areas

    drawn = resampled_areas(defect, scores, rows.group[there], seed)
    for name in ("auroc", "average_precision"):
        one = estimate(getattr(drawn, name), confidence, drawn.groups)
        result |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    return result | {"interval": f"bootstrap over groups, {RESAMPLES} draws"}

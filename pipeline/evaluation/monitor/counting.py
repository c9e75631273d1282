"""One run's rows to its sketch; memory doesn't grow with the rows, but for the ids of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.monitor.deciding import InUse
from pipeline.evaluation.monitor.rows import LABELS, NO_GROUP, Chosen, Slice, slices
from pipeline.evaluation.monitor.sketch import Category, CategorySketch
from pipeline.evaluation.table import ScoredTable
from pipeline.stats.drift import count, effective_images, quantile_edges, spread
from pipeline.tables import storage
from pipeline.tables.runs import load_published

# Images of a category whose numbers fix the bins: sixteen in each. Those with the smallest ids,
# which are hashes: a random sample, and the same one in whatever order rows are read.
SAMPLE = 8192
FORMAT, SIZE = "format", "size"
_SIZE_OF = ("width", "height")
# The columns that kinds are made of.
KINDS_OF = (FORMAT, *_SIZE_OF)


@dataclass(frozen=True)
class Scale:
    """How one column of a category is counted: edges (E,) of its bins, and its deviation."""

    edges: npt.NDArray[np.float64]
    spread: float


Scales = Mapping[Category, Mapping[str, Scale]]


def scales_of(table: ScoredTable, chosen: Chosen, names: Sequence[str]) -> Scales:
    """Bins of a reference's categories, from a sample of each.

    Args:
        table: the reference's rows.
        chosen: those that are compared.
        names: of number columns.
    """
    kept: dict[Category, dict[str, npt.NDArray[Any]]] = {}
    for rows in slices(table, chosen, names):
        mine = {"": rows.ids} | dict(rows.numbers)
        if rows.category in kept:
            before = kept[rows.category]
            mine = {name: np.concatenate([before[name], mine[name]]) for name in mine}
        smallest = np.argsort(mine[""], kind="stable")[:SAMPLE]
        kept[rows.category] = {name: values[smallest] for name, values in mine.items()}
    return {
        category: {name: Scale(quantile_edges(mine[name]), spread(mine[name])) for name in names}
        for category, mine in kept.items()
    }


@dataclass
class _Open:
    """A sketch that rows are still added to."""

    sketch: CategorySketch = field(default_factory=CategorySketch)
    groups: list[npt.NDArray[np.int64]] = field(default_factory=list)
    alone: int = 0

    def close(self) -> CategorySketch:
        """With what its images are worth."""
        ids = np.concatenate([np.zeros(0, np.int64), *self.groups])
        sizes = np.unique(ids, return_counts=True)[1]
        self.sketch.independent = effective_images(
            np.concatenate([sizes, np.ones(self.alone, np.int64)])
        )
        return self.sketch


@dataclass(frozen=True)
class Work:
    """What is counted of a run.

    Attributes:
        scales: of the reference; rows of other categories are only counted.
        names: number columns.
        use: policies.
    """

    scales: Scales
    names: tuple[str, ...]
    use: InUse


def sketches(table: ScoredTable, chosen: Chosen, work: Work) -> dict[Category, CategorySketch]:
    """Counts the rows of a run, by category.

    Raises:
        InputError: a file is damaged; a score is missing where a policy needs it.
    """
    found: dict[Category, _Open] = {}
    for rows in slices(table, chosen, list(work.names), KINDS_OF):
        mine = found.setdefault(rows.category, _Open())
        _add(mine, rows)
        if rows.category in work.scales:
            _count(mine.sketch, rows, work)
    return {category: one.close() for category, one in found.items()}


def _add(mine: _Open, rows: Slice) -> None:
    grouped = rows.groups != NO_GROUP
    mine.groups.append(rows.groups[grouped])
    mine.alone += int((~grouped).sum())
    mine.sketch.images += len(rows.ids)
    mine.sketch.defects += int((rows.labels == 1).sum())
    mine.sketch.labelled += int((rows.labels >= 0).sum())


def _count(sketch: CategorySketch, rows: Slice, work: Work) -> None:
    for name, scale in work.scales[rows.category].items():
        found = count(rows.numbers[name], scale.edges)
        before = sketch.numbers.get(name)
        sketch.numbers[name] = found if before is None else before + found
        sketch.spreads[name] = scale.spread
    for name, column in _kinds(rows):
        kinds = sketch.kinds.setdefault(name, Counter())
        for entry in pc.value_counts(column).to_pylist():
            kinds[entry["values"] or "not known"] += entry["counts"]
    work.use.add(sketch, rows)


def _kinds(rows: Slice) -> Iterator[tuple[str, pa.Array]]:
    """What kinds the images are of, texts (N,) each; of a table of one's own perhaps none."""
    found = {name: column.cast(pa.string()) for name, column in rows.kinds.items()}
    if FORMAT in found:
        yield FORMAT, found[FORMAT]
    if found.keys() >= set(_SIZE_OF):
        yield SIZE, pc.binary_join_element_wise(*(found[name] for name in _SIZE_OF), " × ")


def count_errors(
    store: str, run_id: str, chosen: Chosen, into: dict[Category, CategorySketch]
) -> None:
    """Adds the images of a run that have no scores, by category and type."""
    files = load_published(store, run_id)["tables"].get("errors", {"files": []})["files"]
    wanted = list(dict.fromkeys([*LABELS, *chosen.sides.meanings, "error_type"]))
    for file in files:
        table = storage.read_parquet(storage.join(store, file["path"]), wanted).combine_chunks()
        if not table.num_rows:
            continue
        columns = {name: table.column(name).combine_chunks() for name in wanted}
        kept = table.filter(pa.array(chosen.mask(columns)))
        counted = kept.group_by(["category", "error_type"]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            sketch = into.setdefault(row["category"], CategorySketch())
            sketch.errors[row["error_type"]] += row["count_all"]

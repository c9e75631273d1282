"""How the scores that policies read are distributed, by truth, and where their thresholds lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.groups import LABEL_CODES
from pipeline.evaluation.rows import RowSource
from pipeline.policy.language import Resolved
from pipeline.tables.evaluation_schemas import HISTOGRAMS

BINS = 40
_COLUMNS = {-1: "unlabelled", 0: "good", 1: "defects"}


def histograms(source: RowSource) -> pa.Table:
    """Counts per score, category and bin (`histograms` table); of all categories too.

    Bins are equally wide from the least to the largest finite score of the rows that take part.
    """
    edges = _edges(source)
    groups = source.grouping.groups
    counts = {name: np.zeros((len(groups), BINS), np.int64) for name in edges}
    for batch in source.batches():
        for name, edge in edges.items():
            values = batch.scores[name]
            there = np.isfinite(values)
            places = np.searchsorted(edge, values[there].astype(np.float64), side="right") - 1
            key = batch.group[there] * BINS + np.minimum(places, BINS - 1)
            binned = np.bincount(key, minlength=counts[name].size)
            counts[name] += binned.reshape(counts[name].shape)
    rows: list[dict[str, Any]] = []
    label = np.array([LABEL_CODES[group.is_defect] for group in groups])
    for name, edge in edges.items():
        for category in (None, *(c for c in source.grouping.categories if c is not None)):
            mine = np.array([category in (None, group.category) for group in groups])
            found = {
                column: counts[name][mine & (label == code)].sum(0)
                for code, column in _COLUMNS.items()
            }
            rows += [
                {"score": name, "category": category, "low": edge[b], "high": edge[b + 1]}
                | {column: int(values[b]) for column, values in found.items()}
                for b in range(BINS)
            ]
    return pa.Table.from_pylist(rows, schema=HISTOGRAMS)


def _edges(source: RowSource) -> dict[str, npt.NDArray[np.float64]]:
    """(BINS + 1,) of each score that has two different finite values at least."""
    ends: dict[str, tuple[float, float]] = {}
    for batch in source.batches():
        for name, column in batch.scores.items():
            values = column[np.isfinite(column)]
            if len(values):
                low, high = ends.get(name, (np.inf, -np.inf))
                ends[name] = (min(low, float(values.min())), max(high, float(values.max())))
    edges = {n: np.linspace(low, high, BINS + 1) for n, (low, high) in ends.items()}
    return {name: edge for name, edge in edges.items() if (np.diff(edge) > 0).all()}


def thresholds_in_use(policies: Sequence[Resolved]) -> list[dict[str, Any]]:
    """Every policy's thresholds by category and score, as they are shown."""
    found: dict[tuple[str, str | None, str, float], None] = {}
    for policy in policies:
        for part, ruling in policy.rulings.items():
            for slot, number in zip(ruling.ruling.slots, ruling.numbers, strict=True):
                key = (policy.policy.name, part.category, slot.score, number.shown)
                found.setdefault(key)
    names = ("policy", "category", "score", "value")
    return [dict(zip(names, key, strict=True)) for key in found]

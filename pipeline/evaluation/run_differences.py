"""Two runs side by side: what they are, what became of their images, how their scores differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.run_catalogue import Catalogue, published_paths
from pipeline.tables.run_details import RunDetails, run_details
from pipeline.tables.runs import differences, load_published

# Columns whose values are compared, as far as both runs have them.
SCORE_COLUMNS = (
    "anomaly_score",
    "anomaly_cells",
    "anomaly_pooled",
    "defect_logit",
    "defect_probability",
    "detection_count",
    "detection_max_confidence",
)
# Rows in memory at once, beside one id and two values for each image that both have.
_BATCH = 100_000
# Images named as examples.
_SHOWN = 5


@dataclass(frozen=True)
class _Side:
    """A published run's score and error files."""

    store: str
    run_id: str
    scores: tuple[str, ...]
    errors: tuple[str, ...]


def compare_runs(catalogue: Catalogue, first: str, second: str) -> dict[str, Any]:
    """What differs between two published runs.

    Memory: about 60 bytes an image that both have.

    Raises:
        InputError: a run isn't there or isn't published, or a file of it can't be read.
    """
    sides = [_side(catalogue.store, run_id) for run_id in (first, second)]
    details = [run_details(catalogue, run_id) for run_id in (first, second)]
    scored = [_ids(side, side.scores) for side in sides]
    failed = [_ids(side, side.errors) for side in sides]
    common = np.intersect1d(scored[0], scored[1])
    return {
        "runs": [first, second],
        "differences": _record_differences(*details),
        "counts": _count_rows(*sides),
        "images": {
            "scored_in_both": len(common),
            "only_in": {
                side.run_id: _some(
                    np.setdiff1d(_all(scored, failed, n), _all(scored, failed, 1 - n))
                )
                for n, side in enumerate(sides)
            },
            "scored_only_in": {
                side.run_id: _some(np.intersect1d(scored[n], failed[1 - n]))
                for n, side in enumerate(sides)
            },
        },
        "scores": {
            name: found
            for name in SCORE_COLUMNS
            if (found := _score_difference(sides[0], sides[1], name, common)) is not None
        },
    }


def _side(store: str, run_id: str) -> _Side:
    record = load_published(store, run_id)
    paths = {
        name: tuple(published_paths({"tables": {name: record["tables"].get(name)}}))
        for name in ("scores", "errors")
    }
    return _Side(store, run_id, paths["scores"], paths["errors"])


def _all(scored: list[np.ndarray], failed: list[np.ndarray], n: int) -> np.ndarray:
    return np.union1d(scored[n], failed[n])


def _some(ids: np.ndarray) -> dict[str, Any]:
    return {"images": len(ids), "such_as": ids[:_SHOWN].tolist()}


def _batches(side: _Side, paths: tuple[str, ...], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a run's files, piece by piece.

    Raises:
        InputError: a file is gone, damaged or lacks a column.
    """
    for path in paths:
        uri = storage.join(side.store, path)
        fs, place = storage.filesystem(uri)
        try:
            with fs.open(place, "rb") as file:
                yield from pq.ParquetFile(file).iter_batches(_BATCH, columns=columns)
        except FileNotFoundError:
            raise InputError(
                f"run {side.run_id}: {uri}: is gone; see `linescore runs show {side.run_id} "
                "--verify`"
            ) from None
        except storage.DAMAGED_PARQUET as error:
            raise InputError(f"run {side.run_id}: {uri}: can't be read: {error}") from None


def _ids(side: _Side, paths: tuple[str, ...]) -> np.ndarray:
    """Sorted int64 ids of the rows."""
    found = [batch.column(0).to_numpy() for batch in _batches(side, paths, ["image_id"])]
    return np.unique(np.concatenate([np.empty(0, np.int64), *found]))


def _record_differences(first: RunDetails, second: RunDetails) -> dict[str, list[str]]:
    """By part of the record: each value that differs, by name."""
    parts = {
        "identity": ("run", "identity"),
        "bundle": ("run", "bundle"),
        "versions": ("run", "environment"),
        "settings": ("run", "config"),
    }
    found = {
        part: differences(_part(first, *path), _part(second, *path)) for part, path in parts.items()
    }
    return {part: lines for part, lines in found.items() if lines}


def _part(details: RunDetails, record: str, key: str) -> dict[str, Any]:
    value = (getattr(details.records, record) or {}).get(key)
    return value if isinstance(value, dict) else {}


def _count_rows(first: _Side, second: _Side) -> list[dict[str, Any]]:
    """Images by category and status of each run: scored, or the type of the error."""
    counted = [_by_status(side) for side in (first, second)]
    keys = sorted(
        counted[0].keys() | counted[1].keys(), key=lambda k: (k[0] is None, k[0] or "", k[1])
    )
    return [
        {"category": category, "status": status, "images": [c[category, status] for c in counted]}
        for category, status in keys
    ]


def _by_status(side: _Side) -> Counter[tuple[str | None, str]]:
    found: Counter[tuple[str | None, str]] = Counter()
    for batch in _batches(side, side.scores, ["category"]):
        for entry in batch.column(0).value_counts().to_pylist():
            found[entry["values"], "scored"] += entry["counts"]
    for batch in _batches(side, side.errors, ["category", "error_type"]):
        found.update(zip(*(batch.column(n).to_pylist() for n in (0, 1)), strict=True))
    return found


def _score_difference(
    first: _Side, second: _Side, column: str, common: np.ndarray
) -> dict[str, Any] | None:
    """How one score differs on the images that both have; None where neither has it."""
    a, b = (_values(side, column, common) for side in (first, second))
    known = np.isfinite(a), np.isfinite(b)
    both = known[0] & known[1]
    if not (known[0].any() or known[1].any()):
        return None
    found: dict[str, Any] = {
        "images": int(both.sum()),
        "only_in": {
            side.run_id: int((known[n] & ~known[1 - n]).sum())
            for n, side in enumerate((first, second))
        },
    }
    if both.any():
        a, b = a[both], b[both]
        change = b - a
        size = np.abs(change)
        found |= {
            "largest": float(size.max()),
            "largest_image": int(common[both][size.argmax()]),
            "mean": float(change.mean()),
            "mean_absolute": float(size.mean()),
            "rank_correlation": _rank_correlation(a, b),
        }
    return found


def _values(side: _Side, column: str, common: np.ndarray) -> np.ndarray:
    """The score of each of the common images, float64; nan where it is null."""
    values = np.full(len(common), np.nan)
    if not len(common):
        return values
    for batch in _batches(side, side.scores, ["image_id", column]):
        ids = batch.column("image_id").to_numpy()
        place = np.minimum(np.searchsorted(common, ids), len(common) - 1)
        here = common[place] == ids
        scores = batch.column(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
        values[place[here]] = scores[here]
    return values


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's: Pearson's of the mid-ranks; None where a score is the same throughout."""
    first, second = (_centred_ranks(side) for side in (a, b))
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / size) if size else None


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks less their mean; equal values share one."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks - (len(values) + 1) / 2

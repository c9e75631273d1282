"""What a run's published tables say in short: counts, distributions, errors, suspects."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.stats.distribution import Distribution
from pipeline.tables import storage

BINS = 40
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Examples of a kind of error; suspects of a category, and the categories that get any.
EXAMPLES, SUSPECTS, SUSPECT_CATEGORIES = 5, 5, 40
# What an example keeps of a message: a decoder may quote a whole file.
_MESSAGE = 500
_BATCH_ROWS = 65_536
# Kinds of rows in a distribution.
_TRUTHS = ("unlabelled", "good", "defects")
_SUSPECT = ("uri", "is_defect", "defect_type", "role")

Order = tuple[bool, str]


def run_facts(files: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One pass over the files of `scores` and `errors`, batch by batch.

    What comes out depends on the rows alone, not on the files they lie in. Memory grows with the
    number of categories, never with that of images.

    Returns:
        `by_category`: images, scored, and errors by type; `errors_by_type`; `error_examples`, of
        each type those with the smallest ids, which is as good as a random choice, since ids are
        hashes; `distributions` of every column of float32 numbers; `suspects`: of each category
        the images with the largest anomaly scores.
    """
    errors, scores = _Errors(), _Scores()
    for batch in _batches(files.get("errors", ()), None):
        errors.add(batch)
    for uri in files.get("scores", ()):
        for batch in _batches([uri], _needed):
            scores.add(batch)
    return {
        "by_category": _by_category(scores.images, errors.counts),
        "errors_by_type": _largest_first(_sums(errors.counts)),
        "error_examples": errors.found(),
        "distributions": scores.distributions(),
        "suspects": scores.suspects(),
    }


def _needed(schema: pa.Schema) -> list[str]:
    known = ("image_id", "category", *_SUSPECT)
    return [f.name for f in schema if f.name in known or f.type == pa.float32()]


def _batches(uris: Iterable[str], columns: Any) -> Iterator[pa.RecordBatch]:
    for uri in uris:
        fs, path = storage.filesystem(uri)
        with fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            names = columns(parquet.schema_arrow) if columns else None
            # One group at a time: what is read ahead of a long file would stay in memory.
            for group in range(parquet.num_row_groups):
                yield from parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names)


def _order(category: str | None) -> Order:
    return (category is None, category or "")


def _sums(counts: Mapping[tuple[str | None, str], int]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for (_, kind), images in counts.items():
        sums[kind] += images
    return sums


def _largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _by_category(
    scored: Mapping[str | None, int], errors: Mapping[tuple[str | None, str], int]
) -> list[dict[str, Any]]:
    names = sorted({*scored, *(category for category, _ in errors)}, key=_order)
    rows = []
    for name in names:
        mine = {kind: images for (category, kind), images in errors.items() if category == name}
        images = scored.get(name, 0)
        rows.append(
            {
                "category": name,
                "images": images + sum(mine.values()),
                "scored": images,
                "errors": _largest_first(mine),
            }
        )
    return rows


@dataclass
class _Errors:
    """Rows of the error tables that were seen."""

    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    examples: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            kind = row["error_type"]
            self.counts[row["category"], kind] += 1
            kept = self.examples.setdefault(kind, [])
            example = {name: row[name] for name in ("uri", "category", "error_message")}
            # The largest id of those kept lies first, and goes when a smaller one comes.
            _keep(kept, -row["image_id"], example, EXAMPLES)

    def found(self) -> list[dict[str, Any]]:
        found = []
        for kind in _largest_first(_sums(self.counts)):
            for _, row in sorted(self.examples[kind], key=lambda entry: -entry[0]):
                message = row["error_message"]
                cut = message if len(message) <= _MESSAGE else message[:_MESSAGE] + " …"
                found.append({"error_type": kind} | row | {"error_message": cut})
        return found


def _keep(kept: list[tuple[Any, Any]], key: Any, value: Any, most: int) -> None:
    """Keeps the `most` entries with the largest keys, which are distinct, in a heap."""
    if len(kept) < most:
        heapq.heappush(kept, (key, value))
    elif key > kept[0][0]:
        heapq.heapreplace(kept, (key, value))


@dataclass
class _Scores:
    """Rows of the score tables that were seen."""

    images: Counter[str | None] = field(default_factory=Counter)
    counted: dict[tuple[str, str | None], Distribution] = field(default_factory=dict)
    largest: dict[str | None, list[tuple[Any, Any]]] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        table = pa.Table.from_batches([batch])
        for name in pc.unique(table.column("category")).to_pylist():
            column = table.column("category")
            same = pc.is_null(column) if name is None else pc.equal(column, name)
            rows = table.filter(same)
            self.images[name] += len(rows)
            self._count(rows, name)
            self._look(rows, name)

    def _count(self, rows: pa.Table, category: str | None) -> None:
        truth = rows.column("is_defect").cast(pa.int64())
        kinds = pc.fill_null(pc.add(truth, 1), 0).to_numpy()
        for at in rows.schema:
            if at.type == pa.float32():
                mine = self.counted.setdefault((at.name, category), Distribution(len(_TRUTHS)))
                mine.add(rows.column(at.name).to_numpy(), kinds)

    def _look(self, rows: pa.Table, category: str | None) -> None:
        values = rows.column("anomaly_score").to_numpy()
        ids = rows.column("image_id").to_numpy()
        known = np.flatnonzero(np.isfinite(values))
        first = known[np.lexsort((ids[known], -values[known]))][:SUSPECTS]
        kept = self.largest.setdefault(category, [])
        for row in rows.take(pa.array(first)).to_pylist():
            _keep(kept, (row["anomaly_score"], -row["image_id"]), row, SUSPECTS)

    def suspects(self) -> list[dict[str, Any]]:
        large = sorted(self.largest, key=lambda name: (-self.images[name], _order(name)))
        found = []
        for name in sorted(large[:SUSPECT_CATEGORIES], key=_order):
            rows = [row for _, row in sorted(self.largest[name], key=lambda e: e[0], reverse=True)]
            keys = ("category", "anomaly_score", "defect_probability", *_SUSPECT)
            found += [{key: row[key] for key in keys} for row in rows]
        return found

    def distributions(self) -> list[dict[str, Any]]:
        found = []
        for score in dict.fromkeys(score for score, _ in self.counted):
            together = Distribution(len(_TRUTHS))
            mine = [(c, one) for (s, c), one in self.counted.items() if s == score]
            for _, one in mine:
                together.merge(one)
            if together.n:
                found.append({"score": score, "level": "all", "category": None} | _told(together))
                found += [
                    {"score": score, "level": "category", "category": category} | _told(one)
                    for category, one in sorted(mine, key=lambda entry: _order(entry[0]))
                ]
        return found


def _told(one: Distribution) -> dict[str, Any]:
    counts = one.histogram(BINS)
    quantiles = zip(QUANTILES, one.quantiles(QUANTILES), strict=True)
    return {
        "n": one.n,
        "missing": one.missing,
        "min": one.least,
        "quantiles": {f"{share:g}": value for share, value in quantiles},
        "max": one.largest,
        "histogram": None
        if counts is None
        else {name: counts[:, place].tolist() for place, name in enumerate(_TRUTHS)},
    }

"""A reference without its rows: one small file that any later run can be compared with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.evaluation.monitor.counting import Scale, Scales
from pipeline.evaluation.monitor.sketch import CategorySketch, Cut, RunSketch
from pipeline.stats.drift import Binned
from pipeline.tables import storage
from pipeline.tables.drift_schemas import REFERENCE

_KEY = b"linescore.reference"
_VERSION = "1"
# What a file that is none of ours raises when it is taken for one.
_DAMAGED = (KeyError, TypeError, ValueError, IndexError)


def frozen_file(store: str, name: str) -> str:
    """Where a frozen reference lies."""
    return storage.join(store, "references", f"{name}.parquet")


def freeze(run: RunSketch, uri: str) -> None:
    """Writes a reference's counts: tens of kilobytes a category, however many rows it has."""
    names = list(run.categories)
    parts = [
        _bins(place, measure, binned)
        for place, name in enumerate(names)
        for measure, binned in run.categories[name].numbers.items()
    ]
    head = {
        "version": _VERSION,
        "run_id": run.run_id,
        "scorer_digest": run.scorer_digest,
        "rows": run.rows,
        "about": dict(run.about),
        "categories": [{"category": name} | _head(run.categories[name]) for name in names],
    }
    schema = REFERENCE.with_metadata({**REFERENCE.metadata, _KEY: json.dumps(head).encode()})
    table = pa.concat_tables([REFERENCE.empty_table(), *parts]).cast(schema)
    storage.write_bytes(uri, storage.parquet_bytes(table.replace_schema_metadata(schema.metadata)))


def _bins(place: int, measure: str, binned: Binned) -> pa.Table:
    edges = [*binned.edges.tolist(), None]
    data = [[place] * len(edges), [measure] * len(edges), edges, binned.counts, binned.sums]
    columns = [pa.array(c, f.type) for c, f in zip(data, REFERENCE, strict=True)]
    return pa.table(columns, schema=REFERENCE)


def _head(one: CategorySketch) -> dict[str, Any]:
    return {
        "images": one.images,
        "independent": one.independent,
        "defects": one.defects,
        "labelled": one.labelled,
        "missing": {name: binned.missing for name, binned in one.numbers.items()},
        # NaN is no JSON.
        "spreads": {n: v if np.isfinite(v) else None for n, v in one.spreads.items()},
        "kinds": {name: dict(found) for name, found in one.kinds.items()},
        "flagged": dict(one.flagged),
        "near": [
            [cut.policy, cut.score, cut.threshold, cut.within, *counts]
            for cut, counts in one.near.items()
        ],
        "errors": dict(one.errors),
    }


def thawed(store: str, name: str) -> RunSketch:
    """A frozen reference.

    Raises:
        InputError: there is none of that name, or the file is something else.
    """
    uri = frozen_file(store, name)
    if not storage.exists(uri):
        raise InputError(
            f"frozen: {name}: there is no {uri}; freeze={name} with reference=RUN makes it"
        )
    table = storage.read_parquet(uri)
    try:
        found = _read(table)
    except _DAMAGED as error:
        raise InputError(
            f"frozen: {uri}: is no frozen reference ({type(error).__name__}: {error}); freeze it "
            "again"
        ) from None
    return found


def _read(table: pa.Table) -> RunSketch:
    head = json.loads((table.schema.metadata or {})[_KEY])
    if head["version"] != _VERSION:
        raise ValueError(f"version {head['version']}, known is {_VERSION}")
    rows = table.select(REFERENCE.names)
    categories = {
        entry["category"]: _category(place, entry, rows)
        for place, entry in enumerate(head["categories"])
    }
    return RunSketch(head["run_id"], head["scorer_digest"], head["rows"], categories, head["about"])


def _category(place: int, entry: Mapping[str, Any], rows: pa.Table) -> CategorySketch:
    mine = rows.filter(pa.array(rows.column("category").to_numpy() == place))
    measures = np.array(mine.column("measure").to_pylist(), object)
    numbers = {
        name: _binned(mine.filter(pa.array(measures == name)), int(missing))
        for name, missing in entry["missing"].items()
    }
    return CategorySketch(
        images=int(entry["images"]),
        independent=float(entry["independent"]),
        defects=int(entry["defects"]),
        labelled=int(entry["labelled"]),
        numbers=numbers,
        spreads={n: np.nan if v is None else float(v) for n, v in entry["spreads"].items()},
        kinds={name: Counter(found) for name, found in entry["kinds"].items()},
        flagged=Counter(entry["flagged"]),
        near={Cut(*one[:4]): (one[4], one[5]) for one in entry["near"]},
        errors=Counter(entry["errors"]),
    )


def _binned(rows: pa.Table, missing: int) -> Binned:
    edges = rows.column("edge").to_numpy()[:-1].astype(np.float64)
    if not len(rows) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError("edges of bins that don't rise")
    sums = rows.column("sum").to_numpy().astype(np.float64)
    return Binned(edges, rows.column("count").to_numpy().astype(np.int64), sums, missing)


def frozen_scales(run: RunSketch) -> Scales:
    """The bins that another run is counted in; as at freezing, of categories with scores alone."""
    return {
        category: {
            name: Scale(binned.edges, one.spreads[name]) for name, binned in one.numbers.items()
        }
        for category, one in run.categories.items()
        if one.images
    }

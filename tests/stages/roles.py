"""Roles and groups for a test's manifest: seeded, by category and defect type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.tables import storage
from pipeline.tables.manifest import write_manifest
from tests.conftest import save

SHARES = (("fit", 0.5), ("validation", 0.25), ("test", 0.25))


def labelled_archive(root: Path, side: int = 40) -> Path:
    """Two categories; good images, and two defect types that differ in place and tone."""
    rng = np.random.default_rng(11)
    marks = {"dent": (slice(4, 16), slice(6, 20), 250), "hole": (slice(22, 34), slice(18, 32), 5)}
    for category, tone in (("bolt", 90), ("tile", 150)):
        for folder, count in (("train/good", 16), ("test/dent", 8), ("test/hole", 8)):
            for index in range(count):
                pixels = rng.normal(tone, 12, (side, side, 3)).clip(0, 255).astype(np.uint8)
                kind = folder.split("/")[1]
                if kind in marks:
                    rows, columns, value = marks[kind]
                    pixels[rows, columns] = value
                save(root / category / folder / f"{index:03d}.png", pixels)
    return root


def with_roles(manifest: str, target: str, pairs: bool = True) -> str:
    """A copy of the manifest in which each stratum is dealt out; two neighbours share a group."""
    table = storage.read_parquet(manifest).sort_by("image_id")
    ids = table.column("image_id").to_numpy()
    strata = [
        f"{c}/{k}"
        for c, k in zip(
            table.column("category").to_pylist(),
            table.column("defect_type").to_pylist(),
            strict=True,
        )
    ]
    roles = np.empty(len(ids), object)
    groups = ids.copy()
    for name in sorted(set(strata)):
        rows = np.flatnonzero(np.array(strata) == name)
        if pairs:
            groups[rows] = ids[rows[np.arange(len(rows)) // 2 * 2]]
        start = 0
        for role, share in SHARES:
            count = round(share * len(rows))
            roles[rows[start : start + count]] = role
            start += count
    table = put(table, "role", pa.array(roles, pa.string()))
    write_manifest(target, put(table, "group_id", pa.array(groups, pa.int64())))
    return target


def put(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """The table with one column replaced."""
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), column)

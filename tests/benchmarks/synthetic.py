"""Manifests of any length over a few small files: rows cost memory, files do not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tables.manifest import ID_END
from pipeline.tables.schemas import MANIFEST
from tests.conftest import save

FILES = 64
ROWS_A_GROUP = 100_000


def write_rows(folder: Path, rows: int, side: int = 64) -> str:
    """A manifest of `rows` images, which are a few small PNG files again and again; its place."""
    rng = np.random.default_rng(2)
    files = []
    for number in range(FILES):
        file = folder / "pictures" / f"{number}.png"
        save(file, rng.integers(0, 255, (side, side, 3), np.uint8))
        content = file.read_bytes()
        files.append((str(file), hashlib.sha256(content).hexdigest(), len(content)))
    place = folder / f"rows-{rows}.parquet"
    with pq.ParquetWriter(place, MANIFEST) as writer:
        for table in _groups(files, rows):
            writer.write_table(table)
    return str(place)


def _groups(files: list[tuple[str, str, int]], rows: int) -> Iterator[pa.Table]:
    step = ID_END // (rows + 1)
    uris, digests, sizes = (pa.array(column) for column in zip(*files, strict=True))
    for start in range(0, rows, ROWS_A_GROUP):
        numbers = np.arange(start, min(rows, start + ROWS_A_GROUP), dtype=np.int64)
        which = pa.array(numbers % len(files))
        known = {
            "image_id": pa.array(numbers * step),
            "uri": uris.take(which),
            "sha256": digests.take(which),
            "bytes": sizes.take(which),
            "category": pa.array(["part"]).take(pa.array(np.zeros(len(numbers), np.int64))),
        }
        columns = [
            known[field.name].cast(field.type)
            if field.name in known
            else pa.nulls(len(numbers), field.type)
            for field in MANIFEST
        ]
        yield pa.table(columns, schema=MANIFEST)

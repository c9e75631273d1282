"""What a reader of a few rows or columns fetches from a bucket: these, and no more."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.tables import storage
from pipeline.tables.lookup import TableFile, listed_ids
from pipeline.tables.manifest import (
    MANIFEST_ROW_GROUP,
    image_id,
    pieces,
    read_piece,
    rows_at,
    with_all_columns,
    write_manifest,
)
from pipeline.tables.s3 import PatientS3
from tests.s3_server import access_to, new_bucket

COLUMNS = ["image_id", "uri", "sha256", "category"]
# Of which a piece of a manifest is a small part.
GROUPS = 6
# What Arrow reads from a file's end at first, where the footer is.
_FOOTER = 64 * 1024


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in access_to(s3_server).items():
        monkeypatch.setenv(name, value)
    return new_bucket(s3_server, f"parts-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of what was asked for, GET by GET."""
    sizes: list[int] = []
    get = PatientS3._get

    async def noted(self: PatientS3, request: dict[str, Any], most: int | None = None) -> Any:
        part = await get(self, request, most)
        sizes.append(part.size)
        return part

    monkeypatch.setattr(PatientS3, "_get", noted)
    yield sizes


def manifest_rows(count: int) -> pa.Table:
    digests = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)]
    return with_all_columns(
        pa.table(
            {
                "image_id": [image_id(digest) for digest in digests],
                "uri": [f"s3://plant/{digest[:20]}.png" for digest in digests],
                "sha256": digests,
                "category": ["bolt"] * count,
            }
        )
    )


def test_a_piece_of_a_manifest_is_its_row_group_alone(bucket: str, fetched: list[int]) -> None:
    uri = f"{bucket}/m.parquet"
    whole = manifest_rows(GROUPS * MANIFEST_ROW_GROUP)
    write_manifest(uri, whole)
    content = storage.read_bytes(uri)
    meta = pq.ParquetFile(pa.BufferReader(content)).metadata
    group = meta.row_group(2)
    size = sum(group.column(at).total_compressed_size for at in range(group.num_columns))

    fetched.clear()
    cut = pieces(uri, 1024)
    assert sum(fetched) <= _FOOTER
    piece = next(piece for piece in cut if piece[:2] == (2, 1024))
    fetched.clear()
    found = read_piece(uri, piece, COLUMNS)
    assert found.equals(whole.slice(2 * MANIFEST_ROW_GROUP + 1024, 1024).select(COLUMNS))
    assert sum(fetched) <= size + _FOOTER <= len(content) / 2
    # The footer's, and those of columns that don't lie side by side.
    assert len(fetched) <= 1 + len(COLUMNS)

    fetched.clear()
    found = rows_at(uri, np.array([5, 2 * MANIFEST_ROW_GROUP]), ["image_id"])
    assert found["image_id"].to_pylist() == [
        whole["image_id"][row].as_py() for row in (5, 2 * MANIFEST_ROW_GROUP)
    ]
    assert sum(fetched) <= size + _FOOTER


def test_ids_of_a_feature_file_are_a_small_part_of_it(bucket: str, fetched: list[int]) -> None:
    images = 300
    noise = np.random.default_rng(0)
    table = pa.table(
        {
            "image_id": pa.array(range(images), pa.int64()),
            "category": ["bolt"] * images,
            "cells": [noise.bytes(50_000) for _ in range(images)],
        }
    )
    content = storage.parquet_bytes(table, row_group_rows=60)
    file = TableFile("r", f"{bucket}/f.parquet", hashlib.sha256(content).hexdigest())
    storage.write_bytes(file.uri, content)
    fetched.clear()
    assert listed_ids(file).tolist() == list(range(images))
    assert sum(fetched) <= 0.02 * len(content)
    # Asked for once more, as the plan and the pieces do, they are at hand.
    fetched.clear()
    assert listed_ids(file).tolist() == list(range(images))
    assert fetched == []

"""The published files as other tools read them, and what stands in their footers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.tables import storage
from pipeline.tables.ledger import read_commits
from pipeline.tables.publication import FileLimits, build_file, plan_files
from pipeline.tables.schemas import DETECTIONS, ERRORS, FEATURES, MANIFEST, RUN_TABLES, SCORES
from tests.tables.rows import commit, images, in_order

TABLES = {"manifest": MANIFEST} | RUN_TABLES


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One published file of scores, detections and errors each."""
    run = str(tmp_path_factory.mktemp("run"))
    found = images(60)
    commit(run, found[:50], found[50:])
    files = {}
    for table in ("scores", "detections", "errors"):
        (plan,) = plan_files(
            list(read_commits(run)), table, storage.join(run, table), FileLimits(1000, 2**30), {}
        )
        file = build_file(run, plan, np.empty(0, np.int64))
        assert file is not None
        files[table] = file.uri
    return files


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_meaning_and_the_table_a_version(table: str) -> None:
    schema = TABLES[table]
    assert schema.metadata[b"linescore.table"] == table.encode()
    assert schema.metadata[b"linescore.schema_version"]
    assert schema.names[0] == "image_id"
    assert not schema.field("image_id").nullable
    for field in schema:
        assert len(field.metadata[b"description"]) > 5, field.name


def test_every_measure_has_a_unit() -> None:
    for schema in (SCORES, DETECTIONS):
        measures = [field for field in schema if pa.types.is_floating(field.type)]
        assert [field.name for field in measures if not field.metadata.get(b"unit")] == []


def test_tables_that_are_joined_share_their_columns() -> None:
    for name in ("image_id", "category"):
        for schema in (MANIFEST, DETECTIONS, FEATURES, ERRORS):
            assert schema.field(name).equals(SCORES.field(name), check_metadata=True)
    labels = ("uri", "split", "role", "group_id", "defect_type", "is_defect")
    for name in labels:
        for schema in (MANIFEST, ERRORS):
            assert schema.field(name).equals(SCORES.field(name), check_metadata=True)


@pytest.mark.parametrize("table", ["scores", "detections", "errors"])
def test_the_meanings_stand_in_the_file(published: dict[str, str], table: str) -> None:
    schema = pq.read_schema(published[table])
    assert schema.metadata[b"linescore.table"] == table.encode()
    for field in RUN_TABLES[table]:
        written = schema.field(field.name)
        assert (written.type, written.nullable) == (field.type, field.nullable)
        assert written.metadata[b"description"] == field.metadata[b"description"]


@pytest.mark.parametrize("table", ["scores", "detections", "errors"])
def test_pages_are_zstd_with_statistics_and_no_dictionary_of_numbers(
    published: dict[str, str], table: str
) -> None:
    metadata = pq.ParquetFile(published[table]).metadata
    text = {f.name for f in RUN_TABLES[table] if pa.types.is_string(f.type)}
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            name = column.path_in_schema
            assert column.compression == "ZSTD", name
            assert column.is_stats_set, name
            assert column.has_dictionary_page == (name in text), name
            assert column.has_offset_index, name
    ids = metadata.row_group(0).column(0).statistics
    assert (ids.min, ids.max) == min_and_max(published[table])


def min_and_max(file: str) -> tuple[int, int]:
    ids = pq.read_table(file)["image_id"].to_pylist()
    return min(ids), max(ids)


def test_float_features_have_no_dictionary(tmp_path: Path) -> None:
    rows = [{"image_id": i, "pooled": [0.5] * 4, "cells": b"12345678"} for i in range(100)]
    table = pa.Table.from_pylist(rows, schema=FEATURES)
    file = tmp_path / "f.parquet"
    file.write_bytes(storage.parquet_bytes(table))
    group = pq.ParquetFile(file).metadata.row_group(0)
    encodings = {
        group.column(i).path_in_schema: group.column(i).has_dictionary_page
        for i in range(group.num_columns)
    }
    assert encodings == {
        "image_id": False, "category": True, "pooled.list.element": False, "cells": False,
    }  # fmt: skip


# --- other tools ---


EXPECTED = in_order(images(60)[:50])


def check_rows(rows: list[dict[str, Any]]) -> None:
    """What each tool must see: ids, labels with their gaps, and the scores to the bit."""
    assert [(row["category"], row["image_id"]) for row in rows] == EXPECTED
    for row in rows:
        number = row["image_id"]
        assert row["anomaly_score"] == number % 1000 / 8
        assert row["is_defect"] is [True, False, None][number % 3]
        assert (row["width"], row["format"]) == (640, "PNG")
        assert row["detection_count"] == number % 4
        assert row["anomaly_cells"] is None


def test_duckdb_reads_scores_as_plain_types(published: dict[str, str]) -> None:
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet(?)", [published["scores"]])
        names = [column[0] for column in found.description]
        check_rows([dict(zip(names, row, strict=True)) for row in found.fetchall()])
        kinds = {column[0]: str(column[1]) for column in found.description}
        assert kinds["image_id"] == kinds["group_id"] == "BIGINT"
        assert kinds["anomaly_score"] == kinds["defect_probability"] == "FLOAT"
        assert kinds["is_defect"] == "BOOLEAN"
        assert kinds["category"] == kinds["uri"] == "VARCHAR"
        assert set(kinds.values()) == {"BIGINT", "FLOAT", "BOOLEAN", "VARCHAR", "INTEGER"}


def test_duckdb_joins_scores_with_boxes(published: dict[str, str]) -> None:
    with duckdb.connect() as database:
        wrong = database.execute(
            "SELECT count(*) FROM (SELECT s.image_id, any_value(detection_count) AS said, "
            "count(d.box_index) AS found FROM read_parquet(?) s "
            "LEFT JOIN read_parquet(?) d USING (image_id) GROUP BY s.image_id) WHERE said != found",
            [published["scores"], published["detections"]],
        ).fetchone()
    assert wrong == (0,)


def test_polars_reads_scores_as_plain_types(published: dict[str, str]) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(published["scores"])
    check_rows(frame.to_dicts())
    assert {str(kind) for kind in frame.dtypes} == {
        "Int64", "Int32", "Float32", "Boolean", "String",
    }  # fmt: skip
    few = polars.scan_parquet(published["scores"]).filter(polars.col("anomaly_score") > 50)
    assert few.collect().height == sum(number % 1000 / 8 > 50 for _, number in EXPECTED)


def test_pandas_reads_scores_as_plain_types(published: dict[str, str]) -> None:
    frame = pd.read_parquet(published["scores"], dtype_backend="numpy_nullable")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    check_rows(rows)
    plain = pd.read_parquet(published["scores"])
    assert plain["image_id"].dtype == np.int64
    assert plain["anomaly_score"].dtype == np.float32
    assert plain["anomaly_cells"].isna().all()
    assert plain["category"].isna().sum() == sum(category is None for category, _ in EXPECTED)

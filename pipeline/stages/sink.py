"""The ledger sink: wide blocks in, committed parts out, a line of counts for the driver."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.stages.chain import failed_rows, usable_rows
from pipeline.stages.timing import bytes_read, spent_in_blocks, spent_on
from pipeline.tables.ledger import Commit, Work, commit_tables
from pipeline.tables.schemas import DETECTIONS, ERRORS, FEATURES, SCORES

_COUNT = pa.struct([("category", pa.string()), ("error_type", pa.string()), ("images", pa.int64())])
_SPENT = pa.struct([("stage", pa.string()), ("seconds", pa.float64()), ("images", pa.int64())])
SUMMARY = pa.schema(
    [
        ("scored", pa.int64()),
        ("failed", pa.int64()),
        ("unreachable", pa.int64()),
        ("bytes", pa.int64()),
        ("counts", pa.list_(_COUNT)),
        ("spent", pa.list_(_SPENT)),
    ]
)


def commit_block(
    rows: pa.Table, run_folder: str, anomaly_score: str, keep: str, made: str = "decoded"
) -> pa.Table:
    """Writes and commits one block; the summary has one row.

    Args:
        rows: what came out of the last pool.
        run_folder: the run's folder.
        anomaly_score: which distance is `anomaly_score`.
        keep: which features are kept: none, pooled or cells.
        made: how the rows were made: decoded, reused or carried.
    """
    scored, failed = usable_rows(rows), failed_rows(rows)
    tables = {"scores": _scores(scored, anomaly_score), "errors": fill_columns(failed, ERRORS)}
    if "boxes" in rows.schema.names:
        tables["detections"] = _detections(scored)
    if keep != "none":
        tables["features"] = fill_columns(scored, FEATURES)
    work = Work(spent_on(rows), bytes_read(rows))
    return summary(commit_tables(run_folder, tables, work=work, made=made), rows)


def summary(commit: Commit, rows: pa.Table) -> pa.Table:
    """What the driver is told of a commit.

    Args:
        commit: the commit.
        rows: what it was made of: `counts` has its images by category and error (null: none),
            `spent` the seconds of its stages, block by block.
    """
    told = {name: len(getattr(commit, name)) for name in ("scored", "failed", "unreachable")}
    writing = [spent for spent in commit.work.spent if spent.stage == "commit"]
    spent = [asdict(one) for one in (*spent_in_blocks(rows), *writing)]
    row = told | {"bytes": commit.work.bytes, "counts": _counts(rows), "spent": spent}
    return pa.Table.from_pylist([row], schema=SUMMARY)


def _counts(rows: pa.Table) -> list[dict[str, object]]:
    keys = ["category", "error_type"]
    for name in keys:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(rows), pa.string()))
    found = rows.select(keys).group_by(keys).aggregate([([], "count_all")])
    counts: list[dict[str, object]] = found.rename_columns([*keys, "images"]).to_pylist()
    return counts


def fill_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, from rows that may lack some; those are null."""
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _scores(rows: pa.Table, anomaly_score: str) -> pa.Table:
    chosen = f"anomaly_{anomaly_score}"
    if chosen in rows.schema.names:
        rows = rows.append_column("anomaly_score", rows.column(chosen))
    if "boxes" in rows.schema.names:
        counts, best = _strongest(rows.column("boxes").combine_chunks())
        rows = rows.append_column("detection_count", pa.array(counts, pa.int32()))
        rows = rows.append_column("detection_max_confidence", pa.array(best, pa.float32()))
    return fill_columns(rows, SCORES)


def _strongest(boxes: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """How many boxes each image has, and the highest confidence; 0 without a box."""
    counts = pc.list_value_length(boxes).to_numpy(zero_copy_only=False).astype(np.int32)
    best = np.zeros(len(counts), np.float32)
    confidence = pc.struct_field(boxes.flatten(), "confidence").to_numpy()
    starts = np.cumsum(counts) - counts
    some = counts > 0
    if some.any():
        best[some] = np.maximum.reduceat(confidence, starts[some])
    return counts, best


def _detections(rows: pa.Table) -> pa.Table:
    """One row per box, in the order of confidence."""
    column = rows.column("boxes").combine_chunks()
    parents = pc.list_parent_indices(column).to_numpy()
    boxes = column.flatten()
    first = np.searchsorted(parents, parents)  # where each image's boxes begin
    order = pa.table(
        {
            "image_id": rows.column("image_id").take(pa.array(parents)),
            "category": rows.column("category").take(pa.array(parents)),
            "box_index": pa.array(np.arange(len(parents)) - first, pa.int32()),
        }
    )
    for field in boxes.type:
        order = order.append_column(field.name, pc.struct_field(boxes, field.name))
    return fill_columns(order, DETECTIONS)

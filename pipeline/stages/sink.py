"""The ledger sink: wide blocks in, committed parts out, a line of counts for the driver."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.stages.chain import failed_rows, usable_rows
from pipeline.tables.ledger import Commit, commit_tables
from pipeline.tables.schemas import DETECTIONS, ERRORS, FEATURES, SCORES

SUMMARY = pa.schema([("scored", pa.int64()), ("failed", pa.int64()), ("unreachable", pa.int64())])


def commit_block(rows: pa.Table, run_folder: str, anomaly_score: str, keep: str) -> pa.Table:
    """Writes and commits one block; the summary has one row.

    Args:
        rows: what came out of the last pool.
        run_folder: the run's folder.
        anomaly_score: which distance is `anomaly_score`.
        keep: which features are kept: none, pooled or cells.
    """
    scored, failed = usable_rows(rows), failed_rows(rows)
    tables = {"scores": _scores(scored, anomaly_score), "errors": fill_columns(failed, ERRORS)}
    if "boxes" in rows.schema.names:
        tables["detections"] = _detections(scored)
    if keep != "none":
        tables["features"] = fill_columns(scored, FEATURES)
    return summary(commit_tables(run_folder, tables))


def summary(commit: Commit) -> pa.Table:
    """What the driver is told of a commit."""
    counts = (commit.scored, commit.failed, commit.unreachable)
    return pa.table([[len(ids)] for ids in counts], schema=SUMMARY)


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
        boxes = rows.column("boxes").to_pylist()
        best = [max((box["confidence"] for box in found), default=0.0) for found in boxes]
        rows = rows.append_column("detection_count", pa.array(map(len, boxes), pa.int32()))
        rows = rows.append_column("detection_max_confidence", pa.array(best, pa.float32()))
    return fill_columns(rows, SCORES)


def _detections(rows: pa.Table) -> pa.Table:
    """One row per box, in the order of confidence."""
    column = rows.column("boxes").combine_chunks()
    parents = pc.list_parent_indices(column).to_numpy()
    boxes = column.flatten()
    order = pa.table(
        {
            "image_id": rows.column("image_id").take(pa.array(parents)),
            "category": rows.column("category").take(pa.array(parents)),
            "box_index": pa.array(_running_index(parents), pa.int32()),
        }
    )
    for field in boxes.type:
        order = order.append_column(field.name, pc.struct_field(boxes, field.name))
    return fill_columns(order, DETECTIONS)


def _running_index(parents: list[int]) -> list[int]:
    """0, 1, 2 … within each run of equal values."""
    counts: dict[int, int] = {}
    result = []
    for parent in parents:
        result.append(counts.get(parent, 0))
        counts[parent] = result[-1] + 1
    return result

"""The ledger sink: wide blocks in, committed parts out, a line of counts for the driver."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.scoring.rows import (
    detection_rows,
    failed_rows,
    fill_columns,
    score_rows,
    usable_rows,
)
from pipeline.stages.timing import bytes_read, spent_in_blocks, spent_on
from pipeline.tables.ledger import Commit, Work, commit_tables
from pipeline.tables.schemas import ERRORS, FEATURES, UNREACHABLE_ERRORS

_COUNT = pa.struct([("category", pa.string()), ("error_type", pa.string()), ("images", pa.int64())])
_SPENT = pa.struct([("stage", pa.string()), ("seconds", pa.float64()), ("images", pa.int64())])
SUMMARY = pa.schema(
    [
        ("scored", pa.int64()),
        ("failed", pa.int64()),
        ("unreachable", pa.int64()),
        ("unread", pa.int64()),
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
    tables = {"scores": score_rows(scored, anomaly_score), "errors": fill_columns(failed, ERRORS)}
    if "boxes" in rows.schema.names:
        tables["detections"] = detection_rows(scored)
    if keep != "none":
        tables["features"] = fill_columns(scored, FEATURES)
    work = Work(spent_on(rows), bytes_read(rows))
    return summary(commit_tables(run_folder, tables, work=work, made=made), rows)


def summary(commit: Commit, rows: pa.Table) -> pa.Table:
    """What the driver is told of a commit.

    `unread` are the images whose file could not be read when it was indexed; `unreachable` has
    none of them.

    Args:
        commit: the commit.
        rows: what it was made of: `counts` has its images by category and error (null: none),
            `spent` the seconds of its stages, block by block.
    """
    told = {name: len(getattr(commit, name)) for name in ("scored", "failed", "unreachable")}
    unread = rows.column("error_type").filter(pc.is_valid(rows.column("index_error")))
    told["unreachable"] -= pc.sum(pc.is_in(unread, pa.array(UNREACHABLE_ERRORS))).as_py() or 0
    told["unread"] = len(unread)
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

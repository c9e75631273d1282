"""An evaluation's folder in the store: its tables, each row's decision, and its record last."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.evaluation.rows import RowSource, decisions
from pipeline.policy.language import OUTCOMES, Resolved
from pipeline.tables import storage
from pipeline.tables.evaluation_schemas import DECISIONS

# Written last: a folder without it is of an evaluation that hasn't ended.
_RECORD = "evaluation.json"
# Tables that not every evaluation has.
_SOMETIMES = ("decisions", "flips", "sweep", "figures", "quality", "mistakes", "histograms")


def folder_of(config: EvaluateConfig) -> str:
    """Where an evaluation is written.

    Raises:
        InputError: nobody can write there.
    """
    folder = storage.join(storage.absolute(config.store), "reports", config.name)
    storage.require_writable(folder, "store")
    return folder


def write_report(
    config: EvaluateConfig, told: dict[str, Any], tables: dict[str, pa.Table]
) -> dict[str, Any]:
    """Writes the tables, then what is told of them.

    Returns:
        What is told, with the places of the tables and of the folder.
    """
    folder = folder_of(config)
    report: dict[str, Any] = told | {"tables": {}, "folder": folder}
    _withdraw(folder)
    # An older evaluation's would stand beside tables that they don't belong to.
    for name in {*_SOMETIMES} - {*tables, *told}:
        storage.remove(storage.join(folder, f"{name}.parquet"))
    for name, table in tables.items():
        uri = storage.join(folder, f"{name}.parquet")
        storage.write_bytes(uri, storage.parquet_bytes(table))
        report["tables"][name] = uri
    storage.write_json(storage.join(folder, _RECORD), report)
    return report


def write_decisions(
    source: RowSource, policy: Resolved, counted: tuple[int, int], folder: str
) -> dict[str, Any]:
    """Every row's decision and reason; checked against the counts.

    Args:
        source: the rows.
        policy: what decides them.
        counted: the rows that were counted as defects, and those that go to review.
        folder: where the table is written.

    Returns:
        The policy's name, the table's place, and the rows of each outcome.

    Raises:
        RunError: they differ, so the table was changed in between; nothing is written.
    """
    name = policy.policy.name
    uri = storage.join(folder, "decisions.parquet")
    told = dict.fromkeys(OUTCOMES, 0)
    with tempfile.TemporaryDirectory(prefix="linescore-decisions-") as local:
        file = Path(local) / "decisions.parquet"
        with pq.ParquetWriter(file, DECISIONS, compression="zstd") as writer:
            for table in decisions(source, policy):
                writer.write_table(table)
                for entry in table["decision"].value_counts().to_pylist():
                    told[entry["values"]] += entry["counts"]
        if (told["defect"], told["review"]) != counted:
            raise RunError(
                f"decide: {name}: {told['defect']} rows are decided as defects and {told['review']}"
                f" go to review, where {counted[0]} and {counted[1]} were counted: the table "
                "changed meanwhile; evaluate again"
            )
        _withdraw(folder)
        storage.write_bytes(uri, file.read_bytes())
    return {"policy": name, "uri": uri, "counts": told}


def _withdraw(folder: str) -> None:
    """Takes an older evaluation's record away, before the first of its tables is replaced.

    Whatever ends this process then, no record stands beside tables that aren't its own.
    """
    for name in (_RECORD, "report.html"):
        storage.remove(storage.join(folder, name))

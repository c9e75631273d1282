"""Small tables of scores and policies as files, and what an evaluation makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import EvaluateConfig
from pipeline.evaluation.evaluate import run_evaluate


@dataclass(frozen=True)
class Bench:
    """A folder with a table, policies and thresholds to evaluate."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "table.parquet"

    @property
    def policies(self) -> Path:
        return self.folder / "policies"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def report(self) -> Path:
        return self.store / "reports" / "evaluation"

    def put(self, rows: list[dict[str, Any]] | pd.DataFrame, schema: pa.Schema) -> None:
        """The table, anew."""
        if isinstance(rows, pd.DataFrame):
            rows = rows.to_dict("records")
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), self.table)

    def policy(self, name: str, decide: Any, **more: Any) -> dict[str, Any]:
        """A policy's file, and its document."""
        document = {"policy": "v1", "name": name, "decide": decide} | more
        self.policies.mkdir(exist_ok=True)
        (self.policies / f"{name}.json").write_text(json.dumps(document))
        return document

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Of an evaluation of this table with these policies."""
        given = {
            "store": str(self.store),
            "table": str(self.table),
            "policies": str(self.policies),
        }
        return {name: value for name, value in (given | changes).items() if value is not None}

    def arguments(self, **changes: Any) -> list[str]:
        """The same for a command line; nested settings as `columns.role` = ..."""
        return [f"{name}={value}" for name, value in self.settings(**changes).items()]

    def evaluate(self, **changes: Any) -> dict[str, Any]:
        """Evaluates; the report."""
        return run_evaluate(EvaluateConfig.model_validate(self.settings(**changes)))

    def read(self, name: str) -> pd.DataFrame:
        """A table of the report."""
        return pq.read_table(self.report / f"{name}.parquet").to_pandas()


SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("uri", pa.string()),
        ("category", pa.string()),
        ("defect_type", pa.string()),
        ("is_defect", pa.bool_()),
        ("role", pa.string()),
        ("a", pa.float32()),
        ("b", pa.float64()),
    ]
)


def row(number: int, defect: bool | None, a: float | None, **more: Any) -> dict[str, Any]:
    """A row of `SCHEMA`."""
    kind = {None: None, True: "dent", False: "good"}[defect]
    values = {
        "image_id": number,
        "uri": f"{number}.png",
        "category": "tile",
        "defect_type": kind,
        "is_defect": defect,
        "role": "test",
        "a": a,
        "b": a,
    }
    return values | more


def at_least(score: str, threshold: Any) -> dict[str, Any]:
    return {"score": score, "ge": threshold}

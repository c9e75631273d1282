"""Cells of runs are kept: equal counts, and rows are read once for the same thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.config import EvaluateConfig
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import run_evaluate
from tests.evaluation.tables import SCHEMA, Bench, at_least, row
from tests.scoring.runs import image_rows, make_bundle, make_run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One published run of 90 test images, and a policy."""
    store = tmp_path / "store"
    rows = [
        *image_rows(0, 40, "test", False),
        *image_rows(100, 30, "test", True),
        *image_rows(200, 20, "test", None),
    ]
    make_run(str(store), make_bundle(str(store)), rows)
    policy(store, 25)
    return store


def policy(store: Path, threshold: float) -> None:
    document = {"policy": "v1", "name": "p", "decide": at_least("anomaly_score", threshold)}
    (store / "p.json").write_text(json.dumps(document))


def evaluate(store: Path, **changes: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    values = {"store": str(store), "run_id": "r", "policies": str(store / "p.json")} | changes
    report = run_evaluate(EvaluateConfig.model_validate(values))
    return report, pq.read_table(report["tables"]["figures"]).to_pandas()


def test_kept_cells_give_the_same_figures_and_spare_the_rows(store: Path) -> None:
    _, plain = evaluate(store)
    first, counted = evaluate(store, keep_cells=True)
    again, read = evaluate(store, keep_cells=True)
    pd.testing.assert_frame_equal(counted, plain)
    pd.testing.assert_frame_equal(read, plain)
    assert first["counted"] == "cells of 0 files read, 1 files counted and kept"
    assert again["counted"] == "cells of 1 files read, 0 files counted and kept"


def test_a_night_that_was_counted_is_not_read_again(store: Path) -> None:
    spare = {"keep_cells": True, "roles": "test", "mistakes": 0, "scores": (), "html": False}
    _, before = evaluate(store, **spare)
    (part,) = (store / "tables/scores/run=r").glob("*.parquet")
    whole = pq.read_table(part)
    # The footer is still there to be read; a row that were asked for would be an error.
    content = bytearray(part.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4 : len(content) - footer] = bytes(len(content) - footer - 4)
    part.write_bytes(content)
    with pytest.raises((OSError, InputError)):
        evaluate(store, **(spare | {"roles": ("test", "fit")}))
    _, after = evaluate(store, **spare)
    pd.testing.assert_frame_equal(after, before)
    assert len(whole)


def test_other_thresholds_or_rows_are_counted_anew(store: Path) -> None:
    evaluate(store, keep_cells=True)
    policy(store, 26)
    report, figures = evaluate(store, keep_cells=True)
    assert "1 files counted" in report["counted"]
    pd.testing.assert_frame_equal(figures, evaluate(store)[1])
    report, _ = evaluate(store, keep_cells=True, roles=("test", "validation"))
    assert "1 files counted" in report["counted"]


def test_cells_are_those_of_the_file_not_of_its_name(store: Path) -> None:
    evaluate(store, keep_cells=True)
    rows = [*image_rows(0, 40, "test", False), *image_rows(300, 50, "test", True)]
    make_run(str(store), make_bundle(str(store)), rows)
    report, figures = evaluate(store, keep_cells=True)
    assert "1 files counted" in report["counted"]
    pd.testing.assert_frame_equal(figures, evaluate(store)[1])


def test_a_table_that_may_change_keeps_no_cells(bench: Bench) -> None:
    bench.put([row(1, True, 0.9), row(2, False, 0.1)], SCHEMA)
    bench.policy("p", at_least("a", 0.5))
    with pytest.raises(InputError, match=r"keep_cells: table.parquet: is no published run"):
        bench.evaluate(keep_cells=True)


@pytest.mark.parametrize("content", [b"PAR1 no more", None])
def test_damaged_cells_are_counted_anew(store: Path, content: bytes | None) -> None:
    evaluate(store, keep_cells=True)
    (file,) = (store / "cells").rglob("*.parquet")
    if content is None:
        table = pq.read_table(file)
        pq.write_table(table.slice(0, 1).rename_columns(["key", "counts"]), file)
    else:
        file.write_bytes(content)
    report, figures = evaluate(store, keep_cells=True)
    assert "1 files counted" in report["counted"]
    pd.testing.assert_frame_equal(figures, evaluate(store)[1])

"""Counting on the cluster: the same figures as on one machine, from every file of a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import EvaluateConfig
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.stages.evaluate import run_evaluate_on_cluster
from pipeline.tables.labels import Label, append_label, labels_folder


def archive(folder: Path) -> None:
    """Three files, in which the categories differ; ties and missing scores."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(3):
        count = 500 + number
        defect = rng.random(count) < 0.3
        scores = np.round(rng.random(count) + 0.5 * defect, 1).astype(np.float32)
        table = pa.table(
            {
                "image_id": pa.array(np.arange(count) + 1000 * number),
                "category": rng.choice(["bolt", "tile", f"only-{number}"], count),
                "defect_type": np.where(defect, "dent", "good"),
                "is_defect": defect,
                "a": pa.array(scores, mask=rng.random(count) < 0.1),
                "b": rng.random(count),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=200)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_cluster_counts_what_one_machine_counts(cluster: str, tmp_path: Path) -> None:
    archive(tmp_path / "table")
    one, two = ({"score": "a", "ge": 0.7}, {"score": "b", "lt": 0.4})
    document = {"policy": "v1", "name": "p", "on_missing": "review", "decide": {"all": [one, two]}}
    (tmp_path / "p.json").write_text(json.dumps(document))
    variables = {"x": {"values": [0.2, 0.5, 0.9]}}
    template = document | {"decide": {"score": "a", "ge": {"var": "x"}}}
    sweep = {"sweep": "v1", "template": template, "variables": variables}
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    values = {
        "store": str(tmp_path),
        "table": str(tmp_path / "table"),
        "policies": str(tmp_path / "p.json"),
        "sweep": str(tmp_path / "sweep.json"),
    }
    tables = []
    # People's labels count in every file: 2000 lies in the last one.
    before = run_evaluate(EvaluateConfig.model_validate(values | {"name": "unlabelled"}))
    for image, label in ((1000, "good"), (1001, "defect"), (2000, "unsure"), (3001, "defect")):
        append_label(str(tmp_path), Label(image, label))
    values["labels"] = labels_folder(str(tmp_path))
    for name, evaluate in (("here", run_evaluate), ("there", run_evaluate_on_cluster)):
        report = evaluate(EvaluateConfig.model_validate(values | {"name": name}))
        tables.append([pq.read_table(report["tables"][t]) for t in ("figures", "sweep")])
    assert "3 files, counted on the cluster" in report["counted"]
    for ours, theirs in zip(*tables, strict=True):
        assert ours.num_rows > 2
        assert ours.equals(theirs)
    assert not pq.read_table(before["tables"]["figures"]).equals(tables[0][0])

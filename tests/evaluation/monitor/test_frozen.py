"""A reference without its rows: the same answer, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.tables import storage
from tests.evaluation.monitor.nights import Line, failed, images

FILE = "references/spring.parquet"


def reference(line: Line) -> None:
    line.publish(
        "first",
        images(1, 500),
        images(2, 200, category="bolt", defect_logit=np.nan),
        images(3, 100, category=None),
        errors=[failed(7)],
    )


def test_a_frozen_reference_gives_every_figure_that_its_run_gave(line: Line) -> None:
    reference(line)
    night = [images(4, anomaly_score=lambda a: 1.2 * a), images(5, category="bolt")]
    line.publish("night", *night, errors=[failed(20)])
    policies = line.policy("stop", "anomaly_score", 23.5)
    first = line.monitor(policies=policies)
    frozen = line.monitor(run_id=None, freeze="spring", policies=policies)
    assert frozen["verdict"] == "frozen"
    storage.remove(storage.join(line.store, "tables", "scores", "run=first"))
    storage.remove(storage.join(line.store, "published", "first.json"))
    again = line.monitor(reference=None, frozen="spring", policies=policies, name="again")
    assert again["categories"] == first["categories"]
    for name in ("drift", "flagged", "near", "verdicts"):
        pd.testing.assert_frame_equal(line.read(name), line.read(name, "again"))
    assert again["reference"]["run_id"] == "first"


@pytest.mark.parametrize("scored", [True, False], ids=["scored since", "not scored since"])
def test_a_category_without_scores_is_frozen_as_its_run_has_it(line: Line, scored: bool) -> None:
    line.publish("first", images(1, 500), errors=[failed(7, category="bolt")])
    bolts = [images(5, category="bolt")] if scored else []
    line.publish("night", images(4), *bolts, errors=[failed(20, category="bolt")])
    policies = line.policy("stop", "anomaly_score", 23.5)
    first = line.monitor(policies=policies)
    line.monitor(run_id=None, freeze="spring", policies=policies)
    again = line.monitor(reference=None, frozen="spring", policies=policies, name="again")
    assert again["categories"] == first["categories"]
    assert again["warnings"] == first["warnings"] == []
    for name in ("drift", "flagged", "near", "verdicts"):
        pd.testing.assert_frame_equal(line.read(name), line.read(name, "again"))
    assert set(line.read("flagged", "again").category) == {"tile"}


def test_its_size_does_not_grow_with_its_rows(line: Line) -> None:
    sizes = []
    for count in (2000, 8000):
        line.publish("first", images(1, count))
        line.monitor(run_id=None, freeze="spring")
        sizes.append((Path(line.store) / FILE).stat().st_size)
    assert sizes[1] < 1.2 * sizes[0]
    assert sizes[1] < 150_000


def test_freezing_and_comparing_go_together(line: Line) -> None:
    reference(line)
    line.publish("night", images(4))
    report = line.monitor(freeze="spring")
    assert report["verdict"] == "ok"
    assert Path(report["frozen"]).exists()


def test_a_policy_that_was_not_frozen_is_not_compared(line: Line) -> None:
    reference(line)
    line.monitor(run_id=None, freeze="spring", policies=line.policy("stop", "anomaly_score", 23.5))
    line.publish("night", images(4))
    other = line.policy("stop", "anomaly_score", 24.5)
    report = line.monitor(reference=None, frozen="spring", policies=other)
    (tile,) = [one for one in report["categories"] if one["category"] == "tile"]
    assert "stop not compared: the reference was frozen without this policy" in tile["reason"]
    assert tile["verdict"] == "ok"
    assert any("stop: its flagged rate is not compared" in one for one in report["warnings"])
    reads = line.policy("cells", "anomaly_cells", 3.0)
    with pytest.raises(InputError, match="cells: reads anomaly_cells, without which first was"):
        line.monitor(reference=None, frozen="spring", policies=reads)


def test_a_name_that_nobody_froze(line: Line) -> None:
    line.publish("night", images(4))
    with pytest.raises(InputError, match=r"frozen: spring: there is no .*; freeze=spring with"):
        line.monitor(reference=None, frozen="spring")


def test_a_frozen_reference_of_the_run_itself(line: Line) -> None:
    reference(line)
    line.monitor(run_id=None, freeze="spring")
    with pytest.raises(InputError, match="frozen: spring: was made of the run first itself"):
        line.monitor(run_id="first", reference=None, frozen="spring")


def damaged(table: pa.Table, how: str) -> pa.Table:
    key = b"linescore.reference"
    head = json.loads(table.schema.metadata[key])
    if how == "metadata":
        return table.replace_schema_metadata({})
    if how == "version":
        return table.replace_schema_metadata({key: json.dumps(head | {"version": "0"})})
    if how == "json":
        return table.replace_schema_metadata({key: b"{"})
    if how == "category":
        del head["categories"][0]["images"]
        return table.replace_schema_metadata({key: json.dumps(head)})
    if how == "rows":
        return table.slice(5)
    if how == "column":
        return table.drop_columns(["sum"])
    edges = table["edge"].to_pylist()
    edges[3] = edges[5]
    return table.set_column(2, table.schema.field("edge"), pa.array(edges, pa.float64()))


@pytest.mark.parametrize("how", ["metadata", "version", "json", "category", "column", "edges"])
def test_a_file_that_is_no_frozen_reference_is_refused(line: Line, how: str) -> None:
    reference(line)
    line.publish("night", images(4))
    line.monitor(run_id=None, freeze="spring")
    file = Path(line.store) / FILE
    pq.write_table(damaged(pq.read_table(file), how), file)
    with pytest.raises(InputError, match=r"frozen: .*spring.parquet: is no frozen reference"):
        line.monitor(reference=None, frozen="spring")
    assert not (Path(line.store) / "reports").exists()


def test_a_file_that_is_no_parquet_is_refused(line: Line) -> None:
    line.publish("night", images(4))
    file = Path(line.store) / FILE
    file.parent.mkdir()
    file.write_bytes(b"not at all")
    with pytest.raises(InputError, match=r"spring.parquet: can't be read as Parquet"):
        line.monitor(reference=None, frozen="spring")

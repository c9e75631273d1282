"""Drift from Python: the monitor's measures, of runs and of rows in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.api import compare_drift, load_run
from pipeline.errors import InputError
from tests.evaluation.monitor.nights import Line, images


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_runs_are_measured_as_the_monitor_measures_them(line: Line) -> None:
    report = line.compare(images(1), images(2, brightness=lambda usual: usual * 0.8))
    found = compare_drift(load_run(line.store, "first"), load_run(line.store, "night"))
    assert found.verdict == report["verdict"] == "drift"
    assert found.measures.to_pandas().equals(line.read("drift"))
    assert found.verdicts.to_pandas().equals(line.read("verdicts"))


def test_rows_in_memory_are_measured_as_their_runs_are(line: Line) -> None:
    line.publish("first", images(1))
    line.publish("night", images(2))
    runs = load_run(line.store, "first"), load_run(line.store, "night")
    ours = compare_drift(*(run.scores() for run in runs))
    theirs = compare_drift(*runs)
    assert ours.verdict == theirs.verdict == "ok"
    assert ours.measures.equals(theirs.measures)
    mixed = compare_drift(runs[0], runs[1].scores().to_pandas())
    assert mixed.measures.equals(theirs.measures)


def test_rows_need_no_more_than_a_category_a_label_and_a_score() -> None:
    columns = ["category", "is_defect", "anomaly_score"]
    first, same, moved = (
        images(seed, is_defect=False, anomaly_score=lambda usual, by=by: by * usual)[columns]
        for seed, by in ((1, 1.0), (2, 1.0), (3, 1.3))
    )
    found = compare_drift(first, same)
    assert found.verdict == "ok"
    assert found.measures["measure"].to_pylist() == ["anomaly_score"]
    assert compare_drift(first, moved).verdict == "drift"


@pytest.mark.parametrize("strange", [2, -1, 300])
@pytest.mark.parametrize("good_only", [True, False])
def test_a_label_that_is_neither_good_nor_a_defect_is_refused(
    strange: int, good_only: bool
) -> None:
    columns = ["category", "is_defect", "anomaly_score"]
    first, night = (images(seed, is_defect=0)[columns] for seed in (1, 2))
    night.loc[7, "is_defect"] = strange
    with pytest.raises(InputError, match=f"columns.is_defect: {strange}: is no label; 1 for a de"):
        compare_drift(first, night, good_only=good_only)


def test_formats_and_sizes_are_compared_where_both_sides_have_them() -> None:
    first, night = (images(seed).assign(is_defect=False) for seed in (1, 2))
    found = compare_drift(first, night.assign(format="JPEG"))
    assert found.verdict == "drift"
    for lacking, left in (("format", {"size"}), ("width", {"format"})):
        fewer = first.drop(columns=lacking)
        for rows in (night, night.drop(columns=lacking)):
            measures = compare_drift(fewer, rows).measures.to_pandas()
            assert set(measures[measures.kind == "kinds"].measure) == left
        with pytest.raises(InputError, match=f"rows: have no column {lacking}, which the refer"):
            compare_drift(first, night.drop(columns=lacking))


def test_what_cannot_be_compared_is_told_with_the_way_out(line: Line) -> None:
    line.publish("first", images(1))
    run = load_run(line.store, "first")
    lacking = run.scores().drop_columns(["anomaly_score"])
    with pytest.raises(InputError, match="rows: have no column anomaly_score"):
        compare_drift(run, lacking)
    with pytest.raises(InputError, match=r"settings: alfa: unknown key .* did you mean alpha"):
        compare_drift(run, run.scores(), alfa=0.1)
    with pytest.raises(InputError, match="no category is in both"):
        compare_drift(run, images(2, category="bolt").assign(is_defect=False))
    line.publish("other", images(3), scorer="0d" * 32)
    other = compare_drift(run, load_run(line.store, "other"))
    assert any("were scored by" in w or "scored by" in w for w in other.warnings)

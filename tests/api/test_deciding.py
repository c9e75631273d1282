"""Decisions with their reasons, against the comparison written out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.api import Run, decide, explain, load_bundle, load_policy, load_thresholds
from pipeline.errors import InputError

SAFE = {"score": "anomaly_score", "ge": {"ref": "anomaly_score.safe"}}


def policy(decide: Any, **more: Any) -> Any:
    return load_policy({"policy": "v1", "name": "p", "decide": decide} | more)


def test_every_row_is_decided_by_its_own_categorys_threshold(run: Run, store: str) -> None:
    bundle = load_bundle(store)
    assert bundle.thresholds is not None
    by_category = bundle.thresholds["anomaly_score"]["categories"]
    rows = run.scores()
    found = decide(policy(SAFE), rows, bundle)
    frame = rows.to_pandas()
    limit = frame.category.map(lambda name: by_category[name]["safe"]["value"])
    flagged = frame.anomaly_score >= limit.astype(np.float32)
    assert (found["decision"].to_pandas() == np.where(flagged, "defect", "good")).all()
    assert found["image_id"].equals(rows["image_id"])
    assert 0 < flagged.sum() < len(flagged)
    for name, reason in zip(frame.category, found["reason"].to_pylist(), strict=True):
        assert f"anomaly_score safe of {name}" in reason


def test_a_data_frame_decides_as_the_arrow_table_does(run: Run, store: str) -> None:
    bundle, rows = load_bundle(store), run.scores()
    frame = rows.to_pandas()
    assert decide(policy(SAFE), frame, bundle).equals(decide(policy(SAFE), rows, bundle))


def test_one_row_is_explained_with_its_value_and_threshold(run: Run, store: str) -> None:
    rows, bundle = run.scores(), load_bundle(store)
    decisions = decide(policy(SAFE), rows, bundle)["decision"].to_pylist()
    for place in (0, 60, 100):
        row = rows.slice(place, 1).to_pylist()[0]
        why = explain(policy(SAFE), row, bundle)
        assert why.outcome == decisions[place]
        (because,) = why.because
        assert because.value == row["anomaly_score"]
        assert str(np.float32(because.threshold)) in why.says


def test_a_plain_number_is_compared_as_the_tables_hold_it_and_numpys_in_its_own_type() -> None:
    # float32(0.7) is below 0.7: in a table's type both are the same number.
    rule = policy({"score": "a", "ge": 0.7})
    assert explain(rule, {"category": "tile", "a": 0.7}).outcome == "defect"
    assert explain(rule, {"category": "tile", "a": np.float32(0.7)}).outcome == "defect"
    below = np.nextafter(np.float64(0.7), 0)
    assert explain(rule, {"category": "tile", "a": float(below)}).outcome == "defect"
    assert explain(rule, {"category": "tile", "a": below}).outcome == "good"


def test_a_missing_score_is_what_the_policy_says_or_an_error() -> None:
    rows = pa.table({"category": ["tile", "tile"], "a": pa.array([None, 1.0], pa.float32())})
    rule = {"score": "a", "ge": 0.5}
    found = decide(policy(rule, on_missing="review"), rows)
    assert found["decision"].to_pylist() == ["review", "defect"]
    with pytest.raises(InputError, match="doesn't say what a row without a is"):
        decide(policy(rule), rows)
    with pytest.raises(InputError, match="doesn't say what a row without a is"):
        explain(policy(rule), {"category": "tile", "a": None})
    assert explain(policy(rule, on_missing="good"), {"category": "x", "a": None}).outcome == "good"


def test_an_oracle_decides_by_the_true_type() -> None:
    rows = pd.DataFrame({"category": "tile", "defect_type": ["dent", "hole"], "a": [1.0, 1.0]})
    rule = policy({"all": [{"score": "a", "ge": 0.5}, {"defect_type": ["dent"]}]}, oracle=True)
    assert decide(rule, rows)["decision"].to_pylist() == ["defect", "good"]


def test_policies_and_thresholds_come_from_files_too(tmp_path: Path) -> None:
    rule = {"policy": "v1", "name": "mine", "decide": {"score": "a", "ge": {"ref": "tau"}}}
    (tmp_path / "mine.json").write_text(json.dumps(rule))
    (tmp_path / "tau.json").write_text(json.dumps({"tau": {"tile": 0.5, "bolt": 2}}))
    rows = pd.DataFrame({"category": ["tile", "bolt"], "a": [1.0, 1.0]})
    found = decide(
        load_policy(tmp_path / "mine.json"), rows, load_thresholds(tmp_path / "tau.json")
    )
    assert found["decision"].to_pylist() == ["defect", "good"]
    assert found["policy"].to_pylist() == ["mine", "mine"]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        (
            "image_id",
            ["a1", "a2"],
            "columns.image_id: image_id of the rows is .*string; whole",
        ),
        (
            "is_defect",
            ["yes", "no"],
            "columns.is_defect: is_defect of the rows is .*string; true",
        ),
        ("is_defect", [-1, 1], "columns.is_defect: -1: is no label; 1 for a defect, 0 for a good"),
    ],
    ids=["an id of text", "a label of text", "a label of -1"],
)
def test_ids_and_labels_are_refused_as_evaluating_them_refuses_them(
    column: str, values: list[Any], says: str
) -> None:
    rows = pd.DataFrame({"category": "tile", "a": [1.0, 0.0], column: values})
    with pytest.raises(InputError, match=says):
        decide(policy({"score": "a", "ge": 0.5}), rows)


@pytest.mark.parametrize(
    ("column", "values", "taken"),
    [
        ("is_defect", [1, 0, None], [True, False, None]),
        ("is_defect", [True, False, None], [True, False, None]),
        ("is_defect", [np.nan] * 3, [None] * 3),
        ("image_id", [3, 4, None], [3, 4, None]),
        ("image_id", [np.nan] * 3, [None] * 3),
    ],
)
def test_ids_and_labels_are_taken_over_as_pandas_holds_them(
    column: str, values: list[Any], taken: list[Any]
) -> None:
    rows = pd.DataFrame({"category": "tile", "a": [1.0, 0.0, 1.0], column: values})
    assert decide(policy({"score": "a", "ge": 0.5}), rows)[column].to_pylist() == taken


def test_what_cannot_be_decided_is_told_with_the_way_out(tmp_path: Path) -> None:
    rule = policy({"score": "a", "ge": {"ref": "tau"}})
    rows = pd.DataFrame({"category": ["tile"], "a": [1.0]})
    with pytest.raises(InputError, match="there is no threshold 'tau'"):
        decide(rule, rows)
    with pytest.raises(InputError, match="for the category 'tile'"):
        decide(rule, rows, {"tau": {"bolt": 1}})
    with pytest.raises(InputError, match="rows: have no column category"):
        decide(rule, rows.drop(columns="category"), {"tau": 1})
    with pytest.raises(InputError, match="'a'"):
        decide(rule, rows.drop(columns="a"), {"tau": 1})
    with pytest.raises(InputError, match="rows: are a list"):
        decide(rule, [1], {"tau": 1})
    with pytest.raises(InputError, match="gee"):
        policy({"score": "a", "gee": 1})
    with pytest.raises(InputError, match=r"policies: .*none\.json"):
        load_policy(tmp_path / "none.json")
    with pytest.raises(InputError, match=r"thresholds: .*none\.json"):
        load_thresholds(tmp_path / "none.json")
    for content, says in (("{", "is not JSON"), (" " * 1_000_001, "a table of thresholds has at")):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=says):
            load_thresholds(tmp_path / "bad.json")

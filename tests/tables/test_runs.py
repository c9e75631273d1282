"""Whether a run may continue, and reading what it published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.ledger import read_commits
from pipeline.tables.publication import (
    FileLimits,
    build_file,
    plan_files,
    published_record,
)
from pipeline.tables.runs import (
    RunPlaces,
    differences,
    load_published,
    load_table,
    start_or_continue,
)
from pipeline.tables.schemas import RUN_TABLES, SCORES
from tests.tables.rows import commit, images, in_order, keys

IDENTITY = {"kind": "score", "scorer_digest": "ab", "limits": {"min_side": 16}, "models": ("a",)}


def test_places_are_those_of_the_design() -> None:
    places = RunPlaces("s3://bucket/store/", "night-1")
    assert places.record == "s3://bucket/store/runs/night-1/run.json"
    assert places.report == "s3://bucket/store/runs/night-1/report.json"
    assert places.published == "s3://bucket/store/published/night-1.json"
    assert places.table("scores") == "s3://bucket/store/tables/scores/run=night-1"
    features = places.table("features", "f00d")
    assert features == "s3://bucket/store/tables/features/features=f00d/run=night-1"


def test_a_new_run_writes_its_record_and_the_same_one_continues(tmp_path: Path) -> None:
    places = RunPlaces(str(tmp_path), "r")
    assert start_or_continue(places, IDENTITY, {"started_at": "now"}) is False
    record = storage.read_json(places.record)
    assert record["identity"] == IDENTITY | {"models": ["a"]}
    assert (record["schema_version"], record["started_at"]) == ("1", "now")
    assert start_or_continue(places, IDENTITY, {"started_at": "later"}) is True
    assert storage.read_json(places.record) == record


def test_a_changed_run_is_refused_with_every_difference(tmp_path: Path) -> None:
    places = RunPlaces(str(tmp_path), "r")
    start_or_continue(places, IDENTITY, {})
    before = Path(places.record).read_bytes()
    changed = IDENTITY | {"scorer_digest": "cd", "limits": {"min_side": 32}, "models": ("a", "b")}
    with pytest.raises(InputError) as error:
        start_or_continue(places, changed, {})
    message = str(error.value)
    assert message.startswith("run_id r: was started with other settings; ")
    for part in (
        "scorer_digest was 'ab', is now 'cd'",
        "limits.min_side was 16, is now 32",
        "models was ['a'], is now ['a', 'b']",
    ):
        assert part in message
    assert message.endswith("Use another run_id, or the settings it was started with")
    assert "kind" not in message
    assert Path(places.record).read_bytes() == before


def test_a_run_that_another_linescore_began_is_refused_in_words(tmp_path: Path) -> None:
    places = RunPlaces(str(tmp_path), "r")
    start_or_continue(places, IDENTITY | {"arithmetic": 3}, {})
    with pytest.raises(InputError) as error:
        start_or_continue(places, IDENTITY | {"arithmetic": "3.2"}, {})
    assert str(error.value) == (
        "run_id r: was begun by a linescore that decodes, resizes or computes in another way: "
        "use another run_id; what stayed the same is taken over from it"
    )


def test_differences_go_into_sections_and_name_what_came_and_went() -> None:
    before = {"a": {"x": 1, "y": {"z": [1]}}, "gone": 3, "same": {"q": None}}
    now = {"a": {"x": 2, "y": {"z": [1, 2]}}, "same": {"q": None}, "new": {"b": True}}
    assert differences(before, now) == [
        "a.x was 1, is now 2",
        "a.y.z was [1], is now [1, 2]",
        "gone was 3, is now None",
        "new.b was None, is now True",
    ]


values = st.recursive(
    st.one_of(st.integers(), st.text("ab", max_size=2), st.booleans()),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3),
    max_leaves=8,
)
sections = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@settings(deadline=None)
@given(sections, sections)
def test_nothing_differs_exactly_when_the_values_are_the_same(
    before: dict[str, Any], now: dict[str, Any]
) -> None:
    assert differences(before, before) == []
    assert bool(differences(before, now)) == (repr_sorted(before) != repr_sorted(now))


def repr_sorted(value: Any) -> Any:
    """Values with their order of keys forgotten; as in Python, True is 1."""
    if isinstance(value, dict):
        return sorted((key, repr_sorted(inner)) for key, inner in value.items())
    return str(int(value)) if isinstance(value, bool) else str(value)


# --- reading ---


def publish(store: str, run_id: str, *, file_rows: int = 10) -> list[tuple[str | None, int]]:
    """A small published run; the keys of its scores."""
    places = RunPlaces(store, run_id)
    found = images(25)
    for start in range(0, 25, 5):
        commit(places.folder, found[start : start + 5], found[:0])
    commits = list(read_commits(places.folder))
    files = [
        build_file(places.folder, plan, np.empty(0, np.int64))
        for table in RUN_TABLES
        for plan in plan_files(
            commits, table, places.table(table), FileLimits(file_rows, 2**30), {}
        )
    ]
    record = published_record(store, [f for f in files if f is not None], {"run_id": run_id})
    storage.write_json(places.published, record)
    return in_order(found)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_table_is_read_in_its_order_whole_or_by_column(tmp_path: Path, slash: str) -> None:
    store = f"{tmp_path}{slash}"
    expected = publish(store, "r")
    table = load_table(store, "r", "scores")
    assert keys(table) == expected
    assert table.schema.equals(SCORES)
    few = load_table(store, "r", "scores", ["anomaly_score", "image_id"])
    assert few.schema.names == ["anomaly_score", "image_id"]
    assert few.equals(table.select(["anomaly_score", "image_id"]))
    assert load_published(store, "r")["run_id"] == "r"


def test_a_column_that_came_after_the_run_is_null(tmp_path: Path) -> None:
    publish(str(tmp_path), "r")
    for file in (tmp_path / "tables" / "scores").rglob("*.parquet"):
        old = storage.read_parquet(str(file)).drop_columns(["sharpness"])
        storage.write_bytes(str(file), storage.parquet_bytes(old))
    table = load_table(str(tmp_path), "r", "scores")
    assert table.schema.equals(SCORES)
    assert table["sharpness"].null_count == len(table) == 25


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    publish(str(tmp_path), "r")
    assert load_table(str(tmp_path), "r", "errors").num_rows == 0
    assert load_table(str(tmp_path), "r", "features", ["cells"]).schema.names == ["cells"]


def test_a_run_that_was_moved_with_its_store_is_read(tmp_path: Path) -> None:
    expected = publish(str(tmp_path / "old"), "r")
    (tmp_path / "old").rename(tmp_path / "new")
    assert keys(load_table(str(tmp_path / "new"), "r", "scores")) == expected


def test_a_run_that_is_unknown_or_not_finished(tmp_path: Path) -> None:
    store = str(tmp_path)
    with pytest.raises(InputError, match=f"^run r: isn't in the store {store}, which has no"):
        load_published(store, "r")
    start_or_continue(RunPlaces(store, "r"), IDENTITY, {})
    with pytest.raises(InputError, match=r"was started but not finished .*; the command that"):
        load_table(store, "r", "scores")


def test_a_table_or_a_column_that_is_unknown(tmp_path: Path) -> None:
    publish(str(tmp_path), "r")
    with pytest.raises(InputError, match="'score': known are scores, detections, errors, features"):
        load_table(str(tmp_path), "r", "score")
    with pytest.raises(InputError, match="'scores': has no column 'anomaly'; image_id, uri, "):
        load_table(str(tmp_path), "r", "scores", ["image_id", "anomaly"])

"""What `linescore runs` prints: every answer as text and as JSON, numbers as people read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import RunsConfig
from pipeline.evaluation.housekeeping import run_runs
from pipeline.report.runs import runs_text, size
from pipeline.tables import storage
from tests.tables.stores import put_fit, put_published, put_unfinished


@pytest.fixture
def store(tmp_path: Path) -> str:
    store = str(tmp_path / "store")
    put_published(store, "monday")
    put_published(store, "tuesday", ended="2026-03-02T02:00:00+00:00", needs=["monday"])
    put_unfinished(store, "wednesday", "2026-03-03T01:00:00+00:00")
    put_fit(store, "fit-1", "b9", "99" * 32)
    storage.write_bytes(f"{store}/published/notes.txt", b"")
    return store


def text(store: str, action: str, *run_id: str, **settings: Any) -> str:
    config = RunsConfig.model_validate(
        {"action": action, "store": store, "run_id": run_id} | settings
    )
    answer = run_runs(config)
    assert json.loads(runs_text(answer, as_json=True))["action"] == action
    return runs_text(answer, as_json=False)


def test_the_list_has_a_row_a_run(store: str) -> None:
    lines = text(store, "list").splitlines()
    assert lines[0].split() == [
        "run", "state", "kind", "images", "errors", "size", "began", "ended", "bundle", "manifest"
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["fit-1", "fitted"],
        ["monday", "published"],
        ["tuesday", "published"],
        ["wednesday", "unfinished"],
    ]
    monday = lines[3].split()
    assert monday[2:5] == ["score", "12", "1"]
    assert monday[7:] == ["2026-03-01", "01:00", "2026-03-01", "02:00", "b1", "m.parquet"]
    assert lines[7].startswith("4 runs, ")
    assert lines[-1] == "published/notes.txt: belongs to no run"


def test_a_run_is_shown_with_what_it_is_and_its_files(store: str) -> None:
    shown = text(store, "show", "monday", verify=True)
    for part in (
        "run monday",
        "  state: published",
        "  run tuesday needs it: it takes columns or features from it",
        '  scorer_digest = "abab',
        '  packages.ray = "2.60.0"',
        "tables/scores/run=monday/part-00000.parquet",
        "3 files read: each has the sha256 of its record",
    ):
        assert part in shown
    assert "  needs: monday" in text(store, "show", "tuesday")
    assert "no file is recorded" in text(store, "show", "fit-1")


def test_images_that_were_left_to_earlier_runs_are_told(store: str) -> None:
    place = f"{store}/runs/tuesday/report.json"
    entry = {"category": "tile", "images": 1000, "scored": 4, "errors": 6, "skipped": 990}
    storage.write_json(place, storage.read_json(place) | {"categories": [entry]})
    lines = [line.split() for line in text(store, "show", "tuesday").splitlines()]
    assert ["category", "images", "errors", "skipped"] in lines
    assert ["tile", "1000", "6", "990"] in lines
    assert ["category", "images", "errors"] in [
        line.split() for line in text(store, "show", "monday").splitlines()
    ]


def test_two_runs_are_compared(store: str) -> None:
    lines = text(store, "compare", "monday", "tuesday")
    assert "monday (was) and tuesday (is now)" in lines
    assert "11 images are scored in both" in lines
    assert "anomaly_score" in lines


def test_what_would_go_is_told_with_sizes_before_it_goes(store: str) -> None:
    dry = text(store, "delete", "tuesday")
    assert "the published record" in dry
    assert "add --yes to delete them. Nothing was touched" in dry
    assert "tuesday" in text(store, "list")
    assert (
        text(store, "delete", "tuesday", yes=True).splitlines()[-1].startswith("deleted: 1 run, ")
    )
    assert "tuesday" not in text(store, "list")


def test_a_rule_tells_why_runs_are_kept(store: str) -> None:
    told = text(store, "prune", keep_days=1, keep=["tues*", "sunday"])
    assert "kept: tuesday: keep=tues*" in told
    assert "kept: monday: run tuesday needs it: it takes columns or features from it" in told
    assert "kept: wednesday: is unfinished, and unfinished_days isn't given" in told
    assert "kept: fit-1: is fitted; delete it by name" in told
    assert "keep=sunday: names no run" in told
    assert told.endswith("would be deleted: 0 runs, 0 B. Nothing was touched")


@pytest.mark.parametrize(
    ("count", "says"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456_789, "123.5 MB"), (5e15, "5000.0 TB")],
)
def test_sizes(count: int, says: str) -> None:
    assert size(count) == says

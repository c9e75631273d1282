"""The demo's training sample: one in five images of each kind judges the detector."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.config import DemoConfig
from pipeline.errors import InputError
from pipeline.report.summary import _detector as detector_line
from pipeline.stages.demo import _with_roles, run_demo
from pipeline.tables import storage
from tests.detection import manifest, row


def test_one_in_five_of_each_kind_is_held_out_and_no_image_is_lost(tmp_path: Path) -> None:
    kinds = {"good": 15, "dent": 10, "crack": 5}
    rows = [
        row(tmp_path, seed, None, kind) for kind, count in kinds.items() for seed in range(count)
    ]
    target = _with_roles(manifest(tmp_path, rows), str(tmp_path / "roles.parquet"))
    found = storage.read_parquet(target).to_pylist()
    assert sorted(r["image_id"] for r in found) == sorted(r["image_id"] for r in rows)
    counts = Counter((r["defect_type"], r["role"]) for r in found)
    for kind, count in kinds.items():
        assert counts[kind, "validation"] == count // 5
        assert counts[kind, "fit"] == count - count // 5
    again = _with_roles(str(tmp_path / "manifest.parquet"), str(tmp_path / "again.parquet"))
    assert storage.read_parquet(again).equals(storage.read_parquet(target))


def test_the_demo_goes_where_the_home_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").write_text("no folder: it ends before it begins")
    with pytest.raises(InputError, match=f"^folder: {tmp_path}/home/demo: "):
        run_demo(DemoConfig(folder="~/demo"))
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


def test_the_summary_says_what_a_detector_hits_and_after_how_many_epochs() -> None:
    hit = {"category": None, "confidence": 0.25, "hits": 72, "n": 96}
    metrics = {"hits": [hit], "hit_iou": 0.1, "false_boxes": [{"per_image": 0.5}]}
    trained = {"metrics": {"validation": metrics}, "progress": {"epoch": 12}}
    line = detector_line({"detector": trained})
    assert "after 12 epochs, at confidence 0.25, it hits 72 of 96 held-out defects" in line
    assert "0.50 false boxes per good image" in line
    assert "off" in detector_line({"detector": None})

"""What a job that scored prints at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.report.summary import score_summary
from tests.report.runs import new_report, published


def summary(report: dict[str, Any]) -> list[list[str]]:
    return [line.split() for line in score_summary(report | {"tables": {}}).splitlines()]


def test_images_left_to_earlier_runs_are_told_by_category(tmp_path: Path) -> None:
    report = new_report(published(tmp_path))
    report["images"] |= {"carried": 0}
    whole = summary(report)
    assert whole[0] == ["category", "images", "errors"]
    assert whole[3] == ["tile", "47", "2"]

    report["images"] |= {"manifest": 10_141, "skipped": 10_000}
    for row in report["categories"]:
        row["skipped"] = 0
    report["categories"][1] |= {"images": 10_047, "skipped": 10_000}
    night = summary(report)
    assert night[0] == ["category", "images", "errors", "skipped"]
    assert night[2:4] == [["bolt", "45", "1", "0"], ["tile", "10047", "2", "10000"]]
    assert "10141 images: 135 scored, 6 errors, 10000 skipped" in score_summary(
        report | {"tables": {}}
    )

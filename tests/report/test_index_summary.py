"""What indexing prints at its end."""

from __future__ import annotations

from pipeline.report.summary import index_summary


def test_types_that_may_mean_good_are_told_once_with_their_counts() -> None:
    report = {
        "counts": [],
        "images": 9,
        "files": 9,
        "layout": "list",
        "since": None,
        "labelled": 0,
        "duplicates": 0,
        "stray": [],
        "label_conflicts": [],
        "missing_masks": [],
        "unreadable": [],
        "manifest": "m.parquet",
    }
    assert "warning" not in index_summary(report | {"doubtful_types": {}})
    lines = index_summary(report | {"doubtful_types": {"OK": 1200, "none": 3}}).splitlines()
    assert [line for line in lines if "warning" in line] == [
        "warning: 1203 images are taken for defects by a type that may mean good: 'OK' (1200), "
        "'none' (3); if so, call it 'good', or say it in a list's column is_defect"
    ]

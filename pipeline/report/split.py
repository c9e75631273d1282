"""What a split prints: who goes where, which groups there are, and what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.summary import table

_ROLES = ("fit", "normal_calibration", "validation", "test", "none")


def split_summary(report: Mapping[str, Any]) -> str:
    """Counts per category, defect type and role; groups; warnings; and the manifest's place."""
    counts = [
        [entry["category"] or "-", entry["defect_type"] or "-"]
        + [entry[role] for role in (*_ROLES, "images")]
        for entry in report["counts"]
    ]
    groups = [
        [
            entry["category"] or "-",
            entry["images"],
            entry["groups"],
            " ".join(f"{n}×{size}" for size, n in entry["groups_by_size"].items()),
            _threshold(entry),
        ]
        for entry in report["groups"]
    ]
    lines = [
        table(["category", "defect type", *_ROLES, "images"], counts),
        "",
        table(["category", "images", "groups", "groups × images in each", "bits"], groups),
        "",
    ]
    lines += [
        f"{entry['category']}: {entry['with_twin_in_train']} of {entry['good_test_images']} good "
        "images of the folder test have a near-duplicate among the good ones of train"
        for entry in report["leaks"]
        if entry["with_twin_in_train"]
    ]
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    if report["unreadable"]:
        lines.append(
            f"warning: {len(report['unreadable'])} images could not be read, each a group of its "
            f"own: {report['unreadable'][0]}"
        )
    lines += [f"contact sheet: {place}" for place in report["contact_sheets"]]
    return "\n".join([*lines, f"manifest: {report['manifest']}"])


def _threshold(entry: Mapping[str, Any]) -> str:
    if entry["max_distance"] is None:
        return "-"
    return f"{entry['max_distance']}{' (given)' if entry['max_distance_from'] == 'config' else ''}"

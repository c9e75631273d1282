"""What is printed of a detector's data and of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.summary import table


def export_summary(report: Mapping[str, Any]) -> str:
    """What was written, a row per role and class."""
    rows: list[list[object]] = []
    lines: list[str] = []
    for role, part in report["roles"].items():
        rows.append([role, "images", part["images"]])
        rows.append([role, "good, without a box", part["good"]])
        rows += [[role, f"boxes of {name}", count] for name, count in part["boxes"].items()]
        lines += _left_out(role, part)
        if not part["images"]:
            lines.append(f"warning: no image has the role {role}: its folder is empty")
    head = ["role", "what", "number"]
    return "\n".join([table(head, rows), "", *lines, f"dataset: {report['target']}/data.yaml"])


def _left_out(role: str, part: Mapping[str, Any]) -> list[str]:
    return [
        f"warning: {count} {role} images left out, {reason}"
        + (f": {part['examples'][reason]}" if "examples" in part else "")
        for reason, count in part["left_out"].items()
    ]


def training_summary(report: Mapping[str, Any]) -> str:
    """How many defects the detector hits, and how often it is wrong, per judged role."""
    lines: list[str] = []
    for metrics in report["metrics"].values():
        lines += [_hits(metrics), "", *_facts(metrics), ""]
    seen = report["trained_on"]
    if report["already_trained"]:
        lines.append("was trained and judged before: nothing to do")
    progress = report["progress"]
    lines += [
        f"trained on {seen['images']} images of the role fit ({seen['defects']} with defects), "
        f"{progress['epoch']} epochs, {progress['seconds'] / 60:.1f} min",
        *_left_out("fit", seen),
        f"detector: {report['folder']}/detector.pt",
    ]
    return "\n".join(lines)


def _hits(metrics: Mapping[str, Any]) -> str:
    rows = [
        [
            entry["category"] or "all",
            entry["defect_type"] or "all",
            f"{entry['confidence']:g}",
            entry["hits"],
            entry["n"],
            f"{entry['share']:.3f}",
            f"{entry['low']:.3f}",
            f"{entry['high']:.3f}",
            f"{entry['whole_image_share']:.3f}",
        ]
        for entry in metrics["hits"]
    ]
    head = ["category", "defect type", "confidence", "hit", "of", "share", "low", "high", "frame"]
    return table(head, rows)


def _facts(metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        f"on {metrics['images']} images of the role {metrics['role']}, none of which it was "
        f"trained on; a hit is an IoU of {metrics['hit_iou']:g}; low and high: exact 95 % "
        "interval, as if defects were independent; frame: what a box around the whole image hits"
    ]
    if metrics["map50"] is not None:
        lines.append(f"mAP50 {metrics['map50']:.3f}, of {metrics['boxes']} boxes")
    lines += [
        f"at confidence {entry['confidence']:g}: {entry['per_image']:.2f} false boxes per good "
        f"image; {entry['images_with_box']} of {entry['good']} have one "
        f"({entry['share']:.3f}, 95 % interval {entry['low']:.3f} to {entry['high']:.3f})"
        for entry in metrics["false_boxes"]
    ]
    return lines + _left_out(metrics["role"], metrics)

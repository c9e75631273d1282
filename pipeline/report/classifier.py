"""What jobs/train_classifier.py prints at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.summary import table

_HEAD = [
    "category",
    "good",
    "defects",
    "AUROC",
    "average precision",
    "by category only: AUROC",
    "average precision",
    "gain in average precision",
    "missed defects",
    "false alarms",
]


def classifier_summary(report: Mapping[str, Any]) -> str:
    """Figures per category and macro with their intervals, and where the model lies."""
    judged = report["metrics"]["judged"]
    lines = []
    if report.get("already_trained"):
        lines += [f"classifier {report['name']} was trained before: nothing to do", ""]
    if judged["held_out"]:
        lines += [f"{_held_out(report)}:", _figures(judged["held_out"]), ""]
    if judged["test"]:
        lines += ["test, scored by the fixed model:", _figures(judged["test"]), ""]
    if report["metrics"]["left_out"]:
        lines += ["defect types never shown in training:", _left_out(report), ""]
    lines += [
        "[…] 95 % intervals: bootstrap over groups; missed and false alarms at an F1 threshold "
        "chosen on other rows, one image a group, Clopper–Pearson. They hold as far as the next "
        "images are like these.",
        *(f"warning: {warning}" for warning in report["warnings"]),
    ]
    if report["unreadable"]:
        first = next(iter(report["unreadable"].values()))
        lines.append(f"warning: {len(report['unreadable'])} images left out, such as {first}")
    return "\n".join([*lines, f"scores: {report['scores']}", f"classifier: {report['weights']}"])


def _held_out(report: Mapping[str, Any]) -> str:
    folds = report["config"]["folds"]
    if folds:
        return f"fit and validation, out of fold ({folds} folds)"
    return "validation, scored by the fixed model"


def _figures(figures: Mapping[str, Any]) -> str:
    rows = [[entry["category"], *_row(entry)] for entry in figures["categories"]]
    macro = figures["macro"]
    rows.append(["macro mean", "", "", *_areas(macro), "", ""])
    if len(figures["categories"]) > 1:
        rows.append(["all together", *_row(figures["pooled"])])
    return table(_HEAD, rows)


def _row(entry: Mapping[str, Any]) -> list[object]:
    errors = [_rate(entry["missed"]), _rate(entry["false_alarms"])]
    return [entry["good"], entry["defects"], *_areas(entry), *errors]


def _areas(entry: Mapping[str, Any]) -> list[str]:
    names = ("auroc", "average_precision")
    areas = [entry[f"{prefix}{name}"] for prefix in ("", "baseline_") for name in names]
    return [_estimate(area) for area in (*areas, entry["average_precision_gain"])]


def _left_out(report: Mapping[str, Any]) -> str:
    head = ["category", "defect type", "good", "defects", "AUROC", "average precision"]
    names = ("auroc", "average_precision")
    rows = [
        [
            entry["category"],
            entry["defect_type"],
            entry["good"],
            entry["defects"],
            *(_estimate(entry[name]) for name in names),
        ]
        for entry in report["metrics"]["left_out"]
    ]
    return table(head, rows)


def _estimate(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return "-"
    if entry["low"] is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def _rate(entry: Mapping[str, Any]) -> str:
    if not entry["of"]:
        return "-"
    share = f"{100 * entry['value']:.1f} % [{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]"
    return f"{entry['hits']} of {entry['of']}: {share}"

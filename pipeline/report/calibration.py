"""The lines that a calibration prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.summary import table

# Columns that say the same as another one; they are in the files.
_ALIKE = {
    "anomaly_cells": "anomaly_score",
    "anomaly_pooled": "anomaly_score",
    "defect_logit": "defect_probability",
}


def calibrate_summary(report: Mapping[str, Any]) -> str:
    """A row per score and category, what `safe` and `fpr` promise, and where everything is."""
    content = report["content"]
    found = content["thresholds"]
    shown = [score for score in found if _ALIKE.get(score) not in found]
    rows = [
        [score, category, *_row(rules)]
        for score in shown
        for category, rules in _populations(found[score])
    ]
    rules = list(found[shown[0]]["overall"])
    lines = [table(["score", "category", "good", "defects", *rules], rows), ""]
    lines += [
        f"{score}, {category}: {rule}: {rules[rule]['says']}"
        for score in shown
        for category, rules in _populations(found[score])
        for rule in ("safe", "fpr")
    ]
    lines += ["", *(_role(role, facts) for role, facts in content["provenance"]["roles"].items())]
    lines += [_probability(name, facts) for name, facts in content["probability"].items()]
    lines += [
        content["assumption"],
        f"thresholds of {', '.join(found)}: {report['bundle']}/thresholds.json",
        f"bundle: {report['bundle']}",
    ]
    return "\n".join(lines)


def _populations(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [("(all)", found["overall"]), *found["categories"].items()]


def _row(rules: Mapping[str, Any]) -> list[object]:
    images = rules["safe"]["validation"]
    return [images["good"], images["defects"], *(_value(entry) for entry in rules.values())]


def _value(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return "none"
    mark = f" ({entry['fallback']})" if entry["fallback"] else ""
    return f"{entry['value']:.6g}{mark}"


def _role(role: str, facts: Mapping[str, int]) -> str:
    line = f"{role}: {facts['good']} good, {facts['defects']} defects"
    more = {"unlabelled": "without a label, left out", "errors": "that could not be scored"}
    for name, what in more.items():
        line += f", {facts[name]} {what}" if facts[name] else ""
    return line


def _probability(name: str, facts: Mapping[str, Any]) -> str:
    if facts["map"] is None:
        return f"{name}: no map: {facts['reason']}"
    ece = facts["ece"]
    rows = ece["rows"].replace("_", "-")
    return (
        f"{name}: {facts['map']['method']} on {facts['validation']['images']} images, expected "
        f"calibration error {ece['before']:.4f} before, {ece['after']:.4f} after ({rows})"
    )

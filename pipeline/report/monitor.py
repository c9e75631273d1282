"""What jobs/monitor.py prints: a verdict per category, with what moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.report.summary import table

_VERDICTS = {
    "drift": "DRIFT",
    "watch": "watch",
    "ok": "ok",
    "not_comparable": "not comparable",
    "too_few_images": "NO VERDICT, too few images",
}
_HEAD = ["category", "verdict", "reference", "run"]
# Worst first: what somebody has to look at in the morning.
ORDER = ("drift", "watch", "not_comparable", "ok")


def monitor_summary(report: Mapping[str, Any]) -> str:
    """Verdicts, reasons and where the tables lie."""
    lines = list(_compared(report)) if "categories" in report else []
    if frozen := report.get("frozen"):
        lines.append(f"reference {report['reference']['run_id']} frozen: {frozen}")
    if "folder" in report:
        lines.append(f"report: {report.get('html', report['folder'])}")
    return "\n".join(lines)


def _compared(report: Mapping[str, Any]) -> Iterator[str]:
    found = sorted(report["categories"], key=lambda one: ORDER.index(one["verdict"]))
    yield (
        f"{report['run']['run_id']} against {report['reference']['run_id']}: "
        f"{_VERDICTS[report['verdict']]}"
    )
    rows, of_reference = report["run"]["rows"], report["reference"]["rows"]
    also = f", of the reference {of_reference}" if of_reference != rows else ""
    yield f"compared are {rows}{also}; {report['comparisons']} comparisons"
    yield ""
    yield table(
        _HEAD,
        [
            [
                named(one["category"]),
                _VERDICTS[one["verdict"]],
                f"{one['reference_images']} images",
                f"{one['images']} images",
            ]
            for one in found
        ],
    )
    yield ""
    for one in found:
        if one["verdict"] != "ok":
            yield f"{named(one['category'])}: {one['reason']}"
    yield (
        f"alarms without any change: at most {100 * report['config']['alpha']:g} % of the runs, "
        "if images are like those of the reference and groups are known"
    )
    yield from (f"warning: {warning}" for warning in report["warnings"])
    if report["verdict"] == "too_few_images":
        yield (
            "no category has images enough to be compared: this is no all-clear; compare a run of "
            "more images, or set min_images lower"
        )


def named(category: str | None) -> str:
    """A category's name, or that it has none."""
    return "(no category)" if category is None else category

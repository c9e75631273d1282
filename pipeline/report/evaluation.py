"""What jobs/evaluate.py prints: policies side by side, and where the tables lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report.summary import table
from pipeline.report.sweep import sweep_lines

_HEAD = ["policy", "missed (FN)", "false alarms (FP)", "review", "precision", "F2"]


def evaluate_summary(report: Mapping[str, Any]) -> str:
    """Figures of every policy with their bounds; or one image explained."""
    if "explained" in report:
        return "\n".join(_explained(report["explained"]))
    lines = _policies(report) if "figures" in report else []
    if "sweep" in report:
        lines += [*([""] if lines else []), *sweep_lines(report["sweep"])]
    return "\n".join([*lines, f"report: {report.get('html', report['folder'])}"])


def _policies(report: Mapping[str, Any]) -> list[str]:
    every = [row for row in report["figures"] if row["level"] == "all"]
    every.sort(key=lambda row: (row["fn"], row["fp"]))
    rows = [[_name(row), *_row(row)] for row in every]
    first = every[0] if every else {"good": 0, "defects": 0, "unlabelled": 0}
    lines = [
        f"{report['table']['name']}: {report['rows']['judged']} rows judged "
        f"({first['good']} good, {first['defects']} defects, {first['unlabelled']} without a "
        f"label), {report['rows']['left_out']} left out",
        f"measured on {report['measured_on']}",
        "",
        table(_HEAD, rows),
        "",
        "[…] 95 % intervals: Wilson; 'at most' is Clopper and Pearson's upper end. They take "
        "images to be independent and the next ones to be like these.".replace(
            "95", f"{100 * report['config']['confidence']:g}"
        ),
        *_flips(report.get("flips", [])),
        *(f"warning: {warning}" for warning in report["warnings"]),
    ]
    if decided := report.get("decisions"):
        counts = ", ".join(f"{count} {what}" for what, count in decided["counts"].items())
        lines.append(f"decisions of {decided['policy']}: {counts}: {decided['uri']}")
    return lines


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['policy']} (oracle: reads the truth)" if row["oracle"] else str(row["policy"])


def _row(row: Mapping[str, Any]) -> list[str]:
    return [
        _count(row["fn"], row["defects"], row["fnr_most"]),
        f"{row['fp']} of {row['good']}{_interval(row, 'fpr')}",
        f"{row['review_good'] + row['review_defects'] + row['review_unlabelled']}",
        _share(row["precision"]),
        _share(row["f2"]),
    ]


def _count(hits: int, of: int, most: float | None) -> str:
    if most is None:
        return "-"
    # Rounded up: a bound that is told lower than it is would be none.
    return f"{hits} of {of}: at most {math.ceil(1000 * most) / 10:.1f} %"


def _interval(row: Mapping[str, Any], rate: str) -> str:
    if row[rate] is None:
        return ""
    low, high = (100 * row[f"{rate}{end}"] for end in ("_low", "_high"))
    return f": {100 * row[rate]:.1f} % [{low:.1f}, {high:.1f}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _explained(found: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for one in found:
        known = [f"{name} {value}" for name, value in one["row"].items() if value is not None]
        lines.append(", ".join(known))
        lines += [f"  {why['policy']}: {why['says']}" for why in one["decisions"]]
    return lines


def _flips(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in records:
        defects, goods = one["defects"], one["goods"]
        yield (
            f"{one['challenger']} instead of {one['champion']}: {defects['fixed']} missed defects "
            f"fewer, {defects['broken']} new{_chance(defects)}; {goods['fixed']} false alarms "
            f"fewer, {goods['broken']} new{_chance(goods)}"
        )


def _chance(flips: Mapping[str, Any]) -> str:
    return "" if flips["p_value"] is None else f" (McNemar p = {flips['p_value']:.3g})"

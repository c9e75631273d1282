"""What is printed of a sweep: the front on both sides, the choice, the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.summary import table

# Points of the front that a terminal shows; the rest stands in evaluation.json.
_MOST_POINTS = 20
# Categories whose values are told one by one.
_MOST_CATEGORIES = 2
_SIDES = ("tuning", "hold_out")


def sweep_lines(sweep: Mapping[str, Any]) -> list[str]:
    """A sweep in lines; `report["sweep"]` of an evaluation."""
    points = sweep["front"]
    dropped = sweep["dropped_duplicates"] + sweep["dropped_by_constraints"]
    lines = [
        f"{sweep['policies']:,} policies ({dropped:,} more dropped: equal to others, or against a "
        "constraint)",
        sweep["split"],
        f"front: {len(points)} policies that no other beats in missed defects and false alarms; "
        f"its tuning figures are in-sample, best of {sweep['policies']:,}",
        "",
        table(_head(points), [_point(point) for point in points[:_MOST_POINTS]]),
    ]
    if len(points) > _MOST_POINTS:
        lines.append(f"… and {len(points) - _MOST_POINTS} more: evaluation.json")
    lines.append("")
    if sweep["guarantee"]:
        lines.append(sweep["guarantee"]["says"])
    lines += _chosen(sweep)
    return [*lines, *(f"warning: {warning}" for warning in sweep["warnings"])]


def _head(points: Any) -> list[str]:
    judged = ["hold-out missed", "hold-out false alarms"]
    held = bool(points) and points[0]["hold_out"] is not None
    return [
        "policy",
        "variables",
        "tuning missed",
        "tuning false alarms",
        *(judged if held else []),
    ]


def _point(point: Mapping[str, Any]) -> list[str]:
    row = [str(point["policy"]), variables_in_words(point["variables"])]
    for side in _SIDES:
        if point[side] is not None:
            counts = point[side]
            row.append(f"{counts['fn']} of {counts['defects']}")
            row.append(f"{counts['fp']} of {counts['goods']}")
    return row


def variables_in_words(variables: Mapping[str, Any]) -> str:
    """A policy of a sweep by what its variables are."""
    return ", ".join(f"{name} {_in_words(value)}" for name, value in variables.items())


def _in_words(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"{value:.6g}"
    if len(value) <= _MOST_CATEGORIES:
        return " and ".join(f"{one:.6g} for {name}" for name, one in value.items())
    least, largest = min(value.values()), max(value.values())
    return f"{least:.6g} to {largest:.6g} in {len(value)} categories"


def _chosen(sweep: Mapping[str, Any]) -> list[str]:
    choice = sweep["chosen"]
    if choice is None:
        return ["nothing is chosen" if sweep["guarantee"] else "nothing is sought: see the front"]
    which = "a policy for each category" if choice["per_category"] else None
    one = f"policy {choice['policies'][0]} ({variables_in_words(choice['variables'][0])})"
    lines = [f"chosen: {which or one}: {choice['says']}"]
    for side in _SIDES:
        rows = [row for row in choice["figures"].get(side, []) if row["level"] == "all"]
        lines += [f"  {row['measured_on']}: {_errors(row)}" for row in rows]
    return [*lines, *(f"  {_budget(budget)}" for budget in choice["budgets"])]


def _budget(budget: Mapping[str, Any]) -> str:
    told = [
        f"{'kept' if one['kept'] else 'not kept'} on {name} ({one['hits']} of {one['of']})"
        for name, one in ((side.replace("_", "-"), budget.get(side)) for side in _SIDES)
        if one
    ]
    return f"{budget['asked']}: {', '.join(told)}"


def _errors(row: Mapping[str, Any]) -> str:
    told = []
    for rate, hits, of, what in (
        ("fnr", row["fn"], row["defects"], "missed"),
        ("fpr", row["fp"], row["good"], "false alarms"),
    ):
        if row[rate] is None:
            told.append(f"{what} {hits} of {of}")
            continue
        low, high = (100 * row[f"{rate}_{end}"] for end in ("low", "high"))
        told.append(f"{what} {hits} of {of}: {100 * row[rate]:.1f} % [{low:.1f}, {high:.1f}]")
    return ", ".join(told)

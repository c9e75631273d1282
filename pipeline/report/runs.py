"""What `linescore runs` answers, as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.report.summary import category_counts, table

_UNITS = ("B", "kB", "MB", "GB", "TB")
# Shown of a list: the whole one is in the JSON.
_EXAMPLES = 20


def runs_text(answer: Mapping[str, Any], *, as_json: bool) -> str:
    """The answer for people, or for programs."""
    if as_json:
        return json.dumps(answer, indent=2, ensure_ascii=False)
    texts: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
        "list": _list,
        "show": _show,
        "compare": _compare,
        "delete": _deletion,
        "prune": _deletion,
    }
    return "\n".join(texts[answer["action"]](answer))


def size(count: int) -> str:
    """Bytes as people read them, by thousands."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def _list(answer: Mapping[str, Any]) -> list[str]:
    head = [
        "run",
        "state",
        "kind",
        "images",
        "errors",
        "size",
        "began",
        "ended",
        "bundle",
        "manifest",
    ]
    rows = [
        [
            run["run_id"],
            run["state"],
            _or_dash(run["kind"]),
            _or_dash(run["images"]),
            _or_dash(run["errors"]),
            size(run["bytes"]),
            _minute(run["started_at"]),
            _minute(run["finished_at"]),
            _last(run["bundle"]),
            _last(run["manifest"]),
        ]
        for run in answer["runs"]
    ]
    total = sum(run["bytes"] for run in answer["runs"])
    lines = [table(head, rows), "", f"{_runs(len(rows))}, {size(total)}, in {answer['store']}"]
    for run in answer["runs"]:
        lines += [f"{run['run_id']}: {problem}" for problem in run["problems"]]
    return lines + [f"{path}: belongs to no run" for path in _some(list(answer["strays"]))]


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _or_dash(value: object) -> object:
    return "-" if value is None else value


def _minute(time: str | None) -> str:
    return (time or "-")[:16].replace("T", " ")


def _last(uri: str | None) -> str:
    return (uri or "-").rstrip("/").rsplit("/", 1)[-1]


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"… {len(lines) - _EXAMPLES} more"] if len(lines) > _EXAMPLES else []
    return [*lines[:_EXAMPLES], *more]


def _show(answer: Mapping[str, Any]) -> list[str]:
    run = answer["run"]
    names = ("state", "kind", "images", "errors", "started_at", "finished_at", "manifest", "bundle")
    lines = [f"run {run['run_id']}"] + [f"  {name}: {_or_dash(run[name])}" for name in names]
    lines.append(f"  size: {size(run['bytes'])} in {run['files']} files")
    lines += [f"  needs: {', '.join(run['needs'])}"] if run["needs"] else []
    lines += [f"  {reason}" for reason in answer["needed_by"]]
    lines += [f"  problem: {problem}" for problem in run["problems"]]
    lines += [f"  held by: {json.dumps(answer['lock'])}"] if answer["lock"] else []
    record = answer["record"] or {}
    for name in ("identity", "config", "environment"):
        lines += ["", f"{name}:", *(f"  {line}" for line in _flat(record.get(name)))]
    lines += ["", _categories(answer["report"])] if answer["report"] else []
    rows = [
        [file["path"], _or_dash(file["rows"]), _or_dash(file["sha256"])] for file in answer["files"]
    ]
    lines += ["", table(["file", "rows", "sha256"], rows)] if rows else ["", "no file is recorded"]
    if answer["verified"]:
        lines.append(f"{len(rows)} files read: each has the sha256 of its record")
    return lines


def _flat(value: Any, name: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [f"{name} = {json.dumps(value, ensure_ascii=False)}"] if name else []
    return [
        line
        for key, inner in value.items()
        for line in _flat(inner, f"{name}.{key}" if name else str(key))
    ]


def _categories(report: Mapping[str, Any]) -> str:
    entries = report.get("categories")
    found = entries if isinstance(entries, list) else ()
    return category_counts(entry for entry in found if isinstance(entry, dict))


def _compare(answer: Mapping[str, Any]) -> list[str]:
    first, second = answer["runs"]
    lines = [f"{first} (was) and {second} (is now)"]
    for part, found in answer["differences"].items():
        lines += ["", f"{part}:", *(f"  {line}" for line in found)]
    rows = [[_or_dash(row["category"]), row["status"], *row["images"]] for row in answer["counts"]]
    lines += ["", table(["category", "status", first, second], rows), ""]
    images = answer["images"]
    lines.append(f"{images['scored_in_both']} images are scored in both")
    for key, words in (("only_in", "are only in"), ("scored_only_in", "are scored only in")):
        lines += [
            f"{found['images']} images {words} {run}, such as {found['such_as'][0]}"
            for run, found in images[key].items()
            if found["images"]
        ]
    return [*lines, "", _scores(answer["scores"])]


def _scores(scores: Mapping[str, Any]) -> str:
    head = ["score", "images", "largest", "mean", "mean absolute", "rank correlation", "image"]
    names = ("largest", "mean", "mean_absolute", "rank_correlation")
    rows = [
        [
            name,
            found["images"],
            *(_number(found.get(part)) for part in names),
            _or_dash(found.get("largest_image")),
        ]
        for name, found in scores.items()
    ]
    return table(head, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _deletion(answer: Mapping[str, Any]) -> list[str]:
    steps = [
        [run["run_id"], step["what"], step["path"], step["files"], size(step["bytes"])]
        for run in answer["runs"]
        for step in run["steps"]
    ]
    lines = [table(["run", "what", "where", "files", "size"], steps), ""] if steps else []
    for run in answer["runs"]:
        lines += [f"{run['run_id']}: {remark}" for remark in run["remarks"]]
    lines += [f"kept: {', '.join(_some(runs))}: {why}" for why, runs in answer["kept"].items()]
    lines += [f"{run_id}: isn't in the store" for run_id in answer["absent"]]
    lines += [f"keep={one}: names no run" for one in answer.get("unmatched", ())]
    total = size(sum(run["bytes"] for run in answer["runs"]))
    count = _runs(len(answer["runs"]))
    if answer["deleted"]:
        return [*lines, f"deleted: {count}, {total}"]
    ask = "; add --yes to delete them" if answer["runs"] else ""
    return [*lines, f"would be deleted: {count}, {total}{ask}. Nothing was touched"]

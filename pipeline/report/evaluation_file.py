"""report.html of an evaluation, from the tables that lie in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.report.evaluation_html import (
    EvaluationReport,
    Flip,
    FlipCounts,
    Front,
    Histogram,
    Points,
    evaluation_html,
    shown_images,
)
from pipeline.report.sweep import variables_in_words
from pipeline.tables import storage
from pipeline.tables.evaluation_schemas import FIGURES, HISTOGRAMS, MISTAKES, QUALITY

# From the uris of images and the report's folder to picture bytes by uri.
Pictures = Callable[[Sequence[str], str], Mapping[str, bytes]]
_TABLES = {"figures": FIGURES, "quality": QUALITY, "mistakes": MISTAKES, "histograms": HISTOGRAMS}
# What the page tells in sections of its own.
_TOLD = ("figures", "flips", "warnings", "sweep", "tables", "folder", "thresholds_in_use")


def with_page(
    report: dict[str, Any], *, html: bool, pictures: Pictures | None = None
) -> dict[str, Any]:
    """Writes report.html beside the tables; the report with its place.

    Args:
        report: of an evaluation that was written.
        html: false leaves everything as it is.
        pictures: makes thumbnails of the mistakes' images; None: the page has none.
    """
    if not html or "folder" not in report:
        return report
    page = page_of(report)
    if pictures is not None:
        page = replace(page, thumbnails=pictures(shown_images(page), report["folder"]))
    uri = storage.join(report["folder"], "report.html")
    storage.write_bytes(uri, evaluation_html(page).encode())
    return report | {"html": uri}


def page_of(report: Mapping[str, Any]) -> EvaluationReport:
    """What the page tells, without pictures."""
    tables = {name: _table(report, name) for name in _TABLES}
    sweep = report.get("sweep")
    guarantee = sweep["guarantee"]["says"] if sweep and sweep["guarantee"] else None
    return EvaluationReport(
        title=report["name"],
        provenance={key: value for key, value in report.items() if key not in _TOLD}
        | (
            {"sweep": {k: sweep[k] for k in ("file", "policies", "split", "counted")}}
            if sweep
            else {}
        ),
        warnings=[*report.get("warnings", []), *(sweep["warnings"] if sweep else [])],
        measured_on=report.get("measured_on") or (sweep["split"] if sweep else ""),
        figures=tables["figures"],
        quality=tables["quality"],
        mistakes=tables["mistakes"],
        histograms=_histograms(tables["histograms"], report.get("thresholds_in_use", [])),
        front=_front(sweep) if sweep and sweep["front"] else None,
        flips=[_flip(one) for one in report.get("flips", [])],
        guarantee=guarantee,
        confidence=report["config"]["confidence"],
    )


def _table(report: Mapping[str, Any], name: str) -> pa.Table:
    uri = report["tables"].get(name)
    return _TABLES[name].empty_table() if uri is None else storage.read_parquet(uri)


def _histograms(table: pa.Table, used: Sequence[Mapping[str, Any]]) -> list[Histogram]:
    bins: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        bins.setdefault((row["score"], row["category"]), []).append(row)
    return [
        Histogram(
            score,
            category,
            np.array([rows[0]["low"], *(row["high"] for row in rows)]),
            np.array([row["good"] for row in rows]),
            np.array([row["defects"] for row in rows]),
            np.array([row["unlabelled"] for row in rows]),
            _thresholds(used, score, category),
        )
        for (score, category), rows in bins.items()
    ]


def _thresholds(
    used: Sequence[Mapping[str, Any]], score: str, category: str | None
) -> list[tuple[str, float]]:
    """A policy's thresholds of a score; of all categories together where they are the same."""
    found: dict[str, dict[str | None, set[float]]] = {}
    for one in used:
        if one["score"] == score:
            mine = found.setdefault(one["policy"], {})
            mine.setdefault(one["category"], set()).add(one["value"])
    lines: list[tuple[str, float]] = []
    for policy, by_category in found.items():
        if category is not None:
            values = by_category.get(category, set())
        else:
            sets = list(by_category.values())
            values = sets[0] if all(one == sets[0] for one in sets) else set()
        lines += [(policy, value) for value in sorted(values)]
    return lines


def _front(sweep: Mapping[str, Any]) -> Front:
    points = sweep["front"]
    numbers = [point["policy"] for point in points]
    choice = sweep["chosen"]
    chosen = None
    if choice and not choice["per_category"] and choice["policies"][0] in numbers:
        chosen = numbers.index(choice["policies"][0])
    held = points[0]["hold_out"] is not None
    says = f"tuning: in-sample, best of {sweep['policies']:,}"
    return Front(
        [variables_in_words(point["variables"]) for point in points],
        _points(points, "tuning", says),
        _points(points, "hold_out", "hold-out") if held else None,
        chosen,
    )


def _points(points: Sequence[Mapping[str, Any]], side: str, says: str) -> Points:
    rows = [point[side] for point in points]
    review = np.array([row["review_defects"] + row["review_goods"] for row in rows])
    fp, fn = (np.array([row[name] for row in rows]) for name in ("fp", "fn"))
    return Points(fp, fn, review, rows[0]["goods"], rows[0]["defects"], says)


def _flip(one: Mapping[str, Any]) -> Flip:
    return Flip(
        one["champion"], one["challenger"], FlipCounts(**one["defects"]), FlipCounts(**one["goods"])
    )

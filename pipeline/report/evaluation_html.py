"""The HTML report of an evaluation: one file that needs nothing but itself, and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment

from pipeline.report.evaluation_page.bars import BarColumn, alarm_bars, missed_bars
from pipeline.report.evaluation_page.contents import (
    EvaluationReport,
    Flip,
    FlipCounts,
    Front,
    Histogram,
    Points,
)
from pipeline.report.evaluation_page.fronts import FrontDrawing
from pipeline.report.evaluation_page.fronts import drawing as front_drawing
from pipeline.report.evaluation_page.gallery import Gallery, gallery
from pipeline.report.evaluation_page.gallery import shown_images as images_of
from pipeline.report.evaluation_page.heat import HeatMap, alarms, legend, misses
from pipeline.report.evaluation_page.histograms import Drawing
from pipeline.report.evaluation_page.histograms import drawing as histogram_drawing
from pipeline.report.evaluation_page.policies import Shown, shown
from pipeline.report.evaluation_page.provenance import Node, tree
from pipeline.report.evaluation_page.templates import TEMPLATES
from pipeline.report.page import SECURITY, environment

__all__ = [
    "EvaluationReport",
    "Flip",
    "FlipCounts",
    "Front",
    "Histogram",
    "Points",
    "evaluation_html",
    "shown_images",
]


@dataclass(frozen=True)
class _Page:
    """What the templates read."""

    report: EvaluationReport
    shown: Shown
    missed: BarColumn
    alarms: BarColumn
    misses: Sequence[tuple[str, Sequence[HeatMap]]]
    false_alarms: Sequence[tuple[str, Sequence[HeatMap]]]
    quality: Sequence[dict[str, Any]]
    overall: Sequence[Drawing]
    by_category: Sequence[Drawing]
    front: FrontDrawing | None
    gallery: Gallery
    provenance: Node
    legend: Sequence[tuple[int, str]]
    security: str = SECURITY

    @property
    def confidence(self) -> str:
        return f"{100 * self.report.confidence:g} %"

    @property
    def unlabelled(self) -> bool:
        return any(entry.row["unlabelled"] for entry in self.shown.entries)

    @property
    def intervals(self) -> list[str]:
        return sorted({row["interval"] for row in self.quality if row["interval"]})

    @property
    def sections(self) -> list[tuple[str, str]]:
        every = [
            ("policies", "Policies", True),
            ("categories", "By category", True),
            ("misses", "Missed defects", True),
            ("alarms", "False alarms", True),
            ("quality", "Scores", True),
            ("distributions", "Distributions", bool(self.overall or self.by_category)),
            ("front", "Front", self.front is not None),
            ("flips", "Champion", bool(self.report.flips)),
            ("mistakes", "Mistakes", True),
            ("provenance", "Provenance", True),
        ]
        return [(name, title) for name, title, there in every if there]


def evaluation_html(report: EvaluationReport) -> str:
    """The page, to be written as UTF-8.

    Up to 30 policies are told in detail, those with the fewest missed defects first; the page
    says how many are left out. Rates that don't exist are dashes.
    """
    return _environment().get_template("page").render(page=_page(report))


def shown_images(report: EvaluationReport) -> list[str]:
    """The uris of the images that the page shows, so that only these need be read for it."""
    return images_of(report, shown(report).entries)


def _page(report: EvaluationReport) -> _Page:
    found = shown(report)
    drawings = [histogram_drawing(one) for one in report.histograms]
    groups = found.by_rows.items()
    return _Page(
        report=report,
        shown=found,
        missed=missed_bars(found.entries),
        alarms=alarm_bars(found.entries),
        misses=[(rows, maps) for rows, some in groups if (maps := misses(some))],
        false_alarms=[(rows, maps) for rows, some in groups if (maps := alarms(some))],
        quality=report.quality.sort_by([("score", "ascending")]).to_pylist(),
        overall=[one for one in drawings if one.about.category is None],
        by_category=[one for one in drawings if one.about.category is not None],
        front=None if report.front is None else front_drawing(report.front),
        gallery=gallery(report, found.entries),
        provenance=tree(report.provenance),
        legend=legend(),
    )


@cache
def _environment() -> Environment:
    return environment(TEMPLATES)

"""What a run's page tells, from the run's report; parts that an older report lacks are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.contents import Histogram
from pipeline.report.evaluation_page.histograms import Drawing
from pipeline.report.evaluation_page.histograms import drawing as histogram_drawing
from pipeline.report.evaluation_page.provenance import Node, tree

Row = Mapping[str, Any]

# Rows of a table, kinds of errors with a column of their own, and categories with drawings.
_ROWS, _KINDS, _DRAWN = 200, 8, 24
# Scores that are drawn for each category; the others stand in the table.
_DRAWN_SCORES = ("anomaly_score", "defect_probability", "detection_max_confidence")
# How images came by their scores, beyond their number and outcome.
_WAYS = ("decoded", "reused", "carried", "skipped")
# What sections of their own tell.
_TOLD = (
    "by_category",
    "categories",
    "distributions",
    "error_examples",
    "errors_by_type",
    "images",
    "stages",
    "suspects",
)
_BAR_WIDTH = 122


@dataclass(frozen=True)
class Stage:
    """A stage's work: its row of the report, its share of all seconds and the bar's length."""

    row: Row
    share: float
    width: float


@dataclass(frozen=True)
class ErrorKind:
    """A kind of error: its name, how many images have it, and examples."""

    name: str
    images: int
    examples: Sequence[Row]


@dataclass(frozen=True)
class RunPage:
    """A run's page.

    Attributes:
        report: the run's report.
        notes: what a reader has to know first.
        categories: counts by category, those shown.
        categories_left_out: how many more there are.
        kinds: kinds of errors with a column of their own.
        stages: what each stage took.
        ways: how many images came by their scores in which way.
        distributions: of all categories together, then by category.
        overall: drawings of all categories.
        by_category: drawings by category.
        errors: kinds of errors with examples.
        suspects: the most anomalous images by category.
        provenance: everything else.
    """

    report: Row
    notes: Sequence[str]
    categories: Sequence[Row]
    categories_left_out: int
    kinds: Sequence[str]
    stages: Sequence[Stage]
    ways: Sequence[tuple[str, int]]
    distributions: Sequence[Row]
    overall: Sequence[Drawing]
    by_category: Sequence[Drawing]
    errors: Sequence[ErrorKind]
    suspects: Sequence[tuple[str | None, Sequence[Row]]]
    provenance: Node

    @property
    def skipped(self) -> bool:
        """Whether images were left to earlier runs."""
        return bool(self.report["images"].get("skipped"))

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Names and titles of the sections that there are."""
        every = [
            ("categories", "Images", True),
            ("work", "Work", True),
            ("distributions", "Scores", bool(self.distributions)),
            ("errors", "Errors", bool(self.errors)),
            ("suspects", "Most anomalous", bool(self.suspects)),
            ("provenance", "Provenance", True),
        ]
        return [(name, title) for name, title, there in every if there]


def contents(report: Row, record: Row) -> RunPage:
    """What the page tells.

    Args:
        report: the run's report, with the facts of its tables.
        record: what the run is: its settings, versions, bundle; empty where it is lost.
    """
    categories = report.get("by_category") or _by_category(report)
    found = [_histogram(row) for row in report.get("distributions", ())]
    drawings = [histogram_drawing(one) for one in found if one is not None]
    largest = {row["category"] for row in _largest(categories, _DRAWN)}
    return RunPage(
        report=report,
        notes=_notes(report, categories),
        categories=_largest(categories, _ROWS),
        categories_left_out=max(len(categories) - _ROWS, 0),
        kinds=list(report["errors_by_type"])[:_KINDS],
        stages=_stages(report.get("stages", ())),
        ways=[(way, report["images"][way]) for way in _WAYS if way in report["images"]],
        distributions=list(report.get("distributions", ()))[:_ROWS],
        overall=[one for one in drawings if one.about.category is None],
        by_category=[one for one in drawings if _drawn(one, largest)],
        errors=_errors(report),
        suspects=_suspects(report.get("suspects", ())),
        provenance=tree(_rest(report, record)),
    )


def _by_category(report: Row) -> list[Row]:
    return [
        {name: row[name] for name in ("category", "images", "scored")}
        | {"errors": row["errors_by_type"], "skipped": row.get("skipped", 0)}
        for row in report["categories"]
    ]


def _largest(categories: Sequence[Row], most: int) -> list[Row]:
    """Those with the most images, in the order they had."""
    kept = sorted(categories, key=lambda row: -row["images"])[:most]
    names = {row["category"] for row in kept}
    return [row for row in categories if row["category"] in names]


def _notes(report: Row, categories: Sequence[Row]) -> list[str]:
    images = report["images"]
    notes = []
    if images["errors"]:
        notes.append(_without_score(images))
    empty = [
        row["category"] or "(none)" for row in categories if row["errors"] and not row["scored"]
    ]
    if empty:
        notes.append(f"no image was scored of: {_listed(empty)}")
    without = [
        row["category"] or "(none)"
        for row in report.get("distributions", ())
        if row["score"] == "anomaly_score" and row["level"] == "category" and not row["n"]
    ]
    if without:
        notes.append(f"no anomaly score (no Gaussian in the bundle) for: {_listed(without)}")
    attempts = len(report.get("attempts", ()))
    if attempts > 1:
        notes.append(f"the run was cut off and continued: {attempts} attempts")
    return notes


def _without_score(images: Row) -> str:
    # Of this run's own images: beside a whole archive that was skipped any failure looks small.
    skipped = images.get("skipped", 0)
    own = images["manifest"] - skipped
    share = words.percent(images["errors"] / max(own, 1))
    says = f"{images['errors']:,} of {own:,} images ({share}) have no score"
    if not skipped:
        return says
    return f"{says}; the scores and errors of {skipped:,} skipped images are in earlier runs"


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _stages(rows: Sequence[Row]) -> list[Stage]:
    total = sum(row["seconds"] for row in rows) or 1.0
    longest = max((row["seconds"] for row in rows), default=0.0) or 1.0
    return [
        Stage(row, row["seconds"] / total, round(_BAR_WIDTH * row["seconds"] / longest, 1))
        for row in rows
    ]


def _histogram(row: Row) -> Histogram | None:
    """For the drawing; None where no two numbers differ."""
    counts = row["histogram"]
    if counts is None:
        return None
    edges = np.linspace(row["min"], row["max"], len(counts["good"]) + 1)
    if not (np.diff(edges) > 0).all():
        return None
    good, defects, unlabelled = (np.array(counts[n]) for n in ("good", "defects", "unlabelled"))
    whose = None if row["level"] == "all" else row["category"] or "(none)"
    return Histogram(row["score"], whose, edges, good, defects, unlabelled)


def _drawn(one: Drawing, largest: set[str | None]) -> bool:
    about = one.about
    known = about.category in largest or (about.category == "(none)" and None in largest)
    return about.category is not None and known and about.score in _DRAWN_SCORES


def _errors(report: Row) -> list[ErrorKind]:
    examples = report.get("error_examples", ())
    return [
        ErrorKind(kind, images, [row for row in examples if row["error_type"] == kind])
        for kind, images in report["errors_by_type"].items()
    ]


def _suspects(rows: Sequence[Row]) -> list[tuple[str | None, Sequence[Row]]]:
    names = dict.fromkeys(row["category"] for row in rows)
    return [(name, [row for row in rows if row["category"] == name]) for name in names]


def _rest(report: Row, record: Row) -> dict[str, Any]:
    told = {key: value for key, value in report.items() if key not in _TOLD}
    mine = ("config", "bundle", "started_at", "pools", "environment")
    return {key: record[key] for key in mine if key in record} | told

"""Drawings of score distributions: good images upwards, defects downwards, thresholds across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.contents import Floats, Histogram, Ints
from pipeline.report.evaluation_page.scales import Scale, ticks

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 8, 332, 26, 178
_MIDDLE = (TOP + BOTTOM) / 2
_TICKS = 5
# Thresholds that are drawn, and policies that are named at one of them.
_LINES, _NAMES = 8, 3
# Numbers nearer to each other than this are set in two rows.
_CLOSE = 14


@dataclass(frozen=True)
class Line:
    """A threshold: its number, its place (None: not drawn), its value and whose it is."""

    number: int
    x: float | None
    y: float
    value: str
    names: Sequence[str]
    more: int


@dataclass(frozen=True)
class Drawing:
    """A histogram ready to be drawn.

    Attributes:
        about: what it shows.
        good: path of the good images.
        defects: path of the defects.
        unlabelled: path of the others.
        counts: images in each of the three.
        ticks: place and text.
        lines: thresholds, drawn or only listed.
        left_out: thresholds that are neither.
        says: the drawing in words.
    """

    about: Histogram
    good: str
    defects: str
    unlabelled: str
    counts: tuple[int, int, int]
    ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    left_out: int
    says: str


def drawing(about: Histogram) -> Drawing:
    """One histogram; each kind has the same area, whatever the number of its images."""
    x = Scale(float(about.edges[0]), float(about.edges[-1]), LEFT, RIGHT)
    heights = [_density(n, about.edges) for n in (about.good, about.defects, about.unlabelled)]
    top = max(float(height.max()) for height in heights) or 1.0
    good, defects, unlabelled = (
        _steps(about.edges, height / top, x, sign)
        for height, sign in zip(heights, (-1, 1, -1), strict=True)
    )
    counts = tuple(int(n.sum()) for n in (about.good, about.defects, about.unlabelled))
    lines, left_out = _lines(about, x)
    marks = [(x.at(t), f"{t:.6g}") for t in ticks(x.low, x.high, _TICKS)]
    whose = about.category if about.category is not None else "all categories"
    says = (
        f"Distribution of {about.score}, {whose}: {words.count(counts[0])} good images, "
        f"{words.count(counts[1])} defects, {words.count(counts[2])} without a label, "
        f"between {words.plain(x.low)} and {words.plain(x.high)}"
    )
    shape = (good, defects, unlabelled)
    return Drawing(about, *shape, (counts[0], counts[1], counts[2]), marks, lines, left_out, says)


def _density(images: Ints, edges: Floats) -> Floats:
    """(n,) share of the images in each bin by the bin's width; 0 where there are no images."""
    total = images.sum()
    return np.asarray(images / total / np.diff(edges) if total else np.zeros(len(images)))


def _steps(edges: Floats, height: Floats, x: Scale, sign: int) -> str:
    """The path of a histogram from the middle upwards (-1) or downwards (1); '' if it is flat."""
    if not height.any():
        return ""
    half = (BOTTOM - TOP) / 2
    parts = [f"M{x.at(float(edges[0]))} {_MIDDLE:g}"]
    for end, value in zip(edges[1:].tolist(), height.tolist(), strict=True):
        parts.append(f"V{_MIDDLE + sign * half * value:.1f}H{x.at(end)}")
    return "".join([*parts, f"V{_MIDDLE:g}Z"])


def _lines(about: Histogram, x: Scale) -> tuple[list[Line], int]:
    """Thresholds by value, equal ones as one line; and how many there is no room for."""
    whose: dict[float, list[str]] = {}
    for name, value in about.thresholds:
        if words.exists(value):
            whose.setdefault(float(value), []).append(name)
    found: list[Line] = []
    last, low = -np.inf, False
    for number, value in enumerate(sorted(whose)[:_LINES], 1):
        place = x.at(value) if x.low <= value <= x.high else None
        if place is not None:
            low = not low if place - last < _CLOSE else False
            last = place
        names = whose[value]
        row = TOP - (4 if low else 14)
        more = max(len(names) - _NAMES, 0)
        found.append(Line(number, place, row, words.plain(value), names[:_NAMES], more))
    return found, max(len(whose) - _LINES, 0)

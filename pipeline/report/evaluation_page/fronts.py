"""The drawing of a sweep's front: missed defects against false alarms, tuning and hold-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.contents import Front, Points
from pipeline.report.evaluation_page.scales import Scale, round_up, ticks

WIDTH, HEIGHT = 440, 330
LEFT, RIGHT, TOP, BOTTOM = 52, 412, 30, 286
_TICKS = 5
# The least end of an axis: with an end of 0 there would be none.
_LEAST_END = 0.01
# Points that are drawn and that are listed; the first, the last and the chosen are among them.
DRAWN, LISTED = 200, 30


@dataclass(frozen=True)
class Mark:
    """A policy in the drawing, on tuning rows and, where they exist, on the hold-out's."""

    x: float
    y: float
    held_out: tuple[float, float] | None
    chosen: bool
    says: str


@dataclass(frozen=True)
class Listed:
    """A policy in the table: its numbers on tuning rows and on the hold-out, in words."""

    label: str
    chosen: bool
    tuning: Sequence[str]
    held_out: Sequence[str] | None


@dataclass(frozen=True)
class FrontDrawing:
    """A front ready to be drawn.

    Attributes:
        about: what it shows.
        stairs: path through the tuning points; '' where rates don't exist.
        marks: the points.
        x: ticks of false alarms, place and text.
        y: ticks of missed defects, place and text.
        listed: rows of the table.
        says: the drawing in words.
    """

    about: Front
    stairs: str
    marks: Sequence[Mark]
    x: Sequence[tuple[float, str]]
    y: Sequence[tuple[float, str]]
    listed: Sequence[Listed]
    says: str


def drawing(about: Front) -> FrontDrawing:
    """One front; without good images or without defects on tuning it is a table alone."""
    listed = [_listed(about, n) for n in _thinned(about, LISTED)]
    tuning = about.tuning
    says = (
        f"{len(about.labels):,} policies that none beats in both, missed defects (of "
        f"{words.count(tuning.defects)}) against false alarms (of {words.count(tuning.good)}), "
        f"{tuning.measured_on}"
    )
    if not (tuning.good and tuning.defects and len(about.labels)):
        return FrontDrawing(about, "", (), (), (), listed, says)
    x = _axis([p.fp / p.good for p in _both(about)], LEFT, RIGHT)
    y = _axis([p.fn / p.defects for p in _both(about)], BOTTOM, TOP)
    drawn = _thinned(about, DRAWN)
    marks = [_mark(about, n, x, y) for n in drawn]
    return FrontDrawing(about, _stairs(marks), marks, _texts(x), _texts(y), listed, says)


def _both(about: Front) -> list[Points]:
    """Tuning, and the hold-out where it has rates."""
    held = about.held_out
    return [about.tuning, *([held] if held is not None and held.good and held.defects else [])]


def _axis(rates: Sequence[np.ndarray], start: float, end: float) -> Scale:
    most = max(float(rate.max()) for rate in rates)
    return Scale(0.0, round_up(max(most, _LEAST_END), _TICKS), start, end)


def _texts(scale: Scale) -> list[tuple[float, str]]:
    return [(scale.at(t), words.rounded(t)) for t in ticks(scale.low, scale.high, _TICKS)]


def _thinned(about: Front, most: int) -> list[int]:
    """Evenly spaced places of the front from fewest false alarms on; the chosen is among them."""
    order: list[int] = np.lexsort((about.tuning.fn, about.tuning.fp)).tolist()
    if len(order) <= most:
        return order
    kept = {order[n] for n in np.linspace(0, len(order) - 1, most - 1).round().astype(int)}
    kept |= {about.chosen} if about.chosen is not None else set()
    return [n for n in order if n in kept]


def _mark(about: Front, place: int, x: Scale, y: Scale) -> Mark:
    spots = [
        (x.at(float(p.fp[place] / p.good)), y.at(float(p.fn[place] / p.defects)))
        for p in _both(about)
    ]
    row = _listed(about, place)
    says = f"{row.label}: {', '.join(row.tuning)}"
    if row.held_out is not None:
        says += f"; hold-out: {', '.join(row.held_out)}"
    held = spots[1] if len(spots) > 1 else None
    return Mark(*spots[0], held, place == about.chosen, says)


def _stairs(marks: Sequence[Mark]) -> str:
    """Between two policies none is better than the left one in misses."""
    first, *others = marks
    return f"M{first.x} {first.y}" + "".join(f"H{mark.x}V{mark.y}" for mark in others)


def _listed(about: Front, place: int) -> Listed:
    held = about.held_out
    return Listed(
        about.labels[place],
        place == about.chosen,
        _numbers(about.tuning, place),
        None if held is None else _numbers(held, place),
    )


def _numbers(points: Points, place: int) -> list[str]:
    return [
        f"{words.count(points.fn[place])} missed of {words.count(points.defects)}",
        f"{words.count(points.fp[place])} false alarms of {words.count(points.good)}",
        f"{words.count(points.review[place])} to review",
    ]

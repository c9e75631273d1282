"""Small bars of a rate and its interval, all of a column on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.policies import Entry, Row
from pipeline.report.evaluation_page.scales import Scale, round_up

WIDTH, HEIGHT = 130, 12
_EDGE, _TICKS = 4, 4
# The least end of a scale: with an end of 0 there would be none.
_LEAST_END = 0.01


@dataclass(frozen=True)
class Bar:
    """Places in a drawing of WIDTH: the interval's ends and the rate; and the same in words."""

    low: float
    high: float
    point: float
    says: str


@dataclass(frozen=True)
class BarColumn:
    """Bars by the number of their entry; `end` is the rate at the right edge, in words."""

    bars: dict[int, Bar]
    end: str


def missed_bars(entries: Sequence[Entry]) -> BarColumn:
    """Missed defects with Clopper and Pearson's interval, the one that the words give."""
    return _column(entries, ("fnr", "fnr_least", "fnr_most"))


def alarm_bars(entries: Sequence[Entry]) -> BarColumn:
    """False alarms with Wilson's interval, the one in brackets."""
    return _column(entries, ("fpr", "fpr_low", "fpr_high"))


def _column(entries: Sequence[Entry], names: tuple[str, str, str]) -> BarColumn:
    there = {e.number: e.row for e in entries if all(words.exists(e.row[name]) for name in names)}
    most = max((row[names[2]] for row in there.values()), default=0.0)
    end = min(round_up(max(most, _LEAST_END), _TICKS), 1.0)
    scale = Scale(0.0, end, _EDGE, WIDTH - _EDGE)
    return BarColumn(
        {number: _bar(row, names, scale) for number, row in there.items()}, words.rounded(end)
    )


def _bar(row: Row, names: tuple[str, str, str], scale: Scale) -> Bar:
    point, low, high = (row[name] for name in names)
    says = f"{words.percent(point)}, interval {words.interval(low, high)}"
    return Bar(scale.at(low), scale.at(high), scale.at(point), says)

"""Axes of charts: from numbers to places in a drawing, and round numbers for the ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Distances between ticks, up to a power of ten.
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
# Rounding in the last places must not lose the last tick.
_SLACK = 1e-9


@dataclass(frozen=True)
class Scale:
    """A linear axis: `low` lies at `start`, `high` at `end` in the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value, to a tenth of the drawing's unit."""
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, `most` at most; at least one if the range has any."""
    step = _step(high - low, most)
    first = math.ceil(low / step - _SLACK)
    last = math.floor(high / step + _SLACK)
    return [n * step for n in range(first, last + 1)]


def round_up(value: float, most: int) -> float:
    """The first tick of an axis from 0 that isn't below the value."""
    step = _step(value, most)
    return math.ceil(value / step - _SLACK) * step


def _step(length: float, most: int) -> float:
    power = 10.0 ** math.floor(math.log10(length / most))
    return next(power * nice for nice in _ROUND if power * nice * most >= length * (1 - _SLACK))

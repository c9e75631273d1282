"""What moved, and how far, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pipeline.evaluation.monitor.measures import ERRORS, FACT, FACTS, FLAGGED, KINDS, Measured

_LEAST_CHANCE = 1e-9
# A change of a mean that is told as 0 %: then it is the spread that changed.
_NO_CHANGE = 0.005


def says(one: Measured, corrected: float) -> str:
    """A measure's change in a sentence."""
    if one.chance is None:
        return f"{one.measure} is not compared: {one.says}"
    if one.kind in (FLAGGED, ERRORS):
        return f"{_rate(one)}, {_chance(corrected)}"
    if one.kind == KINDS:
        return f"{_kind(one)} (PSI {one.psi:.2f}, {_chance(corrected)})"
    far = f"PSI {one.psi:.2f}, KS {one.ks[0]:.2f}, {_chance(corrected)}"
    missing = f"; {one.missing[1]} images are without it" if one.missing[1] else ""
    return f"{_fact(one) if one.kind == FACT else _score(one)} ({far}){missing}"


def stayed(facts: Iterable[Measured]) -> str:
    """Where to look when no fact of the images moved."""
    names = ", ".join(FACTS.get(one.measure, one.measure) for one in facts)
    return f"{names} stayed: look at where camera and part stand, and at the parts themselves"


def _score(one: Measured) -> str:
    before, now = one.values
    if not math.isfinite(now):
        return f"{one.measure} is missing in every image"
    by = f", by {abs(one.shift):.1f} standard deviations" if math.isfinite(one.shift) else ""
    return f"mean {one.measure} {_verb(before, now)} from {before:.4g} to {now:.4g}{by}"


def _fact(one: Measured) -> str:
    before, now = one.values
    if not math.isfinite(now):
        return f"{FACTS[one.measure]} is missing in every image"
    by = change(one.values)
    name = FACTS[one.measure]
    if abs(by) < _NO_CHANGE:
        return f"{name} kept its mean of {now:.4g} and is spread otherwise"
    return f"{name} {_verb(before, now)} by {100 * abs(by):.0f} % (mean {before:.4g} to {now:.4g})"


def _kind(one: Measured) -> str:
    before, now = one.values
    return f"{one.measure} {one.says}: {100 * before:.0f} % of the images, now {100 * now:.0f} %"


def _rate(one: Measured) -> str:
    before, now = (f"{100 * value:.3g} %" for value in one.values)
    if one.kind == ERRORS:
        return f"images that failed with {one.measure}: {before}, now {now}"
    return f"{one.measure} flags {now} of the images, in the reference {before}"


def _verb(before: float, now: float) -> str:
    return "fell" if now < before else "rose"


def _chance(value: float) -> str:
    return f"p < {_LEAST_CHANCE:g}" if value < _LEAST_CHANCE else f"p = {value:.2g}"


def change(values: tuple[float, float]) -> float:
    """Of a mean, as a share of what it was."""
    before, now = values
    if not math.isfinite(now) or not before:
        return math.inf if before != now else 0.0
    return now / before - 1


def factor(values: tuple[float, float]) -> float:
    """By which the larger of two shares is larger; infinite where one is 0."""
    low, high = sorted(values)
    return high / low if low else (math.inf if high else 1.0)


def left_out(rows: Iterable[Measured]) -> str:
    """Which measures were not compared, and why."""
    reasons: dict[str, list[str]] = {}
    for one in rows:
        if one.chance is None:
            reasons.setdefault(one.says, []).append(one.measure)
    return "; ".join(f"{', '.join(names)} not compared: {why}" for why, names in reasons.items())

"""From measures to verdicts: more than chance over all comparisons, and large enough to matter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.config import DriftLimitsConfig
from pipeline.evaluation.monitor import wording
from pipeline.evaluation.monitor.measures import ERRORS, FACT, FLAGGED, KINDS, SCORE, Measured, Pair
from pipeline.evaluation.monitor.sketch import Category
from pipeline.stats.drift import holm

OK, WATCH, DRIFTED, NOT_COMPARABLE = "ok", "watch", "drift", "not_comparable"
# Of a run as a whole: nothing can be compared, and only for want of images.
TOO_FEW = "too_few_images"
_ORDER = (NOT_COMPARABLE, OK, WATCH, DRIFTED)


@dataclass(frozen=True)
class Judged:
    """A measure with its verdict.

    Attributes:
        measured: the measure.
        corrected: its chance over all comparisons; NaN: it was not compared.
        verdict: ok, watch, drift or not_comparable.
        says: how far, in words.
    """

    measured: Measured
    corrected: float
    verdict: str
    says: str


@dataclass(frozen=True)
class Verdict:
    """A category's verdict, or a run's."""

    category: Category
    verdict: str
    reason: str


def judged(found: Sequence[Measured], alpha: float, limits: DriftLimitsConfig) -> list[Judged]:
    """Every measure with its verdict.

    Args:
        found: of all categories: they are one family of comparisons.
        alpha: how often chance may raise an alarm over all of them.
        limits: how large a change has to be.
    """
    corrected = iter(holm([one.chance for one in found if one.chance is not None]).tolist())
    result = []
    for one in found:
        chance = math.nan if one.chance is None else next(corrected)
        if one.chance is None:
            verdict = NOT_COMPARABLE
        else:
            verdict = OK if chance > alpha else _size(one, limits)
        result.append(Judged(one, chance, verdict, wording.says(one, chance)))
    return result


def _size(one: Measured, limits: DriftLimitsConfig) -> str:
    """The verdict on a change that is more than chance."""
    if one.kind in (FLAGGED, ERRORS):
        factor = wording.factor(one.values)
        if factor >= limits.rate_drift:
            return DRIFTED
        return WATCH if factor >= limits.rate_watch else OK
    if one.excess < limits.psi_watch:
        return OK
    small = one.kind == FACT and abs(wording.change(one.values)) < limits.fact_change
    return WATCH if small or one.excess < limits.psi_drift else DRIFTED


def category_verdict(pair: Pair, found: Iterable[Judged]) -> Verdict:
    """The worst of a category's measures, with what moved and what the images say about it."""
    category = pair.category
    rows = sorted(found, key=_rank)
    compared = [one for one in rows if one.verdict != NOT_COMPARABLE]
    verdict = worst(one.verdict for one in rows)
    moved = [one for one in rows if one.verdict in (WATCH, DRIFTED)]
    if not compared or (pair.too_few and not moved):
        why = pair.too_few or wording.left_out(one.measured for one in rows)
        return Verdict(category, NOT_COMPARABLE, why or "there is nothing to compare")
    parts = [one.says for one in moved] or ["nothing moved by more than chance and the limits"]
    facts = [one for one in compared if one.measured.kind in (FACT, KINDS)]
    if moved and facts and not any(one in moved for one in facts):
        parts.append(wording.stayed(one.measured for one in facts))
    skipped = wording.left_out(
        one.measured for one in rows if one.measured.kind in (SCORE, FLAGGED)
    )
    parts += [more for more in (pair.too_few, skipped) if more]
    return Verdict(category, verdict, "; ".join(parts))


def _rank(one: Judged) -> tuple[int, int, float, str]:
    """Scores before rates before facts, drift before watch, the farthest first."""
    kinds = (SCORE, FLAGGED, ERRORS, FACT, KINDS)
    far = (
        one.measured.excess
        if math.isfinite(one.measured.psi)
        else -math.log(max(one.corrected, 1e-300) if math.isfinite(one.corrected) else 1.0)
    )
    return kinds.index(one.measured.kind), -_ORDER.index(one.verdict), -far, one.measured.measure


def worst(verdicts: Iterable[str]) -> str:
    """The worst of some verdicts; not_comparable only where there is no other."""
    return max(verdicts, key=_ORDER.index, default=NOT_COMPARABLE)

"""Choosing among a sweep's policies on the tuning rows, and judging the choice on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.evaluation.sweep.counting import Swept
from pipeline.evaluation.sweep.document import Choosing
from pipeline.evaluation.sweep.sides import ALIKE, HOLD_OUT, NAMES, TUNING
from pipeline.policy.choosing.budgets import choosable, keeping, within
from pipeline.policy.choosing.confusion import (
    Confusion,
    Decided,
    by_category,
    by_defect_type,
    confusion,
    require_both_kinds,
)
from pipeline.policy.choosing.costs import expected_costs, unused_prices
from pipeline.policy.choosing.front import Front, front
from pipeline.policy.choosing.guarantee import Certificate, certify, without_candidate
from pipeline.policy.choosing.limits import Guarantee, Limit
from pipeline.policy.choosing.measured import MeasuredOn
from pipeline.policy.choosing.per_category import cheapest_each, within_total

Codes = npt.NDArray[np.int64]
# As reports name the sides.
SIDES = {TUNING: "tuning", HOLD_OUT: "hold_out"}


@dataclass(frozen=True)
class Sided:
    """Counts of P policies by side.

    Attributes:
        tuning: (P, C) of the rows that choose.
        holdout: (P, C) of those that judge; None: there are none.
        certifying: (P,) of one image of each group of the hold-out; None: not asked for.
    """

    tuning: Confusion
    holdout: Confusion | None
    certifying: Confusion | None


@dataclass(frozen=True)
class Chosen:
    """The policy that a sweep ends with.

    Attributes:
        policies: one for all, or one for each category.
        per_category: which of the two.
        says: why, in words.
        met: whether it keeps what was asked.
        warnings: for people.
        certified: candidates among which the hold-out itself picked it; 0: it had no say.
    """

    policies: Codes
    per_category: bool
    says: str
    met: bool
    warnings: tuple[str, ...] = ()
    certified: int = 0


def sided(swept: Swept, guarantee: Guarantee | None) -> Sided:
    """Counts by side.

    Raises:
        InputError: a side without defects or without good images.
    """
    decided, columns = swept.decided, by_category(swept.decided.population)
    there = set(decided.population.part.tolist())
    tuning = confusion(decided, columns, TUNING)
    require_both_kinds(tuning.total(), NAMES[TUNING])
    if not there - {TUNING}:
        return Sided(tuning, None, None)
    holdout = confusion(decided, columns, HOLD_OUT)
    certifying = None if guarantee is None else holdout.total()
    if ALIKE in there:
        holdout = holdout + confusion(decided, columns, ALIKE)
    require_both_kinds(holdout.total(), NAMES[HOLD_OUT])
    return Sided(tuning, holdout, certifying)


def eligible(swept: Swept, oracles: tuple[bool, ...]) -> npt.NDArray[np.bool_]:
    """(P,) which policies may be chosen: no oracle.

    Args:
        swept: the policies.
        oracles: whether each template is one.
    """
    parts = [
        np.full(one.count, not oracle)
        for one, oracle in zip(swept.expansions, oracles, strict=True)
    ]
    return np.concatenate(parts)


def fronts(counts: Sided, allowed: npt.NDArray[np.bool_]) -> Front:
    """The Pareto front on the tuning rows; with reviews, their load is a third axis."""
    total = counts.tuning.total()
    return front(total, allowed, review=bool(total.reviewed.any()))


def chosen(
    swept: Swept, counts: Sided, choosing: Choosing, allowed: npt.NDArray[np.bool_]
) -> Chosen | None:
    """The policy that the sweep file seeks; None where it seeks none.

    Raises:
        InputError: no policy but oracles, a price that is missing, a budget on a rate that doesn't
            exist.
    """
    total = counts.tuning.total()
    if choosing.costs is not None:
        return _cheapest(swept, choosing, allowed)
    if not choosing.budgets:
        return None
    if choosing.per_category:
        found = within_total(counts.tuning, choosing.budgets[0], allowed)
        lacking = _without_evidence(swept, counts)
        return Chosen(found.policies, True, found.says, found.met, lacking)
    one = within(total, choosing.budgets, allowed)
    return Chosen(np.array([one.policy]), False, one.says, one.met)


def _without_evidence(swept: Swept, counts: Sided) -> tuple[str, ...]:
    """Categories whose tuning rows say nothing of one of the two errors."""
    first = counts.tuning.at(0)
    names = by_category(swept.decided.population).category
    return tuple(
        f"{name or 'rows without a category'}: its tuning rows are {goods} good images and "
        f"{defects} defects: its own policy rests on nothing there"
        for name, goods, defects in zip(
            names, first.goods.tolist(), first.defects.tolist(), strict=True
        )
        if not goods or not defects
    )


def _cheapest(swept: Swept, choosing: Choosing, allowed: npt.NDArray[np.bool_]) -> Chosen:
    assert choosing.costs is not None  # noqa: S101 - for the type checker
    columns = by_defect_type(swept.decided.population)
    counts = confusion(swept.decided, columns, TUNING)
    costs = expected_costs(counts, columns, choosing.costs)
    warnings = tuple(
        f"costs: {name}: is the price of nothing in these rows"
        for name in unused_prices(columns, choosing.costs)
    )
    if choosing.per_category:
        found = cheapest_each(costs, allowed)
        return Chosen(found.policies, True, found.says, True, warnings)
    there = choosable(len(costs), allowed)
    whole = costs[there].sum(axis=1)
    best = int(whole.argmin())
    says = f"expected cost {whole[best]:.6g} an image, the least of {len(there):,}"
    return Chosen(there[[best]], False, says, True, warnings)


def certificate(
    counts: Sided, guarantee: Guarantee, budgets: Sequence[Limit], allowed: npt.NDArray[np.bool_]
) -> Certificate:
    """What can be promised of the sweep's policies that keep the budgets.

    The tuning rows alone say which ones keep them: the certifying rows may not pick candidates.

    Raises:
        InputError: no rows but those that choose, or a budget on a rate that doesn't exist.
    """
    if counts.certifying is None:
        raise InputError(
            f"guarantee: {guarantee.says}: needs rows that chose nothing; hold some out with "
            "holdout.by=group or role"
        )
    tuning = counts.tuning.total()
    candidates = allowed & keeping(tuning, budgets)
    if allowed.any() and not candidates.any():
        nearest = within(tuning, budgets, allowed)
        return without_candidate(guarantee, counts.certifying, f"on tuning {nearest.says}")
    return certify(guarantee, tuning, counts.certifying, candidates)


def promised(one: Certificate, budgets: Sequence[Limit]) -> Chosen | None:
    """The certified policy as the choice; None: what can't be certified isn't chosen."""
    if one.policy is None:
        return None
    says = one.says
    if budgets:
        wanted = " and ".join(limit.says for limit in budgets)
        says += f"; the candidates were those that keep {wanted} on tuning"
    return Chosen(np.array([one.policy]), False, says, True, certified=one.tested)


def kept_budgets(decided: Decided, budgets: Sequence[Limit]) -> list[dict[str, Any]]:
    """Whether the choice keeps each budget, on every side there is.

    Args:
        decided: by the choice alone, as of `as_one`.
        budgets: that were asked for.
    """
    columns = by_category(decided.population)
    there = [s for s in (TUNING, HOLD_OUT) if (decided.population.part == s).any()]
    sides = {SIDES[side]: confusion(decided, columns, side).total().at([0]) for side in there}
    return [
        {"asked": limit.says}
        | {
            name: {
                "hits": int(limit.hits(counts)[0]),
                "of": int(limit.trials(counts)[0]),
                "kept": bool(keeping(counts, [limit])[0]),
            }
            for name, counts in sides.items()
        }
        for limit in budgets
    ]


def as_one(swept: Swept, choice: Chosen) -> Decided:
    """What the choice decided, as one policy; the hold-out's groups are one side."""
    decided = swept.decided
    people = decided.population
    places = np.zeros(len(people.images), np.int64)
    if choice.per_category:
        places = by_category(people).code
    rows = choice.policies[places]
    take = np.arange(len(places))
    review = None if decided.review is None else decided.review[rows, take][None]
    sides = np.minimum(people.part, HOLD_OUT)
    whole = type(people)(people.category, people.defect, people.images, people.defect_type, sides)
    return Decided(decided.flagged[rows, take][None], review, whole)


def measured_on(counts: Sided, side: int, policies: int, choice: Chosen) -> str:
    """How honest figures of the choice on a side are, in words."""
    if side == HOLD_OUT and choice.certified:
        return (
            f"hold-out: picked here, the last of {choice.certified:,} candidates to be certified; "
            "the certificate holds, these figures are somewhat too good"
        )
    if side == HOLD_OUT:
        return MeasuredOn("hold-out").says
    part: Any = "tuning" if counts.holdout is not None else "all"
    return MeasuredOn(part, best_of=policies, per_category=choice.per_category).says

"""The best policy within budgets: `fnr<=0.01`, then the fewest false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.choosing.confusion import Confusion, Flags, Ints
from pipeline.policy.choosing.limits import Limit
from pipeline.policy.choosing.measured import MeasuredOn


@dataclass(frozen=True)
class Choice:
    """The policy that was chosen.

    Attributes:
        policy: which.
        met: whether it keeps all budgets; else it is the nearest that there is.
        equals: policies with the same counts.
        measured_on: how honest the counts of this choice are.
        says: the answer in words.
    """

    policy: int
    met: bool
    equals: int
    measured_on: MeasuredOn
    says: str


def within(counts: Confusion, limits: Sequence[Limit], eligible: Flags | None = None) -> Choice:
    """The best policy within every budget.

    The first budget tells what is sought: with a limit on the false-negative rate the fewest false
    alarms, else the fewest missed defects. Of equal ones the better in the other error, then the
    one with fewer reviews, then the first.

    Args:
        counts: (P,) of the images that choose.
        limits: one or more.
        eligible: (P,) which can be chosen; None: all.

    Raises:
        InputError: no policy can be chosen, or a limited rate does not exist.
    """
    there = choosable(len(counts.fn), eligible)
    kept = counts.at(there)
    for limit in limits:
        require_rate(kept, limit)
    excess = np.stack([_excess(kept, limit) for limit in limits]).sum(0)
    order = _preference(kept, limits[0])
    place = int(np.lexsort((*order[::-1], excess))[0])
    same = np.ones(len(there), bool)
    for loss in order:
        same &= loss == loss[place]
    met = not excess[place]
    says = _says(kept.at(place), limits, int((excess == 0).sum()), len(there))
    measured_on = MeasuredOn("tuning", best_of=len(there))
    return Choice(int(there[place]), met, int(same.sum()), measured_on, says)


def keeping(counts: Confusion, limits: Sequence[Limit]) -> Flags:
    """Which policies keep every budget, (P,), in exact arithmetic; all where there is none.

    Args:
        counts: (P,) of the images that choose.
        limits: any number.

    Raises:
        InputError: a limited rate does not exist.
    """
    kept = np.ones(len(counts.fn), bool)
    for limit in limits:
        require_rate(counts, limit)
        kept &= limit.hits(counts) <= limit.allowed(counts)
    return kept


def within_each(
    counts: Confusion, limits: Sequence[Limit], eligible: Flags | None = None
) -> tuple[Choice, ...]:
    """The best policy of each category, every category within the budgets by itself.

    Args:
        counts: (P, C).
        limits: one or more.
        eligible: (P,) which can be chosen; None: all.

    Raises:
        InputError: as for `within`.
    """
    categories = range(counts.shape[-1])
    return tuple(within(counts.at((slice(None), c)), limits, eligible) for c in categories)


def choosable(policies: int, eligible: Flags | None) -> Ints:
    """The policies that may be chosen.

    Raises:
        InputError: none of them.
    """
    there = np.arange(policies) if eligible is None else np.flatnonzero(eligible)
    if not len(there):
        raise InputError(
            f"none of {policies} policies can be chosen: oracles, which read ground truth, can't; "
            "add a policy that decides by scores"
        )
    return there


def require_rate(counts: Confusion, limit: Limit) -> None:
    """Refuses a limit on a rate that does not exist.

    Raises:
        InputError: there are no images that it would be a share of.
    """
    if limit.trials(counts).min() < 1:
        lacking = {"fnr": "defects", "fpr": "good images", "review": "labelled images"}
        raise InputError(
            f"budget {limit.says}: the images have no {lacking[limit.rate]}, so the rate does not "
            "exist; choose on other rows"
        )


def _excess(counts: Confusion, limit: Limit) -> npt.NDArray[np.float64]:
    """How far above the limit each rate is; 0 exactly where it is met."""
    hits, trials = limit.hits(counts), limit.trials(counts)
    over = hits / trials - float(limit.at_most)
    return np.where(hits <= limit.allowed(counts), 0.0, np.maximum(over, np.finfo(float).tiny))


def _preference(counts: Confusion, first: Limit) -> list[Ints]:
    errors = [counts.fp, counts.fn] if first.rate == "fnr" else [counts.fn, counts.fp]
    return [*errors, counts.reviewed]


def _says(chosen: Confusion, limits: Sequence[Limit], met: int, policies: int) -> str:
    wanted = " and ".join(limit.says for limit in limits)
    counts = (
        f"{chosen.fn} of {chosen.defects} defects missed, "
        f"{chosen.fp} of {chosen.goods} good flagged, {chosen.reviewed} reviewed"
    )
    if met:
        return f"{met:,} of {policies:,} policies keep {wanted}; the best: {counts}"
    return f"none of {policies:,} policies keeps {wanted}; the nearest: {counts}"

"""A policy for each category: counts add over categories, so each can choose by itself.

Only a budget on the sum over categories ties the choices together. It is a knapsack with one pick
of every category's front, solved exactly by dynamic programming over the budget; the product over
categories is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.choosing.budgets import choosable
from pipeline.policy.choosing.confusion import Confusion, Flags, Ints
from pipeline.policy.choosing.front import pareto
from pipeline.policy.choosing.limits import Limit
from pipeline.policy.choosing.measured import MeasuredOn

# Additions that the exact search may take: about a second.
EXACT_WORK = 500_000_000
# Halvings of the price of a hit: beyond a float's 53 bits nothing changes.
_HALVINGS = 60


@dataclass(frozen=True)
class Assignment:
    """A policy for each category.

    Attributes:
        policies: (C,) which.
        met: whether the budget is kept; else no assignment keeps it, and this is the nearest.
        beyond_best: by how many errors it may exceed the best assignment; 0: it is the best.
        measured_on: how honest the counts of this choice are.
        says: the answer in words.
    """

    policies: Ints
    met: bool
    beyond_best: int
    measured_on: MeasuredOn
    says: str


def picked(counts: Confusion, policies: Ints) -> Confusion:
    """Counts (C,) of an assignment, from those of all policies (P, C)."""
    return counts.at((policies, np.arange(counts.shape[1])))


def cheapest_each(costs: npt.NDArray[np.float64], eligible: Flags | None = None) -> Assignment:
    """The policy with the least cost in each category; of equal ones the first.

    Args:
        costs: (P, C), as of `expected_costs`.
        eligible: (P,) which can be chosen; None: all.

    Raises:
        InputError: no policy can be chosen.
    """
    there = choosable(len(costs), eligible)
    place = costs[there].argmin(0)
    total = costs[there[place], np.arange(costs.shape[1])].sum()
    measured_on = MeasuredOn("tuning", len(there), per_category=True)
    return Assignment(there[place], True, 0, measured_on, f"expected cost {total:.6g} an image")


def within_total(
    counts: Confusion, limit: Limit, eligible: Flags | None = None, work: int = EXACT_WORK
) -> Assignment:
    """The assignment with the fewest errors of the other kind, within a budget on the total.

    Args:
        counts: (P, C) of the images that choose.
        limit: on `fnr` (then the fewest false alarms) or `fpr` (then the fewest misses), over all
            categories together.
        eligible: (P,) which can be chosen; None: all.
        work: additions that the exact search may take; beyond, a Lagrangian relaxation answers
            with a bound on what it may have left.

    Raises:
        InputError: another rate, no policy to choose, or a rate that does not exist.
    """
    if limit.rate not in ("fnr", "fpr"):
        raise InputError(f"budget {limit.says}: over all categories only fnr and fpr, not a review")
    there = choosable(len(counts.fn), eligible)
    trials = int(limit.trials(counts.at(there[0])).sum())
    if not trials:
        kind = "defects" if limit.rate == "fnr" else "good images"
        raise InputError(f"budget {limit.says}: the images have no {kind}; choose on other rows")
    allowed = int(limit.at_most * trials)
    fronts = [_front(counts.at((there, c)), limit.rate) for c in range(counts.shape[1])]
    least = sum(int(front.hits.min()) for front in fronts)
    if least > allowed:
        picks, beyond = [int(front.hits.argmin()) for front in fronts], 0
    elif (allowed + 1) * sum(len(front.hits) for front in fronts) <= work:
        picks, beyond = _knapsack(fronts, allowed), 0
    else:
        picks, beyond = _relaxed(fronts, allowed)
    policies = there[[front.policy[pick] for front, pick in zip(fronts, picks, strict=True)]]
    says = _says(picked(counts, policies).total(), limit, beyond)
    measured_on = MeasuredOn("tuning", len(there), per_category=True)
    answer = Assignment(policies, True, beyond, measured_on, says)
    if least <= allowed:
        return answer
    return replace(answer, met=False, says=f"no assignment keeps {limit.says}; the nearest: {says}")


@dataclass(frozen=True)
class _Front:
    """One category's front: hits of the limited error rising, losses falling."""

    hits: Ints
    losses: Ints
    policy: Ints


def _front(counts: Confusion, rate: str) -> _Front:
    limited, other = (counts.fn, counts.fp) if rate == "fnr" else (counts.fp, counts.fn)
    best = pareto(np.stack([limited, other], axis=1)).policies
    return _Front(limited[best], other[best], best)


def _knapsack(fronts: list[_Front], allowed: int) -> list[int]:
    """One point of each front: least losses in sum with at most `allowed` hits in sum.

    Of equal losses the one with fewer hits: `after` counts a loss as more than all hits.
    """
    scale = allowed + 1
    after = np.zeros(allowed + 1, np.int64)
    choices = []
    none = np.iinfo(np.int64).max
    for front in fronts:
        best, choice = np.full(allowed + 1, none), np.zeros(allowed + 1, np.int32)
        for point, (hits, loss) in enumerate(zip(front.hits, front.losses, strict=True)):
            if hits > allowed:
                break
            before = after[: allowed + 1 - hits]
            cost = np.where(before < none, before + loss * scale + hits, none)
            better = cost < best[hits:]
            best[hits:][better] = cost[better]
            choice[hits:][better] = point
        after = best
        choices.append(choice)
    left, picks = allowed, []
    for front, choice in zip(reversed(fronts), reversed(choices), strict=True):
        picks.append(int(choice[left]))
        left -= int(front.hits[picks[-1]])
    return picks[::-1]


def _relaxed(fronts: list[_Front], allowed: int) -> tuple[list[int], int]:
    """A feasible pick by a price on each hit, and by how much it may exceed the best.

    At any price the least of losses + price × hits, less price × allowed, is a lower bound of the
    best losses (weak duality). The lowest price whose pick is feasible is found by halving.
    """
    dear = float(max(int(front.losses.max()) for front in fronts) + 1)
    low, high, bound = 0.0, dear, 0.0
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        picks = _at_price(fronts, price)
        losses, hits = _sums(fronts, picks)
        bound = max(bound, losses + price * (hits - allowed))
        low, high = (low, price) if hits <= allowed else (price, high)
    picks = _at_price(fronts, high)
    losses, _ = _sums(fronts, picks)
    # Losses are whole numbers, and so is the best; the small term absorbs rounding of the bound.
    return picks, losses - int(np.ceil(bound - 1e-6))


def _at_price(fronts: list[_Front], price: float) -> list[int]:
    return [int((front.losses + price * front.hits).argmin()) for front in fronts]


def _sums(fronts: list[_Front], picks: list[int]) -> tuple[int, int]:
    pairs = list(zip(fronts, picks, strict=True))
    losses = sum(int(front.losses[pick]) for front, pick in pairs)
    return losses, sum(int(front.hits[pick]) for front, pick in pairs)


def _says(chosen: Confusion, limit: Limit, beyond: int) -> str:
    says = (
        f"{chosen.fn} of {chosen.defects} defects missed, {chosen.fp} of {chosen.goods} good "
        "flagged over all categories"
    )
    if beyond:
        errors = "false alarms" if limit.rate == "fnr" else "missed defects"
        says += f"; the best assignment has at most {beyond} fewer {errors}"
    return says

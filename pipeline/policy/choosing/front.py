"""The Pareto front: policies that no other beats in every respect."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from pipeline.policy.choosing.confusion import Confusion, Flags, Ints


@dataclass(frozen=True)
class Front:
    """Policies on the front, from the fewest missed defects on.

    Attributes:
        policies: (n,) the first of all policies with the same counts.
        equals: (n,) how many policies have the same counts, itself included.
    """

    policies: Ints
    equals: Ints


def front(counts: Confusion, eligible: Flags | None = None, review: bool = False) -> Front:
    """False negatives against false positives, and with `review` against reviewed images too.

    Args:
        counts: (P,).
        eligible: (P,) False for policies that can't be chosen, as oracles; None: all can.
        review: whether the review load is a third axis. Without it a policy that sends every
            image to a person beats all others.
    """
    axes = [counts.fn, counts.fp, *([counts.reviewed] if review else [])]
    return pareto(np.stack(axes, axis=1), eligible)


def pareto(losses: Ints, eligible: Flags | None = None) -> Front:
    """The front of losses, the less the better.

    Args:
        losses: (P, 2) or (P, 3).
        eligible: (P,) which take part; None: all.
    """
    there = np.arange(len(losses)) if eligible is None else np.flatnonzero(eligible)
    points, first, equals = _distinct(losses[there])
    kept = _staircase(points) if points.shape[1] == 2 else _stairs(points)
    return Front(there[first[kept]], equals[kept])


def _distinct(losses: Ints) -> tuple[Ints, Ints, Ints]:
    """Different rows in lexicographic order, the first place of each, and its repeats."""
    order = np.lexsort(losses.T[::-1])
    ordered = losses[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(1)
    begins = np.flatnonzero(starts)
    return ordered[begins], order[begins], np.diff(np.append(begins, len(order)))


def _staircase(points: Ints) -> Flags:
    """Of two losses in lexicographic order: those below everything before them."""
    kept = np.ones(len(points), bool)
    kept[1:] = points[1:, 1] < np.minimum.accumulate(points[:, 1])[:-1]
    return kept


def _stairs(points: Ints) -> Flags:
    """Of three losses in lexicographic order: those that no earlier point beats.

    Earlier points are no worse in the first loss. Of them a staircase is kept: with the second
    loss increasing, the third decreases, so that one look tells the least third loss among those
    that are no worse in the second (Kung, Luccio and Preparata 1975).
    """
    kept = np.ones(len(points), bool)
    seconds: list[int] = []
    thirds: list[int] = []
    for place, (_, second, third) in enumerate(points.tolist()):
        at = bisect_right(seconds, second)
        if at and thirds[at - 1] <= third:
            kept[place] = False
            continue
        if at and seconds[at - 1] == second:
            at -= 1
        end = at
        while end < len(thirds) and thirds[end] >= third:
            end += 1
        seconds[at:end], thirds[at:end] = [second], [third]
    return kept

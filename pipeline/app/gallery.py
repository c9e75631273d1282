"""Which images of a run are shown, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.app.deciding import DEFECT, GOOD, REVIEW, Outcome
from pipeline.app.held import Held
from pipeline.app.state import ANOMALOUS, EVERY, FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, View
from pipeline.app.state import REVIEW as IN_REVIEW
from pipeline.evaluation.groups import Group
from pipeline.policy.language import Resolved

# Images on a sheet.
SHEET = 24

Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """What of a run is looked at.

    Attributes:
        kind: false negatives, false positives, near misses, …
        category: None: all.
        defect_type: only defects of it; None: all images.
        score: that `low` and `high` are of, and by which the most anomalous are ordered.
        low: from here on; None: from the least.
        high: up to here; None: to the largest.
    """

    kind: str
    category: str | None
    defect_type: str | None
    score: str
    low: float | None
    high: float | None

    @classmethod
    def of(cls, view: View, score: str) -> Choice:
        """What a view asks for."""
        return cls(view.kind, view.category, view.defect_type, score, view.low, view.high)


def chosen(choice: Choice, policy: Resolved, held: Held, outcome: Outcome) -> Places:
    """Rows (n,), in the order in which they are shown.

    Mistakes and near misses come nearest to a threshold first, all others highest score first.
    A near miss is an image that was decided rightly, and by little.
    """
    places = np.flatnonzero(_wanted(choice, held, outcome))
    if choice.kind in (FALSE_NEGATIVE, FALSE_POSITIVE, NEAR):
        key = distances(policy, held, places)
    else:
        key = -held.scores[choice.score][places].astype(np.float64)
    # Rows without a score or a threshold come last.
    return places[np.argsort(np.where(np.isnan(key), np.inf, key), kind="stable")]


def _wanted(choice: Choice, held: Held, outcome: Outcome) -> Flags:
    truth = np.array([-1 if g.is_defect is None else int(g.is_defect) for g in held.groups])
    fits = np.array(
        [
            choice.category in (None, g.category)
            and (
                choice.defect_type is None
                or (bool(g.is_defect) and g.defect_type == choice.defect_type)
            )
            for g in held.groups
        ],
        bool,
    )
    flags: Flags = fits[held.group] & _of_kind(choice.kind, truth[held.group], outcome)
    values = held.scores[choice.score]
    if choice.low is not None:
        flags &= values >= choice.low
    if choice.high is not None:
        flags &= values <= choice.high
    return flags


def _fits(choice: Choice, group: Group) -> bool:
    if choice.category not in (None, group.category):
        return False
    of_type = bool(group.is_defect) and group.defect_type == choice.defect_type
    return choice.defect_type is None or of_type


def _of_kind(kind: str, truth: npt.NDArray[np.integer], outcome: Outcome) -> Flags:
    passed, flagged = outcome == GOOD, outcome == DEFECT
    kinds = {
        FALSE_NEGATIVE: (truth == 1) & passed,
        FALSE_POSITIVE: (truth == 0) & flagged,
        NEAR: ((truth == 1) & flagged) | ((truth == 0) & passed),
        IN_REVIEW: outcome == REVIEW,
        ANOMALOUS: np.ones(len(truth), bool),
        EVERY: np.ones(len(truth), bool),
    }
    return np.asarray(kinds[kind])


def distances(policy: Resolved, held: Held, places: Places) -> npt.NDArray[np.float64]:
    """(n,) standard deviations from a row's scores to the nearest threshold of its rule."""
    result = np.full(len(places), np.inf)
    groups = held.group[places]
    for number in np.unique(groups):
        inside = np.flatnonzero(groups == number)
        row = int(places[inside[0]])
        ruling = policy.ruling_of(held.part(row, by_type=policy.policy.oracle))
        for slot, threshold in zip(ruling.ruling.slots, ruling.numbers, strict=True):
            values = held.scores[slot.score][places[inside]].astype(np.float64)
            away = np.abs(values - threshold.shown) / held.spread[slot.score]
            result[inside] = np.fmin(result[inside], away)
    return result


def neighbours(held: Held, row: int, score: str, each: int) -> Places:
    """Rows of the same category next to a row in a score: `each` below, itself, `each` above."""
    codes = [n for n, g in enumerate(held.groups) if g.category == held.part(row).category]
    same = np.flatnonzero(np.isin(held.group, codes))
    values = held.scores[score][same]
    same = same[~np.isnan(values)]
    ordered = same[np.argsort(held.scores[score][same], kind="stable")]
    at = np.flatnonzero(ordered == row)
    if not len(at):
        return np.zeros(0, np.intp)
    return ordered[max(0, int(at[0]) - each) : int(at[0]) + each + 1]

"""What changes sides: two policies on one run, or one policy on two runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.app.deciding import Outcome
from pipeline.app.held import Held
from pipeline.policy.choosing.champion import Comparison, compare
from pipeline.policy.choosing.confusion import DECISIONS
from pipeline.policy.language import OUTCOMES

# From the codes of outcomes to the order in which crossed counts have them.
_PLACE = np.array([DECISIONS.index(outcome) for outcome in OUTCOMES])

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Changed:
    """The images on which two decisions differ.

    Attributes:
        rows: (n,) rows of the first run.
        before: (n,) the first decision.
        after: (n,) the second.
        crossed: (3, 3, 3) images by truth (unknown, good, defect), first and second decision, as
            `OUTCOMES` numbers them.
        comparison: mistakes that are mended and made, with McNemar's p-values.
        common: images that both decide.
        only_first: images of the first run alone.
        only_second: images of the second run alone.
    """

    rows: Places
    before: Outcome
    after: Outcome
    crossed: npt.NDArray[np.int64]
    comparison: Comparison
    common: int
    only_first: int
    only_second: int


def changed_policies(held: Held, before: Outcome, after: Outcome) -> Changed:
    """Two policies on the same rows."""
    return _changed(held, np.arange(len(before)), before, after, (0, 0))


def changed_runs(first: Held, second: Held, before: Outcome, after: Outcome) -> Changed:
    """One policy on two runs, on the images that both judge; labels are the first run's."""
    order = np.argsort(second.image_id, kind="stable")
    ids = second.image_id[order]
    place = np.minimum(np.searchsorted(ids, first.image_id), max(len(ids) - 1, 0))
    both = np.flatnonzero(ids[place] == first.image_id) if len(ids) else np.zeros(0, np.intp)
    alone = (len(first.image_id) - len(both), len(ids) - len(both))
    return _changed(first, both, before[both], after[order[place[both]]], alone)


def _changed(
    held: Held, rows: Places, before: Outcome, after: Outcome, alone: tuple[int, int]
) -> Changed:
    truth = np.array([-1 if g.is_defect is None else int(g.is_defect) for g in held.groups])
    key = ((truth[held.group[rows]] + 1) * 3 + before) * 3 + after
    crossed = np.bincount(key, minlength=27).reshape(3, 3, 3)
    # The engine's order of decisions is another one.
    places = np.argsort(_PLACE)
    ordered = crossed[1:][:, places][:, :, places]
    differ = np.flatnonzero(before != after)
    return Changed(
        rows[differ],
        before[differ],
        after[differ],
        crossed,
        compare(ordered),
        len(rows),
        *alone,
    )

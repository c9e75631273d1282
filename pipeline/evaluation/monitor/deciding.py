"""The policies in use, applied to a run's rows as they pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import MonitorConfig
from pipeline.errors import InputError
from pipeline.evaluation.monitor.rows import Slice
from pipeline.evaluation.monitor.sketch import Category, CategorySketch, Cut
from pipeline.evaluation.policies import known_thresholds, resolved
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.language import DEFECT, Part, Policy, Resolved, Rows, decide


@dataclass(frozen=True)
class InUse:
    """Policies in use.

    Attributes:
        policies: resolved for the reference's categories.
        near: how near to a threshold is near, in standard deviations.
    """

    policies: tuple[Resolved, ...] = ()
    near: float = 0.0

    @property
    def scores(self) -> list[str]:
        """Names of the scores that they read."""
        return sorted({name for policy in self.policies for name in policy.dtypes})

    def add(self, into: CategorySketch, rows: Slice) -> None:
        """Counts what they make of some rows of a category of the reference.

        Raises:
            InputError: a score is missing where a policy doesn't say what that means.
        """
        part = Part(rows.category)
        place = np.zeros(len(rows.ids), np.int64)
        # Policies of one digest decide alike, and an image is flagged once.
        for policy in {one.digest: one for one in self.policies}.values():
            scores = {name: rows.numbers[name] for name in policy.dtypes}
            outcome = decide(policy, Rows(scores, (part,), place))
            into.flagged[policy.digest] += int((outcome == DEFECT).sum())
        for cut in self.cuts(rows.category, into.spreads):
            values = rows.numbers[cut.score].astype(np.float64)
            near = int((np.abs(values - cut.threshold) <= cut.within).sum())
            before = into.near.get(cut, (0, 0))
            into.near[cut] = (before[0] + near, before[1] + int(np.isfinite(values).sum()))

    def cuts(self, category: Category, spreads: Mapping[str, float]) -> list[Cut]:
        """The thresholds that rows of a category are compared with."""
        found: dict[Cut, None] = {}
        for policy in self.policies:
            ruling = policy.ruling_of(Part(category))
            for slot, number in zip(ruling.ruling.slots, ruling.numbers, strict=True):
                spread = spreads[slot.score]
                within = self.near * spread if np.isfinite(spread) else 0.0
                found.setdefault(Cut(policy.policy.name, slot.score, number.shown, within))
        return list(found)


def in_use(
    config: MonitorConfig,
    policies: Sequence[Policy],
    table: ScoredTable,
    categories: Iterable[Category],
) -> InUse:
    """Policies with their numbers for the reference's categories.

    Raises:
        InputError: an oracle, a threshold that isn't there, a bundle of another scorer.
    """
    for policy in policies:
        if policy.oracle:
            raise InputError(
                f"policies: {policy.name}: is an oracle: it reads the true defect type, which no "
                "line knows; it can't be in use"
            )
    if not policies:
        return InUse()
    known = known_thresholds(config, policies, table)
    parts = [Part(category) for category in categories]
    return InUse(tuple(resolved(policies, parts, known, table)), config.near)

"""The mistakes of each policy, nearest to the threshold that decided first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.rows import RowBatch, RowSource, plain, spreads
from pipeline.policy.language import OUTCOMES, Explanation, Resolved, decide, reasons
from pipeline.policy.language import Rows as LanguageRows
from pipeline.tables.evaluation_schemas import MISTAKES

FALSE_NEGATIVE, FALSE_POSITIVE = "false_negative", "false_positive"
# What each kind is: the true label, and the outcome that is wrong for it.
KINDS = (
    (FALSE_NEGATIVE, 1, OUTCOMES.index("good")),
    (FALSE_POSITIVE, 0, OUTCOMES.index("defect")),
)
_NAMED = ("image_id", "uri", "category", "defect_type")
# Rows that are explained at a time while the nearest ones are looked for.
_LEAST_EXPLAINED = 256

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Kept:
    """The nearest mistakes so far of one policy and kind.

    Attributes:
        distance: (n,), inf where no comparison decided.
        rows: (n,) as the `mistakes` table has them, but for policy, kind and rank.
    """

    distance: Floats
    rows: pa.Table

    @classmethod
    def nothing(cls) -> _Kept:
        """Before the first row."""
        names = [*_NAMED, "score", "value", "threshold", "distance", "reason"]
        schema = pa.schema([MISTAKES.field(name) for name in names])
        return cls(np.zeros(0), schema.empty_table())

    def nearest(self, other: _Kept, most: int) -> _Kept:
        """The nearest of both; of equally near ones those that came first."""
        both = np.concatenate([self.distance, other.distance])
        order = np.argsort(both, kind="stable")[:most]
        return _Kept(both[order], pa.concat_tables([self.rows, other.rows]).take(order))

    def worst(self, most: int) -> float:
        """A mistake farther away than this isn't kept."""
        return float(self.distance[-1]) if len(self.distance) == most else np.inf


@dataclass(frozen=True)
class _Finder:
    """Looks for one policy's mistakes in one batch."""

    policy: Resolved
    rows: LanguageRows
    batch: RowBatch
    spread: dict[str, float]

    def better(self, kept: _Kept, wrong: Places, most: int) -> _Kept:
        """What is kept after these mistakes, places (n,) in the batch.

        A row's distance to the comparisons that decided is at least that to the nearest threshold
        of its rule, which is quick to find: rows are explained in that order until no further one
        can come near enough. The result is the same as if all were explained.
        """
        least = self._least_distances(wrong)
        order = np.argsort(least, kind="stable")
        for start in range(0, len(order), max(most, _LEAST_EXPLAINED)):
            part = order[start : start + max(most, _LEAST_EXPLAINED)]
            part = part[least[part] <= kept.worst(most)]
            if not len(part):
                break
            kept = kept.nearest(self._explained(np.sort(wrong[part])), most)
        return kept

    def _least_distances(self, wrong: Places) -> Floats:
        result = np.full(len(wrong), np.inf)
        part = self.rows.part[wrong]
        for number in np.unique(part):
            inside = np.flatnonzero(part == number)
            ruling = self.policy.ruling_of(self.rows.parts[number])
            for slot, threshold in zip(ruling.ruling.slots, ruling.numbers, strict=True):
                away = self._away(slot.score, threshold.shown, wrong[inside])
                result[inside] = np.minimum(result[inside], away)
        return result

    def _away(self, score: str, threshold: float, places: Places) -> Floats:
        values = self.rows.scores[score][places].astype(np.float64)
        away: Floats = np.abs(values - threshold) / self.spread[score]
        return np.where(np.isnan(away), np.inf, away)

    def _explained(self, places: Places) -> _Kept:
        scores = {name: column[places] for name, column in self.rows.scores.items()}
        of = LanguageRows(scores, self.rows.parts, self.rows.part[places])
        found = reasons(self.policy, of)
        distance, chosen = np.full(len(places), np.inf), np.full(len(places), -1)
        value, threshold = np.full((2, len(places)), np.nan)
        names = list(scores)
        for number, why in enumerate(found.explanations):
            mine = np.flatnonzero(found.reason == number)
            for score, shown in _comparisons(why):
                away = self._away(score, shown, places[mine])
                closer = mine[away < distance[mine]]
                distance[closer] = away[away < distance[mine]]
                chosen[closer] = names.index(score)
                value[closer], threshold[closer] = scores[score][closer], shown
        nothing = chosen < 0
        says = pa.array([why.says for why in found.explanations], pa.string())
        data = {name: plain(self.batch.columns[name]).take(places) for name in _NAMED} | {
            "score": pa.array(names, pa.string()).take(pa.array(chosen, mask=nothing)),
            "value": pa.array(value, mask=nothing),
            "threshold": pa.array(threshold, mask=nothing),
            "distance": pa.array(distance, mask=nothing),
            "reason": says.take(pa.array(found.reason)),
        }
        schema = _Kept.nothing().rows.schema
        return _Kept(distance, pa.table([data[f.name].cast(f.type) for f in schema], schema=schema))


def _comparisons(why: Explanation) -> list[tuple[str, float]]:
    return [(one.score, one.threshold) for one in why.because if one.threshold is not None]


def mistakes(source: RowSource, policies: Sequence[Resolved], most: int) -> pa.Table:
    """False negatives and false positives of each policy (`mistakes` table), nearest first.

    Args:
        source: the rows; those without a label are no mistakes.
        policies: resolved.
        most: of each kind and policy; 0: no row is looked at.
    """
    if not most:
        return MISTAKES.empty_table()
    spread = spreads(source)
    kept = {(p, kind): _Kept.nothing() for p in range(len(policies)) for kind, *_ in KINDS}
    label = np.array(
        [-1 if g.is_defect is None else int(g.is_defect) for g in source.grouping.groups], np.int64
    )
    for batch in source.batches():
        truth = label[batch.group]
        for number, (policy, rows) in enumerate(source.each_rows(batch, policies)):
            outcome = decide(policy, rows)
            finder = _Finder(policy, rows, batch, spread)
            for kind, is_defect, wrong in KINDS:
                places = np.flatnonzero((truth == is_defect) & (outcome == wrong))
                kept[number, kind] = finder.better(kept[number, kind], places, most)
    told = [_told(policies[number], kind, found.rows) for (number, kind), found in kept.items()]
    return pa.concat_tables([MISTAKES.empty_table(), *told])


def _told(policy: Resolved, kind: str, rows: pa.Table) -> pa.Table:
    ranks = np.arange(1, rows.num_rows + 1)
    whose = {"policy": policy.policy.name, "digest": policy.digest, "kind": kind}
    data = {name: pa.repeat(text, rows.num_rows) for name, text in whose.items()}
    data |= {"rank": pa.array(ranks, pa.int32())}
    data |= {name: rows[name] for name in rows.column_names}
    return pa.table([data[field.name] for field in MISTAKES], schema=MISTAKES)

"""Row by row: decisions with reasons, mistakes nearest to a threshold, one image explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.evaluation.counting import numbers, parts_of
from pipeline.evaluation.groups import Grouping
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.language import OUTCOMES, Explanation, Part, Resolved, decide, explain, reasons
from pipeline.policy.language import Rows as LanguageRows
from pipeline.tables.evaluation_schemas import DECISIONS, MISTAKES

_DEFECT, _GOOD = OUTCOMES.index("defect"), OUTCOMES.index("good")
NAMED = ("image_id", "uri", "category", "defect_type", "is_defect")
FALSE_NEGATIVE, FALSE_POSITIVE = "false_negative", "false_positive"


@dataclass(frozen=True)
class RowBatch:
    """N rows that take part.

    Attributes:
        columns: of every meaning in `NAMED`, Arrow arrays.
        scores: (N,) each.
        group: (N,) codes.
    """

    columns: dict[str, pa.Array]
    scores: dict[str, npt.NDArray[np.floating]]
    group: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowSource:
    """The rows of a table, as policies read them.

    Attributes:
        table: the table.
        grouping: of it.
        scores: names of the scores that some policy reads.
    """

    table: ScoredTable
    grouping: Grouping
    scores: tuple[str, ...]

    def batches(self) -> Iterator[RowBatch]:
        """Rows that take part, a batch at a time."""
        wanted = list(dict.fromkeys([*NAMED, *self.grouping.meanings]))
        for columns in self.table.batches(wanted, self.scores):
            codes = self.grouping.codes(columns)
            kept = np.flatnonzero(codes >= 0)
            taken = pa.array(kept)
            yield RowBatch(
                {name: columns[name].take(taken) for name in NAMED},
                {name: numbers(columns[name])[kept] for name in self.scores},
                codes[kept],
            )

    def language_rows(self, batch: RowBatch, policy: Resolved) -> LanguageRows:
        """A batch with the parts that a policy tells apart."""
        parts, part_of = parts_of(self.grouping.groups, by_type=policy.policy.oracle)
        return LanguageRows(
            {name: batch.scores[name] for name in policy.dtypes}, parts, part_of[batch.group]
        )


def decisions(source: RowSource, policy: Resolved) -> Iterator[pa.Table]:
    """Decision and reason of every row (`decisions` table), a batch at a time.

    Raises:
        InputError: a score is missing where the policy doesn't say what that means.
    """
    words = pa.array(OUTCOMES)
    for batch in source.batches():
        found = reasons(policy, source.language_rows(batch, policy))
        says = pa.array([one.says for one in found.explanations], pa.string())
        data = {name: _plain(batch.columns[name]) for name in NAMED} | {
            "decision": words.take(pa.array(found.outcome.astype(np.int64))),
            "reason": says.take(pa.array(found.reason)),
            "policy": [policy.policy.name] * len(found.outcome),
            "digest": [policy.digest] * len(found.outcome),
        }
        yield pa.table([_typed(data[f.name], f.type) for f in DECISIONS], schema=DECISIONS)


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _typed(values: Any, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    if pa.types.is_boolean(kind) and pa.types.is_integer(array.type):
        return array.cast(pa.bool_())
    return array.cast(kind)


@dataclass
class _Nearest:
    """The rows of one policy and kind that lie nearest to a threshold, at most `most`."""

    most: int
    distance: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, distance: npt.NDArray[np.float64], row: Callable[[int], dict[str, Any]]) -> None:
        """Rows (N,) by their distance; `row(n)` makes the n-th one, if it is kept."""
        near = np.argsort(distance, kind="stable")[: self.most]
        both = np.concatenate([self.distance, distance[near]])
        order = np.argsort(both, kind="stable")[: self.most]
        before = len(self.rows)
        self.rows = [
            self.rows[n] if n < before else row(int(near[n - before])) for n in order.tolist()
        ]
        self.distance = both[order]


def mistakes(
    source: RowSource, policies: Sequence[Resolved], most: int, spread: dict[str, float]
) -> pa.Table:
    """False negatives and false positives of each policy (`mistakes` table), nearest first.

    Args:
        source: the rows; those without a label are no mistakes.
        policies: resolved.
        most: of each kind and policy.
        spread: each score's standard deviation, in which distances are told.
    """
    kinds = ((FALSE_NEGATIVE, True, _GOOD), (FALSE_POSITIVE, False, _DEFECT))
    kept = {(p, kind): _Nearest(most) for p in range(len(policies)) for kind, _, _ in kinds}
    label = np.array(
        [-1 if g.is_defect is None else int(g.is_defect) for g in source.grouping.groups], np.int64
    )
    for batch in source.batches():
        truth = label[batch.group]
        for number, policy in enumerate(policies):
            rows = source.language_rows(batch, policy)
            outcome = decide(policy, rows)
            for kind, is_defect, wrong in kinds:
                chosen = np.flatnonzero((truth == is_defect) & (outcome == wrong))
                near = _distances(policy, rows, chosen, spread)
                kept[number, kind].add(near, _Maker(policy, rows, batch, chosen, spread))
    found = []
    for number, policy in enumerate(policies):
        for kind, _, _ in kinds:
            for rank, row in enumerate(kept[number, kind].rows, 1):
                whose = {"policy": policy.policy.name, "digest": policy.digest}
                found.append(row | whose | {"kind": kind, "rank": rank})
    return pa.Table.from_pylist(found, schema=MISTAKES)


def _distances(
    policy: Resolved, rows: LanguageRows, chosen: npt.NDArray[np.intp], spread: dict[str, float]
) -> npt.NDArray[np.float64]:
    """(n,) of each chosen row the least distance of a score to a threshold of its rule."""
    result = np.full(len(chosen), np.inf)
    part = rows.part[chosen]
    for number in np.unique(part):
        ruling = policy.ruling_of(rows.parts[number])
        inside = np.flatnonzero(part == number)
        for slot, threshold in zip(ruling.ruling.slots, ruling.thresholds, strict=True):
            values = rows.scores[slot.score][chosen[inside]].astype(np.float64)
            away = np.abs(values - threshold) / spread[slot.score]
            closer = np.where(np.isnan(away), np.inf, away)
            result[inside] = np.minimum(result[inside], closer)
    return result


@dataclass(frozen=True)
class _Maker:
    """Makes the record of the n-th chosen row, with its reason."""

    policy: Resolved
    rows: LanguageRows
    batch: RowBatch
    chosen: npt.NDArray[np.intp]
    spread: dict[str, float]

    def __call__(self, number: int) -> dict[str, Any]:
        at = int(self.chosen[number])
        scores = {name: float(column[at]) for name, column in self.rows.scores.items()}
        found = explain(self.policy, self.rows.parts[int(self.rows.part[at])], scores)
        record: dict[str, Any] = {name: self.batch.columns[name][at].as_py() for name in NAMED[:-1]}
        return record | {"reason": found.says} | self._nearest(found)

    def _nearest(self, found: Explanation) -> dict[str, Any]:
        compared = [b for b in found.because if b.threshold is not None and b.value is not None]
        if not compared:
            return {}
        away = [abs(b.value - b.threshold) / self.spread[b.score] for b in compared]  # type: ignore[operator]
        place = int(np.argmin(away))
        one = compared[place]
        return {
            "score": one.score,
            "value": one.value,
            "threshold": one.threshold,
            "distance": away[place],
        }


def explained(
    source: RowSource, policies: Sequence[Resolved], image: str
) -> list[tuple[dict[str, Any], list[Explanation]]]:
    """Why policies decide one image as they do; more than one entry if it stands there twice.

    Args:
        source: the rows.
        policies: resolved.
        image: its image_id or uri.

    Raises:
        InputError: no row is of that image.
    """
    found = []
    for batch in source.batches():
        for at in _places(batch, image):
            row = {name: batch.columns[name][at].as_py() for name in NAMED}
            scores = {name: float(column[at]) for name, column in batch.scores.items()}
            whys = []
            for policy in policies:
                part = Part(row["category"], row["defect_type"])
                own = {name: scores[name] for name in policy.dtypes}
                whys.append(explain(policy, part, own))
            found.append((row | scores, whys))
    if not found:
        raise InputError(
            f"explain: {image}: no row of {source.table.name} is of this image; give its image_id "
            "or its uri as the table has it"
        )
    return found


def _places(batch: RowBatch, image: str) -> list[int]:
    found: set[int] = set()
    for name in ("image_id", "uri"):
        texts = _plain(batch.columns[name])
        if not pa.types.is_null(texts.type):
            same = np.array([text == image for text in texts.cast(pa.string()).to_pylist()], bool)
            found |= set(np.flatnonzero(same).tolist())
    return sorted(found)


def spreads(source: RowSource) -> dict[str, float]:
    """Each score's standard deviation over the rows that take part; 1 where it has none."""
    sums = {name: np.zeros(3) for name in source.scores}
    for batch in source.batches():
        for name, column in batch.scores.items():
            values = column[np.isfinite(column)].astype(np.float64)
            sums[name] += [len(values), values.sum(), (values**2).sum()]
    result = {}
    for name, (count, total, squares) in sums.items():
        variance = squares / count - (total / count) ** 2 if count else 0.0
        result[name] = float(np.sqrt(variance)) if variance > 0 else 1.0
    return result

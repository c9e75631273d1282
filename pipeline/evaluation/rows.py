"""Row by row: decisions with reasons, and one image explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.evaluation.counting import numbers, parts_of
from pipeline.evaluation.groups import Grouping
from pipeline.evaluation.table import ScoredTable
from pipeline.policy.language import OUTCOMES, Part, Resolved, explain, reasons
from pipeline.policy.language import Rows as LanguageRows
from pipeline.tables.evaluation_schemas import DECISIONS
from pipeline.tables.labels import truth_codes

Parts = tuple[tuple[Part, ...], npt.NDArray[np.int64]]
NAMED = ("image_id", "uri", "category", "defect_type", "is_defect")


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
        return _rows_of(policy, batch, self.parts(batch, by_type=policy.policy.oracle))

    def each_rows(
        self, batch: RowBatch, policies: Sequence[Resolved]
    ) -> Iterator[tuple[Resolved, LanguageRows]]:
        """The same for many policies."""
        parts = {
            kind: self.parts(batch, by_type=kind) for kind in {p.policy.oracle for p in policies}
        }
        for policy in policies:
            yield policy, _rows_of(policy, batch, parts[policy.policy.oracle])

    def parts(self, batch: RowBatch, *, by_type: bool) -> Parts:
        """The parts there are, and which of them each row (N,) is of."""
        parts, part_of = parts_of(self.grouping.groups, by_type=by_type)
        return parts, part_of[batch.group]


def _rows_of(policy: Resolved, batch: RowBatch, parts: Parts) -> LanguageRows:
    return LanguageRows({name: batch.scores[name] for name in policy.dtypes}, *parts)


def decisions(source: RowSource, policy: Resolved) -> Iterator[pa.Table]:
    """Decision and reason of every row (`decisions` table), a batch at a time.

    Raises:
        InputError: a score is missing where the policy doesn't say what that means.
    """
    for batch in source.batches():
        yield decided(policy, source.language_rows(batch, policy), batch.columns)


def decided(policy: Resolved, rows: LanguageRows, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Decision and reason of N rows (`decisions` table).

    Args:
        policy: resolved for their parts.
        rows: with the scores that it reads.
        columns: of every meaning in `NAMED`, Arrow arrays (N,).

    Raises:
        InputError: a score is missing where the policy doesn't say what that means.
    """
    found = reasons(policy, rows)
    says = pa.array([one.says for one in found.explanations], pa.string())
    data = {name: columns[name] for name in NAMED} | {
        "decision": pa.array(OUTCOMES).take(pa.array(found.outcome.astype(np.int64))),
        "reason": says.take(pa.array(found.reason)),
        "policy": [policy.policy.name] * len(found.outcome),
        "digest": [policy.digest] * len(found.outcome),
    }
    return pa.table([typed(data[f.name], f.type) for f in DECISIONS], schema=DECISIONS)


def plain(column: pa.Array) -> pa.Array:
    """The column without a dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def typed(values: Any, kind: pa.DataType) -> pa.Array:
    """Values as a column of a type; labels that are 0 and 1 become false and true.

    Raises:
        InputError: a label that is another number.
    """
    array = plain(values) if isinstance(values, pa.Array) else pa.array(values, kind)
    if pa.types.is_boolean(kind) and pa.types.is_integer(array.type):
        codes = truth_codes(array)  # a cast would take any number but 0 for a defect
        return pa.array(codes == 1, kind, mask=codes < 0)
    return array.cast(kind)


def explained(source: RowSource, policies: Sequence[Resolved], image: str) -> list[dict[str, Any]]:
    """Why policies decide one image as they do; more than one entry if it stands there twice.

    An entry has the `row` and the `decisions`, one of each policy, as plain values: programs read
    them as JSON.

    Args:
        source: the rows.
        policies: resolved.
        image: its image_id or uri.

    Raises:
        InputError: no row is of that image.
    """
    found, left_out = [], 0
    wanted = list(dict.fromkeys([*NAMED, *source.grouping.meanings]))
    for columns in source.table.batches(wanted, source.scores):
        places = _places(columns, image)
        codes = source.grouping.codes(columns)[places]
        left_out += int((codes < 0).sum())
        for at, code in zip(places[codes >= 0].tolist(), codes[codes >= 0].tolist(), strict=True):
            group = source.grouping.groups[code]
            part = Part(group.category, group.defect_type)
            row = {name: columns[name][at].as_py() for name in NAMED}
            scores = {name: columns[name][at].as_py() for name in source.scores}
            decided = [_why(policy, part, scores) for policy in policies]
            found.append({"row": _plain_values(row | scores), "decisions": decided})
    if not found:
        says = f"no row of {source.table.name} is of this image; give its image_id or its uri as "
        says += "the table has it"
        if left_out:
            says = f"{left_out} rows are of this image, none with a role that is judged; name its "
            says += "role with roles="
        raise InputError(f"explain: {image}: {says}")
    return found


def _why(policy: Resolved, part: Part, scores: dict[str, Any]) -> dict[str, Any]:
    why = explain(policy, part, {name: scores[name] for name in policy.dtypes})
    because = [_plain_values(asdict(one)) for one in why.because]
    return asdict(why) | {"because": because, "says": why.says}


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON has: NaN is a missing score, and an infinite one stands as text."""
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float) or isfinite(value):
        return value
    return None if isnan(value) else str(value)


def _places(columns: Mapping[str, pa.Array], image: str) -> npt.NDArray[np.intp]:
    found = np.zeros(len(columns["uri"]), bool)
    for name in ("image_id", "uri"):
        same = pc.fill_null(pc.equal(plain(columns[name]).cast(pa.string()), image), False)
        found |= same.to_numpy(zero_copy_only=False)
    return np.flatnonzero(found)


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

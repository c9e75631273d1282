"""Decisions of a policy on rows in hand, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.api.sources import Frame, as_arrow
from pipeline.errors import InputError
from pipeline.evaluation.policies import read_policies
from pipeline.evaluation.rows import NAMED, decided
from pipeline.evaluation.table import check_type, is_float
from pipeline.policy.language import (
    Explanation,
    Part,
    Policy,
    Resolved,
    Rows,
    Thresholds,
    parse_policy,
    resolve,
)
from pipeline.policy.language import explain as explain_one
from pipeline.policy.language.reading import read_json
from pipeline.policy.language.where import Where
from pipeline.scoring.bundle import Bundle
from pipeline.tables import storage

_PART = ("category", "defect_type")
# The others are text, and whatever can be shown as such is taken.
_CHECKED = ("image_id", "is_defect")
# The type of the scores in linescore's own tables, and so of a number without a type.
_SCORE_TYPE = np.dtype(np.float32)


def load_policy(source: str | Path | Mapping[str, Any]) -> Policy:
    """A policy from a JSON file, or from the same as a dictionary.

    Raises:
        InputError: with the path inside the document, the value and what belongs there.
    """
    if isinstance(source, Mapping):
        return parse_policy(dict(source))
    found = read_policies([str(source)])
    if len(found) > 1:
        names = ", ".join(policy.name for policy in found)
        raise InputError(f"policy: {source}: holds {len(found)}: {names}; name one file")
    return found[0]


def load_thresholds(source: str | Path | Mapping[str, Any] | Bundle | None) -> Thresholds:
    """Thresholds by name.

    Args:
        source: a JSON file, or a dictionary: name to number, or name to numbers by category; or a
            calibrated bundle, with names such as `anomaly_score.safe`; None: there are none.

    Raises:
        InputError: no such file, another shape, or a bundle without thresholds.
    """
    if source is None:
        return Thresholds()
    if isinstance(source, Bundle):
        if source.calibration is None:
            raise InputError(f"bundle: {source.uri}: has no thresholds; run jobs/calibrate.py")
        return Thresholds.from_bundle(source.calibration)
    if isinstance(source, Mapping):
        return Thresholds.from_table(dict(source))
    with storage.errors_for(str(source), "thresholds"):
        content = storage.read_bytes(str(source))
    table = read_json(content, Where(str(source)), "table of thresholds")
    return Thresholds.from_table(table, str(source))


def decide(
    policy: Policy, rows: Frame, thresholds: Thresholds | Mapping[str, Any] | Bundle | None = None
) -> pa.Table:
    """Decision and reason of every row.

    Args:
        policy: from `load_policy`.
        rows: N rows with a column `category`, and of floats every score that the policy reads;
            null or NaN: missing. `image_id`, `uri`, `defect_type` and `is_defect` are taken over
            where they are; ids are whole numbers, labels true or 1, false or 0, and null.
        thresholds: what the policy's references name, as for `load_thresholds`.

    Returns:
        N rows of `decisions`, in the order of `rows`: `decision` is good, review or defect,
        `reason` says what decided.

    Raises:
        InputError: a column, threshold or rule that is missing, a missing score on which the
            policy says nothing, or ids or labels that are none.
    """
    table = as_arrow(rows)
    if "category" not in table.column_names:
        raise InputError(
            f"rows: have no column category, by which rules and thresholds are told apart; they "
            f"have {', '.join(table.column_names)}: add it, null where there is none"
        )
    columns = {name: _taken_over(table, name) for name in NAMED}
    named = [columns[name].cast(pa.string()).to_pylist() for name in _PART]
    each = [Part(c, kind if policy.oracle else None) for c, kind in zip(*named, strict=True)]
    parts = tuple(dict.fromkeys(each))
    ready = _resolved(policy, parts, thresholds, _types(table))
    scores = {name: table[name].to_numpy() for name in ready.dtypes}
    number = {part: place for place, part in enumerate(parts)}
    part_of = np.array([number[part] for part in each], np.int64)
    return decided(ready, Rows(scores, parts, part_of), columns)


def explain(
    policy: Policy,
    row: Mapping[str, Any],
    thresholds: Thresholds | Mapping[str, Any] | Bundle | None = None,
) -> Explanation:
    """Why one row is decided as it is, with its own values.

    Args:
        policy: from `load_policy`.
        row: `category`, and every score that the policy reads; None or NaN: missing. A NumPy
            number is compared in its own type, a plain one in float32, that of linescore's tables.
        thresholds: as for `decide`.

    Returns:
        `outcome` (good, review, defect), `because` (the comparisons that decided), `says`.

    Raises:
        InputError: as `decide`.
    """
    part = Part(row.get("category"), row.get("defect_type") if policy.oracle else None)
    types = {
        name: value.dtype if isinstance(value, np.floating) else _SCORE_TYPE
        for name, value in row.items()
        if name not in NAMED and (value is None or isinstance(value, float | int | np.floating))
    }
    ready = _resolved(policy, (part,), thresholds, types)
    return explain_one(ready, part, {name: row[name] for name in ready.dtypes})


def _resolved(
    policy: Policy,
    parts: tuple[Part, ...],
    thresholds: Thresholds | Mapping[str, Any] | Bundle | None,
    types: Mapping[str, np.dtype[Any]],
) -> Resolved:
    known = thresholds if isinstance(thresholds, Thresholds) else load_thresholds(thresholds)
    return resolve(policy, parts, known, types)


def _taken_over(table: pa.Table, name: str) -> pa.Array:
    """A column of the rows, null where they have none or nothing stands in it.

    Raises:
        InputError: it can't mean what it is called.
    """
    # An empty column has any type: pandas makes floats of it.
    if name not in table.column_names or table[name].null_count == len(table):
        return pa.nulls(len(table))
    if name in _CHECKED:
        check_type(name, table.schema.field(name), "the rows")
    return table[name].combine_chunks()


def _types(table: pa.Table) -> dict[str, np.dtype[Any]]:
    return {f.name: np.dtype(f.type.to_pandas_dtype()) for f in table.schema if is_float(f.type)}

"""Counts as tables for people: figures of every policy over all, by category, by defect type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.evaluation.groups import Group
from pipeline.policy.choosing.confusion import (
    Columns,
    Confusion,
    Decided,
    Population,
    by_category,
    by_defect_type,
    confusion,
    load,
)
from pipeline.policy.choosing.figures import Shown, macro, rates
from pipeline.policy.choosing.figures import columns as figures_of
from pipeline.policy.choosing.intervals import clopper_pearson, wilson
from pipeline.policy.language import Resolved
from pipeline.tables.evaluation_schemas import FIGURES

# Rows without a category, under a name that no category can have.
NO_CATEGORY = ""
DEFECT_TYPE = "defect_type"
_RATES = ("precision", "recall", "fpr", "fnr")


@dataclass(frozen=True)
class Judged:
    """What is told of the policies.

    Attributes:
        policies: their names, digests, and whether they are oracles.
        measured_on: which rows, in words.
        confidence: of intervals.
    """

    policies: Sequence[tuple[str, str, bool]]
    measured_on: str
    confidence: float


def named(policies: Sequence[Resolved]) -> list[tuple[str, str, bool]]:
    """Name, digest and oracle mark of resolved policies."""
    return [(one.policy.name, one.digest, one.policy.oracle) for one in policies]


def population(groups: Sequence[Group], counts: Any, sides: Sequence[str] = ("",)) -> Population:
    """The groups as counts keep them apart."""
    truth = {None: -1, False: 0, True: 1}
    return Population(
        [group.category if group.category is not None else NO_CATEGORY for group in groups],
        np.array([truth[group.is_defect] for group in groups], np.int64),
        np.asarray(counts, np.int64),
        [_kind(group) for group in groups],
        np.array([sides.index(group.side) for group in groups], np.int64),
    )


def _kind(group: Group) -> str:
    """The defect type, as good images and defects are never in one column."""
    if not group.is_defect:
        return group.defect_type or "good"
    return (
        f"defect ({group.defect_type or 'no type'})"
        if group.defect_type
        in (
            None,
            "good",
        )
        else group.defect_type
    )


def figures_table(decided: Decided, judged: Judged, part: int | None = None) -> pa.Table:
    """Every policy's figures (`figures` table): all, per category, per defect type, and macro.

    Args:
        decided: by the policies, in their order.
        judged: their names, and on what.
        part: of this part of the data only; None: of all.
    """
    people = decided.population
    everything = Columns(("",), (None,), np.zeros(len(people.images), np.int64))
    tables = [
        _level("all", decided, everything, judged, part),
        _macro(decided, judged, part),
        _level("category", decided, by_category(people), judged, part),
        _level(DEFECT_TYPE, decided, by_defect_type(people), judged, part),
    ]
    return pa.concat_tables(tables)


def _level(
    level: str, decided: Decided, columns: Columns, judged: Judged, part: int | None
) -> pa.Table:
    counts = confusion(decided, columns, part)
    found = figures_of(counts, Shown(judged.confidence))
    inside = np.ones(len(columns.code), bool) if part is None else decided.population.part == part
    unlabelled = decided.population.defect < 0
    if level == DEFECT_TYPE:
        # Nobody knows the type of a row without a label: it is no good image either.
        inside &= ~unlabelled
    unknown = load(decided, columns, inside & unlabelled)
    every = load(decided, columns, inside)
    values: dict[str, Any] = {
        name: found[name] for name in ("tp", "fp", "tn", "fn", "review_defects", "f1", "f2")
    }
    values |= {
        "good": found["goods"],
        "defects": found["defects"],
        "review_good": found["review_goods"],
        "unlabelled": unknown.images,
        "flagged_unlabelled": unknown.flagged,
        "review_unlabelled": unknown.reviewed,
    }
    for rate in _RATES:
        values |= {
            f"{rate}{ours}": found[f"{rate}{theirs}"]
            for ours, theirs in (
                ("", ""),
                ("_low", "_low"),
                ("_high", "_high"),
                ("_least", "_exact_low"),
                ("_most", "_exact_high"),
            )
        }
    for rate, hits in (("flagged_rate", every.flagged), ("review_rate", every.reviewed)):
        values |= _rate(rate, hits, every.images, judged.confidence)
    # A column without any row says nothing; a policy that passes all of them would look perfect.
    there = (every.images > 0).any(axis=0)
    return _table(level, values, columns, judged, np.flatnonzero(there))


def _rate(name: str, hits: Any, of: Any, confidence: float) -> dict[str, Any]:
    low, high = wilson(hits, of, confidence)
    least, most = clopper_pearson(hits, of, confidence)
    share = np.divide(hits, of, out=np.full(np.shape(hits), np.nan), where=of > 0)
    suffixes = {"": share, "_low": low, "_high": high, "_least": least, "_most": most}
    return {f"{name}{suffix}": value for suffix, value in suffixes.items()}


def _macro(decided: Decided, judged: Judged, part: int | None) -> pa.Table:
    """The mean over the categories in which a rate exists; no interval: it is no share."""
    counts: Confusion = confusion(decided, by_category(decided.population), part)
    values: dict[str, Any] = {}
    for name, array in rates(counts).items():
        mean, number = macro(array)
        if name in (*_RATES, "f1", "f2"):
            values[name] = mean[:, None]
        if name == "fnr":
            values["categories"] = number[:, None]
    columns = Columns(("",), (None,), np.zeros(0, np.int64))
    return _table("macro", values, columns, judged, np.zeros(1, np.int64))


def _table(
    level: str, values: dict[str, Any], columns: Columns, judged: Judged, kept: Any
) -> pa.Table:
    """Arrays (P, K) as rows, policies first."""
    policies = len(judged.policies)
    rows = policies * len(kept)
    whose = [
        [item for item in column for _ in kept] for column in zip(*judged.policies, strict=True)
    ]
    names = [columns.category[k] or None for k in kept]
    kinds = [columns.defect_type[k] for k in kept]
    data: dict[str, Any] = {
        "policy": whose[0] if whose else [],
        "digest": whose[1] if whose else [],
        "oracle": whose[2] if whose else [],
        "level": [level] * rows,
        "category": names * policies,
        "defect_type": kinds * policies,
        "measured_on": [judged.measured_on] * rows,
    }
    for name, array in values.items():
        data[name] = pa.array(np.asarray(array)[:, kept].ravel(), from_pandas=True)
    return pa.table(
        [
            pa.array(data[field.name], field.type)
            if field.name in data
            else pa.nulls(rows, field.type)
            for field in FIGURES
        ],
        schema=FIGURES,
    )


def records(table: pa.Table, level: str = "all") -> Iterator[dict[str, Any]]:
    """The rows of a level, as they stand."""
    for row in table.to_pylist():
        if row["level"] == level:
            yield row

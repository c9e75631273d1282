"""What was found as the tables that are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.evaluation.monitor.measures import Pair
from pipeline.evaluation.monitor.sketch import Category, CategorySketch
from pipeline.evaluation.monitor.verdicts import Judged, Verdict
from pipeline.policy.choosing.intervals import clopper_pearson, wilson
from pipeline.tables.drift_schemas import DRIFT, FLAGGED, NEAR, VERDICTS


def verdicts_table(
    found: Iterable[Verdict],
    reference: Mapping[Category, CategorySketch],
    run: Mapping[Category, CategorySketch],
) -> pa.Table:
    """The `verdicts` table."""
    nothing = CategorySketch()
    records = []
    for one in found:
        first = reference.get(one.category, nothing)
        second = run.get(one.category, nothing)
        records.append(
            {
                "category": one.category,
                "verdict": one.verdict,
                "reason": one.reason,
                "reference_images": first.images,
                "images": second.images,
                "reference_independent": first.independent,
                "independent": second.independent,
            }
        )
    return pa.Table.from_pylist(records, schema=VERDICTS)


def drift_table(found: Iterable[Judged]) -> pa.Table:
    """The `drift` table."""
    return pa.Table.from_pylist([_row(one) for one in found], schema=DRIFT)


def _row(judged: Judged) -> dict[str, Any]:
    one = judged.measured
    row = {
        "category": one.category,
        "measure": one.measure,
        "kind": one.kind,
        "verdict": judged.verdict,
        "says": judged.says,
        "chance": one.chance,
        "corrected": judged.corrected,
        "psi": one.psi,
        "psi_of_chance": one.psi_chance,
        "ks": one.ks[0],
        "ks_most": one.ks[1],
        "wasserstein": one.wasserstein,
        "total_variation": one.variation,
        "reference_value": one.values[0],
        "value": one.values[1],
        "reference_missing": one.missing[0],
        "missing": one.missing[1],
    }
    return {name: None if _is_nan(value) else value for name, value in row.items()}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def flagged_table(
    pairs: Sequence[Pair], policies: Mapping[str, str], confidence: float
) -> pa.Table:
    """The `flagged` table: each policy's rate in both runs.

    Intervals are over the independent images: a rate of a hundred copies is one of one image.
    """
    records = []
    for pair in pairs:
        for name, digest in policies.items():
            for of, one in (("reference", pair.reference), ("run", pair.run)):
                if digest in one.flagged:
                    key = {"policy": name, "digest": digest, "category": pair.category, "of": of}
                    records.append(key | _rate(one, one.flagged[digest], confidence))
    return pa.Table.from_pylist(records, schema=FLAGGED)


def _rate(one: CategorySketch, flagged: int, confidence: float) -> dict[str, Any]:
    rate = flagged / one.images
    worth = max(round(one.independent), 1)
    hits = np.array([min(round(rate * worth), worth)])
    low, high = wilson(hits, np.array([worth]), confidence)
    least, most = clopper_pearson(hits, np.array([worth]), confidence)
    return {
        "images": one.images,
        "independent": one.independent,
        "flagged": flagged,
        "rate": rate,
        "low": float(low[0]),
        "high": float(high[0]),
        "least": float(least[0]),
        "most": float(most[0]),
    }


def near_table(pairs: Sequence[Pair]) -> pa.Table:
    """The `near` table: how many scores lie near each threshold in use."""
    records = []
    for pair in pairs:
        for cut, (near, images) in pair.run.near.items():
            before = pair.reference.near.get(cut, (None, None))
            records.append(
                {
                    "policy": cut.policy,
                    "category": pair.category,
                    "score": cut.score,
                    "threshold": cut.threshold,
                    "within": cut.within,
                    "reference_near": before[0],
                    "reference_images": before[1],
                    "near": near,
                    "images": images,
                }
            )
    return pa.Table.from_pylist(records, schema=NEAR)

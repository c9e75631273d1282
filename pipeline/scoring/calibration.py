"""What a calibration says: thresholds of every score and category, and probability maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.scoring.calibration_rows import STEP, CalibrationRows, sample_of
from pipeline.stats.probability import (
    METHODS,
    MIN_IMAGES_ISOTONIC,
    Reliability,
    apply_map,
    cross_validated,
    fit_map,
    reliability,
)
from pipeline.stats.selection import Bound, Rules, Threshold, all_thresholds
from pipeline.tables.roles import NORMAL_CALIBRATION, VALIDATION, require_roles
from pipeline.tables.schemas import RELIABILITY, THRESHOLDS

# By category, the key None standing for all together; by rule.
ScoreThresholds = dict[str | None, dict[str, Threshold]]

LOGIT, PROBABILITY = "defect_logit", "defect_probability"
# The sigmoid alone, as the score tables have it.
_UNCALIBRATED = {"method": "temperature", "temperature": 1}


def score_thresholds(
    rows: CalibrationRows, column: str, rules: Rules, doubt: str | None
) -> ScoreThresholds:
    """Thresholds of one score, of all categories together and of each.

    Args:
        rows: what is calibrated on.
        column: the score.
        rules: what is asked for.
        doubt: why no bound may be stated for this score; None: it may.

    Raises:
        InputError: rows of other roles.
    """
    # Those of all rows: a category that has none to calibrate on gets its fallback, marked.
    names = set(rows.everything.column("category").to_pylist())
    found: ScoreThresholds = {}
    for name in [None, *sorted(names - {None})]:
        sample = sample_of(_of(rows.validation, name), VALIDATION, column, doubt)
        normals = sample_of(_of(rows.normals, name), NORMAL_CALIBRATION, column, doubt)
        found[name] = all_thresholds(sample, normals, rules)
    return found


def _of(rows: pa.Table, category: str | None) -> pa.Table:
    if category is None:
        return rows
    return rows.filter(pc.fill_null(pc.equal(rows.column("category"), category), False))


def as_json(found: Mapping[str, ScoreThresholds]) -> dict[str, Any]:
    """Thresholds as `[score]["categories"][category][rule]`, and `[score]["overall"][rule]`."""
    return {
        score: {
            "overall": _entries(by_category[None]),
            "categories": {
                name: _entries(rules) for name, rules in by_category.items() if name is not None
            },
        }
        for score, by_category in found.items()
    }


def _entries(rules: Mapping[str, Threshold]) -> dict[str, Any]:
    return {rule: _entry(threshold) for rule, threshold in rules.items()}


def _entry(threshold: Threshold) -> dict[str, Any]:
    counts = threshold.counts
    achieved = None
    if counts is not None:
        rates = {"fpr": counts.fpr, "fnr": counts.fnr, "in_sample": threshold.in_sample}
        achieved = asdict(counts) | rates
    return {
        "value": threshold.value,
        "says": threshold.says,
        "fallback": threshold.fallback,
        "reason": threshold.reason,
        "validation": {
            "good": threshold.goods,
            "defects": threshold.defects,
            "good_without_score": threshold.missing_goods,
            "defects_without_score": threshold.missing_defects,
        },
        "normals": threshold.normals,
        "achieved": achieved,
        "bound": _bound(threshold.bound),
    }


def _bound(bound: Bound | None) -> dict[str, Any] | None:
    return None if bound is None else asdict(bound)


def thresholds_table(found: Mapping[str, ScoreThresholds]) -> pa.Table:
    """The same, a row per score, category and rule."""
    return pa.Table.from_pylist(list(_threshold_rows(found)), schema=THRESHOLDS)


def _threshold_rows(found: Mapping[str, ScoreThresholds]) -> Iterator[dict[str, Any]]:
    for score, by_category in found.items():
        for category, rules in by_category.items():
            for rule, threshold in rules.items():
                entry = _entry(threshold)
                bound = entry["bound"] or {}
                yield {
                    "score": score,
                    "category": category,
                    "rule": rule,
                    **{name: entry[name] for name in ("value", "fallback", "normals", "says")},
                    **entry["validation"],
                    **(entry["achieved"] or {}),
                    "in_sample": threshold.in_sample,
                    "bound_on": bound.get("rate"),
                    "bound": bound.get("at_most"),
                    "bound_confidence": bound.get("confidence"),
                    "bound_n": bound.get("n"),
                }


def probability_map(validation: pa.Table, method: str) -> tuple[dict[str, Any], pa.Table]:
    """A map from the classifier's logit to a probability, and how reliable both are.

    Args:
        validation: rows with the role validation.
        method: `sigmoid`, `temperature` or `isotonic`.

    Returns:
        The map with its images and errors; a row per bin, before and after.

    Raises:
        InputError: rows of another role, too few for isotonic regression.
    """
    require_roles(validation, {VALIDATION}, STEP)
    scored = validation.filter(pc.is_valid(validation.column(LOGIT)))
    logits = scored.column(LOGIT).to_numpy().astype(np.float64)
    defect = scored.column("is_defect").to_numpy().astype(bool)
    _require_enough(method, len(logits))
    facts: dict[str, Any] = {
        "from": LOGIT,
        "map": None,
        "reason": None,
        "validation": {
            "images": len(logits),
            "defects": int(defect.sum()),
            "without_score": validation.num_rows - len(logits),
        },
        "ece": None,
    }
    if not len(logits):
        return facts | {"reason": f"no validation image has a {LOGIT}"}, RELIABILITY.empty_table()
    before = reliability(apply_map(_UNCALIBRATED, logits), defect)
    facts["ece"] = {"before": before.ece, "after": None, "rows": None, "bins": len(before.images)}
    bins = _bins(before, "none", "as_scored")
    try:
        facts["map"] = fit_map(method, logits, defect)
    except ValueError as error:
        return facts | {"reason": str(error)}, _bins_table(bins)
    held_out = cross_validated(method, logits, defect, _groups(scored))
    where = "in_sample" if held_out is None else "cross_validated"
    after = reliability(apply_map(facts["map"], logits) if held_out is None else held_out, defect)
    facts["ece"] |= {"after": after.ece, "rows": where}
    return facts, _bins_table(bins + _bins(after, method, where))


def _require_enough(method: str, images: int) -> None:
    if method == "isotonic" and images < MIN_IMAGES_ISOTONIC:
        raise InputError(
            f"probability: isotonic: needs {MIN_IMAGES_ISOTONIC} validation images with a "
            f"{LOGIT}, there are {images}; use one of {', '.join(METHODS[:2])}, or none"
        )


def _groups(rows: pa.Table) -> np.ndarray:
    """Groups where all are known; else every image is taken for one of its own."""
    known = not rows.column("group_id").null_count
    groups: np.ndarray = rows.column("group_id" if known else "image_id").to_numpy()
    return groups


def _bins(found: Reliability, method: str, rows: str) -> list[dict[str, Any]]:
    return [
        {
            "score": PROBABILITY,
            "map": method,
            "rows": rows,
            "bin_low": float(found.edges[place]),
            "bin_high": float(found.edges[place + 1]),
            "images": int(images),
            "predicted": float(found.predicted[place]) if images else None,
            "observed": float(found.observed[place]) if images else None,
        }
        for place, images in enumerate(found.images)
    ]


def _bins_table(bins: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(bins, schema=RELIABILITY)

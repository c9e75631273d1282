"""The figures of a classifier from its score table: per category and macro, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.stats.detection_rates import (
    Areas,
    Estimate,
    clopper_pearson,
    cross_chosen_thresholds,
    estimate,
    f1_threshold,
    resampled_areas,
)
from pipeline.stats.folds import grouped_folds
from pipeline.tables.roles import TEST

# Parts of the rows of one fixed model: each is judged by the threshold of the others.
_PARTS = 5
# Area under the ROC curve of a score that is the same for all rows.
_CHANCE = 0.5


@dataclass(frozen=True)
class Judged:
    """N scored rows as arrays.

    Attributes:
        ids: (N,) int64.
        categories: (N,) str.
        kinds: (N,) str; defect type, or good.
        groups: (N,) int64.
        truth: (N,) bool.
        logits: (N,) float64.
        thresholds: (N,) float64, chosen without the row; NaN: none could be.
        baseline: (N,) float64, the score of a model that knows the category only.
    """

    ids: np.ndarray
    categories: np.ndarray
    kinds: np.ndarray
    groups: np.ndarray
    truth: np.ndarray
    logits: np.ndarray
    thresholds: np.ndarray
    baseline: np.ndarray

    def where(self, chosen: np.ndarray) -> Judged:
        """The rows of a mask."""
        return Judged(**{name: value[chosen] for name, value in vars(self).items()})


def base_rates(categories: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Per category the share of defects among the rows that training drew on."""
    return {str(name): float(truth[categories == name].mean()) for name in np.unique(categories)}


def judge(scores: pa.Table, rates: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Figures of the rows outside test, and of the test rows where they were scored.

    Thresholds come from rows outside test: of cross-fitting, for each fold from the other folds;
    of a fixed model, for each of five grouped parts from the others; for test from all of them.

    Args:
        scores: rows of the classifier_scores table.
        rates: per category its share of defects, the baseline's score.
        seed: of parts and resamples.
    """
    rows = _rows(scores, rates)
    test = np.array(scores.column("role").to_pylist()) == TEST
    rest = rows.where(~test)
    result: dict[str, Any] = {"held_out": None, "test": None, "f1_threshold": None}
    chosen = f1_threshold(rest.truth, rest.logits) if len(rest.ids) else None
    result["f1_threshold"] = chosen
    if len(rest.ids):
        folds = scores.column("fold").to_numpy(zero_copy_only=False)[~test]
        parts = _parts(rest, seed) if np.isnan(folds.astype(float)).any() else folds
        thresholds = cross_chosen_thresholds(rest.truth, rest.logits, parts)
        result["held_out"] = _figures(_with_thresholds(rest, thresholds), seed)
    if test.any():
        value = np.nan if chosen is None else chosen
        thresholds = np.full(int(test.sum()), value)
        result["test"] = _figures(_with_thresholds(rows.where(test), thresholds), seed)
    return result


def judge_left_out(scores: pa.Table, left_out: tuple[str, str], seed: int) -> dict[str, Any]:
    """How well a model tells a defect type that it was never shown from held-out good images."""
    rows = _rows(scores, {})
    category, kind = left_out
    return {
        "category": category,
        "defect_type": kind,
        "good": int((~rows.truth).sum()),
        "defects": int(rows.truth.sum()),
        **_areas_of(_sampled(rows, rows.logits, seed)),
    }


def _rows(scores: pa.Table, rates: Mapping[str, float]) -> Judged:
    categories = np.array(scores.column("category").to_pylist(), dtype=object)
    nothing = np.full(scores.num_rows, np.nan)
    return Judged(
        scores.column("image_id").to_numpy(),
        categories,
        np.array(scores.column("defect_type").to_pylist(), dtype=object),
        scores.column("group_id").to_numpy(),
        np.array(scores.column("is_defect").to_pylist(), dtype=bool),
        scores.column("defect_logit").to_numpy().astype(np.float64),
        nothing,
        np.array([rates.get(name, np.nan) for name in categories], np.float64),
    )


def _with_thresholds(rows: Judged, thresholds: np.ndarray) -> Judged:
    return Judged(**(vars(rows) | {"thresholds": thresholds}))


def _parts(rows: Judged, seed: int) -> np.ndarray:
    order = np.argsort(rows.ids)
    fine = [f"{c} / {k}" for c, k in zip(rows.categories[order], rows.kinds[order], strict=True)]
    coarse = ["defect" if defect else "good" for defect in rows.truth[order]]
    parts = min(_PARTS, len(np.unique(rows.groups)))
    result = np.zeros(len(order), np.int64)
    if parts > 1:
        result[order], _ = grouped_folds((fine, coarse), rows.groups[order], parts, seed)
    return result


def _figures(rows: Judged, seed: int) -> dict[str, Any]:
    names = [str(name) for name in np.unique(rows.categories)]
    each = {name: rows.where(rows.categories == name) for name in names}
    # Their own seed each: a category's interval doesn't depend on the others.
    sampled = {n: _sampled(r, r.logits, seed + i) for i, (n, r) in enumerate(each.items())}
    plain = {n: _sampled(r, r.baseline, seed + i) for i, (n, r) in enumerate(each.items())}
    categories = [
        {"category": n} | _counts(r) | _against(sampled[n], plain[n]) | _errors(r)
        for n, r in each.items()
    ]
    both = (_sampled(rows, values, seed) for values in (rows.logits, rows.baseline))
    pooled = _counts(rows) | _against(*both) | _errors(rows)
    macro = {"categories": sum(1 for area in sampled.values() if np.isfinite(area.auroc[0]))}
    return {
        "categories": categories,
        "macro": macro | _against(_mean(list(sampled.values())), _mean(list(plain.values()))),
        "pooled": pooled,
    }


def _sampled(rows: Judged, values: np.ndarray, seed: int) -> Areas:
    return resampled_areas(rows.truth, values, rows.groups, seed)


def _mean(parts: list[Areas]) -> Areas:
    """Over the categories in which the figure exists."""
    usable = [part for part in parts if np.isfinite(part.auroc[0])] or parts
    return Areas(
        np.mean([part.auroc for part in usable], axis=0),
        np.mean([part.average_precision for part in usable], axis=0),
        min(part.groups or 0 for part in usable),
    )


def _areas_of(sampled: Areas) -> dict[str, Any]:
    return {
        name: asdict(estimate(getattr(sampled, name), groups=sampled.groups))
        for name in ("auroc", "average_precision")
    }


def _against(sampled: Areas, plain: Areas) -> dict[str, Any]:
    """A score's areas, the baseline's, and by how much the score's precision is the better one.

    Both come from the same resamples, so that what is hard in one is hard in the other: the
    difference is known better than either.
    """
    ours, baseline = _areas_of(sampled), _baseline(plain)
    gain = estimate(
        sampled.average_precision - plain.average_precision,
        groups=sampled.groups,
        ends=(-1.0, 1.0),
    )
    best, least = ours["average_precision"], baseline["average_precision"]
    if best["value"] == 1:
        # All resamples repeat a perfect ranking: they differ by the baseline alone.
        gain = replace(gain, low=best["low"] - least["high"], high=best["high"] - least["low"])
    named = {f"baseline_{name}": value for name, value in baseline.items()}
    return ours | named | {"average_precision_gain": asdict(gain)}


def _baseline(plain: Areas) -> dict[str, Any]:
    """The areas of the score that knows the category alone."""
    found = _areas_of(plain)
    there = plain.auroc[np.isfinite(plain.auroc)]
    if len(there) and (there == _CHANCE).all():
        # The same for all rows by construction, not by chance: other rows would give no other area.
        found["auroc"] = asdict(Estimate(_CHANCE, _CHANCE, _CHANCE))
    return found


def _counts(rows: Judged) -> dict[str, Any]:
    return {
        "good": int((~rows.truth).sum()),
        "defects": int(rows.truth.sum()),
        "good_groups": len(np.unique(rows.groups[~rows.truth])),
        "defect_groups": len(np.unique(rows.groups[rows.truth])),
    }


def _errors(rows: Judged) -> dict[str, Any]:
    """Missed defects and false alarms at the F1 thresholds, one image a group: the lowest id."""
    judged = rows.where(np.isfinite(rows.thresholds))
    called = judged.logits >= judged.thresholds
    result = {}
    for name, side, wrong in (
        ("missed", judged.truth, ~called),
        ("false_alarms", ~judged.truth, called),
    ):
        order = np.flatnonzero(side)[np.argsort(judged.ids[side])]
        _, first = np.unique(judged.groups[order], return_index=True)
        chosen = order[first]
        rate = clopper_pearson(int(wrong[chosen].sum()), len(chosen))
        result[name] = asdict(rate) | {"value": rate.value}
    return result

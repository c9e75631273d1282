"""All rules on one score of one population: values, what they did, and what may be claimed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.stats.bounds import miss_bound, one_per_group
from pipeline.stats.thresholds import (
    Costs,
    Counts,
    Flags,
    Scores,
    conformal_alarms,
    conformal_threshold,
    cost_threshold,
    count,
    fbeta_threshold,
    normals_needed,
    safe_threshold,
    settled,
)

RULES = ("f1", "f2", "safe", "fpr", "cost")
# What a rule becomes where there is nothing to choose by.
FALLBACK = "fpr"


@dataclass(frozen=True)
class Sample:
    """One score of N labelled images.

    Attributes:
        scores: (N,) float32 or float64, NaN where missing.
        defect: (N,) bool ground truth.
        ids: (N,) int64, all different.
        groups: (N,) int64, of images that are not independent; None: not known.
        doubt: why no bound may be stated; None: it may, one image of each group counting.
    """

    scores: Scores
    defect: Flags
    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None
    doubt: str | None = None

    def __post_init__(self) -> None:
        columns = [self.scores, self.defect, self.ids]
        columns += [] if self.groups is None else [self.groups]
        if len({column.shape for column in columns}) > 1 or self.scores.ndim != 1:
            shapes = ", ".join(str(column.shape) for column in columns)
            raise ValueError(f"scores, defect, ids and groups have shapes {shapes}, need all (N,)")

    def where(self, chosen: Flags) -> Sample:
        """The images marked in (N,) bool."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(
            self,
            scores=self.scores[chosen],
            defect=self.defect[chosen],
            ids=self.ids[chosen],
            groups=groups,
        )

    def independent(self) -> Sample:
        """One image of each group, where groups are known."""
        if self.groups is None:
            return self
        return self.where(one_per_group(self.groups, self.ids))

    @property
    def no_bound(self) -> str | None:
        """Why no bound may be stated."""
        return self.doubt or (
            "groups of like images are not known" if self.groups is None else None
        )


@dataclass(frozen=True)
class Rules:
    """What thresholds are asked for, fixed before any score is seen.

    Attributes:
        misses_allowed: k of `safe`.
        confidence: of its bound.
        false_positive_rate: α of `fpr`.
        costs: of `cost`; None: no such threshold.
        missing: what an image without a score is taken for: `missed` or `flagged`.
    """

    misses_allowed: int = 0
    confidence: float = 0.95
    false_positive_rate: float = 0.05
    costs: Costs | None = None
    missing: str = "missed"


@dataclass(frozen=True)
class Bound:
    """A claim of the next image, if it is exchangeable with those that were calibrated on.

    Attributes:
        rate: `fnr`, or `expected_fpr`: the mean over calibrations like this one.
        at_most: the bound.
        confidence: share of calibrations whose bound holds; None: the claim is of a mean.
        n: independent images behind it.
        missed: of these; None: not of this kind.
    """

    rate: str
    at_most: float
    confidence: float | None
    n: int
    missed: int | None = None


@dataclass(frozen=True)
class Threshold:
    """One rule's answer.

    Attributes:
        rule: which.
        value: flag from this score on; None: there is none, for the reason given.
        counts: what it does to the validation images; None without a value.
        goods: good validation images.
        defects: defects among the validation images.
        missing_goods: good ones without a score, counted in the decisions.
        missing_defects: defects without a score, counted in the decisions.
        normals: held-out normals, for `fpr`.
        in_sample: whether these images chose the value, so that `counts` flatter it.
        bound: what may be claimed; None: nothing.
        fallback: the rule that was used instead; None: its own.
        reason: why there is no value, no bound, or another rule.
        says: the answer in words.
    """

    rule: str
    value: float | None
    counts: Counts | None
    goods: int
    defects: int
    missing_goods: int
    missing_defects: int
    normals: int
    in_sample: bool
    bound: Bound | None = None
    fallback: str | None = None
    reason: str | None = None
    says: str = ""


def all_thresholds(sample: Sample, normals: Sample, rules: Rules) -> dict[str, Threshold]:
    """Every rule's threshold on one score of one population.

    Args:
        sample: validation images.
        normals: held-out good images that take no part in anything else.
        rules: what is asked for.

    Returns:
        By rule; `cost` only where costs are given.

    Raises:
        ValueError: a score that is infinite, a rule's number outside its range.
    """
    fpr = _fpr(sample, normals, rules)
    makers: dict[str, Callable[[Sample, Rules], Threshold]] = {
        "f1": lambda s, r: _chosen("f1", fbeta_threshold(_scores(s, r), s.defect, 1), s, r),
        "f2": lambda s, r: _chosen("f2", fbeta_threshold(_scores(s, r), s.defect, 2), s, r),
        "safe": _safe,
    }
    if (costs := rules.costs) is not None:
        makers["cost"] = lambda s, r: _chosen(
            "cost", cost_threshold(_scores(s, r), s.defect, costs), s, r
        )
    found = {FALLBACK: fpr}
    for rule, make in makers.items():
        lacking = _lacking(rule, sample, rules)
        found[rule] = make(sample, rules) if lacking is None else _instead(rule, lacking, fpr)
    return {rule: found[rule] for rule in RULES if rule in found}


def _scores(sample: Sample, rules: Rules) -> Scores:
    return settled(sample.scores, rules.missing)


def _lacking(rule: str, sample: Sample, rules: Rules) -> str | None:
    """What a rule would need and the sample hasn't; None: nothing."""
    defects = int(sample.defect.sum())
    if not defects:
        return "no defect in validation"
    if rule == "safe":
        independent = len(sample.where(sample.defect).independent().ids)
        if independent <= rules.misses_allowed:
            return f"{rules.misses_allowed} misses allowed of {independent} independent defects"
        return None
    return None if defects < len(sample.defect) else "no good image in validation"


def _instead(rule: str, lacking: str, fpr: Threshold) -> Threshold:
    reason = lacking if fpr.reason is None else f"{lacking}; {fpr.reason}"
    says = f"fallback to {FALLBACK}, {lacking}: {fpr.says}"
    if fpr.value is None:
        says = f"none: {reason}"
    return replace(fpr, rule=rule, fallback=FALLBACK, reason=reason, says=says)


def _answer(rule: str, value: float, sample: Sample, rules: Rules, **more: Any) -> Threshold:
    """A threshold with its counts, or without where the value is infinite."""
    missing = np.isnan(sample.scores)
    finite = math.isfinite(value)
    return Threshold(
        rule=rule,
        value=value if finite else None,
        counts=count(_scores(sample, rules), sample.defect, value) if finite else None,
        goods=int((~sample.defect).sum()),
        defects=int(sample.defect.sum()),
        missing_goods=int((missing & ~sample.defect).sum()),
        missing_defects=int((missing & sample.defect).sum()),
        **{"normals": 0, "in_sample": True} | more,
    )


def _chosen(rule: str, value: float, sample: Sample, rules: Rules) -> Threshold:
    if not math.isfinite(value):
        reason = "no defect has a score" if rule != "cost" else "no image has a score"
        return _answer(rule, value, sample, rules, reason=reason, says=f"none: {reason}")
    reason = "chosen as the best of many on these images: no exact bound"
    found = _answer(rule, value, sample, rules, reason=reason)
    return replace(found, says=f"{_decisions(found.counts)}, on the images that chose it: no bound")


def _decisions(counts: Counts | None) -> str:
    if counts is None:
        return "no decisions"
    return (
        f"{counts.fn} of {counts.fn + counts.tp} defects missed, "
        f"{counts.fp} of {counts.fp + counts.tn} good flagged"
    )


def _safe(sample: Sample, rules: Rules) -> Threshold:
    defects = sample.where(sample.defect).independent()
    scores = _scores(defects, rules)
    k, n = rules.misses_allowed, len(scores)
    value = float(safe_threshold(scores, k))
    if not math.isfinite(value):
        without = int(np.isnan(defects.scores).sum())
        reason = (
            f"{without} of {n} defects have no score, and {k} misses are allowed: read why in the "
            "errors table, or say beforehand what a line does with such images (missing_scores)"
        )
        return _answer("safe", value, sample, rules, reason=reason, says=f"none: {reason}")
    missed = int((scores < value).sum())
    says = f"{missed} missed of {n}"
    if sample.no_bound:
        says += f": no bound, {sample.no_bound}"
        return _answer("safe", value, sample, rules, reason=sample.no_bound, says=says)
    bound = Bound("fnr", miss_bound(k, n, rules.confidence), rules.confidence, n, missed)
    says += f" (allowed: {k})" if k else ""
    says += f": FNR ≤ {_percent_up(bound.at_most)} % at {100 * rules.confidence:g} %"
    return _answer("safe", value, sample, rules, bound=bound, says=says)


def _fpr(sample: Sample, normals: Sample, rules: Rules) -> Threshold:
    held_out = normals.independent()
    scores, target = _scores(held_out, rules), rules.false_positive_rate
    value, n = conformal_threshold(scores, target), len(scores)
    more: dict[str, Any] = {"normals": n, "in_sample": False}
    if not math.isfinite(value):
        needed = normals_needed(target)
        reason = (
            f"infinite: {n} held-out normals, and a rate of {target:g} needs {needed} at least"
            if n < needed
            else f"missing scores decide: {int(np.isnan(held_out.scores).sum())} of {n} normals"
        )
        return _answer(
            FALLBACK, value, sample, rules, reason=reason, says=f"none: {reason}", **more
        )
    says = f"from {n} held-out normals"
    if normals.no_bound:
        says += f": no bound, {normals.no_bound}"
        return _answer(FALLBACK, value, sample, rules, reason=normals.no_bound, says=says, **more)
    bound = Bound("expected_fpr", conformal_alarms(n, target) / (n + 1), None, n)
    says += f": expected FPR ≤ {_percent_up(bound.at_most)} %"
    return _answer(FALLBACK, value, sample, rules, bound=bound, says=says, **more)


def _percent_up(rate: float) -> str:
    """A bound in percent, rounded up: what is printed must hold too."""
    return f"{math.ceil(rate * 1e4) / 100:g}"

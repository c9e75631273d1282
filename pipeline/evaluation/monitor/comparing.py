"""Two sketches against each other: pairs of categories, measures, verdicts, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config import MonitorConfig
from pipeline.errors import InputError
from pipeline.evaluation.monitor.deciding import InUse
from pipeline.evaluation.monitor.measures import FACTS, Measured, Pair, measured_category
from pipeline.evaluation.monitor.sketch import CategorySketch, RunSketch, told
from pipeline.evaluation.monitor.verdicts import (
    NOT_COMPARABLE,
    TOO_FEW,
    Judged,
    Verdict,
    category_verdict,
    judged,
    worst,
)

# A reference with labelled defects beyond this share is no picture of a line.
_MANY_DEFECTS = 0.1
_SHOWN = 12
# Categories whose reasons are told in an error.
_REASONS = 3


@dataclass(frozen=True)
class Compared:
    """Two runs, measured and judged.

    Attributes:
        reference: what is compared with.
        run: what is looked at.
        pairs: categories that both have.
        measures: of all pairs.
        verdicts: of all categories of either run, sorted.
        policies: in use: digests by name; several may have one.
        warnings: what a reader has to know.
    """

    reference: RunSketch
    run: RunSketch
    pairs: tuple[Pair, ...]
    measures: tuple[Judged, ...]
    verdicts: tuple[Verdict, ...]
    policies: dict[str, str]
    warnings: tuple[str, ...]


def other_scorer(reference: RunSketch, scorer_digest: str) -> str:
    """Why the scores of two runs can't be compared; empty: they can."""
    if scorer_digest == reference.scorer_digest:
        return ""
    return (
        f"the reference was scored by {reference.scorer_digest[:12]}…, this run by "
        f"{scorer_digest[:12]}…, and scores of two scorers mean different things"
    )


def compare(config: MonitorConfig, reference: RunSketch, run: RunSketch, use: InUse) -> Compared:
    """Judges a run by its reference.

    Raises:
        InputError: the run has categories, and none of them is the reference's.
    """
    pairs, skipped = _pairs(config, reference, run)
    policies = {one.policy.name: one.digest for one in use.policies}
    other = other_scorer(reference, run.scorer_digest)
    measured: list[Measured] = []
    for pair in pairs:
        measured += measured_category(pair, policies, other)
    found = judged(measured, config.alpha, config.limits)
    by_category = [
        category_verdict(pair, [one for one in found if one.measured.category == pair.category])
        for pair in pairs
    ]
    every = sorted([*by_category, *skipped], key=lambda one: (not one.category, told(one.category)))
    warnings = (*_warnings(reference, run, other), *_not_frozen(reference, policies))
    return Compared(reference, run, tuple(pairs), tuple(found), tuple(every), policies, warnings)


def run_verdict(found: Compared, least: int) -> str:
    """The worst of its categories, or that this run has too few images for any.

    Args:
        found: the runs, judged.
        least: independent images that a category needs in both.

    Raises:
        InputError: no category could be compared, and more images wouldn't change that.
    """
    verdict = worst(one.verdict for one in found.verdicts)
    if verdict != NOT_COMPARABLE:
        return verdict
    first, second = found.reference.categories, found.run.categories
    ready = [name for name, one in first.items() if one.independent >= least]
    if ready and all(name not in second or second[name].independent < least for name in ready):
        return TOO_FEW
    reasons = [f"{told(one.category)} {one.reason}" for one in found.verdicts[:_REASONS]]
    more = len(found.verdicts) - len(reasons)
    raise InputError(
        f"reference: {found.reference.run_id}: no category of {found.run.run_id} can be compared "
        f"with it, however many images come: {'; '.join(reasons)}"
        f"{f'; and {more} more' if more else ''}; name or freeze another reference"
    )


def _pairs(
    config: MonitorConfig, reference: RunSketch, run: RunSketch
) -> tuple[list[Pair], list[Verdict]]:
    """Categories that can be compared, and why the others can't."""
    first, second = reference.categories, run.categories
    if second and not {name for name in first if name in second}:
        raise InputError(
            f"reference: {reference.run_id}: has {_listed(reference)}, and {run.run_id} has "
            f"{_listed(run)}: no category is in both; name another reference"
        )
    pairs, skipped = [], []
    for name in dict.fromkeys([*first, *second]):
        if name not in first:
            why = "is new: the reference has no image of it"
            skipped.append(Verdict(name, NOT_COMPARABLE, why))
        elif name not in second:
            images = first[name].images
            why = f"is missing: the reference has {images} images of it, this run none"
            skipped.append(Verdict(name, NOT_COMPARABLE, why))
        else:
            too_few = _too_few(first[name], second[name], config.min_images)
            pairs.append(Pair(name, first[name], second[name], too_few))
    return pairs, skipped


def _too_few(first: CategorySketch, second: CategorySketch, least: int) -> str:
    for whose, one in (("the reference", first), ("this run", second)):
        # As many as they are told to be: 29.6 are no 30.
        if one.independent < least:
            worth = f", worth {one.independent:.1f} independent ones" if one.images else ""
            return (
                f"too few images: {whose} has {one.images} with scores{worth}, and min_images is "
                f"{least}"
            )
    return ""


def _listed(run: RunSketch) -> str:
    names = [told(name) for name in run.categories]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "no category"


def _not_frozen(reference: RunSketch, policies: dict[str, str]) -> Iterator[str]:
    known = {digest for one in reference.categories.values() for digest in one.flagged}
    for name, digest in policies.items():
        if digest not in known:
            yield (
                f"{name}: its flagged rate is not compared: the reference was frozen without it, "
                "or with other thresholds; freeze it again with policies="
            )


def _nothing_scored(run: RunSketch) -> str:
    errors: Counter[str] = Counter()
    for one in run.categories.values():
        errors += one.errors
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(errors.items()))
    left = run.about.get("skipped") or 0
    return (
        f"no image of {run.run_id} was scored: {errors.total()} failed"
        f"{f' ({kinds})' if kinds else ''}, {left} were left to earlier runs"
    )


def _warnings(reference: RunSketch, run: RunSketch, other: str) -> Iterator[str]:
    if other:
        yield f"scores and flagged rates are not compared: {other}"
    if not sum(one.images for one in run.categories.values()):
        yield _nothing_scored(run)
    if run.categories and reference.rows != run.rows:
        yield f"other rows are compared: of the reference {reference.rows}; of the run {run.rows}"
    images, labelled, defects = (
        sum(getattr(one, name) for one in reference.categories.values())
        for name in ("images", "labelled", "defects")
    )
    unlabelled = not any(one.labelled for one in run.categories.values())
    if labelled and defects > _MANY_DEFECTS * images and unlabelled:
        yield (
            f"{defects} of {images} rows of the reference are labelled as defects, and no row of "
            "the run has a label: with good_only=true the defects of the reference are left out"
        )
    lacking = sorted(
        {
            name
            for one in reference.categories.values()
            for name in FACTS
            if one.numbers and name not in one.numbers
        }
    )
    if lacking:
        yield (
            f"the reference has no {', '.join(lacking)}, like a run that was scored before images "
            "were measured: what they looked like can't be compared"
        )

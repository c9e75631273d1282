"""Each measure of a category in two runs: how far apart, and how often chance does as much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.monitor.sketch import Category, CategorySketch
from pipeline.stats.drift import (
    ks_chance,
    ks_distance,
    levels_chance,
    psi,
    psi_of_bins,
    psi_of_chance,
    rates_chance,
    total_variation,
    wasserstein,
)

SCORE, FACT, KINDS, FLAGGED, ERRORS = "score", "fact", "kinds", "flagged", "errors"
# Facts of an image that are numbers, as people call them.
FACTS = {
    "brightness": "brightness",
    "contrast": "contrast",
    "sharpness": "sharpness",
    "bytes": "file size",
}
# Kinds that are told apart, at most; the rarest of the reference are one kind together.
_MOST_KINDS = 20
_OTHERS = "others"


@dataclass(frozen=True)
class Pair:
    """One category in two runs.

    Attributes:
        category: its name.
        reference: in the reference.
        run: in the run that is looked at.
        too_few: why only failures are compared; empty: everything is.
    """

    category: Category
    reference: CategorySketch
    run: CategorySketch
    too_few: str = ""

    @property
    def independent(self) -> tuple[float, float]:
        """Independent images of both."""
        return self.reference.independent, self.run.independent


@dataclass(frozen=True)
class Measured:
    """A measure in two runs; NaN where a figure doesn't exist for its kind.

    Attributes:
        category: whose.
        measure: a column, a policy's name or an error type.
        kind: one of the constants of this module.
        chance: p-value; None: it can't be compared.
        values: mean or share, in the reference and in the run.
        missing: images without the number, in both.
        psi: population stability index.
        psi_chance: what chance gives on average.
        ks: Kolmogorov–Smirnov distance, least and most.
        wasserstein: in the measure's unit.
        shift: difference of means in standard deviations of the reference.
        variation: total variation of kinds.
        says: of kinds, which ones moved; why there is no comparison.
    """

    category: Category
    measure: str
    kind: str
    chance: float | None
    values: tuple[float, float] = (np.nan, np.nan)
    missing: tuple[int, int] = (0, 0)
    psi: float = np.nan
    psi_chance: float = np.nan
    ks: tuple[float, float] = (np.nan, np.nan)
    wasserstein: float = np.nan
    shift: float = np.nan
    variation: float = np.nan
    says: str = ""

    @property
    def excess(self) -> float:
        """PSI less what chance gives."""
        return max(self.psi - self.psi_chance, 0.0)


def measured_category(
    pair: Pair, policies: Mapping[str, str], other_scorer: str = ""
) -> Iterator[Measured]:
    """All measures of a category.

    Args:
        pair: the category.
        policies: digests by name.
        other_scorer: why scores can't be compared; empty: they can.
    """
    if not pair.too_few:
        yield from _of_scored(pair, policies, other_scorer)
    yield from _errors(pair)


def _of_scored(pair: Pair, policies: Mapping[str, str], other_scorer: str) -> Iterator[Measured]:
    for name, found in pair.reference.numbers.items():
        if not found.present and not pair.run.numbers[name].present:
            continue  # a model that is switched off is no finding
        if name in FACTS:
            yield _number(pair, name, FACT)
        elif other_scorer:
            yield Measured(pair.category, name, SCORE, None, says=other_scorer)
        else:
            yield _number(pair, name, SCORE)
    for name in pair.reference.kinds:
        yield _kinds(pair, name)
    for policy, digest in policies.items():
        yield _flagged(pair, digest, policy)


def _number(pair: Pair, name: str, kind: str) -> Measured:
    first, second = pair.reference.numbers[name], pair.run.numbers[name]
    missing = (first.missing, second.missing)
    if not first.present:
        says = "the reference has no such number"
        return Measured(pair.category, name, kind, None, missing=missing, says=says)
    index, bins = psi_of_bins(first, second, pair.independent[0])
    ks = ks_distance(first, second)
    return Measured(
        pair.category,
        name,
        kind,
        ks_chance(ks[0], pair.independent),
        values=(first.mean, second.mean),
        missing=missing,
        psi=index,
        psi_chance=psi_of_chance(bins, pair.independent),
        ks=ks,
        wasserstein=wasserstein(first, second),
        shift=_ratio(second.mean - first.mean, pair.reference.spreads[name]),
    )


def _ratio(value: float, by: float) -> float:
    return value / by if by > 0 else float("nan")


def _kinds(pair: Pair, name: str) -> Measured:
    words, first, second = _counted(pair, name)
    index, there = psi(first, second)
    shares = first / first.sum(), second / second.sum()
    most = int(np.argmax(shares[1] - shares[0]))
    return Measured(
        pair.category,
        name,
        KINDS,
        levels_chance((first, second), pair.independent),
        values=(float(shares[0][most]), float(shares[1][most])),
        psi=index,
        psi_chance=psi_of_chance(there, pair.independent),
        variation=total_variation(first, second),
        says=words[most],
    )


def _counted(pair: Pair, name: str) -> tuple[list[str], Any, Any]:
    first, second = pair.reference.kinds[name], pair.run.kinds[name]
    together = first + second
    words = sorted(together, key=lambda word: (-together[word], word))
    rest = words[_MOST_KINDS:]
    counts = [[one[word] for word in words[:_MOST_KINDS]] for one in (first, second)]
    if rest:
        words = [*words[:_MOST_KINDS], _OTHERS]
        counts = [
            [*mine, sum(one[w] for w in rest)]
            for mine, one in zip(counts, (first, second), strict=True)
        ]
    return words, np.array(counts[0], np.int64), np.array(counts[1], np.int64)


def _flagged(pair: Pair, digest: str, policy: str) -> Measured:
    if digest not in pair.reference.flagged:
        says = "the reference was frozen without this policy, or with other thresholds"
        return Measured(pair.category, policy, FLAGGED, None, says=says)
    hits = pair.reference.flagged[digest], pair.run.flagged[digest]
    return _rates(pair, policy, FLAGGED, hits, (pair.reference.images, pair.run.images))


def _errors(pair: Pair) -> Iterator[Measured]:
    both = (pair.reference, pair.run)
    of = [one.all_images for one in both]
    for kind in sorted({*pair.reference.errors, *pair.run.errors}):
        hits = (pair.reference.errors[kind], pair.run.errors[kind])
        yield _rates(pair, kind, ERRORS, hits, (of[0], of[1]))


def _rates(
    pair: Pair, name: str, kind: str, hits: tuple[int, int], images: tuple[int, int]
) -> Measured:
    shares = hits[0] / images[0], hits[1] / images[1]
    # Images of a group count as few, here as elsewhere.
    worth = [
        n * (one.independent / one.images if one.images else 1)
        for n, one in zip(images, (pair.reference, pair.run), strict=True)
    ]
    found = (worth[0], worth[1])
    chance = rates_chance((shares[0] * found[0], shares[1] * found[1]), found)
    return Measured(pair.category, name, kind, chance, values=shares)

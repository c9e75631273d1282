"""Choosing and judging, repeated on drawn test sets whose truth is known.

Images have three independent normal scores; a policy flags where the first two, or the third, lie
above its thresholds, so that its true rates follow from the normal distribution. `count` is the
engine under test: of rows and thresholds it makes the flagged images of every policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from pipeline.policy.choosing.budgets import within
from pipeline.policy.choosing.confusion import Confusion
from pipeline.policy.choosing.hold_out import held_out
from pipeline.policy.choosing.intervals import clopper_pearson
from pipeline.policy.choosing.limits import parse_budget
from pipeline.policy.formula import All, AnyOf, Cut, Formula
from tests.policy.choosing.counting import counts_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Count = Callable[[Formula, Floats, dict[str, Floats]], Ints]

FORMULA = AnyOf((All((Cut("a", 0), Cut("b", 1))), Cut("c", 2)))
NAMES = ("a", "b", "c")
# Means of a defect's scores; a good image's are 0, all spreads 1.
SHIFTS = np.array([2.0, 2.0, 2.5])
BUDGET = parse_budget("fpr<=0.05", "budget")
LEVELS = np.linspace(-1.0, 4.25, 22)


# A policy that somebody set beforehand: flags 1.5 % of the good images.
FIXED = np.array([[1.5, 1.75, 2.25]])


@dataclass(frozen=True)
class Archive:
    """A test set of MVTec AD's size, in categories that are alike and choose by themselves."""

    categories: int = 1
    goods: int = 467
    defects: int = 1258

    @property
    def sizes(self) -> tuple[int, int]:
        """Good images and defects of each category."""
        return self.goods // self.categories, self.defects // self.categories


@dataclass(frozen=True)
class Outcome:
    """R repeats of choosing one policy.

    Attributes:
        reported: (R,) false-positive rate on the images that are reported on.
        true: (R,) of the next image.
        covered: (R,) whether the reported interval holds the true rate.
        above: (R,) whether the true rate lies above it: worse than the report admits.
        says: what the choice calls the figures of the images that chose.
    """

    reported: Floats
    true: Floats
    covered: npt.NDArray[np.bool_]
    above: npt.NDArray[np.bool_]
    says: str


def policies(number: int, seed: int) -> Floats:
    """(number, 3) different thresholds of a grid, in random order."""
    grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[np.random.default_rng(seed).permutation(len(grid))[:number]]


def true_rates(thresholds: Floats, shifts: Floats) -> Floats:
    """(P,) the chance that a policy flags an image whose scores have these means."""
    above = norm.sf(thresholds - shifts)
    return 1 - (1 - above[:, 0] * above[:, 1]) * (1 - above[:, 2])


def count_by_cube(formula: Formula, thresholds: Floats, rows: dict[str, Floats]) -> Ints:
    """(P,) flagged rows, for `FORMULA` alone: by inclusion and exclusion on suffix sums."""
    assert formula == FORMULA
    levels = [np.unique(column) for column in thresholds.T]
    bins = [
        np.searchsorted(level, rows[name], side="right")
        for level, name in zip(levels, NAMES, strict=True)
    ]
    shape = tuple(len(level) + 1 for level in levels)
    cube = np.bincount(np.ravel_multi_index(bins, shape), minlength=int(np.prod(shape)))
    cube = cube.reshape(shape)
    for axis in range(3):
        cube = np.flip(np.flip(cube, axis).cumsum(axis), axis)
    a, b, c = (
        np.searchsorted(level, column) + 1
        for level, column in zip(levels, thresholds.T, strict=True)
    )
    return np.asarray(cube[a, b, 0] + cube[0, 0, c] - cube[a, b, c])


def draw(rng: np.random.Generator, images: int, shifts: Floats) -> dict[str, Floats]:
    scores = rng.normal(size=(images, 3)) + shifts
    return dict(zip(NAMES, scores.T, strict=True))


def counted(count: Count, thresholds: Floats, kinds: tuple[dict[str, Floats], ...]) -> Confusion:
    """Counts (P,) of good images and defects."""
    good, bad = kinds
    caught, alarms = (count(FORMULA, thresholds, rows) for rows in (bad, good))
    goods, defects = len(good["a"]), len(bad["a"])
    return counts_of(defects - caught, alarms, defects, goods)


def repeat(
    count: Count, thresholds: Floats, repeats: int, hold_out: bool, archive: Archive
) -> Outcome:
    """Draws a test set, lets each category choose the fewest misses within the budget, reports.

    With `hold_out` half of the images choose and the other half are reported on.
    """
    truth = true_rates(thresholds, np.zeros(3))
    hits, goods, true, says = [], [], [], ""
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        alarms, of, chosen = [], [], []
        for category in range(archive.categories):
            kinds = tuple(
                draw(rng, images, shift)
                for images, shift in zip(archive.sizes, (np.zeros(3), SHIFTS), strict=True)
            )
            split = (seed, category) if hold_out else None
            tuning, judging = (kinds, kinds) if split is None else halves(kinds, split)
            choice = within(counted(count, thresholds, tuning), [BUDGET])
            report = counted(count, thresholds[choice.policy][None], judging)
            alarms.append(int(report.fp[0]))
            of.append(int(report.goods[0]))
            chosen.append(choice.policy)
            says = choice.measured_on.says
        hits.append(sum(alarms))
        goods.append(sum(of))
        # A rate over categories is one of their mix: the same in the report and in the truth.
        true.append(np.average(truth[chosen], weights=of))
    return outcome(np.array(hits), np.array(goods), np.array(true), says)


def outcome(hits: Ints, of: Ints, true: Floats, says: str) -> Outcome:
    low, high = clopper_pearson(hits, of)
    return Outcome(hits / of, true, (low <= true) & (true <= high), true > high, says)


def halves(
    kinds: tuple[dict[str, Floats], ...], split: tuple[int, int]
) -> tuple[tuple[dict[str, Floats], ...], ...]:
    """Images by their hash: those that choose, and those that are held out."""
    seed, category = split
    parts = []
    first = category * 1_000_000
    for rows in kinds:
        ids = np.arange(first, first + len(rows["a"]))
        first += len(ids)
        out = held_out(ids, 0.5, seed)
        parts.append([{n: c[side] for n, c in rows.items()} for side in (~out, out)])
    return tuple(zip(*parts, strict=True))

"""What many policies decided, as counts: from groups of images to TP, FP, TN, FN and review.

How a reviewed image counts is settled here and nowhere else. A policy decides `defect`, `review`
or `good`. A reviewed image is neither a false positive nor a false negative: a person looks, and
is taken to be right, at the price of a review load of its own. `Confusion.with_review` makes that
into counts of two outcomes, or counts review as flagged instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Review = Literal["person", "flagged"]

DECISIONS = ("defect", "review", "good")
# Policies summed at a time, so that a block of counts stays in the processor's cache.
BLOCK = 1024


@dataclass(frozen=True)
class Confusion:
    """Decisions about images of known truth; arrays of one shape, policies first.

    Attributes:
        fn: defects that were let through (missed).
        fp: good images that were flagged (false alarms).
        review_defects: defects that go to a person.
        review_goods: good images that go to a person.
        defects: all defects.
        goods: all good images.
    """

    fn: Ints
    fp: Ints
    review_defects: Ints
    review_goods: Ints
    defects: Ints
    goods: Ints

    def __post_init__(self) -> None:
        shapes = {part.name: np.shape(getattr(self, part.name)) for part in fields(self)}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"counts have shapes {shapes}, need all the same")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each array."""
        return np.shape(self.fn)

    @property
    def tp(self) -> Ints:
        """Defects that were flagged."""
        return self.defects - self.fn - self.review_defects

    @property
    def tn(self) -> Ints:
        """Good images that were passed."""
        return self.goods - self.fp - self.review_goods

    @property
    def reviewed(self) -> Ints:
        """Images that go to a person."""
        return self.review_defects + self.review_goods

    def with_review(self, counted: Review) -> Confusion:
        """The same with two outcomes.

        Args:
            counted: `person`: whoever looks is right, so a reviewed defect is caught and a
                reviewed good image passes; `flagged`: as if review were `defect`.
        """
        alarms = self.fp if counted == "person" else self.fp + self.review_goods
        none = np.broadcast_to(np.int64(0), self.shape)
        return Confusion(self.fn, alarms, none, none, self.defects, self.goods)

    def at(self, index: Any) -> Confusion:
        """A part of each array, indexed as numpy does."""
        return Confusion(*(np.asarray(array[index]) for array in self._arrays()))

    def total(self) -> Confusion:
        """Summed over the last axis."""
        return Confusion(*(np.asarray(array.sum(-1)) for array in self._arrays()))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(*(a + b for a, b in zip(self._arrays(), other._arrays(), strict=True)))

    def __sub__(self, other: Confusion) -> Confusion:
        return Confusion(*(a - b for a, b in zip(self._arrays(), other._arrays(), strict=True)))

    def _arrays(self) -> tuple[Ints, ...]:
        return tuple(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True)
class Population:
    """G groups of images, alike in everything that counts keep apart.

    Attributes:
        category: (G,) names.
        defect: (G,) 1 defects, 0 good images, -1 nobody knows.
        images: (G,) how many.
        defect_type: (G,) names; of good images any.
        part: (G,) which part of the data: a role or a fold.
    """

    category: Sequence[str]
    defect: npt.NDArray[np.integer[Any]]
    images: Ints
    defect_type: Sequence[str]
    part: Ints

    def __post_init__(self) -> None:
        lengths = {part.name: len(getattr(self, part.name)) for part in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"groups have {lengths}, need equally many of each")
        if not np.isin(self.defect, (-1, 0, 1)).all():
            raise ValueError("defect is 1, 0, or -1 where nobody knows")


@dataclass(frozen=True)
class Columns:
    """What the K columns of counts stand for, and which groups each of them adds up.

    Attributes:
        category: (K,) names.
        defect_type: (K,) names; None in a column that doesn't keep defect types apart.
        code: (G,) the column of each group.
    """

    category: tuple[str, ...]
    defect_type: tuple[str | None, ...]
    code: Ints

    @property
    def categories(self) -> tuple[str, ...]:
        """Each category once, in order."""
        return tuple(dict.fromkeys(self.category))


def by_category(population: Population) -> Columns:
    """A column for each category, in the order of their names."""
    names = sorted(set(population.category))
    place = {name: index for index, name in enumerate(names)}
    code = np.array([place[name] for name in population.category], np.int64)
    return Columns(tuple(names), (None,) * len(names), code)


def by_defect_type(population: Population, good: str = "good") -> Columns:
    """A column for each category's good images and for each of its defect types.

    Args:
        population: the groups.
        good: the name of the column of good images.
    """
    kinds = [
        (category, kind if defect > 0 else good)
        for category, kind, defect in zip(
            population.category, population.defect_type, population.defect.tolist(), strict=True
        )
    ]
    names = sorted(set(kinds))
    place = {name: index for index, name in enumerate(names)}
    code = np.array([place[name] for name in kinds], np.int64)
    return Columns(tuple(name for name, _ in names), tuple(kind for _, kind in names), code)


@dataclass(frozen=True)
class Decided:
    """What P policies decided about G groups.

    Attributes:
        flagged: (P, G) images that were decided `defect`.
        review: (P, G) images that go to a person; None: no policy sends any.
        population: the groups.
    """

    flagged: Ints
    review: Ints | None
    population: Population

    def __post_init__(self) -> None:
        groups = len(self.population.images)
        for name in ("flagged", "review"):
            array = getattr(self, name)
            if array is not None and array.shape != (len(self.flagged), groups):
                raise ValueError(f"{name} is {array.shape}, needs (policies, {groups} groups)")


@dataclass(frozen=True)
class Load:
    """Decisions whatever the truth, known or not: arrays (P, K).

    Attributes:
        flagged: images that were decided `defect`.
        reviewed: images that go to a person.
        images: all.
    """

    flagged: Ints
    reviewed: Ints
    images: Ints


def confusion(decided: Decided, columns: Columns, part: int | None = None) -> Confusion:
    """Counts of labelled images, (P, K).

    Args:
        decided: by P policies, about G groups.
        columns: what is added up.
        part: of this part of the data only; None: of all.
    """
    population = decided.population
    kept = np.ones(len(columns.code), bool) if part is None else population.part == part
    bad, good = (kept & (population.defect == truth) for truth in (1, 0))
    (caught, sent), (alarms, sent_good) = (_sums(decided, columns, kind) for kind in (bad, good))
    defects, goods = (_images(decided, columns, kind) for kind in (bad, good))
    return Confusion(defects - caught - sent, alarms, sent, sent_good, defects, goods)


def load(decided: Decided, columns: Columns, chosen: Flags) -> Load:
    """What is flagged and reviewed, labelled or not, (P, K).

    Args:
        decided: by P policies, about G groups.
        columns: what is added up.
        chosen: (G,) the groups that count, as `population.defect < 0` for unlabelled images.
    """
    flagged, reviewed = _sums(decided, columns, chosen)
    return Load(flagged, reviewed, _images(decided, columns, chosen))


def parts(decided: Decided, columns: Columns) -> dict[int, Confusion]:
    """The counts of every part of the data by its number: all folds from one scan."""
    return {
        number: confusion(decided, columns, number)
        for number in np.unique(decided.population.part).tolist()
    }


def require_both_kinds(counts: Confusion, name: str) -> None:
    """Refuses a part of the data on which nothing can be chosen or judged.

    Args:
        counts: of P policies, of any shape.
        name: of the part, for the message.

    Raises:
        InputError: it is empty, or has images of one kind only.
    """
    first = counts.at(0) if counts.shape else counts
    defects, goods = int(first.defects.sum()), int(first.goods.sum())
    if defects and goods:
        return
    lacking = [kind for kind, n in (("defects", defects), ("good images", goods)) if not n]
    raise InputError(
        f"{name}: has no {' and no '.join(lacking)} ({defects} defects, {goods} good images "
        "with a label), so nothing can be chosen or judged there; "
        "give it another share, role or folds, or label more images"
    )


def _sums(decided: Decided, columns: Columns, groups: Flags) -> tuple[Ints, Ints]:
    flagged = _summed(decided.flagged, columns, groups)
    if decided.review is None:
        return flagged, np.broadcast_to(np.int64(0), flagged.shape)
    return flagged, _summed(decided.review, columns, groups)


def _summed(counts: Ints, columns: Columns, groups: Flags) -> Ints:
    """(P, K) sums over the groups, column by column: a thin product pays no threads of BLAS."""
    result = np.zeros((len(counts), len(columns.category)), np.int64)
    for start in range(0, len(counts), BLOCK):
        block, sums = counts[start : start + BLOCK], result[start : start + BLOCK]
        for group in np.flatnonzero(groups).tolist():
            sums[:, columns.code[group]] += block[:, group]
    return result


def _images(decided: Decided, columns: Columns, groups: Flags) -> Ints:
    images = np.zeros(len(columns.category), np.int64)
    np.add.at(images, columns.code[groups], decided.population.images[groups])
    return np.broadcast_to(images, (len(decided.flagged), len(images)))

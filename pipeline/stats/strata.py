"""Strata of a split: category and defect type, small ones put together so that none is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Merged:
    """Defect types of a category that are shared out as one.

    Attributes:
        category: the category.
        types: (name, groups) of each type.
    """

    category: str
    types: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Strata:
    """What the rows are stratified by.

    Attributes:
        of_row: (N,) int64 in [0, S).
        defects: (S,) bool, whether a stratum holds defects.
        coarser: (2, S) int64: good and defects of a category, and of all categories.
        merged: the strata of more than one type.
        small: (category, defect type, groups) of those that are small and can't be merged.
    """

    of_row: np.ndarray
    defects: np.ndarray
    coarser: np.ndarray
    merged: tuple[Merged, ...]
    small: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class LabelledRows:
    """Labels of N rows: category and defect type (N,) text, is_defect (N,) bool, group (N,)."""

    categories: np.ndarray
    types: np.ndarray
    defects: np.ndarray
    groups: np.ndarray

    @property
    def cells(self) -> tuple[list[tuple[str, bool, str]], np.ndarray]:
        """The distinct (category, is_defect, defect type), sorted, and each row's place."""
        keys = list(
            zip(self.categories.tolist(), self.defects.tolist(), self.types.tolist(), strict=True)
        )
        cells = sorted(set(keys))
        place = {cell: index for index, cell in enumerate(cells)}
        return cells, np.array([place[key] for key in keys], np.int64)


def stratify(rows: LabelledRows, smallest: int) -> Strata:
    """Strata by category and defect type, each of at least `smallest` groups where possible.

    Small defect types of a category become one stratum; what is still small joins the category's
    smallest other one. Good images and defects are never put together.
    """
    cells, cell_of = rows.cells
    groups = [len(np.unique(rows.groups[cell_of == index])) for index in range(len(cells))]
    stratum = np.arange(len(cells))
    for category in sorted({cell[0] for cell in cells}):
        own = [i for i, cell in enumerate(cells) if cell[0] == category and cell[1]]
        _merge_small(own, groups, stratum, smallest)
    kept, numbered = np.unique(stratum, return_inverse=True)
    merged, small = [], []
    for first in kept:
        members = np.flatnonzero(stratum == first)
        if len(members) > 1:
            merged.append(Merged(cells[first][0], tuple((cells[i][2], groups[i]) for i in members)))
        total = sum(groups[i] for i in members)
        if total < smallest:
            names = " + ".join(cells[i][2] for i in members)
            small.append((cells[first][0], names, total))
    defects = np.array([cells[first][1] for first in kept], bool)
    kinds = [cells[first][:2] for first in kept]
    of_category = [sorted(set(kinds)).index(kind) for kind in kinds]
    coarser = np.array([of_category, defects.astype(int)], np.int64)
    return Strata(numbered[cell_of], defects, coarser, tuple(merged), tuple(small))


def _merge_small(own: list[int], groups: list[int], stratum: np.ndarray, smallest: int) -> None:
    """Points the small cells of a category at one stratum; `own` are its cells of defects."""
    small = [i for i in own if groups[i] < smallest]
    large = sorted((i for i in own if groups[i] >= smallest), key=lambda i: (groups[i], i))
    if not small:
        return
    if sum(groups[i] for i in small) < smallest and large:
        small.append(large[0])
    stratum[small] = min(small)

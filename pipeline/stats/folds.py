"""Folds that keep groups together and hold every stratum in its share, with scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold


def grouped_folds(
    strata: tuple[Sequence[str], Sequence[str]], groups: np.ndarray, folds: int, seed: int
) -> tuple[np.ndarray, list[str]]:
    """A fold number for each of N rows; rows of one group share it.

    A stratum with fewer groups than folds can't lie in each of them: such strata are merged into
    the coarser ones for the split, and named, never dropped. Rows have to come in an order that
    is the same everywhere.

    Args:
        strata: (N,) what every fold should hold in proportion, and (N,) what it is merged into.
        groups: (N,) int64; what belongs together.
        folds: how many, at least 2.
        seed: of the shuffle.

    Returns:
        (N,) int64 fold numbers from 0, and the strata that were merged.

    Raises:
        ValueError: fewer groups than folds.
    """
    there = len(np.unique(groups))
    if there < folds:
        raise ValueError(f"{there} groups can't fill {folds} folds; ask for at most {there}")
    fine, coarse = (np.asarray(names, dtype=str) for names in strata)
    small = _smaller_than(folds, fine, groups)
    merged = np.where(np.isin(fine, small), coarse, fine)
    merged = np.where(np.isin(merged, _smaller_than(folds, merged, groups)), "", merged)
    _, numbers = np.unique(merged, return_inverse=True)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    result = np.zeros(len(fine), np.int64)
    with warnings.catch_warnings():
        # It counts rows, where groups are what matters; small strata were merged above.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fold, (_, rows) in enumerate(splitter.split(fine, _enough(numbers, folds), groups)):
            result[rows] = fold
    return result, small


def _smaller_than(folds: int, names: np.ndarray, groups: np.ndarray) -> list[str]:
    return [str(n) for n in np.unique(names) if len(np.unique(groups[names == n])) < folds]


def _enough(numbers: np.ndarray, folds: int) -> np.ndarray:
    """The strata, or one for all where each of them is smaller than the number of folds.

    scikit-learn refuses to split by strata that are all too small.
    """
    return numbers if np.bincount(numbers).max() >= folds else np.zeros_like(numbers)

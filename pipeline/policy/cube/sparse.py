"""Counts of rows per cell, sparse: they add up over blocks, nights and machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.cube.grid import Layout
from pipeline.policy.cube.rules import Counts


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells that hold rows.

    Attributes:
        layout: the digest of the layout that numbers them.
        keys: (M,) int64, increasing.
        counts: (M,) int64, above 0.
    """

    layout: str
    keys: npt.NDArray[np.int64]
    counts: Counts

    def __post_init__(self) -> None:
        for name in ("keys", "counts"):
            values = getattr(self, name)
            if values.dtype != np.int64 or values.shape != self.keys.shape or values.ndim != 1:
                raise ValueError(f"{name} are {values.dtype} {values.shape}, need int64 (M,)")
        if (self.keys[1:] <= self.keys[:-1]).any() or (self.counts <= 0).any():
            raise ValueError("cells need increasing keys, and counts above 0")

    @property
    def rows(self) -> int:
        """How many rows they count."""
        return int(self.counts.sum())


def merge(cells: Sequence[Cells]) -> Cells:
    """Cells of all rows; the order makes no difference.

    Raises:
        InputError: they were counted on other thresholds or groups.
        ValueError: there are none.
    """
    if not cells:
        raise ValueError("0 cells to merge, need at least 1")
    digests = sorted({part.layout for part in cells})
    if len(digests) > 1:
        raise InputError(
            f"cells of different thresholds or groups don't add up: layouts {digests[0][:12]} and "
            f"{digests[1][:12]}; count the rows again with the same rules and groups"
        )
    keys, counts = added(
        np.concatenate([part.keys for part in cells]),
        np.concatenate([part.counts for part in cells]),
    )
    return Cells(digests[0], keys, counts)


def added(keys: npt.NDArray[np.int64], counts: Counts) -> tuple[npt.NDArray[np.int64], Counts]:
    """Each key once, in order, with the sum of its counts."""
    # Stable, because it merges what is already sorted.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = _starts(keys)
    if not len(starts):
        return keys, counts
    return keys[starts], np.add.reduceat(counts[order], starts)


def tallied(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Counts]:
    """Each key once, in order, with how often it comes."""
    keys = np.sort(keys)
    starts = _starts(keys)
    return keys[starts], np.diff(starts, append=len(keys))


def _starts(ordered: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def require_layout(cells: Cells, layout: Layout) -> None:
    """InputError unless the cells were counted in this layout."""
    if cells.layout != layout.digest:
        raise InputError(
            f"the cells were counted on other thresholds or groups (layout {cells.layout[:12]}, "
            f"needed {layout.digest[:12]}): count the rows again"
        )

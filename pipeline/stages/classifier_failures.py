"""Images that a training worker could not read, and when they are too many."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.models.epochs import Team
from pipeline.scoring.outage import OutageGuard
from pipeline.tables.schemas import UNREACHABLE_ERRORS

FAILURE_COLUMNS = ("image_id", "error_type", "error_message")


class Failures:
    """One worker's unreadable images; each counts once, however often it is tried."""

    def __init__(self, images: int, max_unreachable: float) -> None:
        """`images`: how many all workers read; `max_unreachable`: the share that may be gone."""
        self._images, self._share = images, max_unreachable
        self._found: dict[int, tuple[str, str]] = {}

    def add(self, block: pa.Table) -> None:
        """Notes the failures in a block as `prepare_block` makes it.

        Raises:
            RunError: the archive is out of reach.
        """
        rows = zip(*(block.column(name).to_pylist() for name in FAILURE_COLUMNS), strict=True)
        self._found |= {int(i): (kind, text) for i, kind, text in rows if kind is not None}
        self._check(self._found)

    def of_all(self, team: Team) -> dict[int, str]:
        """Every worker's failures, why by image id; the same in each worker.

        Raises:
            RunError: the archive is out of reach, in every worker alike.
        """
        mine = list(self._found.items())
        ids = np.array([i for i, _ in mine], np.int64)
        kinds, texts = (np.array([w[k] for _, w in mine], dtype=object) for k in (0, 1))
        found = {
            int(i): (str(kind), str(text))
            for part in team.gather((ids, kinds, texts))
            for i, kind, text in zip(*part, strict=True)
        }
        self._check(found)
        return {i: text for i, (_, text) in found.items()}

    def _check(self, found: dict[int, tuple[str, str]]) -> None:
        gone = sum(kind in UNREACHABLE_ERRORS for kind, _ in found.values())
        OutageGuard(self._images, self._share).add(gone)

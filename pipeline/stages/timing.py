"""Seconds that each stage spent on an image, carried as columns from the stage to the commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables.ledger import Spent

_PREFIX = "seconds_"
_Block = Callable[..., pa.Table]


def timed(work: _Block, stage: str) -> _Block:
    """A stage that also says what it took: the block's seconds, an equal part for each image.

    The seconds are those of the wall while the stage worked: waiting for a file or for a
    processor that others use is in them, waiting for a turn in the chain is not.
    """

    @wraps(work)
    def with_seconds(rows: pa.Table, **settings: Any) -> pa.Table:
        started = time.perf_counter()
        return _add(work(rows, **settings), stage, time.perf_counter() - started)

    return with_seconds


def timed_actor(actor: type, stage: str) -> type:
    """An actor's class that also says what its calls took, under its own name."""

    class WithSeconds:
        def __init__(self, *settings: Any) -> None:
            self._actor = actor(*settings)

        def __call__(self, rows: pa.Table) -> pa.Table:
            started = time.perf_counter()
            return _add(self._actor(rows), stage, time.perf_counter() - started)

    # Ray names the pool after its class, in its logs, metrics and pages.
    WithSeconds.__name__ = WithSeconds.__qualname__ = actor.__name__
    return WithSeconds


def _add(rows: pa.Table, stage: str, seconds: float) -> pa.Table:
    each = pa.array(np.full(len(rows), seconds / max(len(rows), 1)))
    return rows.append_column(f"{_PREFIX}{stage}", each)


def spent_on(rows: pa.Table) -> list[Spent]:
    """What the stages took for these rows; a stage that a row never saw is not in its count."""
    return [
        Spent(stage, float(pc.sum(column, min_count=0).as_py()), len(column) - column.null_count)
        for stage, column in _columns(rows)
    ]


def spent_in_blocks(rows: pa.Table) -> list[Spent]:
    """The same, block by block as far as their seconds tell them apart."""
    return [
        Spent(stage, group["values"] * group["counts"], group["counts"])
        for stage, column in _columns(rows)
        for group in column.drop_null().combine_chunks().value_counts().to_pylist()
    ]


def _columns(rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for name in rows.column_names:
        if name.startswith(_PREFIX):
            yield name.removeprefix(_PREFIX), rows.column(name)


def bytes_read(rows: pa.Table) -> int:
    """Sizes of the files that were decoded, as the manifest has them; unknown ones count 0."""
    decoded = f"{_PREFIX}decode"
    if not {decoded, "bytes"} <= set(rows.column_names):
        return 0
    sizes = rows.filter(pc.is_valid(rows.column(decoded))).column("bytes")
    return int(pc.sum(sizes, min_count=0).as_py())

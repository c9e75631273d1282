"""Which images a model has seen: a table beside its weights, so that nobody judges it on them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import storage

# What an image did for a model: its weights were fitted to it, or it chose when to stop.
USES = ("training", "early_stopping")
TRAINED_ON = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("use", pa.string(), nullable=False),
    ],
    metadata={"linescore.table": "trained_on", "linescore.schema_version": "1"},
)
_FILE = "trained_on.parquet"


def trained_on_file(weights: str) -> str:
    """Where the table of a weights file lies: beside it."""
    return storage.join(weights.rsplit("/", 1)[0] if "/" in weights else ".", _FILE)


def trained_on_bytes(training: np.ndarray, early_stopping: np.ndarray) -> bytes:
    """The table as a file; ids (N,) and (M,) int64 in any order."""
    ids = np.concatenate([np.sort(training), np.sort(early_stopping)]).astype(np.int64)
    uses = [USES[0]] * len(training) + [USES[1]] * len(early_stopping)
    return storage.parquet_bytes(pa.table([ids, uses], schema=TRAINED_ON))


def trained_on_ids(content: bytes, what: str) -> np.ndarray:
    """Every image that a model has seen, for whatever use; sorted int64.

    Raises:
        InputError: it is no such table.
    """
    try:
        table = pq.read_table(pa.BufferReader(content), columns=["image_id"])
        ids = table.column("image_id").cast(pa.int64()).to_numpy()
    except (KeyError, *storage.DAMAGED_PARQUET) as error:
        raise InputError(f"{what}: is no table of trained-on images: {error}") from None
    return np.unique(ids)

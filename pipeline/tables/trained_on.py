"""Which images a model has seen: a table beside its weights, so that nobody judges it on them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.tables import storage

# What an image did for a model: its weights were fitted to it, it chose when to stop, or the
# weights that training started from had seen it.
USES = ("training", "early_stopping", "starting_weights")
NONE = np.empty(0, np.int64)
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


def trained_on_bytes(
    training: np.ndarray, early_stopping: np.ndarray, starting_weights: np.ndarray = NONE
) -> bytes:
    """The table as a file; ids (N,), (M,) and (K,) int64 in any order, one array per use."""
    parts = [np.sort(part) for part in (training, early_stopping, starting_weights)]
    uses = [use for use, part in zip(USES, parts, strict=True) for _ in part]
    ids = np.concatenate(parts).astype(np.int64)
    return storage.parquet_bytes(pa.table([ids, uses], schema=TRAINED_ON))


def seen_by(weights: str) -> np.ndarray:
    """Every image that a weights file has seen, as the table beside it says; sorted int64.

    Returns:
        No id where there is no table: nothing is known of such weights.

    Raises:
        InputError: the table is damaged, or can't be read.
    """
    file = trained_on_file(weights)
    with storage.errors_for(file, "weights"):
        if not storage.exists(file):
            return NONE
        return trained_on_ids(storage.read_bytes(file), file)


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

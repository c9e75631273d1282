"""Which images a model has seen: a table beside its weights, so that nobody judges it on them."""

from __future__ import annotations

import hashlib

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
_WEIGHTS = b"linescore.weights_sha256"


def trained_on_file(weights: str) -> str:
    """Where the table of a weights file lies: beside it."""
    return storage.join(weights.rsplit("/", 1)[0] if "/" in weights else ".", _FILE)


def trained_on_bytes(
    training: np.ndarray,
    early_stopping: np.ndarray,
    starting_weights: np.ndarray = NONE,
    weights: bytes | None = None,
) -> bytes:
    """The table as a file.

    Args:
        training: (N,) int64 ids in any order that the weights were fitted to.
        early_stopping: (M,) ids that chose when to stop.
        starting_weights: (K,) ids that the weights at the start had seen.
        weights: the weights file that the table belongs to, so that it is never taken for
            another's.
    """
    parts = [np.sort(part) for part in (training, early_stopping, starting_weights)]
    uses = [use for use, part in zip(USES, parts, strict=True) for _ in part]
    ids = np.concatenate(parts).astype(np.int64)
    schema = TRAINED_ON
    if weights is not None:
        digest = hashlib.sha256(weights).hexdigest().encode()
        schema = schema.with_metadata({**(schema.metadata or {}), _WEIGHTS: digest})
    return storage.parquet_bytes(pa.table([ids, uses], schema=schema))


def seen_by(weights: str) -> np.ndarray:
    """Every image that a weights file has seen, as the table beside it says; sorted int64.

    Returns:
        No id where there is no table: nothing is known of such weights.

    Raises:
        InputError: as `record_beside`.
    """
    content = record_beside(weights)
    return NONE if content is None else trained_on_ids(content, trained_on_file(weights))


def record_beside(weights: str) -> bytes | None:
    """The table that lies beside a weights file, checked; None where there is none.

    Raises:
        InputError: it is damaged, can't be read, or belongs to other weights.
    """
    file = trained_on_file(weights)
    with storage.errors_for(file, "weights"):
        if not storage.exists(file):
            return None
        content = storage.read_bytes(file)
        trained_on_ids(content, file)
        belongs_to = (pq.read_schema(pa.BufferReader(content)).metadata or {}).get(_WEIGHTS)
        if belongs_to is None:
            return content
        digest = hashlib.sha256(storage.read_bytes(weights)).hexdigest()
    if digest != belongs_to.decode():
        raise InputError(
            f"weights: {weights}: {file} is the record of other weights (sha256 "
            f"{belongs_to.decode()[:12]}…, these have {digest[:12]}…), so that nobody can tell "
            "which images they have seen; give each model a folder of its own"
        )
    return content


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

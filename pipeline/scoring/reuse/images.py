"""The images of a manifest by id: where they stand, and under which category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.tables.lookup import opened
from pipeline.tables.manifest import ID_END

_COLUMNS = ["image_id", "category", "sha256"]
# Of the id space, for sorting: what a part takes beside the result is small, passes are quick.
_PARTS = 16


@dataclass(frozen=True)
class Images:
    """The images of a manifest in the order of their ids.

    Attributes:
        ids: (N,) int64, sorted.
        places: (N,) int32 row in the manifest.
        category: (N,) index into `categories`, in the smallest type that holds it.
        categories: the names; None: without.
        known: (N,) bool: the content is known; the id of any other image is that of its URI.
    """

    ids: np.ndarray
    places: np.ndarray
    category: np.ndarray
    categories: tuple[str | None, ...]
    known: np.ndarray

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where ids stand: (M,) places in `ids`, and (M,) bool whether they do."""
        if not len(self.ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        found: np.ndarray = self.ids[places] == ids
        return places, found

    def among(self, ids: np.ndarray) -> np.ndarray:
        """(N,) bool: which of the images are among some ids."""
        places, found = self.find(ids)
        result = np.zeros(len(self.ids), bool)
        result[places[found]] = True
        return result


def read_images(manifest: str) -> Images:
    """Reads what planning needs of a manifest that has been checked.

    Memory stays within what is returned and a fraction more: a manifest may be long.
    """
    numbers: dict[str | None, int] = {}
    with opened(manifest) as parquet:
        count = parquet.metadata.num_rows
        ids, known = np.empty(count, np.int64), np.empty(count, bool)
        codes = np.empty(count, np.uint8)
        start = 0
        # One group at a time: what is read ahead of a long file would stay in memory.
        for group in range(parquet.num_row_groups):
            for rows in parquet.iter_batches(row_groups=[group], columns=_COLUMNS):
                here = slice(start, start + len(rows))
                ids[here] = rows.column("image_id").to_numpy()
                own = number_names(rows.column("category"), numbers)
                codes = codes.astype(np.min_scalar_type(max(len(numbers) - 1, 0)), copy=False)
                codes[here] = own
                known[here] = rows.column("sha256").is_valid().to_numpy(zero_copy_only=False)
                start += len(rows)
    pa.default_memory_pool().release_unused()  # Arrow keeps what it read by
    order = _order(ids)
    ids.sort()
    return Images(ids, order, codes[order], tuple(numbers), known[order])


def read_ids(manifest: str) -> Images:
    """The same for a run that takes nothing from others: ids, eight bytes an image.

    What else there is to know of an image is one value for all, which nobody asks for.
    """
    with opened(manifest) as parquet:
        ids = np.empty(parquet.metadata.num_rows, np.int64)
        start = 0
        for group in range(parquet.num_row_groups):
            for rows in parquet.iter_batches(row_groups=[group], columns=["image_id"]):
                ids[start : start + len(rows)] = rows.column("image_id").to_numpy()
                start += len(rows)
    ids.sort()

    def all_of(value: int, kind: type[np.generic]) -> np.ndarray:
        return np.broadcast_to(np.array(value, kind), (len(ids),))

    return Images(ids, all_of(0, np.int32), all_of(0, np.uint8), (None,), all_of(0, np.bool_))


def _order(ids: np.ndarray) -> np.ndarray:
    """(N,) int32 places of ids in their order, which are nonnegative and all different.

    Part by part of the id space, over which hashes are spread evenly: sorting all at once, as
    happens where ids are no hashes, takes four times as much memory as what comes out.
    """
    order = np.empty(len(ids), np.int32)
    start = 0
    width = (ID_END + 1) // _PARTS
    for low in range(0, ID_END, width):
        places = np.flatnonzero((ids >= low) & (ids <= low + (width - 1)))
        order[start : start + len(places)] = places[np.argsort(ids[places])]
        start += len(places)
    return order


def number_names(column: pa.Array | pa.ChunkedArray, numbers: dict[str | None, int]) -> np.ndarray:
    """(N,) int32 numbers of names, which are given one as they come up."""
    encoded = column.cast(pa.string()).dictionary_encode("encode")
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    parts = [np.empty(0, np.int32)]
    for chunk in chunks:
        names = chunk.dictionary.to_pylist()
        own = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int32)
        parts.append(own[chunk.indices.to_numpy()])
    return np.concatenate(parts)

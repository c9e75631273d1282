"""The images of a manifest by id: where they stand, and under which category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.tables.lookup import opened


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
    """Reads what planning needs of a manifest that has been checked."""
    ids, codes, known = [], [], []
    numbers: dict[str | None, int] = {}
    with opened(manifest) as parquet:
        for batch in parquet.iter_batches(columns=["image_id", "category", "sha256"]):
            ids.append(batch.column("image_id").to_numpy())
            codes.append(number_names(batch.column("category"), numbers))
            known.append(batch.column("sha256").is_valid().to_numpy(zero_copy_only=False))
    flat = np.concatenate([np.empty(0, np.int64), *ids])
    ids.clear()
    order = np.argsort(flat, kind="stable").astype(np.int32)
    flat.sort()
    smallest = np.min_scalar_type(max(len(numbers) - 1, 0))
    category = np.concatenate([np.empty(0, smallest), *(c.astype(smallest) for c in codes)])
    return Images(
        flat,
        order,
        category[order],
        tuple(numbers),
        np.concatenate([np.empty(0, bool), *known])[order],
    )


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

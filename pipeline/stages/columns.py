"""Images as an Arrow column: plain fixed-size binary, without a copy on the way out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def pack(images: Sequence[np.ndarray | None], side: int) -> pa.Array:
    """(side, side, 3) uint8 images as a column; None becomes null."""
    width = side * side * 3
    data = np.zeros((len(images), width), np.uint8)
    for row, image in enumerate(images):
        if image is not None:
            data[row] = image.reshape(-1)
    valid = pa.array([image is not None for image in images], pa.bool_())
    return pa.Array.from_buffers(
        pa.binary(width), len(images), [valid.buffers()[1], pa.py_buffer(data)]
    )


def unpack(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The images of a column, and the rows that have one.

    Returns:
        (M, S, S, 3) uint8 images and (M,) int64 row numbers.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    width = array.type.byte_width
    side = round((width // 3) ** 0.5)
    data = np.frombuffer(array.buffers()[1], np.uint8)
    first = array.offset * width
    images = data[first : first + len(array) * width].reshape(len(array), side, side, 3)
    rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    return (images if len(rows) == len(array) else images[rows]), rows

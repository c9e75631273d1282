"""Parquet files of which a small part is read, such as a row group, or a column of ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.parquet as pq

from pipeline.tables import storage


@contextmanager
def few_parts_of(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file; of a remote one the footer is fetched, and what is then asked for.

    A request for each range of bytes: whoever reads most of a file fetches it whole instead.
    """
    fs, path = storage.filesystem(uri)
    if not storage.is_remote(uri):
        # Not mapped: whoever writes the file anew in its place would end the process.
        with fs.open(path, "rb") as handle, pq.ParquetFile(handle) as parquet:
            yield parquet
        return
    with (
        # By itself s3fs reads 50 MiB ahead of every range, and so most of a file for a column.
        fs.open(path, "rb", cache_type="none") as handle,
        # Arrow joins ranges that lie side by side.
        pq.ParquetFile(handle, pre_buffer=True) as parquet,
    ):
        yield parquet

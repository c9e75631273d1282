"""Perceptual hashes of a manifest's images, and the close pairs among them, on Ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.images.fingerprint import HASH_BYTES, HASH_SIDE, perceptual_hash
from pipeline.scoring.prepare import Failure, PrepareOptions
from pipeline.stages.attempts import TASK_RETRIES
from pipeline.stages.block_stats import forget_blocks
from pipeline.stages.chain import quiet
from pipeline.stages.decode import prepare_images
from pipeline.stages.worker_errors import plain_errors, result_of
from pipeline.stats.duplicates import ROW_CHUNK, FoundPairs, PairSearch, find_pairs, merge_found

# Images per task: enough to be worth a task, few enough to share out.
_IMAGES_PER_TASK = 64
# Pairs per task: seconds of work. Tasks start at whole chunks of rows.
_PAIRS_PER_TASK = 200_000_000
_HASHES = pa.schema(
    [("place", pa.int64()), ("hash", pa.binary(HASH_BYTES)), ("failure", pa.string())]
)


@dataclass(frozen=True)
class Fingerprints:
    """Perceptual hashes of N images.

    Attributes:
        hashes: (N, 32) uint8; zeros where there is none.
        readable: (N,) bool, whether there is one.
        failures: why not, one line for each that has none.
    """

    hashes: np.ndarray
    readable: np.ndarray
    failures: tuple[str, ...]


def hash_images(rows: pa.Table, options: PrepareOptions) -> Fingerprints:
    """Reads, decodes and hashes images of manifest rows (`uri`, `sha256`, `bytes`) in parallel."""
    quiet()
    hashed = ray.data.from_arrow(_blocks(rows)).map_batches(
        _hash_block,
        fn_kwargs={"options": replace(options, square=HASH_SIDE, letterboxed=None)},
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=1,
        max_retries=TASK_RETRIES,
    )
    forget_blocks(hashed.context)
    with plain_errors():
        found = list(hashed.iter_batches(batch_size=None, batch_format="pyarrow"))
    tables = [_HASHES.empty_table(), *found]
    table = pa.concat_tables(part.cast(_HASHES) for part in tables).sort_by("place")
    content = b"".join(code or bytes(HASH_BYTES) for code in table.column("hash").to_pylist())
    return Fingerprints(
        np.frombuffer(content, np.uint8).reshape(-1, HASH_BYTES),
        table.column("hash").is_valid().to_numpy(),
        tuple(table.column("failure").drop_null().to_pylist()),
    )


def _blocks(rows: pa.Table) -> list[pa.Table]:
    """What a task needs of its rows."""
    places = pa.array(range(rows.num_rows), pa.int64())
    wanted = rows.select(["uri", "sha256", "bytes"]).append_column("place", places)
    starts = range(0, rows.num_rows, _IMAGES_PER_TASK)
    return [wanted.slice(start, _IMAGES_PER_TASK) for start in starts]


def _hash_block(rows: pa.Table, options: PrepareOptions) -> pa.Table:
    results: list[dict[str, Any]] = []
    images = prepare_images(rows, options)
    for place, image in zip(rows.column("place").to_pylist(), images, strict=True):
        if isinstance(image, Failure):
            found: dict[str, Any] = {"failure": f"{image.error_type}: {image.message}"}
        else:
            assert image.square is not None  # noqa: S101 - the options ask for it
            found = {"hash": perceptual_hash(image.square).tobytes()}
        results.append({"place": place} | found)
    return pa.Table.from_pylist(results, schema=_HASHES)


def search_pairs(codes: np.ndarray, search: PairSearch) -> FoundPairs:
    """All close pairs of hashes (N, W) uint64, the rows shared out to tasks."""
    reference = ray.put(codes)
    find = ray.remote(num_cpus=1)(_find_task)
    step = max(1, _PAIRS_PER_TASK // max(1, len(codes)) // ROW_CHUNK) * ROW_CHUNK
    tasks = [
        find.remote(reference, start, min(start + step, len(codes)), search)
        for start in range(0, len(codes), step)
    ]
    return merge_found([result_of(task) for task in tasks], search, len(codes))


def _find_task(codes: np.ndarray, start: int, stop: int, search: PairSearch) -> FoundPairs:
    return find_pairs(codes, start, stop, search)

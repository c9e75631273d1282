"""Stand-ins for the networks that start at once: what is left is the job's own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipeline.models.memory import keep_freed_memory
from pipeline.scoring.prepare import PrepareOptions
from pipeline.scoring.reuse.join import BOX
from pipeline.scoring.rows import spread
from pipeline.stages import chain, model_pools
from pipeline.stages.columns import unpack
from pipeline.stages.decode import prepare_block
from pipeline.stages.pools import ActorSettings


class Stub:
    """Adds a model's columns without the model: numbers of the pixels, so that a row that got
    another's shows."""

    model = ""
    seconds = 0.0
    load_seconds = 0.0

    def __init__(self, settings: ActorSettings) -> None:
        keep_freed_memory()  # as an actor with a network does
        self._drop = list(settings.drop)
        time.sleep(self.load_seconds)

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(self.seconds * len(rows))
        images, present = unpack(rows.column(model_pools.IMAGE_OF[self.model]))
        pixels = images.reshape(len(images), math.prod(images.shape[1:]))
        columns = getattr(self, f"_{self.model}")(pixels, present, len(rows))
        for name, column in columns.items():
            rows = rows.append_column(name, column)
        return rows.drop_columns(self._drop)

    @staticmethod
    def _detector(pixels: np.ndarray, present: np.ndarray, total: int) -> dict[str, pa.Array]:
        found: list[list[dict[str, object]] | None] = [None] * total
        # None to three, the most confident first, as a detector has them.
        for row, total_light in zip(present, pixels.sum(axis=1, dtype=np.int64), strict=True):
            mean = float(total_light) / pixels.shape[1]
            found[row] = [
                dict(zip(BOX.names, (0.0, 0.0, mean, 1.0, 1 / (n + 2), n, "stub"), strict=True))
                for n in range(int(total_light) % 4)
            ]
        return {"boxes": pa.array(found, pa.list_(BOX))}

    @staticmethod
    def _features(pixels: np.ndarray, present: np.ndarray, total: int) -> dict[str, pa.Array]:
        return {
            "anomaly_cells": spread(pixels.mean(axis=1), present, total, pa.float32()),
            "anomaly_pooled": spread(pixels.std(axis=1), present, total, pa.float32()),
        }

    @staticmethod
    def _classifier(pixels: np.ndarray, present: np.ndarray, total: int) -> dict[str, pa.Array]:
        logits = pixels[:, ::7].mean(axis=1) - 128
        probabilities = 1 / (1 + np.exp(-logits))
        return {
            "defect_logit": spread(logits, present, total, pa.float32()),
            "defect_probability": spread(probabilities, present, total, pa.float32()),
        }


@contextmanager
def stubs_for_models(seconds: float = 0.0, load_seconds: float = 0.0) -> Iterator[None]:
    """Within it a run's pools hold stubs, each of which waits so long for an image, or to load.

    They have the names of what they stand for.
    """
    real = dict(model_pools.ACTORS)
    waits = {"seconds": seconds, "load_seconds": load_seconds}
    for name, actor in real.items():
        model_pools.ACTORS[name] = type(actor.__name__, (Stub,), {"model": name} | waits)
    try:
        yield
    finally:
        model_pools.ACTORS.update(real)


# The side of an image that stands for all of a block, in pixels.
_SIDE = 4


def one_for_all(rows: pa.Table, options: PrepareOptions) -> pa.Table:
    """Instead of decoding: a block's first image, very small, in each of its rows."""
    small = replace(
        options,
        square=_SIDE if options.square else None,
        letterboxed=_SIDE if options.letterboxed else None,
    )
    one = prepare_block(rows.slice(0, 1), small)
    rows = rows.drop_columns(["sha256"])
    first = pa.array(np.zeros(len(rows), np.int64))
    for name in one.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, one.column(name).take(first))
    return rows


@contextmanager
def no_decoding() -> Iterator[None]:
    """Within it a run decodes one image of each block."""
    chain.prepare_block = one_for_all  # type: ignore[attr-defined]
    try:
        yield
    finally:
        chain.prepare_block = prepare_block  # type: ignore[attr-defined]


@contextmanager
def models_of(networks: bool, seconds: float = 0.005) -> Iterator[None]:
    """Within it a run has its networks, or stubs slow enough to be killed in the middle."""
    with nullcontext() if networks else stubs_for_models(seconds, load_seconds=0.5):
        yield

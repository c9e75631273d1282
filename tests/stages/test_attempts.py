"""Work whose worker died: as it was after one death, in smaller batches after more."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from pipeline.models.memory import settled_size
from pipeline.stages.pools import in_memory

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

BATCH = 16


class Dying:
    """Two models in a task; the second ends its process at its first calls, as a kernel does."""

    def batch(self, deaths: int, lives: str) -> tuple[int, int]:
        def compute(*_: object) -> int:
            with Path(lives).open("a") as file:
                file.write("life\n")
            if len(Path(lives).read_text().splitlines()) <= deaths:
                os._exit(1)
            return settled_size(BATCH)

        images, rows = np.zeros((1, 2, 2, 3), np.uint8), pa.table({"uri": ["a"]})
        none = np.arange(1)
        first, _, _ = in_memory(lambda *_: settled_size(BATCH), images, none, rows, "first")
        second, _, _ = in_memory(compute, images, none, rows, "second")
        return first, second


@pytest.mark.usefixtures("cluster")
def test_one_death_changes_no_batch_and_each_further_one_halves_it(tmp_path: Path) -> None:
    """One may be a node's, whose images then have the numbers that they would have had there."""
    dying = ray.remote(num_cpus=0, max_restarts=5, max_task_retries=5)(Dying)
    actors = [dying.remote() for _ in range(4)]
    sizes = [
        actor.batch.remote(deaths, str(tmp_path / str(deaths)))
        for deaths, actor in enumerate(actors)
    ]
    assert ray.get(sizes, timeout=120) == [(16, 16), (16, 16), (16, 8), (16, 4)]

"""The least that a start can take: Ray Data with decoding and a pool of plain PyTorch models.

Written as one would without this project: no manifest, no bundle to verify, no ledger, no errors
told apart. It prints the seconds from its start at which the first block is scored.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import ray
import ray.data

from tests.benchmarks.bare_images import Task, pair

Batch = dict[str, Any]


class Decoded:
    """Decodes and resizes the images of a block."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, rows: Batch) -> Batch:
        pairs = (pair(self._task, int(place)) for place in rows["id"])
        squares, boxes = zip(*pairs, strict=True)
        return {"square": np.stack(squares), "boxed": np.stack(boxes)}


class Models:
    """The three models of the bare loop in one actor."""

    def __init__(self, task: Task) -> None:
        # Here, so that neither the driver nor what decodes loads PyTorch.
        from tests.benchmarks.bare_loop import Loop

        self._loop = Loop(task)

    def __call__(self, images: Batch) -> Batch:
        import torch

        square, boxed = (torch.from_numpy(np.array(images[name])) for name in ("square", "boxed"))
        found = self._loop.score(square, boxed)
        return {"distance": [row[0] for row in found], "logit": [row[1] for row in found]}


def main() -> None:
    """Reads a task from stdin and prints what the start took."""
    start = float(os.environ["STARTED"])
    task = Task(**json.load(sys.stdin))
    cpus = os.cpu_count() or 1
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.DataContext.get_current().wait_for_min_actors_s = -1
    rows = ray.data.range(len(task.files), override_num_blocks=len(task.files) // task.batch)
    rows = rows.map_batches(Decoded(task), batch_size=None, num_cpus=0.5)
    rows = rows.map_batches(
        Models,
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(size=cpus),
        batch_size=task.batch,
        num_cpus=(cpus - 1) / cpus,
    )
    next(iter(rows.iter_batches(batch_size=1, prefetch_batches=0)))
    print(json.dumps({"seconds": time.time() - start}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()

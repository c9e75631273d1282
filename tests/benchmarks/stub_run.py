"""One run with stubs for models, in a process of its own, on as many simulated nodes as asked for.

Reads its task as JSON from stdin, and prints what it took as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from tests.benchmarks.apart import result_of
from tests.stub_models import no_decoding, stubs_for_models

_SAMPLE_S = 0.25


@dataclass(frozen=True)
class StubTask:
    """A run to be made.

    Attributes:
        score: settings of the run.
        nodes: simulated nodes.
        cpus: logical CPUs of each.
        seconds: that each stub waits for an image.
        object_store_bytes: of each node; None: as a simulated node has it, 150 MiB.
        decode: whether each image is decoded, or one of each block stands for all.
    """

    score: dict[str, Any]
    nodes: int = 1
    cpus: int = 2
    seconds: float = 0.0
    object_store_bytes: int | None = None
    decode: bool = True


@dataclass
class Seen:
    """What a run took.

    Attributes:
        commits: (seconds since the first commit, images by then).
        driver: peak of the driver's own memory, bytes, above what it held when it began.
        driver_began: what it held then: Python, Ray and this project, loaded.
        worker: peak of the largest worker's own memory, bytes.
        images: of the run's report.
    """

    commits: list[tuple[float, int]] = field(default_factory=list)
    driver: int = 0
    driver_began: int = 0
    worker: int = 0
    images: dict[str, int] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        """In the middle of the run."""
        total = self.commits[-1][1]
        first = next(pair for pair in self.commits if pair[1] >= 0.25 * total)
        last = next(pair for pair in self.commits if pair[1] >= 0.85 * total)
        return (last[1] - first[1]) / (last[0] - first[0])


def run(task: StubTask) -> Seen:
    """Makes the run in a process of its own."""
    return Seen(**result_of("-m", "tests.benchmarks.stub_run", given=asdict(task)))


def _own(process: psutil.Process) -> int:
    # Not the unique set size: reading every mapping four times a second takes a CPU of its own.
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - memory.shared)


def _watch(seen: Seen, base: int, ended: threading.Event) -> None:
    me = psutil.Process()
    while not ended.wait(_SAMPLE_S):
        seen.driver = max(seen.driver, _own(me) - base)
        for child in me.children(recursive=True):
            try:
                work = child.name().startswith("ray::Map")
            except psutil.Error:
                continue
            if work:
                seen.worker = max(seen.worker, _own(child))


def _main() -> None:
    import ray
    from ray.cluster_utils import Cluster

    from pipeline.config import ScoreConfig
    from pipeline.stages.cluster import KEEP_WORKERS
    from pipeline.stages.progress import Progress
    from pipeline.stages.score import run_score

    task = StubTask(**json.load(sys.stdin))
    os.environ.setdefault(*KEEP_WORKERS)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": task.cpus,
            "include_dashboard": False,
            **({"object_store_memory": task.object_store_bytes} if task.object_store_bytes else {}),
        },
    )
    for _ in range(task.nodes - 1):
        cluster.add_node(num_cpus=task.cpus)
    ray.init(address=cluster.address, log_to_driver=False)
    seen = Seen()
    add, started = Progress.add, time.monotonic()

    def note(self: Progress, scored: int, failed: int) -> None:
        add(self, scored, failed)
        seen.commits.append((time.monotonic() - started, self.done))

    Progress.add = note  # type: ignore[method-assign]
    ended = threading.Event()
    seen.driver_began = _own(psutil.Process())
    watcher = threading.Thread(target=_watch, args=(seen, seen.driver_began, ended))
    watcher.start()
    try:
        with stubs_for_models(task.seconds), nullcontext() if task.decode else no_decoding():
            seen.images = run_score(ScoreConfig.model_validate(task.score))["images"]
    finally:
        ended.set()
        watcher.join()
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    _main()

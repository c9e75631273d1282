"""A Ray that a job starts for itself: nobody else reaches it, and all of it ends with the job."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray

from pipeline.stages.nodes import loopback_only

log = logging.getLogger("linescore")

# What a worker takes to end is a fraction of it.
_PATIENCE_S = 5.0
_POLL_S = 0.02


@contextmanager
def local_ray(cpus: int, **options: Any) -> Iterator[None]:
    """Ray on this machine for as long as the context lasts.

    Now and then a worker of Ray's hangs while it ends (its last thread waits for a lock of its
    own), and when Ray has ended nobody is left to end it: it would keep its memory, a gigabyte
    with a network in it, until the machine is restarted.

    Args:
        cpus: logical CPUs.
        options: of `ray.init`.
    """
    with loopback_only():
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
    try:
        yield
    finally:
        processes = _family(_daemons())
        try:
            ray.shutdown()
        finally:
            _end(processes)


def _daemons() -> list[int]:
    """Ray's own processes, which this one started."""
    # Ray has no public name for them; the version is pinned, and a test leaves a worker behind.
    node = ray._private.worker._global_node
    if node is None:
        return []
    return [info.process.pid for infos in node.all_processes.values() for info in infos]


def _family(pids: Iterable[int]) -> set[psutil.Process]:
    """Processes and all that they have started."""
    found: set[psutil.Process] = set()
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found |= {process, *process.children(recursive=True)}
    return found


def _end(processes: Iterable[psutil.Process]) -> None:
    """Waits for processes that are about to end, and kills those that don't."""
    deadline = time.monotonic() + _PATIENCE_S
    left = [process for process in processes if _runs(process)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [process for process in left if _runs(process)]
    for process in left:
        log.debug("process %d of Ray hangs in its end: killed", process.pid)
        with suppress(psutil.Error):
            process.kill()


def _runs(process: psutil.Process) -> bool:
    """Not if it waits for somebody to note its end, which in a container may be nobody."""
    try:
        # A process of the same number that began later is another.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False

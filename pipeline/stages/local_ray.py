"""A Ray that a job starts for itself: nobody else reaches it, and all of it ends with the job."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray

from pipeline.stages.nodes import loopback_only

log = logging.getLogger("linescore")

# What a worker takes to end is a fraction of it.
_PATIENCE_S = 5.0


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
    me = psutil.Process()
    before = set(me.children())
    with loopback_only():
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
    daemons = set(me.children()) - before
    try:
        yield
    finally:
        processes = daemons | _descendants(daemons)
        ray.shutdown()
        _, hanging = psutil.wait_procs(processes, timeout=_PATIENCE_S)
        for process in hanging:
            log.debug("process %d of Ray hangs in its end: killed", process.pid)
            with suppress(psutil.Error):
                process.kill()


def _descendants(processes: set[psutil.Process]) -> set[psutil.Process]:
    found = set()
    for process in processes:
        with suppress(psutil.Error):
            found.update(process.children(recursive=True))
    return found

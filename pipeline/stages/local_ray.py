"""A Ray that a job starts for itself: nobody else reaches it, and all of it ends with the job."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray
from ray._common.utils import get_default_ray_temp_dir

from pipeline.errors import RunError
from pipeline.stages.nodes import loopback_only

log = logging.getLogger("linescore")

# What a worker takes to end is a fraction of it.
_PATIENCE_S = 5.0
_POLL_S = 0.02
# What Ray raises where a machine can't start it: no place for its files, processes that don't come
# or end at once, a /dev/shm that is too small.
_CANT_START = (OSError, RuntimeError, ValueError, MemoryError, ray.exceptions.RayError)


@contextmanager
def local_ray(cpus: int, **options: Any) -> Iterator[None]:
    """Ray on this machine for as long as the context lasts.

    Now and then a worker of Ray's hangs while it ends (its last thread waits for a lock of its
    own), and when Ray has ended nobody is left to end it: it would keep its memory, a gigabyte
    with a network in it, until the machine is restarted.

    Args:
        cpus: logical CPUs.
        options: of `ray.init`.

    Raises:
        RunError: this machine can't start one.
    """
    _start(cpus, options)
    try:
        yield
    finally:
        processes = _family(_daemons())
        try:
            ray.shutdown()
        finally:
            _end(processes)


def _start(cpus: int, options: Mapping[str, Any]) -> None:
    try:
        with loopback_only():
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
    except Exception as error:
        # What fails is said by the bare class too; a class of its own, as TypeError, is a bug.
        if type(error) is not Exception and not isinstance(error, _CANT_START):
            raise
        first = next(iter(str(error).splitlines()), "no reason given")
        folder = get_default_ray_temp_dir()
        raise RunError(
            f"ray: none could be started on this machine: {type(error).__name__}: {first}; look "
            f"whether {folder} can be written (RAY_TMPDIR=FOLDER takes another place) and neither "
            "its disk nor /dev/shm is full, and for too little memory or too few processes and "
            f"open files (ulimit -a); Ray's own words are in {folder}/session_latest/logs. Or name "
            "a running cluster: ray.address"
        ) from None


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

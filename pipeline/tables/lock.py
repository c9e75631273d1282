"""The lock of a run: one driver at a time writes it, and a dead one's place is taken over safely.

A lock is a numbered file, created only where there is none; of several the highest number
holds. Taking over is creating the next number, so that of several one wins, and who was taken
over finds another's file, or none, where his own should be. No clock is compared with another,
nor with what it said before: a holder lives while its beat moves, watched by the clock of the
one who waits.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, RunError
from pipeline.tables import storage

log = logging.getLogger("linescore")

LOCKS = "locks"
_SUFFIX = ".json"
# A file that is just being written, or was damaged, is read again this often before it counts.
_READ_TRIES = 3
# Seconds after which a lost race shows who has won it.
_LOST_RACE_S = 0.1


@dataclass(frozen=True)
class LockTimes:
    """Seconds.

    Attributes:
        beat: between two signs of life.
        stale: without one after which a holder counts as dead; also the longest wait for it.
    """

    beat: float = 5.0
    stale: float = 60.0


@dataclass(frozen=True)
class Holder:
    """What a lock's file says.

    Attributes:
        owner: a random name.
        host: of its machine, for people.
        space: of the process ids: which machine, since which boot, in which container.
        pid: its process.
        process_start: when the process was started, in the kernel's ticks since boot.
        beat: grows while it lives.
    """

    owner: str
    host: str
    space: str
    pid: int
    process_start: str
    beat: int = 0


class RunLock:
    """A lock that is held, with its heart beating in a thread."""

    def __init__(self, folder: str, number: int, holder: Holder, times: LockTimes) -> None:
        self._folder, self._number, self._holder, self._times = folder, number, holder, times
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run-lock", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Looks whether the lock is still held; to be asked before anything is made visible.

        Raises:
            RunError: another driver has taken over.
        """
        self._look()
        self.require_unless_lost()

    def require_unless_lost(self) -> None:
        """The same from what the last beat saw, without asking the store.

        Raises:
            RunError: another driver has taken over.
        """
        if self._lost is not None:
            raise RunError(
                f"{self._folder}: {self._lost} has taken this run over, since this process gave no "
                f"sign of life for {self._times.stale:g} s; the run is that one's to finish"
            )

    def release(self) -> None:
        """Stops the heart and takes the lock away."""
        self._stop.set()
        self._thread.join()
        try:
            self._look()
            if self._lost is None:
                storage.remove(_file(self._folder, self._number))
                storage.remove_empty(self._folder)
        except Exception as error:  # noqa: BLE001 - the run's own outcome counts
            log.warning("%s: the lock could not be released: %s", self._folder, error)

    def _beat(self) -> None:
        silent = False
        while self._lost is None and not self._stop.wait(self._times.beat):
            try:
                self._look()
                if self._lost is None:
                    self._holder = replace(self._holder, beat=self._holder.beat + 1)
                    _write(self._folder, self._number, self._holder)
                silent = False
            except Exception as error:  # noqa: BLE001 - the store may be away for a while
                if not silent:
                    log.warning("%s: no sign of life could be written: %s", self._folder, error)
                silent = True

    def _look(self) -> None:
        number, holder = _highest(self._folder)
        if holder is None:
            self._lost = "another process, which is done by now,"
        elif (number, holder.owner) != (self._number, self._holder.owner):
            self._lost = f"process {holder.pid} on {holder.host}"


@contextmanager
def locked(run_folder: str, what: str, times: LockTimes | None = None) -> Iterator[RunLock]:
    """Holds the lock of a run's folder.

    Args:
        run_folder: the run's folder.
        what: the run, for messages.
        times: of its signs of life.

    Raises:
        InputError: another driver that lives holds it.
    """
    lock = _acquire(storage.join(run_folder, LOCKS), what, times or LockTimes())
    try:
        yield lock
    finally:
        lock.release()


def in_use(run_folder: str, times: LockTimes | None = None) -> str | None:
    """Who is writing a run, in words; None: nobody. Waits for a sign of life where it must."""
    folder = storage.join(run_folder, LOCKS)
    number, holder = _highest(folder)
    if holder is None or not _lives(folder, number, holder, times or LockTimes()):
        return None
    return f"process {holder.pid} on {holder.host}"


def is_dead(record: Any) -> bool:
    """Whether a lock's record is of a process of this machine that is gone; never waits."""
    try:
        holder = Holder(**record)
    except TypeError:
        return False
    return _gone(holder, _myself())


def _gone(holder: Holder, me: Holder) -> bool:
    return holder.space == me.space and _start_of(holder.pid) != holder.process_start


def _acquire(folder: str, what: str, times: LockTimes) -> RunLock:
    me = _myself()
    while True:
        number, holder = _highest(folder)
        if holder is not None and holder.owner == me.owner:
            return RunLock(folder, number, me, times)  # created by a PUT whose answer was lost
        if holder is not None and _lives(folder, number, holder, times):
            raise InputError(
                f"{what}: is being written by process {holder.pid} on {holder.host}; wait for it, "
                "or stop it and give the same command again"
            )
        try:
            if storage.create_bytes(_file(folder, number + 1), _content(me)):
                break
            time.sleep(_LOST_RACE_S)  # another takes this number, or is just letting go: look
        except FileNotFoundError:  # a holder that let go took the empty folder with it
            continue
    if holder is not None:
        log.info("%s: taken over from process %d on %s", what, holder.pid, holder.host)
    for older in range(max(1, number - 1), number + 1):
        storage.remove(_file(folder, older))
    return RunLock(folder, number + 1, me, times)


def _lives(folder: str, number: int, seen: Holder, times: LockTimes) -> bool:
    """Whether a holder is alive: known at once on its own machine, else by its beat."""
    me = _myself()
    if _gone(seen, me):
        return False
    if seen.space == me.space and seen.pid == me.pid:
        return True  # another thread of this process
    deadline = time.monotonic() + times.stale
    while time.monotonic() < deadline:
        time.sleep(min(times.beat / 2, 1.0))
        latest, holder = _highest(folder)
        if holder is None:
            return False
        if (latest, holder.owner, holder.beat) != (number, seen.owner, seen.beat):
            return True
    return False


def _highest(folder: str) -> tuple[int, Holder | None]:
    """The number of the newest lock and what it says; (0, None): there is none."""
    for _ in range(_READ_TRIES):
        numbers = [_number(name) for name in storage.list_names(folder)]
        number = max((found for found in numbers if found is not None), default=0)
        if not number:
            return 0, None
        try:
            record: Any = json.loads(storage.read_bytes(_file(folder, number)))
            return number, Holder(**record)
        except FileNotFoundError:
            continue  # taken over between the two
        except (TypeError, ValueError):
            time.sleep(0.1)
    # Nobody can tell whose it was: it is dead unless it changes, which it can't by itself.
    return number, Holder("unknown", "an unknown machine", "", 0, "")


def _file(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:08d}{_SUFFIX}")


def _number(name: str) -> int | None:
    stem = name.removesuffix(_SUFFIX)
    return int(stem) if name.endswith(_SUFFIX) and stem.isdigit() else None


def _content(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder), indent=2) + "\n").encode()


def _write(folder: str, number: int, holder: Holder) -> None:
    storage.write_bytes(_file(folder, number), _content(holder))


def _myself() -> Holder:
    host = os.uname().nodename
    pid = os.getpid()
    return Holder(uuid.uuid4().hex, host, _space(host), pid, _start_of(pid) or "")


def _space(host: str) -> str:
    """Tells machines, boots and containers apart: where one process id means one process."""
    boot = _read(lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    container = _read(lambda: str(Path("/proc/self/ns/pid").readlink()))
    # Without both, a process elsewhere could pass for a dead one here.
    return f"{host} {boot} {container}" if boot and container else uuid.uuid4().hex


def _start_of(pid: int) -> str | None:
    """When a process was started, in ticks since boot; None: there is none."""
    stat = _read(lambda: Path(f"/proc/{pid}/stat").read_text())
    # The name, in parentheses, may hold spaces; proc(5): starttime is the 20th field behind it.
    return stat.rpartition(")")[2].split()[19] if stat else None


def _read(get: Callable[[], str]) -> str | None:
    try:
        return get()
    except OSError:
        return None

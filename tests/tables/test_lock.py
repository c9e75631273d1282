"""One driver at a time: who lives is left alone, who is dead is replaced, by one of several."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import InputError, RunError
from pipeline.tables import storage
from pipeline.tables.lock import LOCKS, LockTimes, in_use, locked
from tests.conftest import ROOT

TIMES = LockTimes(beat=0.05, stale=0.6)
# A machine that is not this one: its process ids say nothing here.
ELSEWHERE = {"owner": "a", "host": "night-2", "space": "x", "pid": 7, "process_start": "1"}
HOLD = """
import sys, time
from pipeline.tables.lock import LockTimes, locked
with locked(sys.argv[1], "run night", LockTimes(0.05, 0.6)):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def write_lock(folder: Path, number: int, **changes: object) -> Path:
    path = folder / LOCKS / f"{number:08d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(str(path), json.dumps(ELSEWHERE | changes).encode())
    return path


def test_a_held_run_is_refused_and_is_free_again_afterwards(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        with (
            pytest.raises(InputError, match=rf"run night: .* process {holder.pid} on "),
            locked(str(tmp_path), "run night", TIMES),
        ):
            pass
        assert in_use(str(tmp_path), TIMES) is not None
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(str(tmp_path), "run night", TIMES):
        assert in_use(str(tmp_path), TIMES) is not None
    assert in_use(str(tmp_path), TIMES) is None
    assert not tmp_path.exists()  # it was empty but for the lock


def test_a_killed_driver_on_this_machine_is_replaced_without_waiting(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    # Were the beat watched, this would take the stale time of an hour.
    with locked(str(tmp_path), "run night", LockTimes(0.05, 3600)) as lock:
        lock.require()


def test_a_process_id_that_was_given_again_is_not_the_holder(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        path = next((tmp_path / LOCKS).iterdir())
        record = json.loads(path.read_text())
        holder.kill()
        holder.wait()
        record |= {"pid": 1}  # lives, and is another
        storage.write_bytes(str(path), json.dumps(record).encode())
        with locked(str(tmp_path), "run night", LockTimes(0.05, 3600)):
            pass
    finally:
        holder.stdout.close()


def test_a_holder_elsewhere_lives_while_its_beat_moves(tmp_path: Path) -> None:
    write_lock(tmp_path, 3)
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(0.03):
            count += 1
            write_lock(tmp_path, 3, beat=count)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(InputError, match="process 7 on night-2"),
            locked(str(tmp_path), "run night", TIMES),
        ):
            pass
    finally:
        stop.set()
        thread.join()
    with locked(str(tmp_path), "run night", TIMES):
        assert [path.name for path in (tmp_path / LOCKS).iterdir()] == ["00000004.json"]


def test_a_damaged_lock_holds_nobody_off_for_longer_than_a_dead_one(tmp_path: Path) -> None:
    (tmp_path / LOCKS).mkdir()
    (tmp_path / LOCKS / "00000001.json").write_text('{"owner": ')
    with locked(str(tmp_path), "run night", TIMES) as lock:
        lock.require()


def test_who_stood_still_finds_that_he_was_taken_over(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.send_signal(signal.SIGSTOP)
    try:
        with locked(str(tmp_path), "run night", TIMES) as mine:
            holder.send_signal(signal.SIGCONT)
            time.sleep(0.3)  # several of the other's beats
            mine.require()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_one_who_was_taken_over_may_not_go_on(tmp_path: Path) -> None:
    with locked(str(tmp_path), "run night", LockTimes(3600, 0.6)) as mine:
        mine.require()
        path = write_lock(tmp_path, 2)
        with pytest.raises(RunError, match="process 7 on night-2 has taken this run over"):
            mine.require()
        # And when the other has finished and is gone.
        path.unlink()
        next((tmp_path / LOCKS).iterdir()).unlink()
        with pytest.raises(RunError, match="taken this run over"):
            mine.require()


def test_the_heart_notices_by_itself(tmp_path: Path) -> None:
    with locked(str(tmp_path), "run night", TIMES) as mine:
        write_lock(tmp_path, 2)
        deadline = time.monotonic() + 20
        with pytest.raises(RunError):
            while time.monotonic() < deadline:
                mine.require_unless_lost()
                time.sleep(0.02)


def test_of_many_at_once_one_takes_over(tmp_path: Path) -> None:
    write_lock(tmp_path, 1)
    together = threading.Barrier(8)
    held: list[int] = []
    refused: list[str] = []

    def take(number: int) -> None:
        together.wait()
        try:
            with locked(str(tmp_path), "run night", LockTimes(0.05, 0.4)):
                held.append(number)
                all_tried.wait(20)
        except InputError as error:
            refused.append(str(error))
            if len(refused) == 7:
                all_tried.set()

    all_tried = threading.Event()
    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert len(refused) == 7


def test_a_file_is_created_once_on_a_disk_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exFAT and many mounts in user space are."""

    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    uri = str(tmp_path / "folder" / "a")
    assert storage.create_bytes(uri, b"first")
    assert not storage.create_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "a"), "memory://lock-test/a"):
        assert storage.create_bytes(uri, b"first")
        assert not storage.create_bytes(uri, b"second")
        assert storage.read_bytes(uri) == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    storage.remove("memory://lock-test")

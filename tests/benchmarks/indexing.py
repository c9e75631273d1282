"""The memory that an index takes, anew and where all files are known already.

    python -m tests.benchmarks.indexing FILES FILES …

The files hold a few bytes each: an index reads them, and decodes nothing. Only the job's own
process counts, not Ray's; where all files are known, no Ray is started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from tests.benchmarks.apart import ROOT

_SAMPLE_S = 0.02
_FILES_A_FOLDER = 1000


def peak(command: list[str]) -> int:
    """The largest memory of its own, bytes, that a process had."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(ROOT)
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said) as process,
    ):
        watched, most = psutil.Process(process.pid), 0
        while True:
            try:
                memory = watched.memory_info()
                most = max(most, memory.rss - memory.shared)
                process.wait(_SAMPLE_S)
            except subprocess.TimeoutExpired:
                continue
            except psutil.Error:  # it has just ended
                process.wait()
            break
        said.seek(0)
        if process.returncode:
            raise SystemExit(said.read().decode())
    return most


def write_files(folder: Path, files: int) -> None:
    for number in range(files):
        place = folder / f"part-{number // _FILES_A_FOLDER:05d}" / "test" / "good"
        if number % _FILES_A_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"image-of-a-line-{number:09d}.png").write_text(str(number))


def measure(counts: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """For so many files: how many, and the peaks of an index and of one with `since`, bytes."""
    for files in counts:
        with tempfile.TemporaryDirectory(prefix="linescore-indexing-") as name:
            folder = Path(name)
            write_files(folder / "archive", files)
            index = [sys.executable, "jobs/index.py", f"source={folder / 'archive'}"]
            index += [f"store={folder / 'store'}", "name=night"]
            yield files, peak(index), peak([*index, "since=night"])


def main() -> None:
    """Prints them, and what each file more has cost."""
    found = []
    for files, anew, since in measure(tuple(map(int, sys.argv[1:]))):
        print(f"{files} files: {anew >> 20} MB anew, {since >> 20} MB since the night before")
        found.append((files, anew, since))
    for (few, *before), (many, *after) in pairwise(found):
        each = [(now - was) / (many - few) for was, now in zip(before, after, strict=True)]
        print(f"{few} to {many}: {each[0]:.0f} and {each[1]:.0f} bytes a file")


if __name__ == "__main__":
    main()

"""Progress of a run: one line that is rewritten on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from ray.data import Dataset

from pipeline.errors import RunError

# Fewer are files that somebody moved, whatever their share of a small archive.
_LOST_FILES = 10

log = logging.getLogger("linescore")


@dataclass
class Progress:
    """Counts images and says how fast they come and how long the rest takes.

    Attributes:
        total: images to do.
        every_s: seconds between two lines when the output is not a terminal.
        verb: what happens to them.
        stream: the terminal, if it is one.
    """

    total: int
    every_s: float
    verb: str = "scored"
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    done: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.started = self._shown = time.monotonic()
        self._first: float | None = None

    def add(self, scored: int, failed: int) -> None:
        """Counts one commit."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        self.done += scored + failed
        self.failed += failed
        if self.stream.isatty():
            self.stream.write("\r" + self._line(now) + "\x1b[K")
            self.stream.flush()
        elif now - self._shown >= self.every_s:
            self._shown = now
            log.info(self._line(now))

    def close(self) -> None:
        """Ends the rewritten line."""
        if self.stream.isatty() and self.done:
            self.stream.write("\n")

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    @property
    def first_commit_s(self) -> float | None:
        """From the start to the first commit."""
        return None if self._first is None else self._first - self.started

    def _line(self, now: float) -> str:
        rate = self.done / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        minutes, seconds = divmod(round(left), 60)
        errors = f", {self.failed} errors" if self.failed else ""
        return (
            f"{self.verb} {self.done}/{self.total} images{errors}"
            f" · {rate:.1f} images/s · {minutes}:{seconds:02d} left"
        )


class OutageGuard:
    """Stops a job when so many files can't be had that the archive itself must be gone."""

    def __init__(self, images: int, share: float) -> None:
        self._images, self._share = images, share
        self._most = max(_LOST_FILES, int(share * images))
        self._unreachable = 0

    def add(self, unreachable: int) -> None:
        """Counts one commit's files that were missing, denied or unreadable.

        Raises:
            RunError: they are more than `max_unreachable` allows.
        """
        self._unreachable += unreachable
        if self._unreachable > self._most:
            raise RunError(
                f"max_unreachable: the files of {self._unreachable} images are missing, denied or "
                f"unreadable, more than {self._share:g} of {self._images}: an outage, or a "
                "manifest of another place. Nothing was published; when the archive is back the "
                "same command tries them again, and max_unreachable=1 takes them for lost"
            )


def watch(commits: Dataset, progress: Progress, outage: OutageGuard) -> None:
    """Runs the chain, whose rows are the summaries of its commits, to its end.

    Raises:
        RunError: the archive can't be reached.
    """
    try:
        for summary in commits.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in summary.to_pylist():
                progress.add(row["scored"], row["failed"])
                outage.add(row["unreachable"])
    finally:
        progress.close()

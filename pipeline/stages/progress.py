"""Progress of a run: one line that is rewritten on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from ray.data import Dataset

from pipeline.scoring.outage import OutageGuard
from pipeline.stages.consuming import batches_of
from pipeline.stages.metrics import RunMetrics
from pipeline.stages.worker_errors import plain_errors
from pipeline.tables.lock import RunLock

log = logging.getLogger("linescore")


@dataclass
class Progress:
    """Counts images and says how fast they come and how long the rest takes.

    Attributes:
        total: images to do.
        every_s: seconds between two lines when the output is not a terminal.
        verb: what happens to them.
        stream: the terminal, if it is one.
        metrics: what is told Prometheus, if anything.
        lock: the run's; after each commit it must still be held.
    """

    total: int
    every_s: float
    verb: str = "scored"
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    done: int = 0
    failed: int = 0
    bytes: int = 0
    metrics: RunMetrics | None = None
    lock: RunLock | None = None

    def __post_init__(self) -> None:
        self.started = self._shown = time.monotonic()
        self._first: float | None = None
        if self.metrics is not None:
            self.metrics.left(self.total)

    def add(self, scored: int, failed: int) -> None:
        """Counts one commit.

        Raises:
            RunError: another driver has taken the run over.
        """
        if self.lock is not None:
            self.lock.require_unless_lost()
        now = time.monotonic()
        if self._first is None:
            self._first = now
        self.done += scored + failed
        self.failed += failed
        if self.metrics is not None:
            self.metrics.left(self.total - self.done)
        if self.stream.isatty():
            self.stream.write("\r" + self._line(now) + "\x1b[K")
            self.stream.flush()
        elif now - self._shown >= self.every_s:
            self._shown = now
            log.info(self._line(now))

    def measure(self, commit: Mapping[str, Any]) -> None:
        """Notes what a commit, which was added, took."""
        self.bytes += commit["bytes"]
        if self.metrics is not None:
            self.metrics.add(commit)

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

    def report(self) -> dict[str, Any]:
        """What the run's report says of this attempt: seconds, images, bytes, and per second."""
        rate = 1 / max(self.seconds, 1e-9)
        return {
            "seconds": self.seconds,
            "first_commit_s": self.first_commit_s,
            "images": self.done,
            "images_per_s": self.done * rate,
            "bytes": self.bytes,
            "bytes_per_s": self.bytes * rate,
        }

    def _line(self, now: float) -> str:
        rate = self.done / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        minutes, seconds = divmod(round(left), 60)
        errors = f", {self.failed} errors" if self.failed else ""
        return (
            f"{self.verb} {self.done}/{self.total} images{errors}"
            f" · {rate:.1f} images/s · {minutes}:{seconds:02d} left"
        )


def watch(commits: Dataset, progress: Progress, outage: OutageGuard) -> None:
    """Runs the chain, whose rows are the summaries of its commits, to its end.

    Raises:
        RunError: the archive can't be reached, workers kept dying, or another driver has taken
            the run over.
    """
    try:
        with plain_errors(), batches_of(commits) as summaries:
            for summary in summaries:
                for row in summary.to_pylist():
                    progress.add(row["scored"], row["failed"])
                    progress.measure(row)
                    outage.add(row["unreachable"], row["unread"])
    finally:
        progress.close()

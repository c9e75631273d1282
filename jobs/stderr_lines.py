"""A program: text lines on its input become JSON lines on its error output, until the end.

It stands between a job that logs JSON and whatever else writes to the job's standard error: a
library's warning, a line of Ray's own C++. A process of its own, and none of Python's locks, so
that a job that dies loses no last word.
"""

import json
import os
import signal
import sys
from datetime import UTC, datetime


def main() -> None:
    """Copies line by line; the first argument is the job's name."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)  # the job decides when there is nothing more
    for raw in sys.stdin.buffer:
        text = raw.decode(errors="replace").rstrip()
        if text:
            os.write(2, line(text, sys.argv[1]).encode())


def line(text: str, job: str) -> str:
    """One line of output."""
    told = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "INFO",
        "message": text,
        "job": job,
        "run_id": None,
        "logger": "stderr",
    }
    return json.dumps(told) + "\n"


if __name__ == "__main__":
    main()

"""How a job logs: lines for people, or with LINESCORE_LOG=json one JSON object a line."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pipeline.errors import InputError

VARIABLE = "LINESCORE_LOG"
_FORMATS = ("text", "json")
_STDERR = 2
# What the job waits for the last lines of others; a child of theirs may hold the pipe open.
_LAST_LINES_S = 2.0


def wants_json() -> bool:
    """Whether the environment asks for JSON.

    Raises:
        InputError: it asks for something else.
    """
    wanted = os.environ.get(VARIABLE) or "text"
    if wanted not in _FORMATS:
        raise InputError(f"{VARIABLE}: {wanted!r} in the environment; known are text and json")
    return wanted == "json"


def set_up_text() -> None:
    """Linescore's log as lines for people, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    _use(handler)


def set_up_json(job: str) -> None:
    """Everything that this process writes to standard error as JSON lines.

    What others write there, such as a library's warning, becomes a line's message.
    """
    ours = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, encoding="utf-8")
    handler = logging.StreamHandler(ours)
    handler.setFormatter(JsonLines(job))
    handler.addFilter(RunIds())
    _use(handler)
    logging.getLogger().handlers = [handler]
    threading.excepthook = _log_thread
    _wrap_others(job, ours)


def _wrap_others(job: str, ours: TextIO) -> None:
    """Leads what is written to descriptor 2 through a process that makes lines of it."""
    program = Path(__file__).with_name("stderr_lines.py")
    wrapper = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-E", "-S", str(program), job],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=ours,
        start_new_session=True,
    )
    assert wrapper.stdin is not None  # noqa: S101 - a pipe was asked for
    os.dup2(wrapper.stdin.fileno(), _STDERR)
    wrapper.stdin.close()

    def end() -> None:
        sys.stderr.flush()
        os.dup2(ours.fileno(), _STDERR)
        with suppress(subprocess.TimeoutExpired):
            wrapper.wait(_LAST_LINES_S)

    atexit.register(end)


def _use(handler: logging.Handler) -> None:
    log = logging.getLogger("linescore")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


class RunIds(logging.Filter):
    """Remembers the run that a record names, for the records that name none."""

    def __init__(self) -> None:
        super().__init__()
        self.run_id: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through."""
        self.run_id = getattr(record, "run_id", None) or self.run_id
        record.run_id = self.run_id
        return True


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, message, job, run_id; traceback if there is one."""

    def __init__(self, job: str) -> None:
        super().__init__()
        self._job = job

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time,
            "level": record.levelname,
            "message": record.getMessage(),
            "job": self._job,
            "run_id": getattr(record, "run_id", None),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=True, default=str)


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread else "unknown"
        logging.getLogger("linescore").error(
            "thread %s: %s", name, failed.exc_value, exc_info=failed.exc_value
        )

"""How a job logs: lines for people, or with LINESCORE_LOG=json one JSON object a line."""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import TextIO

from pipeline.errors import InputError

VARIABLE = "LINESCORE_LOG"
_FORMATS = ("text", "json")


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

    What others print there, such as a library's warning, becomes a line's message.
    """
    stream = sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(job))
    handler.addFilter(RunIds())
    _use(handler)
    logging.getLogger().handlers = [handler]
    sys.stderr = _Lines(stream)
    threading.excepthook = _log_thread


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


class _Lines(io.TextIOBase):
    """Standard error of a process that logs JSON: each line that is printed becomes a record."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rest = ""
        self._lock = threading.RLock()
        atexit.register(self._end)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._tell(line)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def _end(self) -> None:
        self._tell(self._rest)
        self._rest = ""

    def _tell(self, line: str) -> None:
        if line.strip():
            logging.getLogger("linescore.stderr").info("%s", line.rstrip())


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread else "unknown"
        logging.getLogger("linescore").error(
            "thread %s: %s", name, failed.exc_value, exc_info=failed.exc_value
        )

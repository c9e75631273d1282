"""What every job shares: its log, and errors for people as exit statuses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import InputError, RunError

SUCCESS, FAILED, BAD_INPUT, DRIFT, INTERRUPTED = 0, 1, 2, 3, 130


class Answer(NamedTuple):
    """What a job says, and the exit status where that is part of its answer."""

    says: str
    status: int


def exit_status(job: Callable[[], str | Answer]) -> int:
    """Runs a job, prints what it returns, and says how it went.

    Returns:
        0: done; 1: the work failed; 2: something given from outside is wrong; 3: of a job that
        looks for a change, it found one.
    """
    _set_up_log()
    try:
        found = job()
        answer = found if isinstance(found, Answer) else Answer(found, SUCCESS)
        print(answer.says)
    except KeyboardInterrupt:
        return _say("interrupted; the same command with the same run_id continues", INTERRUPTED)
    except Exception as error:
        # Ray wraps what a worker raised, in a class that is the cause's too, with its traceback
        # for a text; bad input is bad input wherever it was found.
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, InputError):
            return _say(cause, BAD_INPUT)
        if isinstance(cause, RunError):
            return _say(cause, FAILED)
        raise
    return answer.status


def _say(error: object, status: int) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return status


def _set_up_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("linescore")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False

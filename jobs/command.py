"""What every job shares: its log, and errors for people as exit statuses."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jobs.logs import set_up_json, set_up_text, wants_json
from pipeline.errors import InputError, NoVerdictError, RunError

SUCCESS, FAILED, BAD_INPUT, DRIFT, NO_VERDICT, INTERRUPTED = 0, 1, 2, 3, 4, 130


class Answer(NamedTuple):
    """What a job says, and the exit status where that is part of its answer."""

    says: str
    status: int


def exit_status(job: Callable[[], str | Answer]) -> int:
    """Runs a job, prints what it returns, and says how it went.

    Returns:
        0: done; 1: the work failed; 2: something given from outside is wrong; 3: of a job that
        looks for a change, it found one; 4: of a job that judges, there was too little to judge.
    """
    set_up_text()
    try:
        structured = wants_json()
    except InputError as error:
        return _say(error, BAD_INPUT)
    if not structured:
        return _status(job, _say)
    set_up_json(Path(inspect.getfile(job)).stem)
    try:
        return _status(job, _log)
    except Exception as error:
        logging.getLogger("linescore").critical("%s", error or type(error).__name__, exc_info=error)
        return FAILED


def _status(job: Callable[[], str | Answer], say: Callable[[object, int], int]) -> int:
    try:
        found = job()
        answer = found if isinstance(found, Answer) else Answer(found, SUCCESS)
        print(answer.says)
    except KeyboardInterrupt:
        return say("interrupted; the same command with the same run_id continues", INTERRUPTED)
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, InputError | RunError | NoVerdictError):
            return say(cause, status_of(cause))
        raise
    return answer.status


def cause_of(error: BaseException) -> BaseException:
    """What went wrong, also where a worker found it.

    Ray wraps what a worker raised, in a class that is the cause's too, with its traceback for a
    text; bad input is bad input wherever it was found.
    """
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def status_of(error: BaseException) -> int:
    """The exit status of a job that ends with this error."""
    cause = cause_of(error)
    if isinstance(cause, InputError):
        return BAD_INPUT
    if isinstance(cause, NoVerdictError):
        return NO_VERDICT
    if isinstance(cause, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(cause, SystemExit):
        return cause.code if isinstance(cause.code, int) else FAILED
    return FAILED


def _say(error: object, status: int) -> int:
    kind = "no verdict" if status == NO_VERDICT else "error"
    for line in str(error).splitlines():
        print(f"{kind}: {line}", file=sys.stderr)
    return status


def _log(error: object, status: int) -> int:
    level = logging.WARNING if status == NO_VERDICT else logging.ERROR
    logging.getLogger("linescore").log(level, "%s", error)
    return status

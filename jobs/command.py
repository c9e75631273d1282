"""What every job shares: its answer as text or JSON, its log, and errors as exit statuses."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from jobs.logs import set_up_json, set_up_text, wants_json
from pipeline.errors import InputError, RunError

SUCCESS, FAILED, BAD_INPUT, DRIFT, INTERRUPTED = 0, 1, 2, 3, 130
# Asks for a job's report as JSON, for programs.
AS_JSON = "--json"
# Bold red, and back: what makes an error stand out on a terminal.
_LOUD, _PLAIN = "\033[1;31m", "\033[0m"


class Answer(NamedTuple):
    """What a job says.

    Attributes:
        says: text for people.
        status: the exit status, where that is part of the answer.
        report: the same and more, for `--json`; None: the text serves both.
    """

    says: str
    status: int = SUCCESS
    report: Any = None


def answer(
    report: Mapping[str, Any], summary: Callable[[Any], str], status: int = SUCCESS
) -> Answer:
    """A job's report, with its summary for people."""
    return Answer(summary(report), status, report)


def exit_status(job: Callable[[], str | Answer], argv: Sequence[str] | None = None) -> int:
    """Runs a job, prints what it returns, and says how it went.

    Args:
        job: the work.
        argv: the job's arguments, None for the process's own: `--json` among them asks for the
            report instead of the text.

    Returns:
        0: done; 1: the work failed; 2: something given from outside is wrong; 3: of a job that
        looks for a change, it found one.
    """
    set_up_text()
    as_json = AS_JSON in (sys.argv[1:] if argv is None else argv)
    try:
        structured = wants_json()
    except InputError as error:
        return _say(error, BAD_INPUT)
    if not structured:
        return _status(job, _say, as_json)
    set_up_json(Path(inspect.getfile(job)).stem)
    try:
        return _status(job, _log, as_json)
    except Exception as error:
        logging.getLogger("linescore").critical("%s", error or type(error).__name__, exc_info=error)
        return FAILED


def _status(
    job: Callable[[], str | Answer], say: Callable[[object, int], int], as_json: bool
) -> int:
    try:
        found = job()
        answer = found if isinstance(found, Answer) else Answer(found)
        print(_as_json(answer.report) if as_json and answer.report is not None else answer.says)
    except KeyboardInterrupt:
        return say("interrupted; the same command with the same run_id continues", INTERRUPTED)
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, InputError | RunError):
            return say(cause, status_of(cause))
        raise
    return answer.status


def _as_json(report: Any) -> str:
    """One JSON document; paths and times in it as text."""
    return json.dumps(report, indent=2, ensure_ascii=False, default=str)


def coloured(stream: TextIO) -> bool:
    """Whether colours belong there: on a terminal, unless NO_COLOR or TERM=dumb ask for none."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()


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
    if isinstance(cause, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(cause, SystemExit):
        return cause.code if isinstance(cause.code, int) else FAILED
    return FAILED


def _say(error: object, status: int) -> int:
    word = f"{_LOUD}error:{_PLAIN}" if coloured(sys.stderr) else "error:"
    for line in str(error).splitlines():
        print(f"{word} {line}", file=sys.stderr)
    return status


def _log(error: object, status: int) -> int:
    logging.getLogger("linescore").error("%s", error)
    return status

"""Telling others how a job ended: a command, a webhook; what fails here is a warning only."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs.command import DRIFT, NO_VERDICT, SUCCESS, cause_of, status_of
from jobs.hooks import DRIFTED, FAILED, SUCCEEDED, UNJUDGED, Hooks
from jobs.logs import RunIds
from pipeline.config import NotifyConfig
from pipeline.errors import InputError, NoVerdictError, RunError

log = logging.getLogger("linescore")

SCHEMA_VERSION = "1"
# What a notice keeps of a long text; the log has all of it.
_MOST_TEXT = 8000
# What a notice takes over from the job's report.
_TOLD = (
    "run_id",
    "name",
    "verdict",
    "images",
    "errors_by_type",
    "already_published",
    "already_fitted",
    "scoring",
    "publishing",
    "bundle",
    "page",
    "html",
    "folder",
)


@dataclass
class Told:
    """What a job says of itself, for the notice at its end.

    Attributes:
        job: its name.
        store: where its runs lie.
        run_id: the run, as far as it is known.
        report: what it did; empty until it is done.
        status: its exit status, where it is done.
    """

    job: str
    store: str
    run_id: str | None
    report: Mapping[str, Any] = field(default_factory=dict)
    status: int = SUCCESS

    def done(self, report: dict[str, Any], status: int = SUCCESS) -> dict[str, Any]:
        """Notes the job's report and exit status, and gives the report back."""
        self.report, self.status = report, status
        return report


@contextmanager
def notices(job: str, notify: NotifyConfig, store: str, run_id: str | None) -> Iterator[Told]:
    """Tells at the end how the job went; its errors pass through as they are."""
    hooks = Hooks(notify)
    hooks.look_ahead()
    told = Told(job, store, run_id)
    ids = RunIds()
    ids.run_id = run_id
    log.addFilter(ids)
    started = time.monotonic()
    try:
        with hooks.terminable():
            yield told
    except BaseException as error:
        told.run_id = told.run_id or ids.run_id
        cause = error
        _tell(hooks, told, lambda: _raised(told, cause, hooks.on_failure), started)
        raise
    else:
        _tell(hooks, told, lambda: _done(told), started)
    finally:
        log.removeFilter(ids)


def _tell(hooks: Hooks, told: Told, outcome: Callable[[], dict[str, Any]], started: float) -> None:
    try:
        hooks.run(_notice(told, started) | outcome())
    except Exception as error:  # noqa: BLE001 - whatever a notice can't hold fails no job
        log.warning("notify: no notice could be made (%s: %s)", type(error).__name__, error)


def _notice(told: Told, started: float) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "job": told.job,
        "run_id": told.run_id,
        "store": told.store,
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 3),
    }


def _done(told: Told) -> dict[str, Any]:
    facts = {name: told.report[name] for name in _TOLD if name in told.report}
    run_id = facts.get("run_id") or told.run_id
    images = facts.get("images")
    counts = f": {_counts(images)}" if isinstance(images, Mapping) else ""
    outcome, says = SUCCEEDED, f"is done{counts}"
    if told.status == DRIFT:
        moved = [row for row in told.report.get("categories", ()) if row["verdict"] == "drift"]
        names = ", ".join(row["category"] or "(no category)" for row in moved)
        outcome, says = DRIFTED, f"found drift: {names}"
        facts["drift"] = {row["category"] or "": _cut(row["reason"]) for row in moved}
    elif told.status == NO_VERDICT:
        outcome, says = UNJUDGED, "has no verdict: too few images"
    text = f"linescore {told.job} {run_id or ''}".rstrip() + f" {says}"
    return {"outcome": outcome, "exit_status": told.status, "text": text} | facts


def _counts(images: Mapping[str, int]) -> str:
    """How many of the run's own images were scored: others were left to earlier runs."""
    skipped = images.get("skipped", 0)
    own = images["manifest"] - skipped
    says = f"{images['scored']} of {own} images scored, {images['errors']} errors"
    return f"{says}, {skipped} skipped" if skipped else says


def _raised(told: Told, error: BaseException, wanted: bool) -> dict[str, Any]:
    cause = cause_of(error)
    if not isinstance(cause, NoVerdictError):
        return _failure(told, error, wanted)
    text = f"linescore {told.job} has no verdict: {cause}"
    return {"outcome": UNJUDGED, "exit_status": NO_VERDICT, "text": text}


def _failure(told: Told, error: BaseException, wanted: bool) -> dict[str, Any]:
    cause = cause_of(error)
    message = str(cause) or type(cause).__name__
    told_error = {"kind": _kind(cause), "type": type(cause).__name__, "message": _cut(message)}
    if told_error["kind"] == "crash":
        told_error["traceback"] = _cut("".join(traceback.format_exception(error)))
    first = message.splitlines()[0] if message else ""
    return {
        "outcome": FAILED,
        "exit_status": status_of(error),
        "text": f"linescore {told.job} {told.run_id or ''}".rstrip() + f" failed: {first}",
        "error": told_error,
        "committed": _committed(told) if wanted else None,
    }


def _kind(cause: BaseException) -> str:
    if isinstance(cause, InputError):
        return "bad_input"
    if isinstance(cause, RunError):
        return "run_failed"
    return "crash" if isinstance(cause, Exception) else "interrupted"


def _cut(text: str) -> str:
    """The end of a long text, where its reason mostly stands."""
    return text if len(text) <= _MOST_TEXT else "… " + text[-_MOST_TEXT:]


def _committed(told: Told) -> int | None:
    """Images that are safe; None where nobody knows."""
    if told.run_id is None:
        return None
    with suppress(Exception):  # the store may be what failed
        from pipeline.tables.runs import RunPlaces
        from pipeline.tables.tally import images_committed

        return images_committed(RunPlaces(told.store, told.run_id).folder)
    return None

"""What a worker raised for people, as itself; its death, and a store's refusal, as what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import InputError, RunError
from pipeline.tables.ledger import DamagedPartError
from pipeline.tables.lookup import DamagedTableError
from pipeline.tables.store_errors import no_access

# Where Ray Data's own words begin in the text of an error that a worker raised.
_RAY_DATA_ADDS = "\nFailed to apply UDF transform"
# Workers and nodes that died more often than work is tried again.
_DEATHS = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.RayActorError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
)
_CONTINUES = "what is committed is safe, and the same command continues"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Lets what a worker raised for people through as itself.

    Ray wraps it, and Ray Data adds advice on its own settings to the text.

    Raises:
        RunError: workers or nodes died beyond what is tried again.
    """
    try:
        yield
    except (ray.exceptions.RayTaskError, *_DEATHS) as error:
        plain = _raised(error) if isinstance(error, ray.exceptions.RayTaskError) else _died(error)
        if plain is None:
            raise
        raise plain from None


@contextmanager
def driver_errors(what: str) -> Iterator[None]:
    """Says what a store refuses the driver in the words for a worker that it refuses it.

    Args:
        what: what was being done, for the message.

    Raises:
        RunError: a file could not be read or written, or workers or nodes died.
    """
    try:
        with plain_errors():
            yield
    except Exception as error:
        words = _of_a_store(error)
        if words is None:
            raise
        raise RunError(f"{what}: {words}; {_CONTINUES}") from None


def result_of(reference: Any) -> Any:
    """A task's result; what it raised for people comes as itself, not wrapped by Ray."""
    with plain_errors():
        return ray.get(reference)


def _raised(error: ray.exceptions.RayTaskError) -> Exception | None:
    """What a task raised, if that is for people."""
    cause = error.cause
    if isinstance(cause, InputError | RunError) and _RAY_DATA_ADDS in str(cause):
        return type(cause)(str(cause).split(_RAY_DATA_ADDS)[0])
    if isinstance(cause, InputError | RunError | DamagedPartError | DamagedTableError):
        return cause
    words = _of_a_store(cause)
    return RunError(f"{words}; {_CONTINUES}") if words else None


def _of_a_store(error: BaseException) -> str | None:
    """What a failure of a disk or store means; None: it is none, and a bug stays one."""
    if isinstance(error, InputError | RunError):
        return None
    if access := no_access(error):
        return access
    if isinstance(error, PermissionError):
        return f"{_told(error)}; check the rights of the user or role"
    return _told(error) if isinstance(error, OSError) else None


def _died(error: Exception) -> Exception:
    """What an actor's constructor raised for people, or that a worker died."""
    return _said_by_constructor(error) or RunError(f"ray: {_told(error)}; {_CONTINUES}")


def _said_by_constructor(error: BaseException) -> InputError | RunError | None:
    """What an actor's constructor raised for people, of which Ray keeps the text alone."""
    if isinstance(error, ray.exceptions.RayActorError) and error.actor_init_failed:
        for kind in (InputError, RunError):
            # The last one: what it was raised from stands before it.
            _, found, told = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
            if found and "Traceback (most recent call last)" not in told:
                return kind(told.split(_RAY_DATA_ADDS)[0].strip())
    return None


def _told(error: BaseException) -> str:
    """The first line of an error, with its kind."""
    lines = str(error).split(_RAY_DATA_ADDS)[0].strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"

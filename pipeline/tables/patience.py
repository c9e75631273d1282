"""Failures of a store told apart, and how long each is worth another try."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum
from typing import Any, TypeVar

from pipeline.errors import RunError

T = TypeVar("T")
_log = logging.getLogger("linescore")

# Waits are drawn from 0 to a bound that doubles from the first to the last, in seconds: workers
# that were refused together don't come back together ("full jitter").
_FIRST_WAIT_S, _LAST_WAIT_S = 0.2, 8.0
_DOUBLINGS = 20  # by then the bound is the last one; a float ends at 2**1024
# A body that comes broken is asked for again at once, nearly: the store answers.
_BROKEN_WAIT_S = 0.1
BROKEN_TRIES = 8
# Seconds without an answer before people are told that there is something to wait for.
_TELL_AFTER_S = 3.0

# The clients' classes are told by name: they are the dependencies of a dependency, and a local
# run imports none of them.
NO_CREDENTIALS = {
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "TokenRetrievalError",
}
# A connection that is refused for what the other side shows of itself: another try shows the same.
NOT_TRUSTED = "SSLError"
# One that ended in the middle of its first words says nothing of that.
_CUT_OFF = {"ConnectionResetError", "SSLEOFError", "SSLZeroReturnError", "TimeoutError"}
_BROKEN = {
    "BrokenBodyError",
    "ClientPayloadError",
    "ContentLengthError",
    "FlexibleChecksumError",
    "IncompleteRead",
    "IncompleteReadError",
    "ResponseParserError",
    "ResponseStreamingError",
}
_PASSING = {
    "ClientConnectionError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "HTTPClientError",
    "ReadTimeoutError",
    "ServerTimeoutError",
    "TimeoutError",
}
# Of answers: codes of S3 that say more than their status, and statuses that pass.
_BROKEN_CODES = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
_PASSING_CODES = {
    "BandwidthLimitExceeded",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
# What a write that asks for nobody to be there is told where somebody is, or comes right now.
LOST_RACE_CODES = {"ConditionalRequestConflict", "PreconditionFailed"}
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class Kind(Enum):
    """What a failure means for the next try.

    Attributes:
        PASSING: waiting mends it: throttling, a reset, a time-out, a refused connection.
        BROKEN: another try may mend it at once: a body cut short, or with a wrong checksum.
        FINAL: it stays: not there, not allowed, no credentials, no such host.
        UNKNOWN: of no kind that this module knows.
    """

    PASSING = "passing"
    BROKEN = "broken"
    FINAL = "final"
    UNKNOWN = "unknown"


class BrokenBodyError(OSError):
    """A body has another length than the store said."""


class StoreAwayError(RunError):
    """The store gave no answer for as long as a job waits."""


class StoreBrokenError(RunError):
    """The store answers, and what it sends is broken each time."""


def kind_of(error: BaseException) -> Kind:
    """What kind of failure an exception of a store's client tells."""
    links = list(_chain(error))
    for link in links:
        answer = getattr(link, "response", None)
        if isinstance(answer, dict):
            return _kind_of_answer(answer)
    if any(isinstance(link, socket.gaierror) and link.errno == socket.EAI_NONAME for link in links):
        return Kind.FINAL
    names = set(names_of(error))
    kinds = [
        (bool(names & NO_CREDENTIALS), Kind.FINAL),
        (NOT_TRUSTED in names and not names & _CUT_OFF, Kind.FINAL),
        ("FileNotFoundError" in names or "PermissionError" in names, Kind.FINAL),
        ("ConnectionResetError" in names, Kind.PASSING),
        (bool(names & _BROKEN), Kind.BROKEN),
        (bool(names & _PASSING), Kind.PASSING),
    ]
    return next((kind for holds, kind in kinds if holds), Kind.UNKNOWN)


def names_of(error: BaseException) -> Iterator[str]:
    """Names of an exception's classes, and of those that led to it.

    The client's SSLError is no handshake; Python's own is any trouble with encryption.
    """
    classes = (cls for link in _chain(error) for cls in type(link).__mro__)
    return (cls.__name__ for cls in classes if cls is not ssl.SSLError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _kind_of_answer(answer: dict[str, Any]) -> Kind:
    code = answer_code(answer)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _BROKEN_CODES:
        return Kind.BROKEN
    if code in _PASSING_CODES or status in _PASSING_STATUS:
        return Kind.PASSING
    return Kind.FINAL


def answer_code(answer: dict[str, Any]) -> str:
    """S3's own word for what is wrong, such as NoSuchBucket."""
    return str(answer.get("Error", {}).get("Code", ""))


def code_of(error: BaseException) -> str:
    """The same of an exception; empty where no store answered."""
    answers = (getattr(link, "response", None) for link in _chain(error))
    return next((answer_code(answer) for answer in answers if isinstance(answer, dict)), "")


class Patience:
    """Tries again what can pass, for as long as a store may be away.

    An outage is one for the whole process: when it has lasted longer than the budget, later
    calls are tried once, until one of them is answered. Otherwise a million images would wait
    for a dead store one after the other.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._away: dict[str, float] = {}
        self._told: set[str] = set()

    async def keep_on(self, place: str, call: Callable[[], Awaitable[T]]) -> T:
        """What the call returns, when it works in the end.

        Args:
            place: the URI, for messages.
            call: one try.

        Raises:
            StoreAwayError: the store gave no answer for the budget.
            StoreBrokenError: every answer was broken.
            Exception: the call's own, where another try can't help.
        """
        effort = _Effort(self, place)
        while True:
            try:
                result = await call()
            except Exception as error:  # noqa: BLE001 - told apart there; what stays is raised
                await asyncio.sleep(effort.wait_after(error))
            else:
                self.answered(effort.store)
                return result

    def answered(self, store: str) -> None:
        """Ends an outage."""
        since = self._away.pop(store, None)
        if store in self._told and since is not None:
            self._told.discard(store)
            _log.warning("%s answers again, after %.0f s", store, time.monotonic() - since)

    def away_s(self, store: str) -> float:
        """Seconds since the outage began that this failure belongs to."""
        return time.monotonic() - self._away.setdefault(store, time.monotonic())

    def tell(self, store: str, error: BaseException, away_s: float) -> None:
        """Says once per outage that there is one."""
        if away_s > _TELL_AFTER_S and store not in self._told:
            self._told.add(store)
            left = self.budget_s - away_s
            _log.warning("%s doesn't answer: %s; trying for %.0f s more", store, error, left)


class _Effort:
    """The tries of one call."""

    def __init__(self, patience: Patience, place: str) -> None:
        self.patience, self.place = patience, place
        self.store = "/".join(place.split("/", 3)[:3])
        self.started = time.monotonic()
        self.passing = self.broken = 0

    def wait_after(self, error: Exception) -> float:
        """Seconds until the next try, after a failure.

        Raises:
            Exception: there is none.
        """
        kind = kind_of(error)
        if kind is Kind.PASSING:
            return self._wait_for_store(error)
        self.patience.answered(self.store)
        if kind is not Kind.BROKEN:
            raise error
        self.broken += 1
        if self.broken >= BROKEN_TRIES:
            raise StoreBrokenError(
                f"{self.place}: the store's answer is broken, each of {self.broken} times: "
                f"{_words(error)}"
            ) from error
        return random.uniform(0, _BROKEN_WAIT_S * 2**self.broken)  # noqa: S311

    def _wait_for_store(self, error: Exception) -> float:
        away_s = self.patience.away_s(self.store)
        lasting_s = time.monotonic() - self.started
        if max(away_s, lasting_s) >= self.patience.budget_s:
            raise StoreAwayError(
                f"{self.place}: the store doesn't answer, for {max(away_s, lasting_s):.0f} s now: "
                f"{_words(error)}"
            ) from error
        self.patience.tell(self.store, error, away_s)
        bound = min(_LAST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self.passing, _DOUBLINGS))
        self.passing += 1
        left = self.patience.budget_s - max(away_s, lasting_s)
        return min(left, random.uniform(0, bound))  # noqa: S311


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

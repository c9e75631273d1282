"""What kind of failure an exception tells, and how long a store is waited for."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables import patience
from pipeline.tables.patience import Kind, Patience, StoreAwayError, code_of, kind_of

aiohttp = pytest.importorskip("aiohttp")
botocore = pytest.importorskip("botocore.exceptions")


def answer(status: int, code: str = "") -> Exception:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(response, "GetObject")


def led_to(error: Exception, by: Exception) -> Exception:
    """An exception that was raised from another."""
    error.__cause__ = by
    return error


def connection(by: Exception) -> Exception:
    return led_to(botocore.EndpointConnectionError(endpoint_url="http://x", error=by), by)


def tls(by: Exception) -> Exception:
    return led_to(botocore.SSLError(endpoint_url="https://x", error=by), by)


KINDS = [
    (answer(503, "SlowDown"), Kind.PASSING),
    (answer(429, "TooManyRequestsException"), Kind.PASSING),
    (answer(500, "InternalError"), Kind.PASSING),
    (answer(503, "503"), Kind.PASSING),
    (answer(400, "RequestTimeout"), Kind.PASSING),
    (answer(400, "RequestThrottled"), Kind.PASSING),
    (answer(400, "ThrottledException"), Kind.PASSING),
    (answer(400, "PriorRequestNotComplete"), Kind.PASSING),
    (answer(409, "ConditionalRequestConflict"), Kind.FINAL),
    (answer(404, "NoSuchKey"), Kind.FINAL),
    (answer(404, "404"), Kind.FINAL),
    (answer(403, "AccessDenied"), Kind.FINAL),
    (answer(400, "ExpiredToken"), Kind.FINAL),
    (answer(400, "BadDigest"), Kind.BROKEN),
    (led_to(OSError(16, "Please reduce your request rate"), answer(503, "SlowDown")), Kind.PASSING),
    (led_to(FileNotFoundError("x"), answer(404, "NoSuchBucket")), Kind.FINAL),
    (led_to(PermissionError("Forbidden"), answer(403, "403")), Kind.FINAL),
    (FileNotFoundError("x"), Kind.FINAL),
    (connection(ConnectionRefusedError(111, "refused")), Kind.PASSING),
    (connection(socket.gaierror(socket.EAI_AGAIN, "try again")), Kind.PASSING),
    (connection(socket.gaierror(socket.EAI_NONAME, "unknown")), Kind.FINAL),
    (botocore.ConnectionClosedError(endpoint_url="http://x"), Kind.PASSING),
    (botocore.ConnectTimeoutError(endpoint_url="http://x"), Kind.PASSING),
    (botocore.ReadTimeoutError(endpoint_url="http://x"), Kind.PASSING),
    (botocore.HTTPClientError(error="any"), Kind.PASSING),
    (ConnectionResetError(104, "reset"), Kind.PASSING),
    (TimeoutError(), Kind.PASSING),
    (aiohttp.ServerDisconnectedError(), Kind.PASSING),
    (aiohttp.ClientPayloadError("not completed"), Kind.BROKEN),
    (led_to(aiohttp.ClientPayloadError("x"), ConnectionResetError(104, "reset")), Kind.PASSING),
    (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), Kind.BROKEN),
    (botocore.FlexibleChecksumError(error_msg="x"), Kind.BROKEN),
    (patience.BrokenBodyError("short"), Kind.BROKEN),
    (botocore.NoCredentialsError(), Kind.FINAL),
    (botocore.ProfileNotFound(profile="x"), Kind.FINAL),
    (botocore.CredentialRetrievalError(provider="x", error_msg="ended with 1"), Kind.FINAL),
    (botocore.UnauthorizedSSOTokenError(), Kind.FINAL),
    (tls(ssl.SSLCertVerificationError("certificate verify failed")), Kind.FINAL),
    (tls(ssl.SSLError(1, "wrong version number")), Kind.FINAL),
    (tls(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")), Kind.PASSING),
    (tls(ConnectionResetError(104, "reset")), Kind.PASSING),
    (led_to(botocore.HTTPClientError(error="x"), ssl.SSLError(1, "bad mac")), Kind.PASSING),
    (ZeroDivisionError(), Kind.UNKNOWN),
    (KeyError("ETag"), Kind.UNKNOWN),
]


@pytest.mark.parametrize("place", range(len(KINDS)))
def test_kinds_of_failures(place: int) -> None:
    error, kind = KINDS[place]
    assert kind_of(error) is kind


def test_the_stores_own_word_is_found_behind_a_translation() -> None:
    assert code_of(led_to(FileNotFoundError("x"), answer(404, "NoSuchBucket"))) == "NoSuchBucket"
    assert code_of(FileNotFoundError("x")) == ""


class Clock:
    """Time that passes by waiting only, and what was waited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.waits = 1000.0, []
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def failing(clock: Clock, until: float, error: Exception) -> object:
    async def call() -> str:
        if clock.now < until:
            raise error
        return "content"

    return call


@pytest.mark.parametrize("away_s", [0.1, 5, 60, 149])
def test_a_store_that_is_away_for_less_than_the_budget_costs_nothing_but_time(
    clock: Clock, away_s: float
) -> None:
    call = failing(clock, clock.now + away_s, TimeoutError())
    assert asyncio.run(Patience(150).keep_on("s3://b/a", call)) == "content"
    assert away_s <= sum(clock.waits) <= away_s + patience._LAST_WAIT_S
    assert max(clock.waits) <= patience._LAST_WAIT_S


def test_a_store_that_stays_away_costs_the_budget_once(clock: Clock) -> None:
    waiting, started = Patience(150), clock.now
    call = failing(clock, 1e9, TimeoutError("silence"))
    with pytest.raises(StoreAwayError, match=r"^s3://b/a: the store doesn't answer, for 150 s now"):
        asyncio.run(waiting.keep_on("s3://b/a", call))
    assert clock.now - started == pytest.approx(150)
    for _ in range(5):
        with pytest.raises(StoreAwayError):
            asyncio.run(waiting.keep_on("s3://b/other", call))
    assert clock.now - started == pytest.approx(150)
    # Another bucket is another store, and one answer ends the outage.
    assert asyncio.run(waiting.keep_on("s3://c/a", failing(clock, clock.now + 9, TimeoutError())))
    assert asyncio.run(waiting.keep_on("s3://b/a", failing(clock, 0, TimeoutError())))
    assert asyncio.run(waiting.keep_on("s3://b/a", failing(clock, clock.now + 9, TimeoutError())))


def test_an_answer_of_any_kind_ends_an_outage(clock: Clock) -> None:
    waiting = Patience(10)
    with pytest.raises(StoreAwayError):
        asyncio.run(waiting.keep_on("s3://b/a", failing(clock, 1e9, TimeoutError())))
    with pytest.raises(FileNotFoundError):
        asyncio.run(waiting.keep_on("s3://b/a", failing(clock, 1e9, FileNotFoundError())))
    assert asyncio.run(waiting.keep_on("s3://b/a", failing(clock, clock.now + 5, TimeoutError())))


@pytest.mark.parametrize("error", [PermissionError(), ZeroDivisionError()])
def test_what_waiting_does_not_mend_is_the_calls_own_error(clock: Clock, error: Exception) -> None:
    with pytest.raises(type(error)):
        asyncio.run(Patience(150).keep_on("s3://b/a", failing(clock, 1e9, error)))
    assert clock.waits == []


@given(st.integers(0, 5000))
def test_no_number_of_tries_overflows(tries: int) -> None:
    effort = patience._Effort(Patience(1e9), "s3://b/a")
    effort.passing = tries
    assert 0 <= effort.wait_after(TimeoutError()) <= patience._LAST_WAIT_S

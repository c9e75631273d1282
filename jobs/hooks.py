"""Running hooks: a program without a shell, a POST with few tries; never an error."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pipeline.config import HookConfig, NotifyConfig

log = logging.getLogger("linescore")

# Waits between tries grow from this, in seconds, with jitter.
_FIRST_WAIT_S = 0.5
_TOO_MANY, _SERVER_FAILS = 429, 500
# Where a shell puts the signal in the status of a program that SIGTERM ended.
_TERMINATED = 128 + signal.SIGTERM
# What is told of a failed command's own words.
_LAST_WORDS = 300


class HookError(Exception):
    """A hook could not be run; the text never holds a webhook's URL."""


class RetryableError(HookError):
    """Another try may help."""


# Outcomes, and whose hook is told of one that has none of its own.
SUCCEEDED, FAILED, DRIFTED, UNJUDGED = "success", "failure", "drift", "no_verdict"
_INSTEAD = {DRIFTED: FAILED, UNJUDGED: SUCCEEDED}


class Hooks:
    """The hooks of a job."""

    def __init__(self, config: NotifyConfig) -> None:
        self._config = config

    @property
    def on_failure(self) -> bool:
        """Whether anybody is told of failures."""
        return _there(self._config.on_failure)

    def _of(self, outcome: str) -> tuple[str, HookConfig]:
        """The setting's name, and the hook."""
        own: HookConfig = getattr(self._config, f"on_{outcome}")
        if outcome in _INSTEAD and not _there(own):
            return self._of(_INSTEAD[outcome])
        return f"on_{outcome}", own

    def look_ahead(self) -> None:
        """Warns in the evening of what could not work at night."""
        for outcome in (SUCCEEDED, FAILED, *_INSTEAD):
            name = f"on_{outcome}"
            hook: HookConfig = getattr(self._config, name)
            if hook.command and shutil.which(hook.command[0]) is None:
                log.warning("notify.%s.command: there is no program %s", name, hook.command[0])
            if hook.webhook_env:
                with _warned(f"notify.{name}.webhook_env"):
                    _url(hook.webhook_env)

    @contextlib.contextmanager
    def terminable(self) -> Iterator[None]:
        """Lets SIGTERM end the job as an exception, so that it can be told."""
        main = threading.current_thread() is threading.main_thread()
        if not self.on_failure or not main:
            yield
            return
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def run(self, notice: Mapping[str, Any]) -> None:
        """Runs the hooks of the notice's outcome; what goes wrong is a warning."""
        name, hook = self._of(notice["outcome"])
        body = json.dumps(notice, default=str).encode()
        if hook.command:
            with _warned(f"notify.{name}.command"):
                _run(hook.command, body, _environment(notice), self._config.timeout_s)
        if hook.webhook_env:
            with _warned(f"notify.{name}.webhook_env"):
                self._post(hook.webhook_env, body)

    def _post(self, variable: str, body: bytes) -> None:
        url = _url(variable)
        attempts, timeout = self._config.attempts, self._config.timeout_s
        for attempt in range(1, attempts + 1):
            try:
                _within(timeout, lambda: _post_once(url, body, timeout))
            except RetryableError as error:
                if attempt == attempts:
                    raise HookError(f"{error}, {attempts} times") from None
                time.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
            else:
                return


def _there(hook: HookConfig) -> bool:
    return hook.command is not None or hook.webhook_env is not None


def _terminate(*_: object) -> None:
    log.error("terminated (SIGTERM); the same command with the same run_id continues")
    raise SystemExit(_TERMINATED)


@contextlib.contextmanager
def _warned(what: str) -> Iterator[None]:
    try:
        yield
    except HookError as error:
        log.warning("%s: %s", what, error)
    except Exception as error:  # noqa: BLE001 - a hook never fails a job; its text may hold a URL
        log.warning("%s: failed (%s)", what, type(error).__name__)


def _environment(notice: Mapping[str, Any]) -> dict[str, str]:
    names = ("job", "outcome", "exit_status", "run_id", "store")
    told = {f"LINESCORE_{name.upper()}": notice.get(name) for name in names}
    return os.environ | {key: "" if value is None else str(value) for key, value in told.items()}


def _run(
    command: Sequence[str], body: bytes, environment: Mapping[str, str], timeout_s: float
) -> None:
    # Files instead of pipes: a program that reads nothing, or leaves a child behind that holds
    # its output open, blocks nobody.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(body)
        given.seek(0)
        try:
            program = subprocess.Popen(  # noqa: S603 - the config's program, without a shell
                list(command),
                stdin=given,
                stdout=said,
                stderr=said,
                env=dict(environment),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HookError(f"{command[0]}: can't be started: {error}") from None
        try:
            status = program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
            raise HookError(
                f"{command[0]}: was killed after {timeout_s:g} s (notify.timeout_s)"
            ) from None
        if status:
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-_LAST_WORDS:]
            raise HookError(f"{command[0]}: ended with status {status}: {words}".rstrip(": "))


def _url(variable: str) -> str:
    url = os.environ.get(variable, "").strip()
    if not url:
        raise HookError(f"{variable} is not set in the job's environment")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise HookError(f"{variable} holds no URL") from None
    if parts.scheme == "https" and host:
        return url
    if parts.scheme == "http" and _is_loopback(host):
        return url
    raise HookError(f"{variable} must hold an https:// URL, or http:// to this machine")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere, without encryption too: it is an answer like a refusal."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post_once(url: str, body: bytes, timeout_s: float) -> None:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json", "User-Agent": "linescore"}
    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - `_url` looked at it
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s):
            return
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
        kind = RetryableError if status == _TOO_MANY or status >= _SERVER_FAILS else HookError
        raise kind(f"the webhook answered with status {status}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RetryableError(f"the webhook can't be reached ({type(reason).__name__})") from None


def _within(timeout_s: float, work: Callable[[], None]) -> None:
    """Runs it for so long at most: a server that answers byte by byte resets a socket's limit."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise RetryableError(f"the webhook took more than {timeout_s:g} s (notify.timeout_s)")
    if raised:
        raise raised[0]

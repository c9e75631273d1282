"""The app in a process of its own, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.app.stores import Place
from tests.conftest import ROOT

# Generous: the machine that runs the tests may be busy, and none of them asserts a time.
WAIT_S = 150
# Nothing but the app is asked for: no updates, no accounts, no experiments.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]


def chromium() -> str:
    """Debian's Chromium; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


@dataclass
class Watched:
    """A page, what its console said against it, and which other places it asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def noted(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


def watched(opened: Browser, **settings: Any) -> Watched:
    """A new page in a context of its own, as another person has it."""
    found = Watched(opened.new_context(**settings).new_page())
    found.page.set_default_timeout(WAIT_S * 1000)
    found.page.on("console", found.noted)
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    own = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    found.page.on(
        "request",
        lambda request: (
            None if request.url.startswith(own) else found.strangers.append(request.url)
        ),
    )
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(place: Place, *settings: str, log: Path) -> Iterator[str]:
    """The app on a store, started as a user does; its address. Ended whatever happens."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "jobs.cli", "app", "--store", place.store),
        *(f"policies={place.policies}", f"thresholds={place.thresholds}", f"port={port}"),
        *settings,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _await(process, f"http://127.0.0.1:{port}/_stcore/health", log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - on loopback
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the app didn't start: {log.read_text()[-2000:]}")

"""A web server of the tests' own on loopback, and a program that keeps what it is told."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Keeps standard input and the environment that it was given, one file for each call.
KEEPER = """
import json, os, sys, uuid
told = {k: v for k, v in os.environ.items() if k.startswith("LINESCORE_")}
note = {"notice": json.load(sys.stdin), "environment": told}
open(os.path.join(sys.argv[1], uuid.uuid4().hex + ".json"), "w").write(json.dumps(note))
"""


def keeper(folder: Path) -> list[str]:
    """The command; what it is told lies in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder.parent / "keeper.py"
    program.write_text(KEEPER)
    return [sys.executable, str(program), str(folder)]


def kept(folder: Path) -> list[dict[str, Any]]:
    """What the command was told, call by call."""
    return [json.loads(file.read_text()) for file in folder.glob("*.json")]


@dataclass
class Receiver:
    """What was posted, and how it is answered."""

    url: str = ""
    posts: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    stall: threading.Event | None = None
    drip: bool = False

    def answer(self) -> int:
        return self.answers.pop(0) if self.answers else 204


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        state = self.server.state
        state.paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        state.posts.append(json.loads(body))
        if state.stall is not None:
            self._linger(state.stall, state.drip)
            return
        status = state.answer()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", state.url + "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _linger(self, until: threading.Event, drip: bool) -> None:
        """Says nothing, or a letter now and then, until the test is over."""
        with suppress(OSError):
            while not until.wait(0.05):
                if drip:
                    self.wfile.write(b"H")
                    self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = Receiver(f"http://127.0.0.1:{self.server_port}")


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A server on a free port of this machine."""
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.state
    finally:
        if server.state.stall is not None:
            server.state.stall.set()
        server.shutdown()
        server.server_close()


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)

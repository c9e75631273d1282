"""A proxy between a client of S3 and its server that answers badly, as often as it is told."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What may be done to an answer.
SLOW_DOWN, RESET, STALL, CUT = "slow_down", "reset", "stall", "cut"
FAULTS = (SLOW_DOWN, RESET, STALL, CUT)
# Beside the faults that pass: what the rights of a user are.
DENIED = "denied"
# And of a write that asks for nobody to be there: another is being written, another was.
CONFLICT, LOST_RACE = "conflict", "lost_race"
_ONLY_CREATING = (CONFLICT, LOST_RACE)
_REFUSALS = {
    CONFLICT: (409, "ConditionalRequestConflict", "A conflicting operation occurred."),
    LOST_RACE: (412, "PreconditionFailed", "At least one of the preconditions did not hold."),
    SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    DENIED: (403, "AccessDenied", "Access Denied"),
}
# Not handed on: they are about the connection to one neighbour.
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}


class Server(ThreadingHTTPServer):
    """Keeps its connections, so that it can drop them."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__(address, handler)
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, as one with a time-out does, is no news."""


class FaultyProxy:
    """The proxy; `url` is what clients take for the store.

    Attributes:
        rates: share of the requests that meet each fault.
        stall_s: how long a stalled answer stays away; longer than the client waits.
        lose_answer_of: part of the one request whose answer is lost on its way, such as `PUT /`.
        requests: what was asked for, by method and path, the query left out.
        done: faults by kind.
    """

    def __init__(
        self,
        upstream: str,
        rates: Mapping[str, float] | None = None,
        seed: int = 0,
        stall_s: float = 2.0,
    ) -> None:
        host, port = upstream.removeprefix("http://").split(":")
        self._upstream = (host, int(port))
        self.rates = dict(rates or {})
        self.stall_s = stall_s
        self.lose_answer_of = ""
        self.requests: list[tuple[str, str]] = []
        self.done: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._local = threading.local()
        self._server: Server | None = None
        self.port = 0
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def come_back(self) -> None:
        """Takes connections (again)."""
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def leave(self) -> None:
        """Refuses connections, and drops those there are."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for connection in list(server.open):
            _drop(connection)

    def leave_for(self, seconds: float) -> None:
        """Is away for a while, from now on."""
        self.leave()
        threading.Timer(seconds, self.come_back).start()

    def fault(self, request: str, creating: bool) -> tuple[str | None, bool]:
        """What happens to a request, and whether it reaches the store all the same."""
        with self._lock:
            if self.lose_answer_of and self.lose_answer_of in request:
                self.lose_answer_of = ""
                return RESET, True
            draw, reaches = self._random.random(), self._random.random() < 0.5
            for kind, rate in self.rates.items():
                if kind in _ONLY_CREATING and not creating:
                    continue
                draw -= rate
                if draw < 0:
                    self.done[kind] += 1
                    return kind, reaches
        return None, True

    def note(self, method: str, path: str) -> None:
        with self._lock:
            self.requests.append((method, path.partition("?")[0]))

    def reads(self, part: str = "") -> list[str]:
        """Paths of the objects that were read, those that contain a text."""
        return [path for method, path in self.requests if method == "GET" and part in path]

    def forward(self, method: str, path: str, headers: Any, body: bytes) -> tuple[Any, bytes]:
        """The store's own answer."""
        for fresh in (False, True):
            if fresh or not hasattr(self._local, "connection"):
                self._local.connection = http.client.HTTPConnection(*self._upstream, timeout=60)
            connection = self._local.connection
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer, answer.read()
            except (http.client.HTTPException, OSError):
                if fresh:
                    raise
        raise AssertionError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyProxy

    def log_message(self, *_: Any) -> None:
        pass

    def _any(self) -> None:
        body = self._body()
        self.owner.note(self.command, self.path)
        creating = "If-None-Match" in self.headers
        kind, reaches = self.owner.fault(f"{self.command} {self.path}", creating)
        if kind in (DENIED, *_ONLY_CREATING) or (kind in (SLOW_DOWN, RESET, STALL) and not reaches):
            self._spoil(kind)
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        headers["Content-Length"] = str(len(body))
        answer, content = self.owner.forward(self.command, self.path, headers, body)
        if kind in (SLOW_DOWN, RESET, STALL):
            self._spoil(kind)
            return
        self._answer(answer, content, cut=kind == CUT)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found

    def _spoil(self, kind: str) -> None:
        self.close_connection = True
        if kind in _REFUSALS:
            self._refuse(*_REFUSALS[kind])
        elif kind == RESET:
            _drop(self.connection)
        else:
            time.sleep(self.owner.stall_s)

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = False

    def _answer(self, answer: Any, content: bytes, *, cut: bool) -> None:
        self.send_response_only(answer.status, answer.reason)
        length = answer.headers.get("Content-Length", str(len(content)))
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and content:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(content)


def _drop(connection: socket.socket) -> None:
    """Ends a connection with a reset, not a farewell."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
    with suppress(OSError):
        connection.close()


@contextmanager
def faulty_proxy(upstream: str, **options: Any) -> Iterator[FaultyProxy]:
    """A proxy for the time of a test."""
    proxy = FaultyProxy(upstream, **options)
    try:
        yield proxy
    finally:
        proxy.leave()

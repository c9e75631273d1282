"""Preparing images in a process of its own: what kills its decoder costs one image."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import IO, Any

from pipeline.scoring.prepare import Failure, Prepared, PrepareOptions, prepare
from pipeline.tables.access import s3_access
from pipeline.tables.schemas import WORKER_CRASH

# Seconds beyond which a decoder hangs: the largest image takes some ten on a busy core.
_DECODE_S = 300.0
_ALONE = (
    "also on its own; take it out of the manifest or export it again, and keep it for the "
    "decoder's makers"
)


class IsolatedPreparer:
    """Prepares one image after the other in a child process, which is started again when it dies.

    Slower than `prepare` by the pixels' way between the processes; meant for the few images
    among which one has killed a worker.
    """

    def __init__(self, timeout_s: float | None = None) -> None:
        """Waits so long for an image; None: five minutes, and what a store may be away."""
        self._timeout_s = s3_access().retry_s + _DECODE_S if timeout_s is None else timeout_s
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> IsolatedPreparer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._end(self._child)

    def prepare(self, uri: str, sha256: str | None, options: PrepareOptions) -> Prepared | Failure:
        """As `prepare`; an image at which the child dies or hangs is a worker_crash."""
        if self._child is None:
            self._child = _start()
        child, hangs = self._child, threading.Event()

        def give_up() -> None:
            hangs.set()
            child.kill()

        timer = threading.Timer(self._timeout_s, give_up)
        timer.start()
        try:
            result: Prepared | Failure | Exception = _ask(child, (uri, sha256, options))
        except (EOFError, OSError, pickle.UnpicklingError):
            result = Failure(WORKER_CRASH, f"{uri}: {self._end_of(child, hangs)}")
            self._child = None
        finally:
            timer.cancel()
            timer.join()
        if self._child is not None and hangs.is_set():  # killed for an answer that came just then
            self._end(child)
            self._child = None
        if isinstance(result, Exception):
            raise result
        return result

    def _end_of(self, child: subprocess.Popen[bytes], hangs: threading.Event) -> str:
        """How a child ended that gave no answer, in words."""
        status = self._end(child)
        if hangs.is_set():
            return f"decoding it gave no answer in {self._timeout_s:g} s, {_ALONE}"
        return f"decoding it ended its process ({_death(status)}), {_ALONE}"

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        """Closes the pipes, at which a child that lives ends by itself; its exit status."""
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was still to be written has nobody to read it
                    continue
        return child.wait()


def _start() -> subprocess.Popen[bytes]:
    # This process may have got its import path from Ray rather than from its environment.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.scoring.isolated"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


def _ask(child: subprocess.Popen[bytes], question: Any) -> Any:
    assert child.stdin is not None and child.stdout is not None  # noqa: S101 - pipes
    pickle.dump(question, child.stdin)
    child.stdin.flush()
    return pickle.load(child.stdout)  # noqa: S301 - written by this module's own `_serve`


def _death(status: int) -> str:
    how = f"exit status {status}"
    if status < 0:
        try:
            how = signal.Signals(-status).name
        except ValueError:
            how = f"signal {-status}"
    return how


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """The child: prepares what it is asked for until the pipe is closed."""
    while True:
        try:
            uri, sha256, options = pickle.load(questions)  # noqa: S301 - from `_ask`
        except EOFError:
            return
        try:
            answer: Any = prepare(uri, sha256, options)
        except Exception as error:  # noqa: BLE001 - raised on the other side
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    # Whatever a library prints must not come between the answers.
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, _answers)

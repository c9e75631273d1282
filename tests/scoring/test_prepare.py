"""Fetching and preparing one image: what passes, what is tried again, and why one is left out."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from pipeline.images.decode import DecodeLimits
from pipeline.images.facts import image_facts
from pipeline.images.geometry import LETTERBOX_GREY
from pipeline.scoring import prepare as module
from pipeline.scoring.prepare import (
    Failure,
    Prepared,
    PrepareOptions,
    each_in_flight,
    fetch,
    prepare,
    reads_ahead,
)
from pipeline.tables import storage

LIMITS = DecodeLimits(max_pixels=100_000, min_side=16)
OPTIONS = PrepareOptions(LIMITS)
PIXELS = np.random.default_rng(1).integers(0, 256, (40, 80, 3), dtype=np.uint8)


class FlakyFileSystem(MemoryFileSystem):
    """A store on the border that fails as often as it was told, then answers."""

    protocol = "flaky"
    cachable = False
    reads: ClassVar[Counter[str]] = Counter()
    times: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)
    failures: ClassVar[dict[str, tuple[Exception, int]]] = {}
    contents: ClassVar[dict[str, bytes]] = {}

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        name = path.rsplit("/", 1)[-1]
        self.reads[name] += 1
        self.times[name].append(time.monotonic())
        error, times = self.failures.get(name, (None, 0))
        if error is not None and self.reads[name] <= times:
            raise error
        return self.contents[name]


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.0)
    yield
    flaky_store = FlakyFileSystem
    for kept in (flaky_store.reads, flaky_store.times, flaky_store.failures, flaky_store.contents):
        kept.clear()


def flaky(error: Exception, times: int, content: bytes = b"content") -> str:
    name = f"{uuid.uuid4().hex}.png"
    FlakyFileSystem.failures[name] = (error, times)
    FlakyFileSystem.contents[name] = content
    return f"flaky://bucket/{name}"


def reads(uri: str) -> int:
    return FlakyFileSystem.reads[uri.rsplit("/", 1)[-1]]


def encoded(pixels: np.ndarray = PIXELS, fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt)
    return buffer.getvalue()


def write(folder: Path, content: bytes, name: str = "снимок 1.png") -> str:
    file = folder / name
    file.write_bytes(content)
    return str(file)


def failure(result: object) -> Failure:
    assert isinstance(result, Failure)
    return result


def prepared(result: object) -> Prepared:
    assert isinstance(result, Prepared), result
    return result


# --- fetching ---

# What storms and restarts of a store look like; each may pass.
PASSING = [
    TimeoutError("timed out"),
    ConnectionResetError(104, "reset by peer"),
    OSError(5, "SlowDown: please reduce your request rate"),
    RuntimeError("the client's own kind of error"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_can_pass_is_tried_again(error: Exception, times: int) -> None:
    uri = flaky(error, times)
    assert fetch(uri, 3) == b"content"
    assert reads(uri) == times + 1


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_what_does_not_pass_is_given_up_with_its_reason(error: Exception, attempts: int) -> None:
    uri = flaky(error, 100)
    found = failure(fetch(uri, attempts))
    assert reads(uri) == attempts
    assert found.error_type == "read_error"
    tries = f" after {attempts} tries" if attempts > 1 else ""
    assert found.message == f"{uri}: can't be read{tries}: {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("error", "error_type", "message"),
    [
        (FileNotFoundError("x"), "not_found", "there is no such file"),
        (PermissionError("Forbidden"), "permission_denied", "access denied; check the rights"),
        (IsADirectoryError(21, "Is a directory"), "not_a_file", "Is a directory"),
        (NotADirectoryError(20, "Not a directory"), "read_error", "Not a directory"),
    ],
)
def test_what_cannot_pass_is_tried_once(error: Exception, error_type: str, message: str) -> None:
    uri = flaky(error, 1)
    found = failure(fetch(uri, 5))
    assert reads(uri) == 1
    assert found.error_type == error_type
    assert found.message.startswith(f"{uri}: ")
    assert message in found.message
    assert "tries" not in found.message


def test_a_scheme_that_nobody_knows_is_a_failure_of_the_image() -> None:
    found = failure(fetch("nosuch://a.png", 3))
    assert found.error_type == "read_error"
    assert "nosuch://a.png" in found.message


def test_a_local_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    absent = failure(fetch(f"{tmp_path}/absent.png", 3))
    assert absent == Failure("not_found", f"{tmp_path}/absent.png: there is no such file")
    assert failure(fetch(str(tmp_path), 3)).error_type == "not_a_file"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    found = failure(fetch(f"{tmp_path}/pipe.png", 3))
    assert found.error_type == "not_a_file"
    assert "pipe.png" in found.message


@pytest.mark.parametrize("place", ["{}/a.png", "memory://large-{}/a.png"])
def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, place: str) -> None:
    uri = place.format(tmp_path)
    storage.write_bytes(uri, bytes(1000))
    assert fetch(uri, 3, max_bytes=1000) == bytes(1000)
    found = failure(fetch(uri, 3, max_bytes=999))
    assert found.error_type == "too_large"
    assert uri in found.message
    assert "limits.max_bytes" in found.message


def test_the_waits_double_with_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.1)
    uri = flaky(TimeoutError(), 100)
    failure(fetch(uri, 4))
    gaps = np.diff(FlakyFileSystem.times[uri.rsplit("/", 1)[-1]])
    # Half to one and a half times 0.1, 0.2 and 0.4; a busy machine may add to it.
    assert (gaps >= [0.05, 0.1, 0.2]).all(), gaps
    assert gaps[0] < 2, gaps


def test_there_is_no_wait_after_the_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 4.0)
    start = time.monotonic()
    failure(fetch(flaky(TimeoutError(), 100), 1))
    assert time.monotonic() - start < 2


# --- preparing ---


def test_an_image_is_read_through_a_storm() -> None:
    uri = flaky(TimeoutError(), 2, encoded())
    found = prepared(prepare(uri, None, OPTIONS))
    assert (found.width, found.height, found.format) == (80, 40, "PNG")


def test_a_failure_to_read_is_the_images_failure() -> None:
    uri = flaky(TimeoutError(), 2, encoded())
    options = PrepareOptions(LIMITS, attempts=2)
    assert failure(prepare(uri, None, options)).error_type == "read_error"


def test_only_what_is_asked_for_is_made(tmp_path: Path) -> None:
    uri = write(tmp_path, encoded())
    for square, letterboxed in ((None, None), (32, None), (None, 64), (32, 64)):
        options = PrepareOptions(LIMITS, square=square, letterboxed=letterboxed)
        found = prepared(prepare(uri, None, options))
        for made, side in ((found.square, square), (found.letterboxed, letterboxed)):
            if side is None:
                assert made is None
            else:
                assert made is not None
                assert (made.shape, made.dtype) == ((side, side, 3), np.uint8)


def test_the_square_is_stretched_and_the_letterbox_is_not(tmp_path: Path) -> None:
    white = np.full((40, 80, 3), 255, np.uint8)
    options = PrepareOptions(LIMITS, square=32, letterboxed=64)
    found = prepared(prepare(write(tmp_path, encoded(white)), None, options))
    assert found.square is not None
    assert found.letterboxed is not None
    assert (found.square == 255).all()
    expected = np.full((64, 64, 3), LETTERBOX_GREY, np.uint8)
    expected[16:48] = 255
    np.testing.assert_array_equal(found.letterboxed, expected)


def test_a_turned_photo_has_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
    found = prepared(prepare(write(tmp_path, buffer.getvalue()), None, OPTIONS))
    assert (found.width, found.height, found.format) == (40, 80, "JPEG")


def test_content_is_compared_with_the_manifests(tmp_path: Path) -> None:
    content = encoded()
    uri = write(tmp_path, content)
    digest = hashlib.sha256(content).hexdigest()
    prepared(prepare(uri, digest, OPTIONS))
    other = "0" * 64
    found = failure(prepare(uri, other, OPTIONS))
    assert found == Failure(
        "content_changed",
        f"{uri}: its sha256 is {digest[:12]}…, the manifest says 000000000000…; index again",
    )
    prepared(prepare(uri, other, PrepareOptions(LIMITS, verify=False)))
    prepared(prepare(uri, None, OPTIONS))


REFUSED = {
    "empty_file": lambda: b"",
    "not_an_image": lambda: b"<!DOCTYPE html><p>404</p>",
    "truncated": lambda: encoded()[:-900],
    "decode_failed": lambda: encoded().replace(b"IHDR\0", b"IHDR\1", 1),
    "too_large": lambda: encoded(np.zeros((400, 300, 3), np.uint8)),
    "too_small": lambda: encoded(PIXELS[:15]),
    "animated": lambda: animation(),
    "unsupported_pixels": lambda: float_tiff(),
}


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def float_tiff() -> bytes:
    return encoded(PIXELS[:, :, 0].astype(np.float32), "TIFF")


@pytest.mark.parametrize("error_type", REFUSED)
def test_every_refusal_of_decoding_keeps_its_type_and_names_the_uri(
    tmp_path: Path, error_type: str
) -> None:
    uri = write(tmp_path, REFUSED[error_type]())
    options = PrepareOptions(LIMITS, square=32, letterboxed=64)
    found = failure(prepare(uri, None, options))
    assert found.error_type == error_type
    assert found.message.startswith(f"{uri}: ")
    assert len(found.message) > len(uri) + 10


def test_every_error_type_of_decoding_is_proved_above() -> None:
    from pipeline.images.decode import ERROR_TYPES

    assert set(REFUSED) == set(ERROR_TYPES)


def test_the_kinds_of_fetching_are_those_of_the_schema() -> None:
    from pipeline.tables.schemas import FETCH_ERRORS

    assert set(FETCH_ERRORS) == {
        "not_found", "permission_denied", "read_error", "broken_body", "content_changed",
        "not_a_file",
    }  # fmt: skip


# --- facts ---


def test_facts_are_of_the_whole_image_and_only_where_they_are_asked_for(tmp_path: Path) -> None:
    uri = write(tmp_path, encoded())
    assert prepared(prepare(uri, None, OPTIONS)).facts is None
    found = prepared(prepare(uri, None, replace(OPTIONS, facts=True))).facts
    assert found == image_facts(PIXELS)


def test_remote_reads_go_ahead_as_far_as_allowed_and_come_in_order() -> None:
    started: list[str] = []
    go = threading.Event()
    lock = threading.Lock()

    def read(uri: str) -> str:
        with lock:
            started.append(uri)
        assert go.wait(20)
        return uri.upper()

    uris = [f"memory://{number:02d}" for number in range(20)]
    threading.Timer(0.3, go.set).start()
    found = each_in_flight(read, uris, 5)
    assert next(found) == uris[0].upper()
    assert len(started) <= 10  # five at once, and those that took their places
    assert list(found) == [uri.upper() for uri in uris[1:]]
    assert sorted(started) == uris


def test_few_large_files_are_held_and_many_small_ones() -> None:
    assert reads_ahead([10_000] * 40) == 32
    assert reads_ahead([None, 100 * 1024**2]) == 2
    assert reads_ahead([10**9]) == 1
    assert reads_ahead([]) == 32

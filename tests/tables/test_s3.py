"""A store in S3 through a proxy that answers badly: the right bytes, or the right error."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from pipeline.errors import InputError
from pipeline.scoring.prepare import Failure, fetch
from pipeline.tables import patience, s3, storage
from pipeline.tables.access import VARIABLE
from pipeline.tables.layout import list_source
from pipeline.tables.ledger import commit_tables, read_commits, read_part
from pipeline.tables.lock import Holder, locked
from pipeline.tables.patience import StoreAwayError, StoreBrokenError
from tests.faulty_proxy import (
    CONFLICT,
    CUT,
    DENIED,
    FAULTS,
    LOST_RACE,
    RESET,
    SLOW_DOWN,
    STALL,
    FaultyProxy,
    faulty_proxy,
)
from tests.s3_server import SECRET, access_to, new_bucket

CONTENT = np.random.default_rng(5).bytes(30_000)
# Seconds: the tests' store is away for moments, not minutes.
QUICK = {"retry_s": 30, "read_timeout_s": 0.4, "connect_timeout_s": 1}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(patience, "_LAST_WAIT_S", 0.2)
    monkeypatch.setattr(patience, "_BROKEN_WAIT_S", 0.005)


@pytest.fixture
def bucket(s3_server: str) -> str:
    return new_bucket(s3_server, f"store-{uuid.uuid4().hex[:8]}")


@contextmanager
def reached(
    server: str, monkeypatch: pytest.MonkeyPatch, settings: dict[str, float], **faults: Any
) -> Iterator[FaultyProxy]:
    """The store through a proxy: each has a port, and so a client, of its own."""
    with faulty_proxy(server, **faults) as proxy:
        for name, value in access_to(proxy.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(VARIABLE, json.dumps(QUICK | settings))
        yield proxy


@pytest.fixture
def clear(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with reached(s3_server, monkeypatch, {}) as proxy:
        yield proxy


@pytest.fixture
def hasty(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A client that waits a second for a store."""
    with reached(s3_server, monkeypatch, {"retry_s": 1}, stall_s=1) as proxy:
        yield proxy


# --- each fault alone ---


@pytest.mark.parametrize("kind", FAULTS)
def test_whatever_happens_to_a_quarter_of_the_requests_the_bytes_are_right(
    kind: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{bucket}/a/{i:02}.png": CONTENT[i:] for i in range(16)}

    def round_trip(uri: str) -> None:
        storage.write_bytes(uri, files[uri])
        assert storage.read_bytes(uri) == files[uri]
        assert fetch(uri, 1) == files[uri]
        assert storage.exists(uri)
        assert not storage.exists(f"{uri}.absent")

    with reached(s3_server, monkeypatch, {}, rates={kind: 0.25}, stall_s=0.8) as proxy:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(round_trip, files))
        names = [f"{i:02}.png" for i in range(16)]
        assert storage.list_names(f"{bucket}/a") == names
        assert [e.uri for e in list_source(f"{bucket}/a", "folder", "x").entries] == list(files)
        storage.remove(f"{bucket}/a")
        assert storage.list_names(f"{bucket}/a") == []
        assert proxy.done[kind] > 10


@pytest.mark.usefixtures("clear")
def test_colons_in_a_key_are_letters_of_it(bucket: str) -> None:
    names = ["10::22.png", "a.png", "a.png::b.png", "line::1/~x.png"]
    files = {f"{bucket}/c/{name}": CONTENT[at:] for at, name in enumerate(names)}
    for uri, content in files.items():
        storage.write_bytes(uri, content)
    assert [e.uri for e in list_source(f"{bucket}/c", "folder", "x").entries] == list(files)
    assert {uri: storage.read_at_most(uri, len(CONTENT)) for uri in files} == files
    assert storage.list_names(f"{bucket}/c/line::1") == ["~x.png"]
    storage.remove(f"{bucket}/c/line::1")
    assert storage.list_names(f"{bucket}/c") == names[:3]


def test_commits_and_their_parts_survive_everything_at_once(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"image_id": pa.array(range(40), pa.int64()), "category": ["bolt"] * 40})
    rates = dict.fromkeys(FAULTS, 0.08)
    with reached(s3_server, monkeypatch, {}, rates=rates, stall_s=0.8, seed=3) as proxy:
        for at in range(0, 40, 10):
            commit_tables(f"{bucket}/run", {"scores": rows.slice(at, 10)})
        commits = list(read_commits(f"{bucket}/run"))
        found = [read_part(f"{bucket}/run", c.name, c.parts["scores"]) for c in commits]
        assert sorted(pa.concat_tables(found)["image_id"].to_pylist()) == list(range(40))
        assert sum(proxy.done.values()) > 3


def test_a_long_listing_is_repeated_page_by_page(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that began anew after each failure would not end."""
    with reached(s3_server, monkeypatch, {}, seed=1) as proxy:
        fs, path = storage.filesystem(bucket)
        for at in range(12):
            storage.write_bytes(f"{bucket}/a/{at:02}", b"x")
        proxy.requests.clear()
        proxy.rates[RESET] = 0.6
        call = type(fs)._call_s3

        async def few_keys(self: object, method: str, *more: Any, **request: Any) -> Any:
            more_keys = {"MaxKeys": 1} if method == "list_objects_v2" else {}
            return await call(self, method, *more, **request | more_keys)

        monkeypatch.setattr(type(fs), "_call_s3", few_keys)
        assert len(fs.find(f"{path}/a")) == 12
        # 12 pages, each tried 2.5 times on the average.
        assert 12 < len(proxy.requests) < 12 * 2.5 * 3


def test_large_objects_are_read_and_copied_in_pieces(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3, "_PIECE_BYTES", 1000)
    content = CONTENT[:10_500]
    with reached(s3_server, monkeypatch, {}, rates={CUT: 0.2}) as proxy:
        storage.write_bytes(f"{bucket}/a", content)
        assert storage.read_bytes(f"{bucket}/a") == content
        fs, path = storage.filesystem(f"{bucket}/a")
        for start, end in ((0, 5), (3, 7_777), (-2_500, None), (None, 4_000), (9, 9), (None, -1)):
            assert fs.cat_file(path, start=start, end=end) == content[start:end]
        fs.get_file(path, str(tmp_path / "a"))
        assert (tmp_path / "a").read_bytes() == content
        assert proxy.done[CUT] > 5


def test_an_object_that_is_replaced_while_it_is_read_is_no_mixture(
    bucket: str, clear: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PIECE_BYTES", 1000)
    storage.write_bytes(f"{bucket}/a", b"a" * 6000)
    fs, path = storage.filesystem(f"{bucket}/a")
    fs.get_file(path, "/dev/null")
    get = type(fs)._get

    async def replaced_after_the_first(
        self: Any, request: dict[str, Any], *more: Any, **k: Any
    ) -> Any:
        part = await get(self, request, *more, **k)
        if k:
            await self._pipe_file(path, b"b" * 6000)
        return part

    monkeypatch.setattr(type(fs), "_get", replaced_after_the_first)
    with pytest.raises(OSError, match="condition"):
        storage.read_bytes(f"{bucket}/a")


@pytest.mark.parametrize("lost", ["POST", "PUT"])
def test_a_request_whose_answer_is_lost_is_repeated(
    lost: str, bucket: str, clear: FaultyProxy
) -> None:
    """The last step of a large upload can't be: the second time, there is no such upload."""
    content = CONTENT * 500  # S3's parts have at least 5 MiB
    fs, path = storage.filesystem(f"{bucket}/large")
    begin = f"{lost} /{path}?uploadId" if lost == "POST" else f"{lost} /{path}?partNumber=2"
    clear.lose_answer_of = begin
    fs.pipe_file(path, content, chunksize=6 * 2**20)
    assert clear.lose_answer_of == ""
    assert storage.read_bytes(f"{bucket}/large") == content


def test_what_a_store_did_not_delete_is_no_success(
    bucket: str, clear: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{bucket}/a/b", b"b")
    call = S3FileSystem._call_s3
    answers = iter(("InternalError", "AccessDenied"))

    async def refusing(self: object, method: str, *more: Any, **request: Any) -> Any:
        if method == "delete_objects" and (code := next(answers, None)):
            return {"Errors": [{"Key": "a/b", "Code": code, "Message": code}]}
        return await call(self, method, *more, **request)

    monkeypatch.setattr(S3FileSystem, "_call_s3", refusing)
    with pytest.raises(
        OSError, match="a/b: not deleted: AccessDenied"
    ):  # not by the first, which passes
        storage.remove(f"{bucket}/a")
    storage.remove(f"{bucket}/a")
    assert not storage.exists(f"{bucket}/a/b")


def test_a_table_is_read_through_faults_by_columns(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"a": np.arange(20_000), "b": np.random.default_rng(0).random(20_000)})
    with reached(s3_server, monkeypatch, {}, rates={CUT: 0.2, RESET: 0.2}, seed=2):
        storage.write_bytes(f"{bucket}/t.parquet", storage.parquet_bytes(table, 1000))
        fs, path = storage.filesystem(f"{bucket}/t.parquet")
        for _ in range(4):
            with fs.open(path, "rb") as file:
                assert pq.read_table(file, columns=["b"]).equals(table.select(["b"]))


def test_a_client_that_travels_to_a_worker_is_the_same_one(bucket: str, clear: FaultyProxy) -> None:
    fs, _ = storage.filesystem(bucket)
    twin = pickle.loads(pickle.dumps(fs))
    assert twin is fs
    assert storage.filesystem(bucket)[0] is fs
    with ThreadPoolExecutor(2) as pool:
        assert all(found[0] is fs for found in pool.map(storage.filesystem, [bucket] * 4))
    assert SECRET.encode() not in pickle.dumps(fs)


# --- away ---


def test_a_store_that_is_away_is_waited_for(
    bucket: str,
    clear: FaultyProxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_TELL_AFTER_S", 0.3)
    monkeypatch.setattr(logging.getLogger("linescore"), "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("linescore"), "propagate", False)
    storage.write_bytes(f"{bucket}/a", CONTENT)
    clear.leave_for(2)
    with ThreadPoolExecutor(3) as pool:
        read = pool.submit(fetch, f"{bucket}/a", 1)
        written = pool.submit(storage.write_bytes, f"{bucket}/b", b"b")
        names = pool.submit(storage.list_names, bucket)
        assert read.result() == CONTENT
        written.result()
        assert "a" in names.result()
    assert storage.read_bytes(f"{bucket}/b") == b"b"
    # A request that an earlier test gave up on may still be waiting for that test's store.
    said = [record.getMessage() for record in caplog.records]
    told = [line for line in said if line.startswith(bucket)]
    # A busy machine may see a second outage in what is left of the first.
    assert told[0].startswith(f"{bucket} doesn't answer: ")
    assert told[1].startswith(f"{bucket} answers again, after ")


def test_a_store_that_stays_away_is_given_up_and_later_calls_dont_wait(
    bucket: str, hasty: FaultyProxy
) -> None:
    storage.write_bytes(f"{bucket}/a", CONTENT)
    hasty.leave()
    found = fetch(f"{bucket}/a", 3)
    assert isinstance(found, Failure)
    assert found.error_type == "read_error"
    assert found.message.startswith(f"{bucket}/a: the store doesn't answer, for 1 s now: ")
    with pytest.raises(StoreAwayError, match=f"^{bucket}/b: the store doesn't answer"):
        storage.write_bytes(f"{bucket}/b", b"b")
    with pytest.raises(StoreAwayError):
        storage.exists(f"{bucket}/a")
    with pytest.raises(
        StoreAwayError, match=r"^source: .* the store doesn't answer.*check s3.endpoint_url"
    ):
        list_source(bucket)
    hasty.come_back()
    assert fetch(f"{bucket}/a", 1) == CONTENT


@pytest.mark.parametrize("kind", [SLOW_DOWN, RESET, STALL])
def test_what_never_passes_is_the_stores_silence(
    kind: str, bucket: str, hasty: FaultyProxy
) -> None:
    storage.write_bytes(f"{bucket}/a", CONTENT)
    hasty.rates[kind] = 1
    found = fetch(f"{bucket}/a", 3)
    assert isinstance(found, Failure)
    assert found.error_type == "read_error"
    assert {
        SLOW_DOWN: "reduce your request rate",
        RESET: "Connection",
        STALL: "Read timeout",
    }[kind] in found.message


def test_a_body_that_stays_broken_is_told_from_a_store_that_is_away(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine's slow answer is no broken one, and would be asked for once more.
    with reached(s3_server, monkeypatch, {"read_timeout_s": 20}) as proxy:
        storage.write_bytes(f"{bucket}/a", CONTENT)
        proxy.rates[CUT] = 1
        proxy.requests.clear()
        found = fetch(f"{bucket}/a", 3)
        assert isinstance(found, Failure)
        assert found.error_type == "broken_body"
        said = f"{bucket}/a: the store's answer is broken, each of 8 times"
        assert found.message.startswith(said)
        assert len(proxy.requests) == patience.BROKEN_TRIES
        with pytest.raises(StoreBrokenError):
            storage.read_bytes(f"{bucket}/a")


def test_a_healthy_store_is_asked_once(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached(s3_server, monkeypatch, {"read_timeout_s": 20}) as clear:
        require_one_request_each(bucket, clear)


def require_one_request_each(bucket: str, clear: FaultyProxy) -> None:
    uri = f"{bucket}/a"
    asked = [
        (lambda: storage.write_bytes(uri, CONTENT), ["PUT"]),
        (lambda: storage.read_bytes(uri), ["GET"]),
        (lambda: fetch(uri, 3), ["GET"]),
        (lambda: storage.exists(uri), ["HEAD"]),
        (lambda: storage.list_names(bucket), ["GET"]),
    ]
    for call, methods in asked:
        clear.requests.clear()
        call()
        assert [method for method, _ in clear.requests] == methods


# --- two writers at once ---


@pytest.mark.parametrize("kind", [CONFLICT, LOST_RACE])
def test_of_two_writers_at_once_the_store_refuses_one_which_has_lost(
    kind: str, bucket: str, clear: FaultyProxy
) -> None:
    """S3 answers 409 while the other's write is under way, and 412 once it is done."""
    uri = f"{bucket}/run/locks/00000001.json"
    clear.rates[kind] = 1
    assert storage.create_bytes(uri, b"mine") is False
    assert clear.done[kind] == 1
    clear.rates.clear()
    assert not storage.exists(uri)
    assert storage.create_bytes(uri, b"mine") is True


def test_a_driver_that_lost_the_race_says_who_holds_the_run(
    bucket: str, clear: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its write meets another's: it saw no lock, and is refused in the middle."""
    create = storage.create_bytes
    other = Holder("other", "line-2", "elsewhere", 4711, "1")

    def raced(uri: str, content: bytes) -> bool:
        monkeypatch.setattr(storage, "create_bytes", create)
        clear.rates[CONFLICT] = 1
        found = create(uri, content)
        clear.rates.clear()
        first, second = (json.dumps(asdict(replace(other, beat=beat))).encode() for beat in (0, 1))
        storage.write_bytes(uri, first)
        threading.Timer(1.5, storage.write_bytes, [uri, second]).start()
        return found

    monkeypatch.setattr(storage, "create_bytes", raced)
    says = "run night: is being written by process 4711 on line-2"
    with pytest.raises(InputError, match=says), locked(f"{bucket}/run", "run night"):
        pass


def test_a_conflict_that_nobody_won_is_tried_again(
    bucket: str, clear: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = storage.create_bytes

    def at_third_try(uri: str, content: bytes) -> bool:
        if clear.done[CONFLICT] == 2:
            clear.rates.clear()
        return create(uri, content)

    monkeypatch.setattr(storage, "create_bytes", at_third_try)
    clear.rates[CONFLICT] = 1
    with locked(f"{bucket}/run", "run night") as lock:
        lock.require()
    assert clear.done[CONFLICT] == 2


# --- what waiting doesn't mend ---


def test_what_is_not_there_or_not_allowed_is_asked_for_once(
    bucket: str, clear: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in (f"{bucket}/absent.png", "s3://no-such-bucket-here/a.png"):
        clear.requests.clear()
        found = fetch(uri, 3)
        assert isinstance(found, Failure)
        assert found.error_type == "not_found"
        assert len(clear.requests) == 1


def test_what_is_denied_is_no_absence_and_no_outage(bucket: str, clear: FaultyProxy) -> None:
    storage.write_bytes(f"{bucket}/a.png", CONTENT)
    clear.rates[DENIED] = 1
    clear.requests.clear()
    found = fetch(f"{bucket}/a.png", 3)
    assert isinstance(found, Failure)
    assert found.error_type == "permission_denied"
    assert len(clear.requests) == 1
    for call in (storage.exists, storage.read_bytes, storage.list_names):
        with pytest.raises(PermissionError):
            call(f"{bucket}/a.png")
    with pytest.raises(InputError, match=rf"^store: {bucket}/x: access denied \(Access Denied\)"):
        storage.require_writable(f"{bucket}/x", "store")


def test_buckets_and_prefixes_that_are_not_there(bucket: str, clear: FaultyProxy) -> None:
    storage.write_bytes(f"{bucket}/papers/a.txt", b"no image")
    refused = {
        "s3://no-such-bucket-here/april": "there is no such bucket",
        "s3://no-such-bucket-here": "there is no such file or folder",
        f"{bucket}/april": "there is no such file or folder",
        f"{bucket}/papers": r"holds no image in the layout 'folder' \(0 image files, 1 others",
        f"{bucket}/papers/a.txt": "is a file; give a folder",
    }
    for source, message in refused.items():
        with pytest.raises(InputError, match=f"^source: {source}: {message}"):
            list_source(source)
    with pytest.raises(InputError, match=r"^store: s3://no-such-bucket-here/x: there is no such b"):
        storage.require_writable("s3://no-such-bucket-here/x", "store")


def test_a_host_that_nobody_knows_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in access_to("http://nobody.invalid:9").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match=r"^source: s3://b/x: there is no such store .*endpoint_url"
    ):
        list_source("s3://b/x")


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[str]:
    """The URL of a server on loopback whose certificate nobody signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl, which makes the certificate")
    pem = tmp_path / "server.pem"
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", tmp_path / "cert.pem"]
    subprocess.run([openssl, "req", "-x509", *made, *named], check=True, capture_output=True)
    pem.write_text(pem.read_text() + (tmp_path / "cert.pem").read_text())
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(60)  # the store would be waited for, for 150 s
def test_a_certificate_that_is_not_trusted_is_told_at_once(
    untrusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in access_to(untrusted).items():
        monkeypatch.setenv(name, value)
    says = "the store's certificate is not trusted .*AWS_CA_BUNDLE=FILE.* s3.endpoint_url"
    with pytest.raises(InputError, match=f"^source: s3://b/x: {says}"):
        list_source("s3://b/x")
    with pytest.raises(InputError, match=f"^s3://b/x/a.png: on this worker: {says}"):
        fetch("s3://b/x/a.png", 3)


def test_missing_keys_are_told_at_once(monkeypatch: pytest.MonkeyPatch, clear: FaultyProxy) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match=r"^source: s3://b/x: no S3 credentials .*AWS_PROFILE"):
        list_source("s3://b/x")
    with pytest.raises(InputError, match=r"on this worker: no S3 credentials \("):
        fetch("s3://b/x/a.png", 3)
    assert clear.requests == []

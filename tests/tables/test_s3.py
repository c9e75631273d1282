"""A store in S3 through a proxy that answers badly: the right bytes, or the right error."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError, RunError
from pipeline.scoring.prepare import Failure, fetch
from pipeline.tables import patience, storage
from pipeline.tables.access import VARIABLE
from pipeline.tables.layout import list_source
from tests.faulty_proxy import CUT, FAULTS, RESET, SLOW_DOWN, STALL, FaultyProxy, faulty_proxy
from tests.s3_server import access_to, new_bucket

CONTENT = np.random.default_rng(5).bytes(30_000)
QUICK = {"retry_s": 20, "read_timeout_s": 0.3, "connect_timeout_s": 1}


@contextmanager
def reached_through(
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, float] | None = None,
    **faults: object,
) -> Iterator[FaultyProxy]:
    with faulty_proxy(server, **faults) as proxy:
        for name, value in access_to(proxy.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(VARIABLE, json.dumps(QUICK | (settings or {})))
        yield proxy


@pytest.fixture
def bucket(s3_server: str) -> str:
    return new_bucket(s3_server, f"store-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def clear(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with reached_through(s3_server, monkeypatch) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(patience, "_LAST_WAIT_S", 0.2)
    monkeypatch.setattr(patience, "_BROKEN_WAIT_S", 0.005)


@pytest.mark.parametrize("kind", FAULTS)
def test_whatever_happens_to_a_third_of_the_requests_the_bytes_are_right(
    kind: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{bucket}/a/{i:02}.png": CONTENT[i:] for i in range(30)}
    with reached_through(s3_server, monkeypatch, rates={kind: 0.3}, stall_s=0.6) as proxy:
        for uri, content in files.items():
            storage.write_bytes(uri, content)
        for uri, content in files.items():
            assert storage.read_bytes(uri) == content
            assert fetch(uri, 1) == content
            assert storage.exists(uri)
            assert not storage.exists(f"{uri}.absent")
        assert storage.list_names(f"{bucket}/a") == [f"{i:02}.png" for i in range(30)]
        storage.remove(f"{bucket}/a")
        assert storage.list_names(f"{bucket}/a") == []
        assert proxy.done[kind] > 20

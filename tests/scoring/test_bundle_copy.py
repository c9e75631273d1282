"""A remote bundle on a machine: each file fetched once for all processes, and none in vain."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.config import ScoreConfig
from pipeline.errors import InputError
from pipeline.scoring import scorers
from pipeline.scoring.bundle import (
    BACKBONE_FILE,
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    GAUSSIANS,
    open_bundle,
)
from pipeline.stages import pools
from pipeline.stages.model_pools import ACTORS
from pipeline.stages.pools import ActorSettings
from pipeline.stages.scoring_run import open_work
from pipeline.tables import storage
from pipeline.tables.manifest import write_manifest
from tests.conftest import ROOT
from tests.noted_store import NOTES, STUCK, NotedFileSystem, fetched
from tests.scoring.test_bundle import build, check_opened
from tests.tables.test_manifest import rows

OPENING = """
import sys
from pipeline.scoring.bundle import open_bundle
from tests import noted_store
print("ready", flush=True)
sys.stdin.readline()
open_bundle(sys.argv[1], "")
"""


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle that is not on a local disk, for a machine that has nothing of it yet."""
    here = tmp_path / "machine"
    here.mkdir()
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    monkeypatch.setenv(NOTES, str(tmp_path / "notes"))
    return f"noted://{build(str(tmp_path / 'store'))}"


@contextmanager
def processes(uri: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are about to open the bundle."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPENING, uri],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate(timeout=30)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_several_processes_one_fetches_each_file(remote: str) -> None:
    with processes(remote, 4) as started:
        for process in started:
            go(process)
        for process in started:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
    found = fetched()
    # Two categories have files of the same names.
    assert found.pop("cells_mean.npy") == found.pop("pooled.json") == 2
    assert found[BACKBONE_FILE] == found[DETECTOR_FILE] == found[CLASSIFIER_FILE] == 1
    assert set(found.values()) == {1, 2}
    check_opened(open_bundle(remote, ""))
    assert fetched().total() == 3 + 2 * 8


def test_who_is_killed_while_it_fetches_holds_nobody_up(
    remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STUCK, DETECTOR_FILE)
    with processes(remote, 1) as (process,):
        go(process)
        while DETECTOR_FILE not in fetched():
            assert process.poll() is None
            time.sleep(0.02)
        assert is_held()
    monkeypatch.delenv(STUCK)
    check_opened(open_bundle(remote, ""))
    assert not is_held()
    assert fetched()[DETECTOR_FILE] == 2


def is_held() -> bool:
    (lock,) = Path(tempfile.gettempdir()).glob("linescore-*.lock")
    with lock.open("rb") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    return True


def test_a_disk_without_locks_does_without(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    check_opened(open_bundle(remote, ""))


def test_what_is_damaged_in_the_store_is_told_to_who_waited_too(remote: str) -> None:
    place = Path(remote.removeprefix("noted://")) / CLASSIFIER_FILE
    place.write_bytes(place.read_bytes()[::-1])
    with processes(remote, 2) as started:
        for process in started:
            go(process)
        for process in started:
            _, said = process.communicate(timeout=60)
            assert f"InputError: bundle: {remote}/{CLASSIFIER_FILE}: is damaged: sha256" in said


GAUSSIAN_FILES = {
    f"{score}{rest}"
    for score in ("cells", "pooled")
    for rest in (".json", "_mean.npy", "_factor.npy", "_shrinkage.npy")
}
TAKEN = {
    "detector": {DETECTOR_FILE},
    "features": {BACKBONE_FILE, *GAUSSIAN_FILES},
    "classifier": {CLASSIFIER_FILE},
}


@pytest.mark.parametrize("name", TAKEN)
def test_an_actor_fetches_what_its_model_needs(
    remote: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded are no networks; the bundle is opened as for them."""
    for loader in ("bundle_detector", "AnomalyScorer", "DefectClassifier"):
        monkeypatch.setattr(scorers, loader, lambda bundle, threads: bundle)
    monkeypatch.setattr(pools, "keep_freed_memory", lambda: None)
    ACTORS[name](ActorSettings(remote, 1, ()))
    assert set(fetched()) == TAKEN[name]


def test_gaussians_are_read_of_a_part(remote: str) -> None:
    bundle = open_bundle(remote, "", parts=[GAUSSIANS])
    for category in bundle.categories:
        assert bundle.gaussian(category, "cells").count > 0
    assert set(fetched()) == GAUSSIAN_FILES
    assert bundle.folder.stat().st_mode & 0o777 == 0o700


def score_config(bundle: str, folder: Path) -> ScoreConfig:
    manifest = str(folder / "m.parquet")
    write_manifest(manifest, rows(3))
    given = {"manifest": manifest, "bundle": bundle, "store": str(folder / "scored")}
    return ScoreConfig.model_validate(given)


def test_a_run_that_is_opened_fetches_no_weights(remote: str, tmp_path: Path) -> None:
    work = open_work(score_config(remote, tmp_path))
    whole = open_bundle(remote.removeprefix("noted://"), "")
    assert work.bundle.bundle_digest == whole.bundle_digest
    assert (work.bundle.uri, work.bundle.spec) == (remote, whole.spec)
    assert work.bundle.categories == whole.categories
    assert work.models == ("detector", "features", "classifier")
    assert not fetched()


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_run_that_is_opened_sees_by_the_listing_what_a_remote_bundle_lacks(
    remote: str, tmp_path: Path, damage: str
) -> None:
    place = Path(remote.removeprefix("noted://")) / DETECTOR_FILE
    told = f"bundle: {remote}/{DETECTOR_FILE}: is gone; fit again, or restore the bundle"
    if damage == "cut":
        place.write_bytes(place.read_bytes()[:-1])
        told = f"{DETECTOR_FILE}: is damaged: 239 bytes, where the bundle says 240; fit again"
    else:
        place.unlink()
    with pytest.raises(InputError, match=re.escape(told)):
        open_work(score_config(remote, tmp_path))
    assert not fetched()


def test_who_may_not_list_opens_a_run(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(NotedFileSystem, "find", refuse)
    assert open_work(score_config(remote, tmp_path)).bundle.uri == remote


def test_a_run_that_is_opened_verifies_a_local_bundle_and_any_record(
    remote: str, tmp_path: Path
) -> None:
    local = remote.removeprefix("noted://")
    config = score_config(local, tmp_path)
    place = storage.join(local, DETECTOR_FILE)
    content = storage.read_bytes(place)
    storage.write_bytes(place, content[::-1])
    with pytest.raises(InputError, match=r"detector\.pt: is damaged"):
        open_work(config)
    storage.write_bytes(place, content)
    record = storage.read_json(f"{local}/bundle.json")
    record["scorer"]["image_size"] = 128
    storage.write_json(f"{local}/bundle.json", record)
    for bundle in (local, remote):
        with pytest.raises(InputError, match="its digests don't match it"):
            open_work(score_config(bundle, tmp_path))

"""What happens at night: whatever dies or fills up, the tables are the undisturbed run's."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.config import IndexConfig, ScoreConfig
from pipeline.errors import RunError
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import ONE_ACTOR, ONE_ACTOR_SET, ROOT, TinyStore, job_environment, save
from tests.deadly import DECODER, deadly_png
from tests.stub_models import models_of
from tests.stub_score import score_command

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

IMAGES = 120
BLOCK = 8
TABLES = ("scores", "detections", "errors")


@dataclass(frozen=True)
class Night:
    """An archive, and the run of it that nothing disturbed.

    Attributes:
        settings: of every run.
        calm: the store of the undisturbed one.
        networks: scored by the networks; otherwise by stand-ins that start at once.
    """

    settings: dict[str, object]
    calm: Path
    networks: bool

    def score(self, store: Path, **changes: object) -> None:
        with models_of(self.networks):
            run_score(self.config(store, **changes))

    def config(self, store: Path, **changes: object) -> ScoreConfig:
        return ScoreConfig.model_validate(self.settings | {"store": str(store)} | changes)

    def arguments(self, store: Path) -> list[str]:
        settings = {k: v for k, v in self.settings.items() if k not in ONE_ACTOR}
        return [*(f"{k}={v}" for k, v in settings.items()), f"store={store}"]

    def require_equal(self, store: Path) -> None:
        for name in TABLES:
            found = load_table(str(store), "night", name)
            assert found.equals(load_table(str(self.calm), "night", name)), name
        assert not list((store / "runs/night").glob("locks/*"))
        assert not list((store / "runs/night").glob("parts/*"))


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["stubs", "networks"],
)
def night(
    request: pytest.FixtureRequest, tiny_store: TinyStore, tmp_path_factory: pytest.TempPathFactory
) -> Night:
    folder = tmp_path_factory.mktemp("night")
    rng = np.random.default_rng(11)
    for index in range(IMAGES - 1):
        save(folder / f"archive/{index:04d}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    (folder / "archive/broken.png").write_bytes(b"no image")
    indexed = run_index(
        IndexConfig(source=str(folder / "archive"), store=str(folder), name="m", category="tile")
    )
    settings: dict[str, object] = {
        "manifest": indexed["manifest"],
        "bundle": tiny_store.bundle,
        "run_id": "night",
        "commit_rows": BLOCK,
        "block_rows": BLOCK,
        **ONE_ACTOR,  # where an actor is to die there are three
    }
    calm = Night(settings, folder / "calm", networks=request.param)
    calm.score(calm.calm)
    return calm


@contextlib.contextmanager
def meanwhile(action: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs the action beside the block; it is told when the block has ended."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            action(ended)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]


def workers(title: str) -> list[psutil.Process]:
    """Ray's worker processes of this session whose title holds the words."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            name = " ".join(process.cmdline())
            if name.startswith("ray::") and title in name:
                found.append(process)
    return found


def kill_one(title: str, ended: threading.Event, after: Callable[[], bool]) -> None:
    """Kills the first worker with that title once the condition holds."""
    while not ended.is_set():
        if after():
            for process in workers(title):
                process.kill()
                return
        time.sleep(0.01)
    pytest.fail(f"no worker {title} was there to be killed")


def commits(store: Path) -> int:
    return len(list((store / "runs/night/commits").glob("*.json")))


def test_workers_and_actors_die_at_model_load_and_in_the_middle(
    night: Night, tmp_path: Path
) -> None:
    def kill(ended: threading.Event) -> None:
        kill_one("FeatureActor", ended, lambda: True)  # while its model loads
        # The first in the chain is done before much is committed: while it is at a block.
        kill_one("DetectorActor)).submit", ended, lambda: True)
        kill_one("ClassifierActor", ended, lambda: commits(tmp_path) > 3)

    with meanwhile(kill):
        night.score(tmp_path, fuse_models=False)
    night.require_equal(tmp_path)


@pytest.mark.slow
def test_a_model_that_dies_at_every_load_ends_the_run_in_words(
    night: Night, tmp_path: Path
) -> None:
    def kill(ended: threading.Event) -> None:
        while not ended.wait(0.01):
            for process in workers("FeatureActor"):
                process.kill()

    with meanwhile(kill), pytest.raises(RunError, match="what is committed is safe"):
        night.score(tmp_path, fuse_models=False)
    night.score(tmp_path)
    night.require_equal(tmp_path)


def start(night: Night, address: str, store: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*score_command(night.networks), *night.arguments(store), *ONE_ACTOR_SET],
        cwd=ROOT,
        env=job_environment(address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_two_drivers_with_one_run_id_the_second_refuses(
    night: Night, cluster: str, tmp_path: Path
) -> None:
    first = start(night, cluster, tmp_path)
    while not list(tmp_path.glob("runs/night/locks/*.json")):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    second = start(night, cluster, tmp_path)
    _, told = second.communicate(timeout=120)
    _, errors = first.communicate(timeout=200)
    assert first.returncode == 0, errors
    assert second.returncode == 2
    assert f"run_id night: is being written by process {first.pid} on " in told
    assert "Traceback" not in told
    night.require_equal(tmp_path)


def test_a_part_that_was_damaged_after_its_commit_is_scored_again(
    night: Night, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged: list[str] = []

    def damage(ended: threading.Event) -> None:
        while not ended.wait(0.005) and not damaged:
            for record in sorted(tmp_path.glob("runs/night/commits/*.json")):
                part = record.parents[1] / "parts" / f"{record.stem}.scores.parquet"
                if part.exists():
                    content = bytearray(part.read_bytes())
                    content[len(content) // 2] ^= 1
                    part.write_bytes(content)
                    damaged.append(record.stem)
                    return

    log = __import__("logging").getLogger("linescore")
    log.addHandler(caplog.handler)
    try:
        with meanwhile(damage):
            night.score(tmp_path)
    finally:
        log.removeHandler(caplog.handler)
    assert damaged
    assert f"{damaged[0]}.scores.parquet: changed since its commit" in caplog.text
    night.require_equal(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a small disk: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_full_disk_ends_the_run_in_words_and_the_same_command_finishes_it(
    night: Night, small_disk: Path
) -> None:
    """It fills at the start, then while parts are written, then while publishing."""
    store = small_disk / "store"
    # Commits at which it fills up.
    for moment, wanted in (("start", 0), ("parts", 3), ("publishing", IMAGES // BLOCK)):
        ballast = small_disk / "ballast"

        def fill_up(ended: threading.Event, wanted: int = wanted) -> None:
            while not ended.wait(0.002):
                if commits(store) >= wanted:
                    fill(small_disk)
                    return

        with meanwhile(fill_up), pytest.raises(RunError, match=r"no space left .*make room"):
            if moment == "start":
                fill(small_disk)
            night.score(store, file_rows=2)
        assert not (store / "published").exists()
        ballast.unlink()
        assert commits(store) >= wanted  # the work so far is not lost
    night.score(store)
    night.require_equal(store)


def test_a_node_is_torn_away_in_the_middle(night: Night, tmp_path: Path) -> None:
    # An actor takes half of a node's CPUs: they are spread, and one dies with its node.
    pools = ["fuse_models=true", "pools.fused.size=3", "pools.fused.num_cpus=1"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.jobs.lose_a_node"),
            *("networks" if night.networks else "stubs", "2"),
            *(*night.arguments(tmp_path), *pools),
        ],
        cwd=ROOT,
        env=job_environment(None),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    gone = re.search(r"a node is gone after (\d+) commits", done.stdout)
    assert gone, done.stdout + done.stderr
    assert 0 < int(gone[1]) < IMAGES // BLOCK, "the run was over: nothing was lost"
    assert done.returncode == 0, done.stderr
    assert f"{IMAGES} images: {IMAGES - 1} scored, 1 errors" in done.stdout
    night.require_equal(tmp_path)


def check_deadly_images(tiny: TinyStore, folder: Path, images: int, networks: bool) -> None:
    """Two images that kill their decoder, among `images`; on a Ray of the run's own."""
    rng = np.random.default_rng(12)
    for index in range(images - 2):
        save(folder / f"archive/{index:05d}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    deadly = {
        deadly_png(folder / "archive/00003_a.png", "segfault"): "SIGSEGV",
        deadly_png(folder / f"archive/{images // 2:05d}_b.png", "exit"): "exit status 3",
    }
    indexed = run_index(
        IndexConfig(source=str(folder / "archive"), store=str(folder), name="m", category="tile")
    )
    settings = {"manifest": indexed["manifest"], "bundle": tiny.bundle, "run_id": "night"}
    arguments = [f"{key}={value}" for key, value in (settings | {"store": folder}).items()]
    arguments += ONE_ACTOR_SET
    environment = job_environment(None)
    environment["PYTHONPATH"] = os.pathsep.join([str(DECODER), str(ROOT)])
    done = subprocess.run(
        [*score_command(networks), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{images} images: {images - 2} scored, 2 errors" in done.stdout
    assert "worker_crash 2" in done.stdout
    assert "Traceback" not in done.stderr
    errors = load_table(str(folder), "night", "errors").to_pylist()
    assert {row["error_type"] for row in errors} == {"worker_crash"}
    told = {Path(row["uri"]): row["error_message"] for row in errors}
    assert told.keys() == deadly.keys()
    for path, how in deadly.items():
        assert how in told[path]
    # The others come out as if the two had never been there.
    calm = ScoreConfig.model_validate(settings | {"store": str(folder / "calm")} | ONE_ACTOR)
    with files_away(deadly), models_of(networks):
        run_score(calm)
    for name in ("scores", "detections"):
        found = load_table(str(folder), "night", name)
        assert found.equals(load_table(str(folder / "calm"), "night", name)), name


@contextlib.contextmanager
def files_away(files: Iterable[Path]) -> Iterator[None]:
    """Takes files away, which then are errors of another kind, and brings them back."""
    kept = {path: path.read_bytes() for path in files}
    for path in kept:
        path.unlink()
    yield
    for path, content in kept.items():
        path.write_bytes(content)


def test_images_that_kill_their_decoder_are_isolated(tiny_store: TinyStore, tmp_path: Path) -> None:
    check_deadly_images(tiny_store, tmp_path, 100, networks=False)


@pytest.mark.slow
def test_two_deadly_images_among_two_thousand(tiny_store: TinyStore, tmp_path: Path) -> None:
    check_deadly_images(tiny_store, tmp_path, 2000, networks=True)

"""A driver killed at any point: the same command finishes the run, with the same tables."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import IndexConfig, ScoreConfig
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import (
    ONE_ACTOR,
    ONE_ACTOR_SET,
    ROOT,
    TinyStore,
    job_environment,
    run_command,
    run_job,
    save,
)
from tests.stub_models import models_of
from tests.stub_score import score_command

COMMIT_ROWS = 8
COMMITS = "commits/*.json"
# Images from which on a run has its networks, in three pools as by default; fewer have stand-ins.
FULL_SIZE = 400


def noise_archive(root: Path, count: int) -> Path:
    rng = np.random.default_rng(5)
    for index in range(count):
        save(root / f"{index:04d}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    (root / "broken.png").write_bytes(b"no image")
    return root


def kill_when(command: list[str], pattern: str, folder: Path, files: int, address: str) -> int:
    """Starts the command, kills it when that many files are there; how many there were."""
    driver = subprocess.Popen(
        command,
        cwd=ROOT,
        env=job_environment(address),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while count(folder, pattern) < files:
        if driver.poll() is not None:
            pytest.fail(f"the driver ended before {files} {pattern}: {driver.stderr.read()}")
        assert time.monotonic() < deadline, f"no {files} {pattern} within 200 s"
        time.sleep(0.005)
    driver.kill()
    driver.wait()
    driver.stderr.close()
    return count(folder, pattern)


def count(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern)))


def check_kills(
    tiny: TinyStore,
    address: str,
    folder: Path,
    images: int,
    points: list[float],
) -> None:
    archive = noise_archive(folder / "archive", images - 1)
    manifest = run_index(
        IndexConfig(source=str(archive), store=str(folder), name="m", category="tile")
    )["manifest"]
    # One extra run that nothing disturbs, into a store of its own.
    calm = folder / "calm"
    settings = {"manifest": manifest, "bundle": tiny.bundle, "run_id": "night"}
    settings |= {"commit_rows": COMMIT_ROWS, "block_rows": COMMIT_ROWS}
    networks = images >= FULL_SIZE
    with models_of(networks):
        run_score(ScoreConfig.model_validate(settings | {"store": str(calm)} | ONE_ACTOR))

    store = folder / "killed"
    arguments = [f"{key}={value}" for key, value in (settings | {"store": store}).items()]
    arguments += () if networks else ONE_ACTOR_SET
    command = [*score_command(networks), *arguments]
    total = images // COMMIT_ROWS
    seen = 0
    for point in points:
        wanted = max(seen + 1, int(point * total))
        there = kill_when(command, COMMITS, store / "runs/night", wanted, address)
        assert seen < there
        assert not (store / "published/night.json").exists()
        seen = there
    # Kills spread over the run, none of them after its end.
    assert seen < total + len(points)
    # Once more, while the tables are being written; small files make that last.
    small = [*command, "file_rows=8"]
    assert kill_when(small, "scores/run=night/*.parquet", store / "tables", 2, address) > 1
    assert not (store / "published/night.json").exists()

    finished = run_command(command, address)
    assert finished.returncode == 0, finished.stderr
    assert "continuing" in finished.stderr
    for name in ("scores", "detections", "errors"):
        found, wanted = load_table(str(store), "night", name), load_table(str(calm), "night", name)
        assert found.equals(wanted), name
        assert found.num_rows > 0
    assert load_table(str(store), "night", "scores").num_rows == images - 1

    check_report(store / "runs/night", len(points) + 2, images)

    published = (store / "published/night.json").stat().st_mtime_ns
    again = run_command(command, address)
    assert again.returncode == 0
    assert "published already: nothing to do" in again.stdout
    assert (store / "published/night.json").stat().st_mtime_ns == published

    changed = run_command([*command, "limits.min_side=20"], address)
    assert changed.returncode == 2
    assert "limits.min_side was 16, is now 20" in changed.stderr
    assert "Traceback" not in changed.stderr


def check_report(folder: Path, attempts: int, images: int) -> None:
    """The report knows every attempt, and the work of all of them outlived the kills."""
    report = json.loads((folder / "report.json").read_text())
    before = [attempt["committed_before"] for attempt in report["attempts"]]
    assert len(before) == attempts
    assert before[0] == 0
    assert before == sorted(before)
    assert before[-1] == report["committed_before"] == images
    # A commit that a kill left unseen is made again: both have worked.
    assert min(stage["images"] for stage in report["stages"]) >= images
    assert f"{attempts} attempts" in (folder / "report.html").read_text()


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_run_killed_in_the_middle_and_while_publishing_publishes_the_same_tables(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    check_kills(tiny_store, cluster, tmp_path, 120, [0.3])


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_run_of_400_images_killed_five_times_publishes_the_same_tables(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    points = [0.02, 0.25, 0.5, 0.75, 0.95]
    check_kills(tiny_store, cluster, tmp_path, FULL_SIZE, points)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1500)
def test_twenty_kills_in_a_row_at_any_moment_change_no_table(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    archive = noise_archive(tmp_path / "archive", 399)
    manifest = run_index(
        IndexConfig(source=str(archive), store=str(tmp_path), name="m", category="tile")
    )["manifest"]
    settings = {"manifest": manifest, "bundle": tiny_store.bundle, "run_id": "night"}
    settings |= {"commit_rows": COMMIT_ROWS, "block_rows": COMMIT_ROWS, "file_rows": 50}
    calm = tmp_path / "calm"
    started = time.monotonic()
    arguments = [f"{key}={value}" for key, value in (settings | {"store": calm}).items()]
    assert run_job("score", *arguments, address=cluster).returncode == 0
    whole_s = time.monotonic() - started
    moments = random.Random(20)
    store, kills, finished = tmp_path / "killed-0", 0, 0
    left: list[int] = []
    while kills < 20 or not (store / "published/night.json").exists():
        arguments = [f"{key}={value}" for key, value in (settings | {"store": store}).items()]
        driver = subprocess.Popen(
            [sys.executable, "jobs/score.py", *arguments],
            cwd=ROOT,
            env=job_environment(cluster),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait = moments.uniform(0.1, 1) * whole_s if kills < 20 else 300
            _, errors = driver.communicate(timeout=wait)
            assert driver.returncode == 0, errors
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.communicate()
            kills += 1
            left.append(count(store, f"runs/night/{COMMITS}"))
            print(f"kill {kills}: {left[-1]} commits")
            continue
        for name in ("scores", "detections", "errors"):
            found = load_table(str(store), "night", name)
            assert found.equals(load_table(str(calm), "night", name)), name
        finished += 1
        if kills < 20:
            store = tmp_path / f"killed-{finished}"
    print(f"{kills} kills, {finished} runs finished")
    # They came before the first commit, and after some.
    assert len(set(left)) > 3
    assert max(left) > 0

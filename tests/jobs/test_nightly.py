"""configs/nightly.sh as cron starts it: two nights in a row, and what a night may meet."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import IndexConfig, MonitorConfig
from pipeline.evaluation.monitor.run import run_monitor
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables.run_catalogue import read_catalogue
from pipeline.tables.runs import load_table
from tests.conftest import ROOT, TinyStore, job_environment, save, write_archive

SCRIPT = ROOT / "configs" / "nightly.sh"
POLICY = {"policy": "v1", "name": "high", "decide": {"score": "anomaly_score", "ge": 1.0}}


def night(timeout: float = 400, **settings: str | Path) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, from another folder, with nothing but its settings."""
    address = settings.pop("address", None)
    environment = job_environment(str(address) if address else None)
    values = {name: str(value) for name, value in settings.items()}
    return subprocess.run(
        ["bash", str(SCRIPT)],
        cwd="/",
        env=environment | {"PYTHON": sys.executable, "PAUSE": "0"} | values,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def ids(store: Path, run_id: str) -> set[int]:
    return set(load_table(str(store), run_id, "scores")["image_id"].to_pylist())


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_two_nights_in_a_row(tiny_store: TinyStore, cluster: str, tmp_path: Path) -> None:
    archive, store = write_archive(tmp_path / "archive", good=3, test=1), tmp_path / "store"
    shutil.copytree(tiny_store.store / "bundles", store / "bundles")
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    (tmp_path / "keep.yaml").write_text("action: prune\nstore: none\nkeep_last: 1\n")
    settings = {
        "address": cluster,
        "SOURCE": archive,
        "STORE": store,
        "SCORE": "block_rows=8 commit_rows=8 fuse_models=true pools.fused.size=1",
        "LOGS": tmp_path / "logs",
        "LOCK": tmp_path / "lock",
    }
    judged = {"POLICIES": tmp_path / "policy.json", "EVALUATE": "roles=[none] thumbnails=false"}
    first = night(**settings, **judged, NIGHT="2026-03-01")
    log = (tmp_path / "logs" / "night-2026-03-01.log").read_text()
    assert first.returncode == 0, first.stderr + log
    assert (first.stdout, first.stderr) == ("", "")  # cron sends mail of what is printed
    scored = ids(store, "night-2026-03-01")
    assert len(scored) == 10
    assert (store / "reports/night-2026-03-01/report.html").exists()

    # New images have come, and the night is started again: it is what it was.
    rng = np.random.default_rng(1)
    save(archive / "tile/test/good/900.png", rng.integers(0, 255, (70, 64, 3), np.uint8))
    again = night(**settings, NIGHT="2026-03-01")
    log = (tmp_path / "logs" / "night-2026-03-01.log").read_text()
    assert again.returncode == 0, log
    assert "run night-2026-03-01 is published already: nothing to do" in log
    assert ids(store, "night-2026-03-01") == scored

    second = night(**settings, NIGHT="2026-03-02", RETENTION=tmp_path / "keep.yaml")
    log = (tmp_path / "logs" / "night-2026-03-02.log").read_text()
    assert second.returncode == 0, log
    assert len(ids(store, "night-2026-03-02") - scored) == 1
    # The rule keeps the last run, and what that one needs.
    left = read_catalogue(str(store))
    last = left.find("night-2026-03-02")
    assert last is not None
    assert {run.run_id for run in left.runs} == {"night-2026-03-02", *last.needs}


def test_a_second_night_at_the_same_time_ends_at_once(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = night(SOURCE=tmp_path, STORE=tmp_path / "store", LOCK=lock)
    assert done.returncode == 75
    assert f"error: LOCK: {lock}: another night is running" in done.stderr
    assert not (tmp_path / "store").exists()


# Jobs are played by a script that ends as a file tells it, one line a call.
PLAYER = """#!/bin/bash
echo "$@" >> "$PLAY/calls"
status=$(head -n 1 "$PLAY/ends"); sed -i 1d "$PLAY/ends"
exit "${status:-0}"
"""


def played(tmp_path: Path, ends: list[int], **settings: str) -> tuple[int, list[str]]:
    """The script's status when its jobs end so, and what it called."""
    player = tmp_path / "player"
    player.write_text(PLAYER)
    player.chmod(0o755)
    (tmp_path / "ends").write_text("".join(f"{status}\n" for status in ends))
    (tmp_path / "calls").unlink(missing_ok=True)
    done = night(PYTHON=str(player), PLAY=str(tmp_path), SOURCE="in", STORE="out", **settings)
    calls = (tmp_path / "calls").read_text().splitlines()
    return done.returncode, [call.split()[0].removeprefix("jobs/") for call in calls]


def test_what_failed_is_tried_again_with_the_same_command(tmp_path: Path) -> None:
    # show says that there is no such run; scoring fails, is killed, then works.
    status, calls = played(tmp_path, [2, 0, 1, 137, 0], NIGHT="n")
    assert (status, calls) == (0, ["runs.py", "index.py", "score.py", "score.py", "score.py"])
    scores = [c for c in (tmp_path / "calls").read_text().splitlines() if "score.py" in c]
    assert len(set(scores)) == 1
    assert "run_id=night-n" in scores[0]


def test_a_wrong_setting_is_not_tried_again(tmp_path: Path) -> None:
    status, calls = played(tmp_path, [2, 2])
    assert (status, calls) == (2, ["runs.py", "index.py"])
    missing = night(STORE=tmp_path / "store")
    assert missing.returncode != 0
    assert "give SOURCE=" in missing.stderr


def test_a_night_that_fails_for_good_says_so_and_deletes_nothing(tmp_path: Path) -> None:
    status, calls = played(tmp_path, [2, 0, 1, 1], TRIES="2", RETENTION="keep.yaml")
    assert (status, calls) == (1, ["runs.py", "index.py", "score.py", "score.py"])


def test_an_evaluation_that_fails_keeps_nothing_else_from_being_done(tmp_path: Path) -> None:
    settings = {"POLICIES": "a b", "RETENTION": "keep.yaml"}
    status, calls = played(tmp_path, [0, 0, 2, 0], **settings)
    assert (status, calls) == (2, ["runs.py", "score.py", "evaluate.py", "runs.py"])
    assert "policies=[a,b]" in (tmp_path / "calls").read_text()


def test_a_night_too_small_to_be_judged_fails_not_and_is_not_tried_again(tmp_path: Path) -> None:
    settings = {"POLICIES": "a", "REFERENCE": "spring", "RETENTION": "keep.yaml"}
    every = ["runs.py", "score.py", "evaluate.py", "monitor.py", "runs.py"]
    assert played(tmp_path, [0, 0, 4, 4, 0], **settings) == (0, every)
    assert played(tmp_path, [0, 0, 4, 4, 0], **settings, UNJUDGED="4") == (4, every)
    # What did fail, and an alarm, is no less told for it.
    assert played(tmp_path, [0, 0, 2, 4, 0], **settings, UNJUDGED="4") == (2, every)
    assert played(tmp_path, [0, 0, 4, 3, 0], **settings, MONITOR="alpha=0.05") == (3, every)
    assert "frozen=spring name=drift-night-" in (tmp_path / "calls").read_text()
    assert " alpha=0.05\n" in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(
    ("evaluated", "compared", "pruned", "status"),
    [
        (2, 3, 0, 2),
        (137, 3, 0, 137),
        (0, 3, 0, 3),
        (0, 3, 2, 2),  # drift, and not all else was done
        (2, 3, 1, 2),  # of two failures the first
        (4, 3, 2, 2),
        (0, 2, 0, 2),
        (0, 0, 1, 1),
    ],
)
def test_no_alarm_and_no_later_step_hides_a_failure(
    tmp_path: Path, evaluated: int, compared: int, pruned: int, status: int
) -> None:
    settings = {"POLICIES": "a", "REFERENCE": "spring", "RETENTION": "keep.yaml", "TRIES": "1"}
    found = played(tmp_path, [0, 0, evaluated, compared, pruned], **settings, UNJUDGED="4")
    assert found == (status, ["runs.py", "score.py", "evaluate.py", "monitor.py", "runs.py"])


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_nights_of_which_no_image_is_scored_go_to_their_end(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    archive, store = write_archive(tmp_path / "archive", good=3, test=1), tmp_path / "store"
    shutil.copytree(tiny_store.store / "bundles", store / "bundles")
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    (tmp_path / "keep.yaml").write_text("action: prune\nstore: none\nkeep_last: 9\n")
    settings = {
        "address": cluster,
        "SOURCE": archive,
        "STORE": store,
        "SCORE": "block_rows=8 commit_rows=8 fuse_models=true pools.fused.size=1",
        "POLICIES": tmp_path / "policy.json",
        "EVALUATE": "roles=[none] thumbnails=false",
        "REFERENCE": "first",
        "MONITOR": "roles=[none] min_images=4",
        "RETENTION": tmp_path / "keep.yaml",
    }
    index = run_index(IndexConfig(source=str(archive), store=str(store), name="nightly"))
    run_score(tiny_store.score_config(store, run_id="night-1", manifest=index["manifest"]))
    kept = {"reference": "night-1", "roles": ("none",), "freeze": "first"}
    run_monitor(MonitorConfig.model_validate({"store": str(store)} | kept))

    idle = night(**settings, NIGHT="2")
    assert idle.returncode == 0, idle.stdout + idle.stderr
    assert "no verdict: run_id: night-2: no image was scored (0 are in" in idle.stderr
    assert "monitor: NO VERDICT on this night" in idle.stdout
    assert "no image of night-2 was scored: 0 failed, 10 were left to earlier runs" in idle.stdout
    assert "attempt 2" not in idle.stdout
    assert "prune: attempt 1" in idle.stdout

    # All that came is broken: nothing can be evaluated, and it is drift of the failures.
    for number in range(6):
        (archive / f"tile/test/good/90{number}.png").write_bytes(f"no image {number}".encode())
    broken = night(**settings, NIGHT="3")
    assert "no image of night-3 was scored: 6 failed (not_an_image 6)" in broken.stdout
    assert broken.returncode == 3, broken.stdout + broken.stderr
    assert "prune: attempt 1" in broken.stdout


def test_the_night_is_that_of_the_evening_before_from_noon_to_noon(tmp_path: Path) -> None:
    clock = tmp_path / "bin"
    clock.mkdir()
    # The real command, at a time of the test's.
    (clock / "date").write_text(
        '#!/bin/bash\nargs=()\nfor a in "$@"; do a=${a/12 hours ago/$AT 12 hours ago}; '
        'args+=("$a"); done\nexec /bin/date "${args[@]}"\n'
    )
    (clock / "date").chmod(0o755)
    found = {}
    for at in ("2026-03-01T22:30Z", "2026-03-02T03:00Z", "2026-03-02T11:59Z", "2026-03-02T12:01Z"):
        path = f"{clock}:{os.environ['PATH']}"
        status, _ = played(tmp_path, [0, 0], AT=at, PATH=path)
        assert status == 0
        found[at[8:13]] = (tmp_path / "calls").read_text().split()[2]
    assert found == {
        "01T22": "night-2026-03-01",
        "02T03": "night-2026-03-01",
        "02T11": "night-2026-03-01",
        "02T12": "night-2026-03-02",
    }


def test_old_logs_go(tmp_path: Path) -> None:
    logs = tmp_path / "logs of the line"
    logs.mkdir()
    for day in range(1, 32):
        (logs / f"night-2026-01-{day:02}.log").touch()
    (logs / "other.txt").touch()
    status, _ = played(tmp_path, [0, 0], LOGS=str(logs), NIGHT="2026-02-01")
    assert status == 0
    left = sorted(path.name for path in logs.iterdir())
    assert len(left) == 31
    assert (left[0], left[-2:]) == (
        "night-2026-01-03.log",
        ["night-2026-02-01.log", "other.txt"],
    )


def test_the_line_for_cron_on_the_page_is_one_that_cron_can_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "nightly.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("30 22 * * * "))
    assert "%" not in line  # cron makes a newline of it
    player = tmp_path / "player"
    player.write_text(PLAYER)
    player.chmod(0o755)
    command = line.removeprefix("30 22 * * * ").replace(
        "/opt/linescore/.venv/bin/python", str(player)
    )
    command = command.replace("/opt/linescore", str(ROOT)).replace("/data", str(tmp_path))
    said = []
    for ends in ("0 0 0 0", "0 2"):
        (tmp_path / "ends").write_text("\n".join(ends.split()) + "\n")
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PLAY": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        said.append(done.stdout + done.stderr)
    # Mail comes only when something went wrong.
    assert said == ["", "night ended with status 2\n"]
    calls = [call.split()[0] for call in (tmp_path / "calls").read_text().splitlines()]
    assert calls[:4] == ["jobs/runs.py", "jobs/score.py", "jobs/evaluate.py", "jobs/runs.py"]


def test_the_page_and_the_script_name_the_same_settings() -> None:
    page = (ROOT / "docs" / "nightly.md").read_text()
    table = page[: page.index("| exit status |")]
    on_page = set(re.findall(r"`([A-Z]+)`", table))
    head = SCRIPT.read_text().split("set -euo")[0]
    named = re.findall(r"^# ([A-Z, ]+?)  +", head, re.M)
    in_script = {name for names in named for name in names.split(", ")}
    assert on_page == in_script

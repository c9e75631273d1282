"""LINESCORE_LOG=json: every line of standard error parses, whatever went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ONE_ACTOR_SET, ROOT, TinyStore, job_environment

FIELDS = {"time", "level", "message", "job", "run_id", "logger"}


def run(command: list[str], address: str | None = None, wanted: str = "json") -> Any:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=job_environment(address) | {"LINESCORE_LOG": wanted},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def lines(done: Any) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in done.stderr.splitlines()]
    for line in found:
        assert FIELDS <= line.keys() <= FIELDS | {"traceback"}
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    return found


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_run_logs_json_and_prints_as_ever(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    settings = [f"manifest={tiny_store.manifest}", f"bundle={tiny_store.bundle}"]
    settings += [f"store={tmp_path}", "progress_s=0.01", "commit_rows=8", "block_rows=8"]
    done = run(["jobs/score.py", *settings, "models.detector=false", *ONE_ACTOR_SET], cluster)
    assert done.returncode == 0, done.stderr
    found = lines(done)
    assert {line["job"] for line in found} == {"score"}
    (announced,) = [line for line in found if "40 images; pools:" in line["message"]]
    run_id = announced["run_id"]
    assert f"run {run_id}:" in announced["message"]
    after = found[found.index(announced) :]
    assert len(after) > 2
    assert {line["run_id"] for line in after if line["logger"] != "stderr"} == {run_id}
    assert "40 images: 40 scored, 0 errors" in done.stdout


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    done = run(["jobs/score.py", f"manifest={tmp_path}/no", "bundle=b", f"store={tmp_path}"])
    assert done.returncode == 2
    (line,) = lines(done)
    assert line["level"] == "ERROR"
    assert f"{tmp_path}/no" in line["message"]
    several = run(["jobs/score.py", "stor=1", "manifes=2"])
    (line,) = lines(several)
    assert "stor: unknown key" in line["message"]
    assert "manifes: unknown key" in line["message"]


def test_the_parsers_own_words_are_lines_too() -> None:
    done = run(["jobs/score.py", "--confg"])
    assert done.returncode == 2
    assert any("usage:" in line["message"] for line in lines(done))


CRASH = """
import logging, os, sys, threading, warnings
from jobs.command import exit_status

def job():
    warnings.warn("a library's warning")
    logging.getLogger("somebody.else").warning("seen %s", "there")
    print("half", end="", file=sys.stderr)
    print(" a line", file=sys.stderr)
    thread = threading.Thread(target=lambda: 1 / 0, name="helper")
    thread.start()
    thread.join()
    logging.getLogger("linescore").info("two\\nlines, \\u2028 and \\ud800")
    os.write(2, b"written below Python\\n")
    print("the rest", end="", file=sys.stderr)
    raise KeyError("nobody expected it")

sys.exit(exit_status(job))
"""


def test_a_crash_is_one_line_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text(CRASH)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "crash.py")],
        cwd=ROOT,
        env=job_environment(None) | {"LINESCORE_LOG": "json", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    found = lines(done)
    crash = next(line for line in found if line["level"] == "CRITICAL")
    assert crash["message"] == "'nobody expected it'"
    assert "KeyError: 'nobody expected it'" in crash["traceback"]
    assert crash["traceback"].startswith("Traceback")
    assert crash["job"] == "crash"
    messages = [line["message"] for line in found]
    assert "seen there" in messages
    assert "half a line" in messages
    assert "the rest" in messages
    assert "written below Python" in messages
    assert "two\nlines, \u2028 and \ud800" in messages
    assert any("a library's warning" in message for message in messages)
    helper = next(line for line in found if "thread helper" in line["message"])
    assert "ZeroDivisionError" in helper["traceback"]


@pytest.mark.parametrize("wanted", ["", "text"])
def test_by_default_lines_are_for_people(tmp_path: Path, wanted: str) -> None:
    done = run(
        ["jobs/score.py", f"manifest={tmp_path}/no", "bundle=b", f"store={tmp_path}"], wanted=wanted
    )
    assert done.stderr == f"error: manifest: {tmp_path}/no: there is no such file or folder\n"


def test_another_format_is_refused() -> None:
    done = run(["jobs/score.py", "--help"], wanted="jsonl")
    assert done.returncode == 2
    assert (
        done.stderr == "error: LINESCORE_LOG: 'jsonl' in the environment; known are text and json\n"
    )

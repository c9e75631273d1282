"""Who is told how a job ended: a real server, a real program; what fails there is a warning."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.command import DRIFT, NO_VERDICT, Answer, exit_status
from jobs.notices import notices
from pipeline.config import IndexConfig, NotifyConfig
from pipeline.errors import InputError, NoVerdictError, RunError
from pipeline.stages.index import run_index
from tests.conftest import ROOT, TinyStore, job_environment, run_job, write_archive
from tests.jobs.receiver import Receiver, keeper, kept, receiver, wait_until

URL = "LINESCORE_TEST_URL"
PATH = "/services/T0/s3cr3t-t0k3n"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as found:
        monkeypatch.setenv(URL, found.url + PATH)
        yield found


def both(**changes: Any) -> NotifyConfig:
    hook = {"webhook_env": URL}
    return NotifyConfig.model_validate({"on_success": hook, "on_failure": hook} | changes)


def ended(notify: NotifyConfig, work: Callable[[], dict[str, Any]], store: Path) -> int:
    """The status of a job that does this work."""

    def job() -> str:
        with notices("score", notify, str(store), "night") as told:
            return str(told.done(work()))

    return exit_status(job)


def report() -> dict[str, Any]:
    images = {"manifest": 9, "scored": 7, "errors": 2, "skipped": 0}
    return {"run_id": "night", "images": images, "errors_by_type": {"truncated": 2}, "rows": {}}


def failing(error: BaseException) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        raise error

    return work


def test_success_is_told_to_server_and_program(web: Receiver, tmp_path: Path) -> None:
    command = keeper(tmp_path / "kept")
    notify = both(on_success={"webhook_env": URL, "command": command})
    assert ended(notify, report, tmp_path) == 0
    (told,) = web.posts
    assert web.paths == [PATH]
    assert told["outcome"] == "success"
    assert (told["job"], told["run_id"], told["store"]) == ("score", "night", str(tmp_path))
    assert told["exit_status"] == 0
    assert told["images"] == report()["images"]
    assert told["errors_by_type"] == {"truncated": 2}
    assert told["text"] == "linescore score night is done: 7 of 9 images scored, 2 errors"
    assert "rows" not in told
    (call,) = kept(tmp_path / "kept")
    assert call["notice"] == told
    assert call["environment"]["LINESCORE_OUTCOME"] == "success"
    assert call["environment"]["LINESCORE_EXIT_STATUS"] == "0"
    assert call["environment"]["LINESCORE_RUN_ID"] == "night"
    assert call["environment"]["LINESCORE_JOB"] == "score"
    assert call["environment"]["LINESCORE_STORE"] == str(tmp_path)


def test_a_night_is_told_by_its_own_images(tmp_path: Path) -> None:
    night = {"manifest": 1_000_000, "scored": 120, "errors": 30, "skipped": 999_850}
    idle = {"manifest": 1_000_000, "scored": 0, "errors": 0, "skipped": 1_000_000}
    old = {"manifest": 9, "scored": 7, "errors": 2}  # from before there was anything to skip
    for name, images in (("night", night), ("idle", idle), ("old", old)):
        found = report() | {"images": images}
        assert ended(programs(tmp_path / name, "success"), lambda r=found: r, tmp_path) == 0
    texts = [
        kept(tmp_path / name / "success")[0]["notice"]["text"].partition(": ")[2]
        for name in ("night", "idle", "old")
    ]
    assert texts == [
        "120 of 150 images scored, 30 errors, 999850 skipped",
        "0 of 0 images scored, 0 errors, 1000000 skipped",
        "7 of 9 images scored, 2 errors",
    ]


CATEGORIES = [
    {"category": "tile", "verdict": "drift", "reason": "brightness fell by 30 %"},
    {"category": "bolt", "verdict": "ok", "reason": "nothing moved"},
    {"category": None, "verdict": "drift", "reason": "contrast rose by 40 %"},
]


def answered(notify: NotifyConfig, report: dict[str, Any], status: int, store: Path) -> int:
    """The status of a monitor that finds this."""

    def job() -> Answer:
        with notices("monitor", notify, str(store), "night") as told:
            told.done(report, status)
            return Answer("what was found", status)

    return exit_status(job)


def programs(tmp_path: Path, *outcomes: str) -> NotifyConfig:
    """Each of these outcomes is kept in a folder of its name."""
    hooks = {f"on_{name}": {"command": keeper(tmp_path / name)} for name in outcomes}
    return NotifyConfig.model_validate(hooks)


def test_drift_is_no_success(tmp_path: Path) -> None:
    report = {"verdict": "drift", "rows": 3, "categories": CATEGORIES}
    notify = programs(tmp_path, "success", "failure")
    assert answered(notify, report, DRIFT, tmp_path) == DRIFT == 3
    assert kept(tmp_path / "success") == []
    ((call),) = kept(tmp_path / "failure")
    notice = call["notice"]
    assert (notice["outcome"], notice["exit_status"], notice["verdict"]) == ("drift", 3, "drift")
    assert notice["text"] == "linescore monitor night found drift: tile, (no category)"
    assert notice["drift"] == {"tile": "brightness fell by 30 %", "": "contrast rose by 40 %"}
    assert call["environment"]["LINESCORE_OUTCOME"] == "drift"
    # With a hook of its own it is no failure either.
    notify = programs(tmp_path, "success", "failure", "drift")
    assert answered(notify, report, DRIFT, tmp_path) == DRIFT
    assert len(kept(tmp_path / "drift")) == 1
    assert len(kept(tmp_path / "failure")) == 1


def test_a_night_without_a_verdict_is_told_as_such(tmp_path: Path) -> None:
    notify = programs(tmp_path, "success", "failure")
    report = {"verdict": "too_few_images", "categories": CATEGORIES[1:2]}
    assert answered(notify, report, NO_VERDICT, tmp_path) == NO_VERDICT == 4
    assert ended(notify, failing(NoVerdictError("run_id: night: no image")), tmp_path) == 4
    assert kept(tmp_path / "failure") == []
    calls = sorted(kept(tmp_path / "success"), key=lambda call: call["notice"]["job"])
    found, raised = (call["notice"] for call in calls)
    assert {found["outcome"], raised["outcome"]} == {"no_verdict"}
    assert {found["exit_status"], raised["exit_status"]} == {4}
    assert found["text"] == "linescore monitor night has no verdict: too few images"
    assert raised["text"] == "linescore score has no verdict: run_id: night: no image"
    assert "error" not in raised
    notify = programs(tmp_path, "success", "failure", "no_verdict")
    assert answered(notify, report, NO_VERDICT, tmp_path) == NO_VERDICT
    assert len(kept(tmp_path / "no_verdict")) == 1
    assert len(kept(tmp_path / "success")) == 2


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InputError("manifest: x: is gone"), 2, "bad_input"),
        (RunError("run night: 3 images are lost\nsecond line"), 1, "run_failed"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_are_told_with_their_reason(
    web: Receiver, tmp_path: Path, error: BaseException, status: int, kind: str
) -> None:
    assert ended(both(), failing(error), tmp_path) == status
    (told,) = web.posts
    assert told["outcome"] == "failure"
    assert told["exit_status"] == status
    assert told["error"]["kind"] == kind
    assert told["error"]["message"] == (str(error) or type(error).__name__)
    assert "traceback" not in told["error"]
    assert told["committed"] == 0
    assert "\n" not in told["text"]


def test_a_crash_is_told_with_its_traceback_and_still_raised(web: Receiver, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        ended(both(), lambda: {"a": 1 / 0}, tmp_path)
    (told,) = web.posts
    assert told["exit_status"] == 1
    assert told["error"]["kind"] == "crash"
    assert "ZeroDivisionError: division by zero" in told["error"]["traceback"]
    assert "test_notices.py" in told["error"]["traceback"]


@pytest.mark.parametrize("strange", [{"images": {"a": 1}}, {"page": {(1, 2): 3}}])
def test_a_report_that_no_notice_can_hold_fails_no_job(
    web: Receiver, tmp_path: Path, strange: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(both(), lambda: strange, tmp_path) == 0
    assert web.posts == []
    assert "WARNING notify: no notice could be made" in capsys.readouterr().err


def test_each_outcome_has_hooks_of_its_own(web: Receiver, tmp_path: Path) -> None:
    only_failure = both(on_success={})
    assert ended(only_failure, report, tmp_path) == 0
    assert web.posts == []
    assert ended(only_failure, failing(RunError("x")), tmp_path) == 1
    assert len(web.posts) == 1


@pytest.mark.parametrize("answers", [[503, 429, 204], [500, 204]])
def test_what_can_pass_is_tried_again(
    web: Receiver, tmp_path: Path, answers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    web.answers = list(answers)
    assert ended(both(), report, tmp_path) == 0
    assert len(web.posts) == len(answers)
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "posts", "says"),
    [
        ([503] * 9, 3, "status 503, 3 times"),
        ([404], 1, "status 404"),
        ([302], 1, "status 302"),
    ],
)
def test_a_refusing_server_is_a_warning_without_the_url(
    web: Receiver,
    tmp_path: Path,
    answers: list[int],
    posts: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    web.answers = answers
    assert ended(both(), report, tmp_path) == 0
    said = capsys.readouterr()
    assert len(web.posts) == posts
    assert web.paths == [PATH] * posts
    assert f"WARNING notify.on_success.webhook_env: the webhook answered with {says}" in said.err
    assert "s3cr3t" not in said.err + said.out


@pytest.mark.parametrize("drip", [False, True])
def test_a_slow_server_is_given_up(
    web: Receiver, tmp_path: Path, drip: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    web.stall, web.drip = threading.Event(), drip
    notify = both(timeout_s=0.4, attempts=2)
    assert ended(notify, failing(RunError("the run")), tmp_path) == 1
    said = capsys.readouterr().err
    assert len(web.posts) == 2
    assert "2 times" in said
    assert "error: the run" in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "is not set"),
        ("http://alerts.example.com/s3cr3t", "must hold an https:// URL"),
        ("ftp://127.0.0.1/s3cr3t", "must hold an https:// URL"),
        ("file:///etc/s3cr3t", "must hold an https:// URL"),
        ("http://[s3cr3t", "holds no URL"),
        ("http://127.0.0.1:1/s3cr3t", "can't be reached (ConnectionRefusedError), 1 times"),
        ("http://127.0.0.1:1/s3cr3t with blanks", "(InvalidURL)"),
    ],
)
def test_an_unusable_url_is_a_warning_without_the_url(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str | None,
    says: str,
) -> None:
    monkeypatch.delenv(URL, raising=False)
    if url is not None:
        monkeypatch.setenv(URL, url)
    assert ended(both(attempts=1), report, tmp_path) == 0
    said = capsys.readouterr()
    assert says in said.err
    assert "s3cr3t" not in said.err + said.out


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('no route'); sys.exit(7)", "ended with status 7: no route"),
        ("import time; time.sleep(60)", "was killed after 1 s"),
        ("import os, time; os.fork() or time.sleep(60); time.sleep(60)", "was killed after 1 s"),
    ],
)
def test_a_failing_program_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, says: str
) -> None:
    hook = {"command": [sys.executable, "-c", program]}
    assert ended(both(on_success=hook, timeout_s=1), report, tmp_path) == 0
    assert says in capsys.readouterr().err


def test_a_program_that_is_not_there_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def work() -> dict[str, Any]:
        seen.append(capsys.readouterr().err)
        return report()

    assert ended(both(on_success={"command": ["no-such-program"]}), work, tmp_path) == 0
    assert "there is no program no-such-program" in seen[0]
    assert "no-such-program: can't be started" in capsys.readouterr().err


def test_a_program_that_reads_nothing_and_leaves_a_child_holds_nobody_up(tmp_path: Path) -> None:
    child = "[sys.executable, '-c', 'import time; time.sleep(20)']"
    program = f"import subprocess, sys; subprocess.Popen({child})"
    hook = {"command": [sys.executable, "-c", program]}
    large = report() | {"errors_by_type": {f"kind-{n}": n for n in range(20_000)}}
    assert ended(both(on_success=hook), lambda: large, tmp_path) == 0


# From here on: whole jobs.


def arguments(tiny: TinyStore, store: Path, **changes: object) -> list[str]:
    values: dict[str, object] = {
        "manifest": tiny.manifest,
        "bundle": tiny.bundle,
        "store": store,
        "run_id": "night",
        "block_rows": 8,
        "commit_rows": 8,
        "fuse_models": True,
        "pools.fused.size": 1,
    }
    return [f"{key}={value}" for key, value in (values | changes).items()]


def hooked(folder: Path) -> list[str]:
    """Settings that tell both outcomes to a program; a list on the command line is YAML."""
    command = json.dumps(keeper(folder))
    return [f"notify.on_success.command={command}", f"notify.on_failure.command={command}"]


def test_a_job_with_bad_input_tells_it(tmp_path: Path) -> None:
    settings = [f"manifest={tmp_path}/none.parquet", "bundle=latest", f"store={tmp_path}/store"]
    done = run_job("score", *settings, "run_id=night", *hooked(tmp_path / "kept"))
    assert done.returncode == 2
    ((call),) = kept(tmp_path / "kept")
    assert call["notice"]["error"]["kind"] == "bad_input"
    assert f"error: {call['notice']['error']['message']}" == done.stderr.strip()
    assert call["environment"]["LINESCORE_EXIT_STATUS"] == "2"


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_published_run_is_told_and_the_webhook_stays_out_of_its_record(
    tiny_store: TinyStore, cluster: str, web: Receiver, tmp_path: Path
) -> None:
    hook = f"notify.on_success.webhook_env={URL}"
    store = tmp_path / "store"
    done = run_job("score", *arguments(tiny_store, store), hook, address=cluster)
    assert done.returncode == 0, done.stderr
    (told,) = web.posts
    assert {"manifest": 40, "scored": 40, "errors": 0}.items() <= told["images"].items()
    assert told["page"] == str(store / "runs/night/report.html")
    assert (store / "runs/night/report.html").exists()
    record = (store / "runs/night/run.json").read_text()
    assert json.loads(record)["config"]["notify"]["on_success"]["webhook_env"] == URL
    for file in (store / "runs/night").glob("*.*"):
        assert "s3cr3t" not in file.read_text()
    assert "s3cr3t" not in done.stderr + done.stdout


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_run_whose_archive_is_gone_tells_it(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "archive")
    manifest = run_index(IndexConfig(source=str(archive), store=str(tmp_path), name="m"))
    shutil.rmtree(archive)
    settings = arguments(tiny_store, tmp_path / "store", manifest=manifest["manifest"])
    done = run_job("score", *settings, *hooked(tmp_path / "kept"), address=cluster)
    assert done.returncode == 1, done.stderr
    assert kept(tmp_path / "kept"), done.stderr
    ((call),) = kept(tmp_path / "kept")
    assert call["notice"]["error"]["kind"] == "run_failed"
    assert "max_unreachable" in call["notice"]["error"]["message"]
    assert call["notice"]["committed"] >= 8


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_terminated_job_tells_it_and_how_much_is_safe(
    tiny_store: TinyStore, cluster: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "jobs/score.py", *arguments(tiny_store, store)]
    command += ["commit_rows=1", "block_rows=1", *hooked(tmp_path / "kept")]
    with (tmp_path / "said").open("w") as said:
        job = subprocess.Popen(
            command, cwd=ROOT, env=job_environment(cluster), stdout=said, stderr=said
        )
        wait_until(lambda: any((store / "runs/night/commits").glob("*.json")), 200)
        job.send_signal(signal.SIGTERM)
        status = job.wait(100)
    assert status not in (0, -signal.SIGKILL)
    ((call),) = kept(tmp_path / "kept")
    assert call["notice"]["outcome"] == "failure"
    assert call["notice"]["error"]["kind"] == "interrupted"
    assert call["notice"]["exit_status"] == status
    assert 1 <= call["notice"]["committed"] < 40
    assert not (store / "published/night.json").exists()

"""`python jobs/runs.py` as a user types it, on a folder and on a bucket; bad ids in every job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from jobs.runs import main
from pipeline.tables import storage
from pipeline.tables.runs import load_table
from tests.conftest import ROOT
from tests.tables.stores import content, put_published, put_unfinished

BUCKET = "plant-8"
BAD_IDS = {
    "dots": "../escaped",
    "space": "april night",
    "absolute": "/var/run",
    "long": "x" * 300,
    "newline": "a\nb",
}
# Every job that takes a run id, with what else it must be given.
TAKES_ID = {
    "score": ["manifest=m", "bundle=b"],
    "fit": ["manifest=m"],
    "calibrate": [],
    "evaluate": ["policies=p"],
    "monitor": ["reference=r"],
    "report": [],
    "runs": ["action=show"],
}


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("job", TAKES_ID)
def test_an_id_that_could_lead_elsewhere_is_refused_by_every_job(
    job: str, bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import import_module

    settings = [*TAKES_ID[job], f"store={tmp_path}/store", f"run_id={BAD_IDS[bad]}"]
    status: int = import_module(f"jobs.{job}").main(settings)
    said = capsys.readouterr().err
    assert status == 2
    assert "run_id" in said
    assert "a run id has letters, digits, '.', '_' and '-' only" in said
    assert repr(BAD_IDS[bad]) in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", ["calibrate", "evaluate"])
def test_an_empty_id_is_refused_where_one_is_needed(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import import_module

    status = import_module(f"jobs.{job}").main([*TAKES_ID[job], f"store={tmp_path}", "run_id="])
    assert status == 2
    assert "run_id" in capsys.readouterr().err


def runs(
    *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", "runs", *words],
        cwd=ROOT,
        env=dict(os.environ) | (environment or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_store_is_looked_after_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    put_published(store, "monday")
    put_published(store, "tuesday", needs=["monday"])
    listed = runs("list", f"store={store}", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [run["run_id"] for run in json.loads(listed.stdout)["runs"]] == ["monday", "tuesday"]

    before = content(store)
    assert main(["delete", "monday", "--yes", "--store", store]) == 2
    said = capsys.readouterr().err
    assert "error: run monday: is kept: run tuesday needs it" in said
    assert "error: nothing was deleted" in said
    assert main(["delete", "monday", "tuesday", f"store={store}"]) == 0
    assert "Nothing was touched" in capsys.readouterr().out
    assert content(store) == before
    done = runs("delete", "monday", "tuesday", f"store={store}", "--yes")
    assert done.returncode == 0, done.stderr
    assert "deleted: 2 runs" in done.stdout
    assert content(store) == {}


def test_a_damaged_file_ends_show_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    places = put_published(store, "monday")
    (Path(places.table("scores")) / "part-00000.parquet").write_bytes(b"?")
    assert main(["show", "monday", f"store={store}"]) == 0
    assert main(["show", "monday", f"store={store}", "--verify"]) == 1
    assert "part-00000.parquet: isn't what the record says" in capsys.readouterr().err


def test_the_rule_of_the_example_config_goes_by_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    for number in range(31):
        ended = f"2020-01-{number + 1:02}T00:00:00+00:00"
        record = {"kind": "score", "finished_at": ended, "tables": {}}
        storage.write_json(f"{store}/published/night-{number:02}.json", record)
    put_unfinished(store, "begun")
    settings = ["--config", str(ROOT / "configs/runs.yaml"), f"store={store}"]
    assert main([*settings, "yes=true"]) == 0
    assert "deleted: 2 runs" in capsys.readouterr().out
    assert main(["list", f"store={store}", "--json"]) == 0
    left = [run["run_id"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert left == [f"night-{number:02}" for number in range(1, 31)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket on loopback; a store in it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}/plant/store"
    server.stop()


def test_runs_in_a_bucket_are_listed_shown_and_deleted(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("night-1", "night-10", "night"):
        put_published(bucket, run_id)
    others = {path: data for path, data in content(bucket).items() if "night-1." not in path
              and "night-1/" not in path}  # fmt: skip
    assert main(["show", "night-1", f"store={bucket}", "--verify"]) == 0
    assert "3 files read" in capsys.readouterr().out
    assert main(["compare", "night", "night-10", f"store={bucket}"]) == 0
    assert "11 images are scored in both" in capsys.readouterr().out
    assert main(["delete", "night-1", f"store={bucket}"]) == 0
    assert "Nothing was touched" in capsys.readouterr().out
    assert load_table(bucket, "night-1", "scores").num_rows == 11
    assert main(["delete", "night-1", f"store={bucket}", "--yes"]) == 0
    assert content(bucket) == others
    assert load_table(bucket, "night-10", "scores").num_rows == 11
    assert main(["delete", "night-1", f"store={bucket}", "--yes"]) == 2
    assert "run night-1: isn't in the store" in capsys.readouterr().err
    assert main(["list", "store=s3://no-such-bucket-here/store"]) == 2
    said = capsys.readouterr().err
    assert "store: s3://no-such-bucket-here/store: there is no such" in said
    assert "Traceback" not in said

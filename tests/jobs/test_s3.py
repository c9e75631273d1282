"""An archive and a store in a bucket, behind a real S3 protocol server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.tables.runs import load_table
from tests.conftest import ROOT, TinyStore, job_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

BUCKET = "plant-7"


@pytest.fixture
def bucket(tiny_store: TinyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A bucket with the small archive; the environment in which it is reached."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "nothing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in access.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for path in sorted(tiny_store.archive.rglob("*.png")):
        client.upload_file(str(path), BUCKET, f"april/{path.relative_to(tiny_store.archive)}")
    client.put_object(Bucket=BUCKET, Key="april/readme.txt", Body=b"about april")
    yield access
    server.stop()


def run(job: str, *settings: str) -> subprocess.CompletedProcess[str]:
    """A job on a Ray of its own, as `python jobs/…` starts it."""
    environment = job_environment(None) | {k: v for k, v in os.environ.items() if "AWS" in k}
    done = subprocess.run(
        [sys.executable, f"jobs/{job}.py", *settings],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_an_archive_in_a_bucket_gives_the_scores_of_the_same_files_on_disk(
    bucket: dict[str, str], tiny_store: TinyStore, tmp_path: Path
) -> None:
    store = f"s3://{BUCKET}/store"
    indexed = run("index", f"source=s3://{BUCKET}/april", f"store={store}", "name=april")
    assert "40 images in 40 files, layout mvtec" in indexed.stdout
    assert "1 stray files" in indexed.stdout
    scored = run(
        "score",
        f"manifest={store}/manifests/april.parquet",
        f"bundle={tiny_store.bundle}",
        f"store={store}",
        "run_id=april",
    )
    assert "40 images: 40 scored, 0 errors" in scored.stdout
    found = load_table(store, "april", "scores").drop_columns(["uri"])

    local = tiny_store.score_config(tmp_path, run_id="april")
    from pipeline.stages.score import run_score

    run_score(local)
    wanted = load_table(str(tmp_path), "april", "scores").drop_columns(["uri"])
    assert found.equals(wanted)
    again = run(
        "score",
        f"manifest={store}/manifests/april.parquet",
        f"bundle={tiny_store.bundle}",
        f"store={store}",
        "run_id=april",
    )
    assert "published already: nothing to do" in again.stdout

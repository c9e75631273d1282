"""Jobs over an archive and a store in a bucket, through a proxy that answers badly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pytest

from pipeline.scoring.bundle import DETECTOR_FILE, NAME_DIGITS, RECORD
from pipeline.tables import storage
from pipeline.tables.access import VARIABLE
from pipeline.tables.manifest import write_manifest
from pipeline.tables.runs import load_table
from tests.conftest import ONE_ACTOR_SET, ROOT, TinyStore, job_environment, printed_by, save
from tests.faulty_proxy import FAULTS, FaultyProxy, faulty_proxy
from tests.s3_server import SECRET, access_to, files_below, new_bucket
from tests.stub_score import score_command

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

FIVE_PERCENT = dict.fromkeys(FAULTS, 0.05)


@dataclass(frozen=True)
class Plant:
    """An archive in a bucket that is reached through a proxy.

    Attributes:
        uri: the bucket.
        proxy: between the jobs and the store.
        settings: of every job.
    """

    uri: str
    proxy: FaultyProxy
    settings: tuple[str, ...]

    @property
    def store(self) -> str:
        return f"{self.uri}/store"

    def run(self, job: str, *settings: str, status: int = 0, timeout: float = 300) -> str:
        """A job on a Ray of its own, as `python jobs/…` starts it; what it says."""
        return self.command([sys.executable, f"jobs/{job}.py", *settings], status, timeout)

    def command(self, command: list[str], status: int = 0, timeout: float = 300) -> str:
        """The same of any command that takes a job's settings."""
        environment = job_environment(None)
        for name in ("AWS_ENDPOINT_URL", VARIABLE):
            environment.pop(name, None)  # the config alone names the endpoint
        done = subprocess.run(
            [*command, *self.settings],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, said
        assert SECRET not in said
        return said


@pytest.fixture
def plant(
    tiny_store: TinyStore, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Plant]:
    files = files_below(tiny_store.archive, "april/") | {"april/readme.txt": b"about april"}
    uri = new_bucket(s3_server, f"plant-{uuid.uuid4().hex[:8]}", files)
    for name, value in access_to(s3_server).items():
        monkeypatch.setenv(name, value)  # the test itself goes to the server
    with faulty_proxy(s3_server, stall_s=1, seed=4) as proxy:
        yield Plant(uri, proxy, settings_for(proxy))


def settings_for(proxy: FaultyProxy) -> tuple[str, ...]:
    return (f"s3.endpoint_url={proxy.url}", "s3.read_timeout_s=0.4", "s3.connect_timeout_s=1")


def objects(server: str, uri: str) -> dict[str, bytes]:
    """Every object of a bucket."""
    client = boto3.client("s3", endpoint_url=server)
    bucket = uri.removeprefix("s3://")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def away_at_the_first_commit(proxy: FaultyProxy, seconds: float) -> threading.Thread:
    """Takes the store away while a run writes."""

    def watch() -> None:
        while not any(m == "PUT" and "/commits/" in path for m, path in list(proxy.requests)):
            time.sleep(0.05)
        proxy.leave_for(seconds)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("away_s", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_an_archive_in_a_bucket_gives_the_scores_of_the_same_files_on_disk(
    plant: Plant, s3_server: str, tiny_store: TinyStore, tmp_path: Path, away_s: float
) -> None:
    """With 5 % of each fault, and the store away for a while in the middle."""
    plant.proxy.rates = FIVE_PERCENT
    said = plant.run("index", f"source={plant.uri}/april", f"store={plant.store}", "name=april")
    assert "40 images in 40 files, layout mvtec" in said
    assert "1 stray files" in said
    score = (
        "score",
        f"manifest={plant.store}/manifests/april.parquet",
        f"bundle={tiny_store.bundle}",
        f"store={plant.store}",
        "run_id=april",
        "block_rows=8",
        "commit_rows=8",
        *ONE_ACTOR_SET,
    )
    watch = away_at_the_first_commit(plant.proxy, away_s)
    assert "40 images: 40 scored, 0 errors" in plant.run(*score)
    watch.join(1)
    assert not watch.is_alive()
    assert set(plant.proxy.done) == set(FAULTS)
    found = load_table(plant.store, "april", "scores").drop_columns(["uri"])

    from pipeline.stages.score import run_score

    run_score(tiny_store.score_config(tmp_path, run_id="april"))
    assert found.equals(load_table(str(tmp_path), "april", "scores").drop_columns(["uri"]))
    assert load_table(plant.store, "april", "detections").equals(
        load_table(str(tmp_path), "april", "detections")
    )
    assert "published already: nothing to do" in plant.run(*score)

    for key, content in objects(s3_server, plant.uri).items():
        assert SECRET.encode() not in content, key
    record = storage.read_json(f"{plant.store}/runs/april/run.json")
    assert record["config"]["s3"]["endpoint_url"] == plant.proxy.url


def test_a_manifest_whose_images_are_gone_stops_the_run(
    plant: Plant, tiny_store: TinyStore
) -> None:
    rows = storage.read_parquet(tiny_store.manifest)
    gone = [f"{plant.uri}/may/{place}.png" for place in range(rows.num_rows)]
    place = rows.schema.get_field_index("uri")
    manifest = f"{plant.store}/manifests/may.parquet"
    write_manifest(manifest, rows.set_column(place, rows.schema.field("uri"), pa.array(gone)))
    # No image reaches a model.
    settings = (f"bundle={tiny_store.bundle}", f"store={plant.store}", "run_id=may")
    command = [*score_command(networks=False), f"manifest={manifest}", *settings, *ONE_ACTOR_SET]
    said = plant.command(command, status=1)
    assert "max_unreachable: the files of" in said
    assert "Traceback" not in said
    assert not storage.exists(f"{plant.store}/published/may.json")


def test_a_bundle_in_a_bucket_is_fetched_by_the_actors_and_told_where_it_is_damaged(
    plant: Plant, tiny_store: TinyStore
) -> None:
    bundle = f"{plant.uri}/bundle"
    for name, content in files_below(Path(tiny_store.bundle)).items():
        storage.write_bytes(f"{bundle}/{name}", content)
    weights = storage.read_bytes(f"{bundle}/{DETECTOR_FILE}")
    storage.write_bytes(f"{bundle}/{DETECTOR_FILE}", weights[::-1])
    digest = storage.read_json(f"{bundle}/{RECORD}")["bundle_digest"]
    copy = Path(tempfile.gettempdir()) / f"linescore-{os.getuid()}-{digest[:NAME_DIGITS]}"
    command = ("score", f"manifest={tiny_store.manifest}", f"bundle={bundle}")
    command += (f"store={plant.store}", "run_id=june", *ONE_ACTOR_SET)
    try:
        said = plant.run(*command, status=2)
        # The last line is the job's; what Ray says of its actors may stand before it.
        last = said.rstrip().splitlines()[-1]
        assert last.startswith(f"error: bundle: {bundle}/{DETECTOR_FILE}: is damaged: sha256 ")
        assert not storage.exists(f"{plant.store}/published/june.json")
        storage.write_bytes(f"{bundle}/{DETECTOR_FILE}", weights)
        assert "40 images: 40 scored, 0 errors" in plant.run(*command)
        assert (copy / DETECTOR_FILE).read_bytes() == weights
    finally:
        shutil.rmtree(copy, ignore_errors=True)
        copy.with_name(f"{copy.name}.lock").unlink(missing_ok=True)


ON_A_WORKER = """
import json, os, ray
from pipeline.config import RayConfig
from pipeline.stages.cluster import connected
with connected(RayConfig()):
    print(json.dumps(ray.get(ray.remote(lambda: dict(os.environ)).remote())))
"""


def test_workers_of_a_cluster_get_the_settings_and_never_a_key(cluster: str) -> None:
    printed = printed_by(ON_A_WORKER, address=cluster, **access_to("http://minio.plant:9000"))
    assert "http://minio.plant:9000" in printed
    assert VARIABLE in printed
    assert SECRET not in printed


# --- at full size ---

IMAGES = 5_000


@pytest.fixture
def large_plant(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    rng = np.random.default_rng(11)
    for number in range(IMAGES):
        folder = "good" if number % 10 else "dent"
        pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        save(tmp_path / "archive/bolt/test" / folder / f"{number:05d}.png", pixels)
    files = files_below(tmp_path / "archive", "april/")
    uri = new_bucket(s3_server, f"large-{uuid.uuid4().hex[:8]}", files)
    for name, value in access_to(s3_server).items():
        monkeypatch.setenv(name, value)
    with faulty_proxy(s3_server, stall_s=1, seed=4) as proxy:
        yield Plant(uri, proxy, settings_for(proxy))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_thousand_images_through_five_percent_of_each_fault(
    large_plant: Plant, tiny_store: TinyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    plant, took = large_plant, {}
    for name, rates in (("clean", {}), ("faulty", FIVE_PERCENT)):
        plant.proxy.rates = rates
        store = f"{plant.uri}/{name}"
        said = {}
        for job, settings in (
            ("index", (f"source={plant.uri}/april", "name=april")),
            ("score", (f"manifest={store}/manifests/april.parquet", "run_id=april")),
        ):
            more = (f"bundle={tiny_store.bundle}",) if job == "score" else ()
            said[job] = plant.run(job, f"store={store}", *settings, *more, timeout=1400)
        assert f"{IMAGES} images: {IMAGES} scored, 0 errors" in said["score"]
        scoring = storage.read_json(f"{store}/runs/april/report.json")["scoring"]
        took[name] = {
            "scoring": scoring["seconds"],
            "after the first commit": scoring["seconds"] - scoring["first_commit_s"],
        }
    assert set(plant.proxy.done) == set(FAULTS)
    for table in ("scores", "detections", "errors"):
        tables = [load_table(f"{plant.uri}/{name}", "april", table) for name in took]
        assert isinstance(tables[0], pa.Table)
        assert tables[0].equals(tables[1]), table
    with capsys.disabled():
        print(f"\n{IMAGES} images: {took}, faults {dict(plant.proxy.done)}")
        print({name: took["clean"][name] / took["faulty"][name] for name in took["clean"]})

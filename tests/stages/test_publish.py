"""Publications that fail: nothing goes on writing behind them, and the run continues with less."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, RunError
from pipeline.stages.fit import run_fit
from pipeline.stages.publish import _in_parallel
from pipeline.stages.score import run_score
from pipeline.tables import storage
from pipeline.tables.ledger import DamagedPartError
from pipeline.tables.publication import FilePlan, IdRange, Source
from pipeline.tables.runs import load_table
from tests.conftest import TinyModels, TinyStore, run_command, tiny_fit_config
from tests.stub_models import models_of
from tests.stub_score import score_command
from tests.tables.rows import commit, images

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), pytest.mark.usefixtures("cluster")]

NOTHING = np.empty(0, np.int64)
# A file that is made of one part read so often is long in the making.
LONG = 400


def test_a_damaged_part_waits_for_the_files_beside_it(tmp_path: Path) -> None:
    good, bad = (commit(str(tmp_path), images(50, ["bolt"])) for _ in range(2))
    all_ids = IdRange("bolt", 0, 2**63 - 1)

    def plan(name: str, *sources: Source) -> FilePlan:
        return FilePlan("scores", str(tmp_path / f"tables/{name}.parquet"), (all_ids,), sources)

    whole = Source(good.name, good.parts["scores"])
    broken = Source(bad.name, bad.parts["scores"])
    # Workers for all of them are there when it counts, and without damage all files come.
    warm = [plan(f"warm-{number}", whole, broken) for number in range(4)]
    files = list(_in_parallel(str(tmp_path), warm, NOTHING))
    assert [file.rows for file in files if file] == [50] * 4

    (tmp_path / "parts" / broken.part.file).unlink()
    slow = [plan(f"slow-{number}", *[whole] * LONG) for number in range(2)]
    with pytest.raises(DamagedPartError, match="is gone"):
        list(_in_parallel(str(tmp_path), [plan("bad", broken), *slow], NOTHING))
    # What was begun is there; nothing is written into the folder behind the next attempt's back.
    names = storage.list_names(str(tmp_path / "tables"))
    assert [name for name in names if not name.startswith("warm")] == [
        "slow-0.parquet",
        "slow-1.parquet",
    ]


@pytest.fixture
def committed(tiny_store: TinyStore, tmp_path: Path) -> Iterator[Path]:
    """A store with a run all of whose images are committed, and whose publication failed."""
    in_the_way = tmp_path / "tables"
    in_the_way.write_text("no folder")
    with models_of(networks=False, seconds=0):
        with pytest.raises(RunError, match="what is committed is safe"):
            again(tiny_store, tmp_path)
        in_the_way.unlink()
        yield tmp_path


def again(tiny: TinyStore, store: Path, **changes: Any) -> dict[str, Any]:
    return run_score(tiny.score_config(store, run_id="r", **changes))


@contextmanager
def indexed_anew(tiny: TinyStore, store: Path, run_id: str, kept: str) -> Iterator[str]:
    """A manifest that is written anew, with other labels, once a run has its first commit."""
    manifest, fresh = store / "m.parquet", store / "new.parquet"
    old = pq.read_table(tiny.manifest)
    pq.write_table(old, manifest, row_group_size=1)
    new = old if kept == "rows" else old.slice(0, 1)
    place = new.schema.get_field_index("line")
    new = new.set_column(place, new.schema.field(place), pa.array(["another"] * len(new)))

    def index_again() -> None:
        commits = store / "runs" / run_id / "commits"
        while not (commits.exists() and list(commits.glob("*.json"))):
            time.sleep(0.005)
        pq.write_table(new, fresh, row_group_size=1)
        fresh.replace(manifest)

    with ThreadPoolExecutor(1) as beside:
        indexing = beside.submit(index_again)
        with pytest.raises(
            InputError, match=r"m\.parquet: was written anew while this run read it"
        ):
            yield str(manifest)
        indexing.result()


SMALL = {"block_rows": 1, "commit_rows": 1}


@pytest.mark.parametrize("kept", ["rows", pytest.param("first row", marks=pytest.mark.slow)])
def test_a_manifest_that_is_written_anew_under_a_run_is_not_published(
    tiny_store: TinyStore, tmp_path: Path, kept: str
) -> None:
    """The parts have the new labels of some images; or there are fewer rows."""
    with models_of(networks=False, seconds=0), indexed_anew(tiny_store, tmp_path, "r", kept) as m:
        again(tiny_store, tmp_path, manifest=m, **SMALL)
    assert not (tmp_path / "published").exists()


def test_a_manifest_that_is_written_anew_under_a_fit_makes_no_bundle(
    tiny_store: TinyStore, tiny_models: TinyModels, tmp_path: Path
) -> None:
    with indexed_anew(tiny_store, tmp_path, "f", "rows") as manifest:
        run_fit(tiny_fit_config(manifest, tmp_path, tiny_models, run_id="f", **SMALL))
    assert not (tmp_path / "bundles").exists()


# What the cluster had when the run began.
GONE = {
    "pools": ({"pools": {"fused": {"size": 1, "num_gpus": 1}}}, "pools: need 1 GPUs"),
    "nodes": ({"ray": {"min_gpus": 1, "startup_wait_s": 0}}, r"ray\.min_gpus: after 0 s"),
}


@pytest.mark.parametrize("what", GONE)
def test_a_run_of_which_only_the_tables_are_missing_asks_for_nothing_to_score_with(
    tiny_store: TinyStore, committed: Path, what: str
) -> None:
    changes, refusal = GONE[what]
    record = next((committed / "runs/r/commits").glob("*.json"))
    aside = record.rename(committed / "aside.json")
    with pytest.raises(InputError, match=refusal):
        again(tiny_store, committed, **changes)
    aside.rename(record)
    report = again(tiny_store, committed, **changes)
    total = report["images"]["manifest"]
    assert load_table(str(committed), "r", "scores").num_rows == total
    assert (report["committed_before"], report["scoring"]["images"]) == (total, 0)
    # What each attempt had; the run's own record keeps what it began with.
    assert report["pools"] == report["attempts"][-1]["pools"] == {}
    began = json.loads((committed / "runs/r/run.json").read_text())["pools"]
    assert [*began] == [*report["attempts"][0]["pools"]] == ["fused"]


def test_a_part_found_damaged_when_only_the_tables_were_missing_is_scored_again(
    tiny_store: TinyStore, committed: Path
) -> None:
    part = next((committed / "runs/r/parts").glob("*.scores.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    report = again(tiny_store, committed)
    assert load_table(str(committed), "r", "scores").num_rows == report["images"]["manifest"]
    assert report["scoring"]["images"] == 8
    assert [*report["pools"]] == ["fused"]


def test_what_the_store_refuses_the_driver_is_an_error_in_words(
    tiny_store: TinyStore, committed: Path
) -> None:
    in_the_way = committed / "runs/r/report.json"
    in_the_way.mkdir()
    says = r"^run r: IsADirectoryError: .*report\.json.*; what is committed is safe, and the same"
    with pytest.raises(RunError, match=says):
        again(tiny_store, committed)
    in_the_way.rmdir()
    report = again(tiny_store, committed)
    assert report["committed_before"] == report["images"]["manifest"]


def test_rights_that_are_lost_after_the_start_are_no_traceback(
    tiny_store: TinyStore, cluster: str, committed: Path
) -> None:
    """In a process of its own: that of the tests may be root's, which is refused nothing."""
    attempts = committed / "runs/r/attempts"
    settings = {"manifest": tiny_store.manifest, "bundle": tiny_store.bundle, "run_id": "r"}
    arguments = [f"{key}={value}" for key, value in (settings | {"store": committed}).items()]
    attempts.chmod(0o500)
    refused = run_command([*score_command(networks=False), *arguments], cluster)
    attempts.chmod(0o700)
    assert refused.returncode == 1, refused.stderr
    assert "error: run r: PermissionError: [Errno 13] Permission denied: " in refused.stderr
    assert "check the rights of the user or role; what is committed is safe" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert again(tiny_store, committed)["images"]["errors"] == 0


def test_what_the_store_refuses_a_fit_is_an_error_in_words(
    tiny_store: TinyStore, tiny_models: TinyModels, tmp_path: Path
) -> None:
    config = tiny_fit_config(tiny_store.manifest, tmp_path, tiny_models, run_id="f")
    (tmp_path / "runs/f/report.json").mkdir(parents=True)
    with pytest.raises(RunError, match=r"^fit f: IsADirectoryError: .*the same command continues"):
        run_fit(config)

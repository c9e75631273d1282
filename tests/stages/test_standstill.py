"""Two CPUs and a small object store: more blocks than it holds go through, none waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.synthetic import write_rows
from tests.conftest import ROOT, TinyStore

# Near Ray's least, beside rows of four kilobytes: the outputs of a task that cuts a manifest soon
# wait for room.
STORE_BYTES = 80 * 2**20
ROWS = 3_000
LONG_WAY = "/." * 1900


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(280)
def test_a_manifest_of_more_blocks_than_the_store_holds_is_scored(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    rows = pq.read_table(write_rows(tmp_path, ROWS))
    long = pc.replace_substring(rows["uri"], "/pictures/", f"{LONG_WAY}/pictures/")
    place = rows.schema.get_field_index("uri")
    pq.write_table(
        rows.set_column(place, rows.schema.field("uri"), long), tmp_path / "long.parquet"
    )
    score = {
        "manifest": str(tmp_path / "long.parquet"),
        "bundle": tiny_store.bundle,
        "store": str(tmp_path),
        "run_id": "r",
        "reuse": False,
        "block_rows": 64,
        "commit_rows": 1024,
    }
    given = {"score": score, "cpus": 2, "object_store_bytes": STORE_BYTES}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.stub_run"],
        cwd=ROOT,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["images"]["scored"] == ROWS

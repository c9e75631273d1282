"""The benchmarks in small: that they measure what they say, their counts, and no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.images.decode import decode
from pipeline.models.precision import has_bfloat16
from pipeline.stages.model_pools import ACTORS
from pipeline.stages.score import run_score
from tests.benchmarks import growing, ledger
from tests.benchmarks.__main__ import SECTIONS
from tests.benchmarks.archive import encoded, with_comment, write_pictures
from tests.benchmarks.bare_images import boxed
from tests.benchmarks.decoding import CASES, KINDS, OTHERS
from tests.benchmarks.ratios import Ratio, as_markdown, in_turns
from tests.benchmarks.scoring import middle_speed
from tests.benchmarks.stages import stored_bytes
from tests.benchmarks.stored import noted
from tests.benchmarks.stub_run import StubTask, run
from tests.benchmarks.synthetic import write_rows
from tests.conftest import ROOT, TINY_SIDE, TinyStore


def test_a_ratio_is_taken_turn_by_turn() -> None:
    ran: list[str] = []
    speeds = {"own": iter([2.0, 9.0, 4.0]), "other": iter([1.0, 3.0, 4.0])}

    def measure(name: str) -> float:
        ran.append(name)
        return next(speeds[name])

    found = in_turns("a / b", lambda: measure("own"), lambda: measure("other"), 3)
    assert ran == ["other", "own", "own", "other", "other", "own"]
    assert found == Ratio("a / b", (2.0, 9.0, 4.0), (1.0, 3.0, 4.0))
    assert found.turns == [1.0, 2.0, 3.0]
    assert "| **2.00** | 1.00 to 3.00 | 3 |" in as_markdown([found.row()])


def test_the_middle_of_a_run_leaves_start_and_end_out() -> None:
    # 100 commits: the first comes late, the last ten drip.
    seen = [(20.0 + n, n + 1) for n in range(90)] + [(200.0 + 30 * n, 91 + n) for n in range(10)]
    assert middle_speed(seen, 100) == pytest.approx(1.0)


def test_every_decoder_is_given_the_same_picture_and_gives_the_same_pixels() -> None:
    for name, side, kind, grey in CASES:
        content = encoded(1, side // 4, kind, grey=grey)
        pixels = decode(content).pixels
        for other, work in OTHERS.items():
            assert np.array_equal(work(content), pixels), (name, other)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_pictures_of_an_archive_are_all_different_files(tmp_path: Path, kind: str) -> None:
    write_pictures(tmp_path, 40, 64, kind)
    files = sorted(tmp_path.rglob("*.*"))
    assert len({file.read_bytes() for file in files}) == len(files) == 40
    assert decode(files[0].read_bytes()).format == kind.upper()
    plain = encoded(0, 64, kind, grey=False)
    assert np.array_equal(decode(with_comment(plain, b"7", kind)).pixels, decode(plain).pixels)


def test_the_loop_letterboxes_as_the_job_does() -> None:
    from pipeline.images.geometry import letterbox

    pixels = np.random.default_rng(3).integers(0, 256, (128, 128, 3), np.uint8)
    assert np.array_equal(boxed(pixels, 64), letterbox(pixels, 64))


def test_the_ledger_counts_every_row() -> None:
    found = ledger.measure(300)
    assert found.rows == 300
    assert min(found.committed_bytes, found.published_bytes) > 10


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_a_run_with_stubs_is_the_whole_job(tiny_store: TinyStore, tmp_path: Path) -> None:
    manifest = write_rows(tmp_path, 160)
    score = growing.settings(tmp_path, tiny_store.bundle, manifest, "r")
    seen = run(StubTask(score | {"block_rows": 32, "commit_rows": 64, "fuse_models": True}))
    assert seen.images["manifest"] == seen.images["scored"] == seen.images["decoded"] == 160
    assert seen.commits[-1][1] == 160
    assert min(seen.driver, seen.worker) > 0


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_what_goes_through_the_object_store_is_what_the_tables_weigh(
    cluster: str, tiny_store: TinyStore, tmp_path: Path
) -> None:
    pools = {name: {"size": 1} for name in ("detector", "features", "classifier")}
    with noted() as handed_on:
        config = tiny_store.score_config(tmp_path, run_id="r", fuse_models=False, pools=pools)
        report = run_score(config)
    counts = report["images"]
    each = sum(handed_on.values()) / counts["manifest"]
    worked_out = stored_bytes(tiny_store.bundle, TINY_SIDE, TINY_SIDE)
    # Beside its pixels an image has a name and facts, of a few hundred bytes.
    assert each == pytest.approx(worked_out["apart"], rel=0.05)
    assert len(handed_on) == 4
    assert worked_out["fused"] < worked_out["apart"]


def short_bench(out: Path, *sections: str) -> dict[str, Any]:
    """What `make bench BENCH=--short` writes, of some sections or all."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--short", "--out", str(out), *sections],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert found["machine"]["versions"]["torch"] == torch.__version__
    for name in sections:
        assert f"## {name}: " in done.stdout
    return found


@pytest.mark.timeout(300)
def test_what_is_measured_is_written_with_its_counts_and_the_machine(tmp_path: Path) -> None:
    found = short_bench(tmp_path / "bench.json", "decode", "ledger", "moments")
    assert set(found) == {"machine", "short", "decode", "ledger", "moments"}
    assert len(found["decode"]["ratios"]) == len(CASES) * len(OTHERS) + len(KINDS)
    assert found["ledger"]["ledger"]["rows"] == 1000
    (row,) = found["moments"]["ratios"]
    assert row["what"].startswith("moments of 20,000 × 512 in 15 categories")
    assert (row["turns"], row["unit"]) == (1, "rows/s")
    assert row["ratio"] == row["lowest"] == row["highest"] == row["own"] / row["other"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_section_runs_in_small(tmp_path: Path) -> None:
    found = short_bench(tmp_path / "bench.json")
    assert set(found) == {"machine", "short", *SECTIONS}
    precisions = 2 if has_bfloat16() else 1
    rows = {"score": 3, "decode": len(CASES) * len(OTHERS) + len(KINDS), "moments": 1}
    rows["stages"] = len(ACTORS) * (2 * precisions - 1)
    assert {name: len(found[name]["ratios"]) for name in rows} == rows
    stored = found["stages"]["object_store_bytes"]
    # Pixels of both sizes behind the decoder; apart, the square also behind the detector's pool
    # and that of the features.
    square, letterboxed = 3 * 256**2, 3 * 256**2
    boxes = found["stages"]["boxes_of_an_image"]
    assert len(boxes) == precisions and min(boxes.values()) > 5
    assert stored["fused"] == pytest.approx(square + letterboxed, rel=0.01)
    assert stored["apart"] == pytest.approx(3 * square + letterboxed, rel=0.01)
    assert len(found["start"]["seconds"]) == 1
    assert len(found["start"]["seconds_without_this_project"]) == 1
    assert set(found["nodes"]["efficiency"]) == {"1", "2"}
    assert found["nodes"]["efficiency"]["1"] == 1.0
    for count, peak in found["memory"]["peak_bytes"].items():
        assert peak["images"]["scored"] == int(count)
        assert peak["driver"] > peak["driver_above_its_start"] > 0

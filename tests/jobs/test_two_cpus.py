"""Two logical CPUs and a Ray of the job's own: pools of any size work, and what can't says so."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces, load_table
from tests.conftest import TinyStore, run_command, run_job
from tests.stub_score import score_command

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

# The bound of the issue is 30 s; a loaded machine imports slowly.
REFUSAL_LIMIT_S = 30


def settings(tiny: TinyStore, store: Path) -> list[str]:
    return [
        f"manifest={tiny.manifest}",
        f"bundle={tiny.bundle}",
        f"store={store}",
        "run_id=r",
        "ray.num_cpus=2",
        "block_rows=4",
        "commit_rows=8",
    ]


def run_stubs(*given: str) -> None:
    """Scores with stand-ins for the networks: what counts is that all actors find their place."""
    done = run_command([*score_command(networks=False), *given], timeout=360)
    assert done.returncode == 0, done.stderr
    assert "40 images: 40 scored, 0 errors" in done.stdout


def check_sizes(
    tiny: TinyStore, store: Path, detector: int, features: int, classifier: int
) -> None:
    run_stubs(
        *settings(tiny, store),
        f"pools.detector.size={detector}",
        f"pools.features.size={features}",
        f"pools.classifier.size={classifier}",
    )
    assert load_table(str(store), "r", "scores").num_rows == 40


def test_more_actors_than_cpus_do_not_hang(tiny_store: TinyStore, tmp_path: Path) -> None:
    check_sizes(tiny_store, tmp_path, 1, 3, 1)


def test_a_small_machine_fuses_the_models_by_itself(tiny_store: TinyStore, tmp_path: Path) -> None:
    manifest = tmp_path / "in-many-groups.parquet"
    pq.write_table(pq.read_table(tiny_store.manifest), manifest, row_group_size=3)
    given = [*settings(tiny_store, tmp_path)[1:], f"manifest={manifest}"]
    run_stubs(*given)
    places = RunPlaces(str(tmp_path), "r")
    pools = storage.read_json(places.report)["pools"]
    assert pools == {"fused": {"size": 2, "num_cpus": 0.5, "num_gpus": 0.0, "threads": 1}}


@pytest.mark.slow
def test_five_actors_in_each_pool_do_not_hang(tiny_store: TinyStore, tmp_path: Path) -> None:
    check_sizes(tiny_store, tmp_path, 5, 5, 5)


def test_what_can_not_be_scheduled_ends_soon_with_what_is_missing(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    started = time.monotonic()
    done = run_job("score", *settings(tiny_store, tmp_path), "pools.features.num_cpus=4")
    seconds = time.monotonic() - started
    assert done.returncode == 2
    assert "CPUs are missing" in done.stderr
    assert "the cluster has 2" in done.stderr
    assert "Traceback" not in done.stderr
    print(f"refused after {seconds:.1f} s (limit {REFUSAL_LIMIT_S} s)")

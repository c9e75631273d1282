"""A dataset's work ends with whoever takes its batches, also by an error."""

from __future__ import annotations

import json
import threading
import time

import pyarrow as pa
import pytest
import ray
from ray.data import Dataset

from pipeline.errors import RunError
from pipeline.stages.chain import quiet
from pipeline.stages.consuming import batches_of
from pipeline.tables.access import VARIABLE

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def slowly(rows: pa.Table) -> pa.Table:
    time.sleep(0.05)
    return rows


def blocks(count: int) -> Dataset:
    return ray.data.range(count, override_num_blocks=count).map_batches(
        slowly, batch_format="pyarrow", batch_size=None, num_cpus=0.5
    )


def executors() -> list[str]:
    """Threads that start tasks, of any dataset."""
    return [one.name for one in threading.enumerate() if "StreamingExecutor" in one.name]


def test_an_error_of_the_consumer_leaves_no_thread_that_starts_tasks(cluster: str) -> None:
    """Ray ends the process of one that still asks after Ray is shut down."""
    data = blocks(400)
    with pytest.raises(RunError, match="enough") as raised, batches_of(data) as found:
        for batch in found:
            assert executors()
            raise RunError(f"enough of {batch.num_rows}")
    # The error is held, and with it every frame that it passed through.
    assert raised.value.__traceback__ is not None
    assert executors() == []


def endlessly(rows: pa.Table) -> pa.Table:
    time.sleep(60)
    return rows


def test_what_hangs_ends_in_words(cluster: str) -> None:
    data = ray.data.range(1).map_batches(endlessly, batch_size=None, num_cpus=0.5)
    data.context.execution_no_progress_timeout_s = 3
    says = r"^ray: nothing moved for 0\.05 minutes, .* the same command continues$"
    with pytest.raises(RunError, match=says), batches_of(data) as found:
        list(found)
    assert executors() == []


def test_a_run_waits_for_a_store_as_long_as_it_is_told(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Data by itself ends what stands still for half an hour."""
    quiet()
    usual = ray.data.DataContext.get_current().execution_no_progress_timeout_s
    monkeypatch.setenv(VARIABLE, json.dumps({"retry_s": 7200}))
    quiet()
    patient = ray.data.DataContext.get_current().execution_no_progress_timeout_s
    assert (usual, patient) == (1800 + 3 * 150, 1800 + 3 * 7200)


def test_every_batch_comes(cluster: str) -> None:
    with batches_of(blocks(7)) as found:
        ids = [i for batch in found for i in batch.column("id").to_pylist()]
    assert sorted(ids) == list(range(7))
    assert executors() == []

"""What Ray Data notes of each block that went through is not kept in the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray.data._internal.execution.execution_callback import ExecutionCallback

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.block_stats import ForgetBlocks
from pipeline.stages.chain import ChainPlan, build_chain
from tests.benchmarks.synthetic import write_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

ROWS, BLOCK = 480, 4


def count(rows: pa.Table) -> pa.Table:
    return pa.table({"images": [len(rows)]})


def most_known(manifest: str, callbacks: list[type]) -> int:
    """Blocks that a stage knew of at the end of a turn of Ray Data's loop, at most."""
    options = PrepareOptions(DecodeLimits(), square=4)
    chain = build_chain(ChainPlan(manifest, None, options, (), BLOCK, 48), count, {})
    assert chain.context.custom_execution_callback_classes == [ForgetBlocks]
    known: list[int] = []

    class Counting(ExecutionCallback):  # type: ignore[misc]
        def on_execution_step(self, executor: Any) -> None:
            for stage in executor._topology:
                known.extend(len(blocks) for blocks in stage.get_stats().values())

    chain.context.custom_execution_callback_classes = [*callbacks, Counting]
    assert sum(row["images"] for row in chain.iter_rows()) == ROWS
    return max(known)


def test_blocks_that_went_through_are_forgotten(cluster: str, tmp_path: Path) -> None:
    manifest = write_rows(tmp_path, ROWS)
    assert most_known(manifest, [ForgetBlocks]) == 0
    assert most_known(manifest, []) >= ROWS / BLOCK

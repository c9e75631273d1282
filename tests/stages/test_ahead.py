"""Cutting a manifest stays a few blocks ahead of what takes them, however long the manifest is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import (
    BackpressurePolicy,
)

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.ahead import BLOCKS_A_TASK, FewBlocksAhead
from pipeline.stages.chain import ChainPlan, build_chain
from tests.benchmarks.synthetic import write_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

ROWS, BLOCK = 1024, 4
# The session's cluster is small: what it may have waiting is two pieces of the manifest.
LIMIT = 2 * BLOCKS_A_TASK


class Watching(BackpressurePolicy):  # type: ignore[misc]
    """Forbids nothing, and notes how many blocks wait behind the cut."""

    waiting: ClassVar[list[int]] = []

    def can_add_input(self, op: Any) -> bool:
        if "StreamingRepartition" in op.name:
            self.waiting.append(self._topology[op].total_enqueued_output_blocks())
        return True


def slow_count(rows: pa.Table) -> pa.Table:
    time.sleep(0.2)
    return pa.table({"images": [len(rows)]})


def most_waiting(manifest: str, policies: list[type]) -> int:
    """Blocks that waited at most, in a chain that takes everything slowly."""
    options = PrepareOptions(DecodeLimits(), square=4)
    plan = ChainPlan(manifest, None, options, (), BLOCK, commit_rows=ROWS // 20)
    chain = build_chain(plan, slow_count, {})
    Watching.waiting.clear()
    chain.context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*policies, Watching])
    assert sum(row["images"] for row in chain.iter_rows()) == ROWS
    return max(Watching.waiting)


def test_few_blocks_wait_and_every_row_comes(cluster: str, tmp_path: Path) -> None:
    manifest = write_rows(tmp_path, ROWS)
    usual = list(ENABLED_BACKPRESSURE_POLICIES)
    limited = most_waiting(manifest, [*usual, FewBlocksAhead])
    assert BLOCKS_A_TASK / 2 < limited < LIMIT + BLOCKS_A_TASK
    # Ray Data by itself cuts nearly all at once: 256 blocks.
    assert most_waiting(manifest, usual) > LIMIT + BLOCKS_A_TASK


def test_a_chain_has_the_limit_beside_ray_datas_own(cluster: str, tmp_path: Path) -> None:
    options = PrepareOptions(DecodeLimits(), square=4)
    plan = ChainPlan(write_rows(tmp_path, 8), None, options, (), BLOCK, commit_rows=8)
    context = build_chain(plan, slow_count, {}).context
    found = context.get_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY)
    assert found == [*ENABLED_BACKPRESSURE_POLICIES, FewBlocksAhead]

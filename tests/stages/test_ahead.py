"""Cutting a manifest stays a few blocks ahead of what takes them, however long the manifest is."""

from __future__ import annotations

from collections.abc import Callable
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
from ray.data._internal.logical.optimizers import get_execution_plan

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages.ahead import BLOCKS_A_TASK, FewBlocksAhead
from pipeline.stages.chain import ChainPlan, build_chain
from tests.benchmarks.synthetic import write_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

ROWS, BLOCK = 1280, 4
# The session's cluster is small: what it may have waiting is two pieces of the manifest.
LIMIT = 2 * BLOCKS_A_TASK


class Watching(BackpressurePolicy):  # type: ignore[misc]
    """Notes how many blocks wait behind the cut, and lets nobody take one while more can be cut.

    Otherwise it would depend on the machine whether cutting gets ahead of its takers at all.
    """

    waiting: ClassVar[list[int]] = []
    limits: ClassVar[list[type]] = []

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._limits = [limit(*args) for limit in self.limits]

    def can_add_input(self, op: Any) -> bool:
        before = list(self._topology)[: list(self._topology).index(op)]
        if _cuts(op):
            self.waiting.append(self._topology[op].total_enqueued_output_blocks())
        elif any(_cuts(one) for one in before):
            until = next(i for i, one in enumerate(before) if _cuts(one)) + 1
            return not any(self._goes_on(one) for one in before[:until])
        return True

    def _goes_on(self, op: Any) -> bool:
        if op.num_active_tasks():
            return True
        wants = self._topology[op].has_pending_bundles() and not op.has_completed()
        return wants and all(limit.can_add_input(op) for limit in self._limits)


def _cuts(op: Any) -> bool:
    return "StreamingRepartition" in op.name


def count(rows: pa.Table) -> pa.Table:
    return pa.table({"images": [len(rows)]})


def most_waiting(manifest: str, policies: list[type]) -> int:
    """Blocks that waited at most, where none is taken while more can be cut."""
    options = PrepareOptions(DecodeLimits(), square=4)
    plan = ChainPlan(manifest, None, options, (), BLOCK, commit_rows=ROWS // 20)
    chain = build_chain(plan, count, {})
    Watching.waiting.clear()
    Watching.limits[:] = [one for one in policies if one is FewBlocksAhead]
    chain.context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [Watching, *policies])
    assert sum(row["images"] for row in chain.iter_rows()) == ROWS
    return max(Watching.waiting)


def test_few_blocks_wait_and_every_row_comes(cluster: str, tmp_path: Path) -> None:
    manifest = write_rows(tmp_path, ROWS)
    usual = list(ENABLED_BACKPRESSURE_POLICIES)
    limited = most_waiting(manifest, [*usual, FewBlocksAhead])
    assert LIMIT <= limited < LIMIT + BLOCKS_A_TASK
    # Ray Data by itself cuts nearly all at once: 320 blocks.
    assert most_waiting(manifest, usual) > LIMIT + BLOCKS_A_TASK


@pytest.mark.parametrize("given", [None, count])
def test_what_is_cut_holds_no_cpu_while_it_waits(
    cluster: str, tmp_path: Path, given: Callable[[pa.Table], pa.Table] | None
) -> None:
    """A cut whose outputs wait for room ends all the same, and starts only where few wait."""
    options = PrepareOptions(DecodeLimits(), square=4)
    plan = ChainPlan(write_rows(tmp_path, 8), None, options, (), BLOCK, 8, given)
    chain = build_chain(plan, count, {})
    found = chain.context.get_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY)
    assert found == [*ENABLED_BACKPRESSURE_POLICIES, FewBlocksAhead]
    planned, *_ = get_execution_plan(chain._logical_plan)
    cuts = [op for op in planned.dag.post_order_iter() if "StreamingRepartition" in op.name]
    assert len(cuts) == (1 if given is None else 2)
    for cut in cuts:
        asked = cut._ray_remote_args
        assert asked["_generator_backpressure_num_objects"] == -1
        assert asked["num_cpus"] == 0

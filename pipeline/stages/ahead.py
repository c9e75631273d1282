"""How far the manifest is cut ahead of what is decoded: a few blocks, whatever its length."""

from __future__ import annotations

from typing import Any

import ray
from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import (
    BackpressurePolicy,
)

# Blocks of images that a piece of the manifest becomes, in one task.
BLOCKS_A_TASK = 32
# Ray Data's name for the stage that cuts, alone or behind what it was fused with.
_CUTTING = "StreamingRepartition"
# Pieces whose blocks may wait: one that is taken, and one that is cut meanwhile.
_PIECES = 2
# Blocks that may wait for each CPU, on clusters where a piece isn't enough for all.
_BLOCKS_A_CPU = 4


class FewBlocksAhead(BackpressurePolicy):  # type: ignore[misc]
    """Starts no task that cuts while enough blocks wait for their takers.

    Ray Data's own limit is a share of the object store, in bytes. Rows of a manifest are so small
    that this is a million of them, and blocks below 100 kB lie in the driver's memory.
    """

    def __init__(self, data_context: DataContext, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        cpus = float(ray.cluster_resources().get("CPU", 1))
        self._limit = max(_PIECES * BLOCKS_A_TASK, int(_BLOCKS_A_CPU * cpus))

    @property
    def name(self) -> str:
        """In Ray Data's own words on what holds a stage back."""
        return "FewBlocksAhead"

    def can_add_input(self, op: Any) -> bool:
        """Whether the stage may be given a piece more."""
        if _CUTTING not in op.name:
            return True
        coming: int = op.metrics.num_tasks_running * BLOCKS_A_TASK
        waiting: int = self._topology[op].total_enqueued_output_blocks()
        return waiting + coming < self._limit


def cut_few_blocks_ahead(context: DataContext) -> None:
    """Adds the limit to those of Ray Data."""
    policies = [*ENABLED_BACKPRESSURE_POLICIES, FewBlocksAhead]
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)

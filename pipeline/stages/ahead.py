"""How far a manifest is cut ahead of what is decoded: a few blocks, whatever its length."""

from __future__ import annotations

from typing import Any

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
# What Ray Data calls the stage that cuts, alone or behind what it was fused with.
_CUTTING_STAGE = "StreamingRepartition"
# Pieces whose blocks may wait: one that is taken, and one that is cut meanwhile.
_PIECES = 2
# CPUs for each piece that is cut at the same time: such tasks ask for none, and would start a
# process each while models load.
_CPUS_A_PIECE = 8
# Blocks that may wait for each CPU, on clusters where two pieces aren't enough for all.
_BLOCKS_A_CPU = 4


class FewBlocksAhead(BackpressurePolicy):  # type: ignore[misc]
    """Starts no task that cuts while enough blocks wait for their takers.

    Ray Data's own limit is a share of the object store, in bytes. Rows of a manifest are so small
    that this is a million of them, and blocks below 100 kB lie in the driver's memory.
    """

    def can_add_input(self, op: Any) -> bool:
        """Whether the stage may be given a piece more."""
        if _CUTTING_STAGE not in op.name:
            return True
        cpus = self._resource_manager.get_global_limits().cpu
        if op.metrics.num_tasks_running >= max(1, cpus // _CPUS_A_PIECE):
            return False
        # A piece of which few images are wanted gives few blocks, or none.
        blocks = op.metrics.average_num_outputs_per_task
        coming = op.metrics.num_tasks_running * (BLOCKS_A_TASK if blocks is None else blocks)
        waiting = self._topology[op].total_enqueued_output_blocks()
        return bool(waiting + coming < max(_PIECES * BLOCKS_A_TASK, _BLOCKS_A_CPU * cpus))


def cut_few_blocks_ahead(context: DataContext) -> None:
    """Adds the limit to those that a dataset has."""
    policies = context.get_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, ENABLED_BACKPRESSURE_POLICIES
    )
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*policies, FewBlocksAhead])

"""What Ray Data notes of each block is forgotten: a long run has too many for the driver."""

from __future__ import annotations

from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback


class ForgetBlocks(ExecutionCallback):  # type: ignore[misc]
    """Empties the list of blocks that each stage keeps until the dataset's end.

    Two kilobytes for each block and stage, for a summary (`Dataset.stats`) that a run has no use
    for: stages note their seconds with the commits. It leans on `get_stats` giving the list itself.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Called at each turn of the loop that starts tasks."""
        for stage in executor._topology:
            for blocks in stage.get_stats().values():
                blocks.clear()


def forget_blocks(context: DataContext) -> None:
    """Makes a dataset forget them."""
    context.custom_execution_callback_classes.append(ForgetBlocks)

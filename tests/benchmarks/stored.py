"""Bytes of an image that go through the object store, as Ray Data notes them while a run is made.

    python -m tests.benchmarks.stored

reads a run's settings as JSON from stdin and prints the bytes of each stage's tables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import (
    BackpressurePolicy,
)

from tests.benchmarks.apart import result_of

# Stages whose tables hold images, or what networks made of them: neither cutting nor the ledger.
_STAGES = ("prepare_block", "Actor")


class Noting(BackpressurePolicy):  # type: ignore[misc]
    """Forbids nothing, and notes what each stage has handed on so far."""

    handed_on: ClassVar[dict[str, int]] = {}

    def can_add_input(self, op: Any) -> bool:
        if any(stage in op.name for stage in _STAGES):
            self.handed_on[op.name] = op.metrics.bytes_task_outputs_generated
        return True


@contextmanager
def noted() -> Iterator[dict[str, int]]:
    """By stage, the bytes of all tables that runs within hand on."""
    context = DataContext.get_current()
    before = context.get_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, ENABLED_BACKPRESSURE_POLICIES
    )
    Noting.handed_on.clear()
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [Noting, *before])
    try:
        yield Noting.handed_on
    finally:
        context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, before)


def of_an_image(score: dict[str, Any], images: int) -> float:
    """Bytes of an image through the object store, of a run in a process of its own."""
    found: dict[str, int] = result_of("-m", "tests.benchmarks.stored", given=score)
    return sum(found.values()) / images


def _main() -> None:
    from pipeline.config import ScoreConfig
    from pipeline.stages.score import run_score

    config = ScoreConfig.model_validate(json.load(sys.stdin))
    with noted() as found:
        run_score(config)
    print(json.dumps(found))


if __name__ == "__main__":
    _main()

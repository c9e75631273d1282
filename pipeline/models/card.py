"""What work takes of this process's GPU: seconds in which it computes, and memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable

import torch
from torch.profiler import ProfilerActivity, profile

_MICROSECONDS = 1e-6


def is_there() -> bool:
    """Whether this process computes on a GPU."""
    return bool(torch.cuda.is_available())


def forget_memory() -> None:
    """From now on `memory_share` is of what comes."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def memory_share() -> float:
    """The part of the card that this process needed at most since `forget_memory`.

    What lies there beside PyTorch's own, such as the context, counts in full, and so does what
    other processes have there.
    """
    free, total = torch.cuda.mem_get_info()
    beside = total - free - torch.cuda.memory_reserved()
    return float(torch.cuda.max_memory_reserved() + max(beside, 0)) / total


def busy_seconds(work: Callable[[], object]) -> float | None:
    """Seconds in which the card computes or copies while this process does the work.

    Returns:
        None where the profiler saw nothing: drivers may keep their tracing to the machine's owner.
    """
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in seen.events() or ()
        if event.device_type.name == "CUDA"
    ]
    return covered(spans) * _MICROSECONDS or None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the spans (start, end) lasts: kernels run beside copies."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total

"""Memory of a model's process: kept from batch to batch; what finds none is tried in smaller ones.

Images that find no memory even alone are given up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import numpy as np

# What PyTorch says where the host's memory ends; a GPU's has an exception of its own, but for
# cuDNN, which has no way to compute where none finds room.
_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "unable to find an engine",
    "cudnn_status_internal_error",
)
_HALVINGS: ContextVar[int] = ContextVar("halvings", default=0)
Result = TypeVar("Result")

# mallopt(3): how many arrays may have memory of their own beside the heap, and from how many free
# bytes on the heap's end is given back.
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """From now on this process keeps memory that it frees, for its next batch.

    By itself glibc takes every large array anew from the system, which clears each page when it is
    first touched: up to a sixth of a network's time on a CPU. For processes that do one thing until
    they end, in their main thread, as other threads' heaps hold 64 MiB at most; not for a user's
    own. Other C libraries are left as they are.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


class NoMemoryError(RuntimeError):
    """Images that find no room even alone.

    Attributes:
        rows: (M,) int64, their numbers in the input, sorted.
    """

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(rows)
        self.rows = rows

    def __str__(self) -> str:
        return f"{len(self.rows)} images find no memory, even alone"


@contextmanager
def halved_batches(times: int) -> Iterator[None]:
    """Within it batches are halved that often: for work that ended its process before."""
    token = _HALVINGS.set(times)
    try:
        yield
    finally:
        _HALVINGS.reset(token)


def settled_size(size: int) -> int:
    """Images per batch, as far as `halved_batches` lets it be."""
    return max(1, size >> _HALVINGS.get())


def in_batches(
    run: Callable[[np.ndarray, int], Result], images: np.ndarray, size: int
) -> list[Result]:
    """Results of images (N, …) in batches of `size`; a batch that finds no room is halved.

    Another shape may change a result's last bits, as other kernels do.

    Args:
        run: up to n images, and the n to pad them to, in; the result of these images out.
        images: (N, …) uint8.
        size: images per batch.

    Returns:
        The batches' results, in the images' order.

    Raises:
        NoMemoryError: images that find no room even alone, after all others were tried.
    """
    size = settled_size(size)
    results: list[Result] = []
    hungry: list[int] = []
    for start in range(0, len(images), size):
        found, lost = _with_less(run, images[start : start + size], size)
        results += found
        hungry += [start + row for row in lost]
    if hungry:
        raise NoMemoryError(np.array(hungry, np.int64))
    return results


def _with_less(
    run: Callable[[np.ndarray, int], Result], images: np.ndarray, size: int
) -> tuple[list[Result], list[int]]:
    """Results, and the rows that have none."""
    try:
        return [run(images, size)], []
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler, whose traceback would hold on to what the failed try allocated.
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if size == 1:
        return [], [0]
    half = size // 2
    results: list[Result] = []
    lost: list[int] = []
    for start in range(0, len(images), half):
        found, hungry = _with_less(run, images[start : start + half], half)
        results += found
        lost += [start + row for row in hungry]
    return results, lost


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's or the host's memory was at its end."""
    import torch  # here, as the driver reads this module and has no use for a second of imports

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _WORDS)

"""The batches of a dataset, whose work ends with whoever takes them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
from ray.data import Dataset
from ray.data.exceptions import ExecutionTimeoutError

from pipeline.errors import RunError

# The thread that starts tasks looks at least once a second whether it is to end.
_ENDS_S = 30.0


@contextmanager
def batches_of(data: Dataset) -> Iterator[Iterator[pa.Table]]:
    """One batch for each block of a dataset; behind it no thread of the dataset asks Ray any more.

    By itself a dataset's work ends when its iterator is collected, and an error that passes through
    the consumer keeps that alive. Where Ray is shut down meanwhile, a thread that still starts
    tasks asks it once more, and Ray then ends the whole process with status 1: without the error's
    message, and before anybody is told.

    Raises:
        RunError: nothing has moved for as long as `quiet` in chain.py allows.
    """
    found = iter(data.iter_batches(batch_size=None, batch_format="pyarrow"))
    try:
        yield found
    except ExecutionTimeoutError:
        minutes = data.context.execution_no_progress_timeout_s / 60
        raise RunError(
            f"ray: nothing moved for {minutes:g} minutes, so a task hangs, or the cluster has no "
            "room left for one (`ray status`, `ray list tasks`); what is committed is safe, and "
            "the same command continues"
        ) from None
    finally:
        # Whatever goes wrong here must not stand in the place of the consumer's error.
        with suppress(Exception):
            if isinstance(found, Generator):
                found.close()
        with suppress(Exception):
            executor = data._current_executor
            if executor is not None:
                executor.shutdown(force=True)
                executor.join(_ENDS_S)

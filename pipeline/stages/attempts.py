"""How often Ray has tried a task before, so that a second try can be a more careful one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.experimental import internal_kv

# Tries of a task after the first, and lives of an actor: enough for a night of spot instances
# that come and go, and an end to what kills every worker that touches it. Ray's own is for ever.
TASK_RETRIES = 10
# Of an actor's task. It ends with the actor, whose lives are counted; tries that reach no worker
# count as well: seven were seen while one node went.
ACTOR_TASK_RETRIES = 100
# Exceptions of actors at model load, one after the other, before the model is to blame.
INIT_DEATHS = 3


# Of the tries of a task, in Ray's own store of small values.
_TRIES = "linescore-tries-"


@contextmanager
def deaths_after_the_first(model: str) -> Iterator[int]:
    """Workers that died over a model in the present task after it was tried again.

    A first death may be that of a node, and Ray counts tries that reached no worker as well, as
    long as it doesn't know of it. So each try after the first is noted where it begins, and of
    several models in a task the one that it was at.

    Args:
        model: one of those that the task computes, one after the other.
    """
    if not attempt():
        yield 0
        return
    key = f"{_TRIES}{ray.get_runtime_context().get_task_id()}-{model}"
    died = int(internal_kv._internal_kv_get(key) or 0)
    internal_kv._internal_kv_put(key, str(died + 1))
    try:
        yield died
    finally:
        internal_kv._internal_kv_del(key)


def attempt() -> int:
    """Tries of the present task before this one: 0 at first, and outside of Ray.

    Most ended with their worker; one may have reached none.
    """
    if not ray.is_initialized():
        return 0
    # Ray tells it to nobody else; the version is pinned, and a test kills a worker to see it.
    count: int = ray._private.worker.global_worker.core_worker.get_current_task_attempt_number()
    return count

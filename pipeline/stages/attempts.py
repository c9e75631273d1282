"""How often Ray has tried a task before, so that a second try can be a more careful one."""

from __future__ import annotations

import ray

# Tries of a task after the first, and lives of an actor: enough for a night of spot instances
# that come and go, and an end to what kills every worker that touches it. Ray's own is for ever.
TASK_RETRIES = 10
# Exceptions of actors at model load, one after the other, before the model is to blame.
INIT_DEATHS = 3


def attempt() -> int:
    """Tries of the present task that ended with their worker: 0 at first, and outside of Ray."""
    if not ray.is_initialized():
        return 0
    # Ray tells it to nobody else; the version is pinned, and a test kills a worker to see it.
    count: int = ray._private.worker.global_worker.core_worker.get_current_task_attempt_number()
    return count

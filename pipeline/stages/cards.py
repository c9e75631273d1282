"""The GPUs that a worker may compute on: those that Ray gave it, else none."""

from __future__ import annotations

import os

import ray


def keep_to_own_cards() -> None:
    """Hides a node's GPUs from a worker that was given none; to be called before CUDA is used.

    Ray names a worker's GPUs in CUDA_VISIBLE_DEVICES, and leaves it as it is where it gave none:
    PyTorch would then take the node's first one, which others may have been given. Outside of a
    task or an actor nothing is hidden.
    """
    context = ray.get_runtime_context() if ray.is_initialized() else None
    if context is None or context.get_task_id() is None:
        return
    if not context.get_accelerator_ids().get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

"""The GPUs that a worker may compute on: those that Ray gave it, else none."""

from __future__ import annotations

import os
import socket

import ray

from pipeline.errors import InputError


def keep_to_own_cards() -> None:
    """Hides a node's GPUs from a worker that was given none; to be called before CUDA is used.

    Ray names a worker's GPUs in CUDA_VISIBLE_DEVICES, and leaves it as it is where it gave none:
    PyTorch would then take the node's first one, which others may have been given. Outside of a
    task or an actor nothing is hidden.
    """
    if _is_worker() and not _own_cards():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def take_own_cards() -> None:
    """Hides other workers' GPUs, and makes sure that PyTorch can compute on this worker's.

    Ray counts a node's GPUs by their driver alone. PyTorch takes the processor where it can't use
    one: a night on a single thread of it, without a word.

    Raises:
        InputError: Ray gave this worker a GPU that PyTorch can't use.
    """
    keep_to_own_cards()
    if not _is_worker() or not (own := _own_cards()):
        return
    import torch  # workers without a GPU may have no use for it

    if torch.cuda.is_available():
        return
    try:
        torch.empty(0, device="cuda")
        reason = "it finds none"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
    raise InputError(
        f"ray: GPU {', '.join(own)} of {socket.gethostname()} was given to a worker in which "
        f"PyTorch can't use it: {reason.rstrip('.')} (PyTorch {torch.__version__}; nvidia-smi "
        "tells the driver's version). Update that node's driver, start its Ray with "
        "--num-gpus=0, or give the pool num_gpus=0"
    )


def _is_worker() -> bool:
    return ray.is_initialized() and ray.get_runtime_context().get_task_id() is not None


def _own_cards() -> list[str]:
    return list(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))

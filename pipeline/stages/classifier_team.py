"""The workers that train together, as Ray Train and torch let them talk."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch

from pipeline.models.defect_net import DefectNet
from pipeline.models.epochs import Team


def this_team() -> Team:
    """Rank, gradient averaging and talk of the worker group that this process belongs to."""
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Team()
    from torch import distributed
    from torch.distributed.algorithms.join import Join

    def gather(mine: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, ...]]:
        found: list[Any] = [None] * context.get_world_size()
        distributed.all_gather_object(found, mine)
        return found

    def agree(answer: bool) -> bool:
        said = [answer]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def add(tensor: torch.Tensor) -> torch.Tensor:
        distributed.all_reduce(tensor)
        return tensor

    def wrap(net: DefectNet) -> torch.nn.Module:
        wrapped: torch.nn.Module = ray.train.torch.prepare_model(
            net, parallel_strategy_kwargs={"broadcast_buffers": False}
        )
        return wrapped

    def uneven(model: Any) -> Join:
        return Join([model])

    return Team(context.get_world_rank(), wrap, uneven, add, gather, agree)

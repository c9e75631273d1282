"""Number types of the networks: bfloat16 where there is hardware that computes in it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import nn

from pipeline.models.specs import MODELS

FLOAT32, BFLOAT16 = "float32", "bfloat16"
NUMBER_TYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}
# What `auto` takes where there is hardware for bfloat16: a model is in it if each of its scores
# keeps to two limits on real images, AUROC within 0.002 of float32's and a rank correlation with
# them of at least 0.999. None does so far (docs/speed.md): of the backbone's distances `cells`
# does, `pooled` doesn't, the classifier's AUROC moves by up to 0.0027, and the detector's more.
AUTO: Mapping[str, str] = MappingProxyType(dict.fromkeys(MODELS, FLOAT32))
Network = TypeVar("Network", bound=nn.Module)


@cache
def has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: a GPU of 2020 or later, AMX, AVX512."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch has no public name for these; the version is pinned, and a test calls them.
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def settle(wanted: str) -> dict[str, str]:
    """The precision of each model on this machine.

    Args:
        wanted: auto, float32 or bfloat16.
    """
    if wanted != "auto":
        return dict.fromkeys(MODELS, wanted)
    return dict(AUTO) if has_bfloat16() else dict.fromkeys(MODELS, FLOAT32)


def lacking(precisions: Mapping[str, str]) -> list[str]:
    """The precisions among these that this machine has no hardware for, or that are none."""
    wanted = set(precisions.values()) - {FLOAT32}
    # A GPU is asked only where its answer counts: that alone takes some of its memory.
    return sorted(wanted - {BFLOAT16} if wanted and has_bfloat16() else wanted)


def cast(network: Network, precision: str) -> Network:
    """The network with its weights in that precision, channels last in memory as images are."""
    return network.to(NUMBER_TYPES[precision]).to(memory_format=torch.channels_last)

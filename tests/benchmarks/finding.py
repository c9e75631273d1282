"""A detector with seeded weights that finds boxes, as a trained one does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from pipeline.models.detector import quiet_ultralytics
from tests.benchmarks.archive import picture
from tests.benchmarks.bare_images import boxed

# The config's own floor, which the bare loop has too.
FLOOR = 0.05
# Anchors of an image above the floor, so that decoding and suppressing them has work; some 14 boxes
# are left of them.
CANDIDATES = 20
_DRAWN, _SIDE = 16, 1024


def pictures(letterboxed: int) -> np.ndarray:
    """(16, L, L, 3) uint8: the pictures of an archive, letterboxed."""
    drawn = (picture(seed, _SIDE, grey=False) for seed in range(_DRAWN))
    return np.stack([boxed(pixels, letterboxed) for pixels in drawn])


def write_detector(file: Path, letterboxed: int) -> None:
    """A YOLOv8n with `CANDIDATES` in an image.

    With ultralytics' own first weights no confidence is above 0.001, so that decoding and
    suppressing boxes would take no time.
    """
    quiet_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(7)
    network = DetectionModel("yolov8n.yaml", verbose=False)
    head = network.model[-1]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # what one pass sees is what it keeps
    images = torch.from_numpy(pictures(letterboxed)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for branch in head.cv3:
            branch[-1].weight.normal_(0, 0.1)
            branch[-1].bias.zero_()
        network.train()
        for half in images.split(_DRAWN // 2):
            network(half)
        network.eval()
        confidence = torch.cat([network(half)[0][:, 4:].amax(1) for half in images.split(4)])
        wanted = 1 - CANDIDATES / confidence.shape[1]
        least = float(np.quantile(confidence.double().logit().numpy(), wanted))
        for branch in head.cv3:
            branch[-1].bias.fill_(math.log(FLOOR / (1 - FLOOR)) - least)
    torch.save({"model": network}, file)

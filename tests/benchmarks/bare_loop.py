"""The alternative: three models in a plain PyTorch loop, without Ray, with or without a DataLoader.

Written as one would without this project, on the same weights, decoded sizes, batch sizes and
number of threads. It prints how many images a second it did, after a first pass that warms up.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.linalg import solve_triangular
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.models import resnet18

from pipeline.models.detector import quiet_ultralytics
from tests.benchmarks.bare_images import Task, pair

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRIDS = (4, 8)


class Images(torch.utils.data.Dataset[tuple[np.ndarray, np.ndarray]]):
    """Decoded and resized images."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __len__(self) -> int:
        return len(self._task.files)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        return pair(self._task, place)


def batches(task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of uint8 images, (B, S, S, 3) and (B, L, L, 3)."""
    loader = torch.utils.data.DataLoader(
        Images(task),
        batch_size=task.batch,
        num_workers=task.workers,
        persistent_workers=False,
        prefetch_factor=4 if task.workers else None,
    )
    yield from loader


class Loop:
    """The three models."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        # As the job: float32 is float32 on a GPU too.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        quiet_ultralytics()
        from ultralytics.nn.tasks import load_checkpoint

        folder = Path(task.bundle)
        self.kind = torch.bfloat16 if task.precision == "bfloat16" else torch.float32
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.backbone = resnet18()
        self.backbone.load_state_dict(load_file(folder / "backbone.safetensors"), strict=False)
        self.classifier = resnet18(num_classes=2)
        self.classifier.load_state_dict(load_file(folder / "classifier.safetensors"))
        self.detector, _ = load_checkpoint(str(folder / "detector.pt"))
        self.detector = self.detector.fuse(verbose=False)
        for model in (self.backbone, self.classifier, self.detector):
            model.eval().requires_grad_(False)
            model.to(self.device, self.kind, memory_format=torch.channels_last)
        self.mean = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=self.device).view(1, 3, 1, 1)
        place = (
            folder
            / json.loads((folder / "bundle.json").read_text())["scorer"]["categories"][
                task.category
            ]
        )
        self.means = np.load(place / "cells_mean.npy")
        self.factors = np.load(place / "cells_factor.npy")

    def score(self, square: Tensor, letterboxed: Tensor) -> list[Any]:
        """Distance, logit and boxes of each image of a batch."""
        from ultralytics.utils.nms import non_max_suppression

        with torch.inference_mode():
            predictions = self.detector(self.input(letterboxed))[0].float()
            boxes = non_max_suppression([predictions], 0.05, 0.7, max_det=100)
            x = ((self.input(square).float() - self.mean) / self.std).to(self.kind)
            cells = self.cells(x)
            logits = self.classifier(x).float()
        distances = self.distances(cells.float().cpu().numpy())
        return list(zip(distances, (logits[:, 1] - logits[:, 0]).tolist(), boxes, strict=True))

    def input(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], channels last in memory."""
        moved = images.to(self.device).permute(0, 3, 1, 2)
        return moved.to(self.kind) / 255

    def cells(self, x: Tensor) -> Tensor:
        """(B, 80, 384) features."""
        net: nn.Module = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        two = net.layer2(net.layer1(x))
        three = net.layer3(two)
        grids = [
            torch.cat([adaptive_avg_pool2d(layer, side).flatten(2).mT for layer in (two, three)], 2)
            for side in GRIDS
        ]
        return torch.cat(grids, 1)

    def distances(self, cells: np.ndarray) -> list[float]:
        """Sum of the largest distance in each grid."""
        found = np.empty(cells.shape[:2])
        for cell in range(cells.shape[1]):
            centred = (cells[:, cell].astype(np.float64) - self.means[cell]).T
            z = solve_triangular(self.factors[cell], centred, lower=True, check_finite=False)
            found[:, cell] = np.sqrt((z * z).sum(0))
        first = GRIDS[0] ** 2
        sums: list[float] = (found[:, :first].max(1) + found[:, first:].max(1)).tolist()
        return sums


def timed_loop(task: Task) -> tuple[int, float]:
    """Images done, and seconds from the second batch on."""
    loop = Loop(task)
    started, done = 0.0, 0
    for number, (square, letterboxed) in enumerate(one_batch(batches(task))):
        loop.score(square, letterboxed)
        if number == 1:
            started = time.perf_counter()
        elif number > 1:
            done += len(square)
    return done, time.perf_counter() - started


def one_batch(found: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Only whole batches."""
    size = None
    for square, letterboxed in found:
        size = size or len(square)
        if len(square) == size:
            yield square, letterboxed


def main() -> None:
    """Reads a task from stdin and prints what it took."""
    done, seconds = timed_loop(Task(**json.load(sys.stdin)))
    if not done:
        raise SystemExit("too few images: the first two batches are not measured")
    print(json.dumps({"images": done, "seconds": seconds}))


if __name__ == "__main__":
    main()

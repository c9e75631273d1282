"""Each model stage on a block, against the forward pass alone of the network it holds.

Both in one process, whose memory is kept from batch to batch as an actor's is: what the network
gains by that is in both sides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.models.precision import has_bfloat16
from pipeline.scoring.bundle import open_bundle
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.columns import pack
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.model_pools import ACTORS, FUSED, pool_stages
from pipeline.stages.pools import ActorSettings
from tests.benchmarks.bare_images import Task
from tests.benchmarks.bare_loop import Loop
from tests.benchmarks.finding import pictures
from tests.benchmarks.ratios import Ratio, in_turns, speed
from tests.benchmarks.scoring import BATCH, Plant, fit, plant
from tests.benchmarks.scoring import SQUARE as SIDE
from tests.benchmarks.stored import of_an_image

ROWS = 32


def block(letterboxed: int, square: int = SIDE) -> pa.Table:
    """A block as it comes out of decoding."""
    rng = np.random.default_rng(4)
    small = rng.integers(0, 255, (ROWS, square, square, 3), np.uint8)
    drawn = pictures(letterboxed)
    large = np.resize(drawn, (ROWS, *drawn.shape[1:]))
    nothing = pa.nulls(ROWS, pa.string())
    return pa.table(
        {
            "uri": [f"{row}.png" for row in range(ROWS)],
            "category": ["part"] * ROWS,
            "width": [1024] * ROWS,
            "height": [1024] * ROWS,
            "error_type": nothing,
            "error_message": nothing,
            SQUARE: pack(list(small), square),
            LETTERBOXED: pack(list(large), letterboxed),
        }
    )


def bare_pass(loop: Loop, model: str, letterboxed: int) -> Callable[[], Tensor]:
    """One forward pass of a batch that lies ready in the network's own type and layout."""
    side = letterboxed if model == "detector" else SIDE
    drawn = pictures(side)[:BATCH].transpose(0, 3, 1, 2)
    images = torch.from_numpy(drawn / np.float32(255)).to(
        loop.device, loop.kind, memory_format=torch.channels_last
    )

    def run() -> Tensor:
        with torch.inference_mode():
            if model == "features":
                net = loop.backbone
                x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
                found: Tensor = net.layer3(net.layer2(net.layer1(x)))
            else:
                found = (loop.detector if model == "detector" else loop.classifier)(images)
            if loop.device.type == "cuda":
                torch.cuda.synchronize()  # a pass that is only begun isn't done
            return found

    return run


def measure(
    turns: int, letterboxed: int = 640
) -> tuple[list[Ratio], dict[str, float], dict[str, float]]:
    """Stage against forward pass in each precision, and bfloat16 against float32.

    Returns:
        The ratios; how many bytes of an image went through the object store in a run, with a
        pool for each model and with one that holds all; and how many boxes were found in an image,
        by precision: without any, the detector's stage would have less to do than in earnest.
    """
    precisions = ["float32", *(["bfloat16"] if has_bfloat16() else [])]
    found = []
    boxes = {}
    with tempfile.TemporaryDirectory(prefix="linescore-bench-") as name:
        made = plant(Path(name), 64, 128, "jpeg")
        passes: dict[tuple[str, str], Callable[[], float]] = {}
        for precision in precisions:
            bundle = fit(made, letterboxed, precision)
            loop = Loop(_task(made, bundle, letterboxed, precision))
            for model, actor in ACTORS.items():
                stage = actor(ActorSettings(bundle, 1, ()))
                rows = block(letterboxed)
                bare = bare_pass(loop, model, letterboxed)
                ours = lambda s=stage, r=rows: speed(lambda: s(r), ROWS, 2)  # noqa: E731
                other = lambda b=bare: speed(b, BATCH, 2 * ROWS // BATCH)  # noqa: E731
                ours(), other()
                if model == "detector":
                    boxes[precision] = float(np.mean([len(one) for one in stage(rows)["boxes"]]))
                passes[model, precision] = ours
                what = f"{model} stage / its forward pass: {precision}"
                found.append(in_turns(what, ours, other, turns))
        sizes = _through_the_store(made, bundle)
        if len(precisions) == 2:
            for model in ACTORS:
                what = f"{model} stage, bfloat16 / float32"
                slow, fast = (passes[model, precision] for precision in precisions)
                found.append(in_turns(what, fast, slow, turns))
    return found, sizes, boxes


def _through_the_store(made: Plant, bundle: str) -> dict[str, float]:
    run = {"manifest": made.manifest, "bundle": bundle, "store": str(made.store), "reuse": False}
    found = {}
    for name, fuse in (("apart", False), ("fused", True)):
        settings = run | {"run_id": f"stored-{name}", "fuse_models": fuse}
        found[name] = of_an_image(settings, len(made.files))
    return found


def stored_bytes(bundle: str, letterboxed: int, square: int = SIDE) -> dict[str, float]:
    """Bytes of an image in the tables that the stages hand on, worked out from the tables."""
    plans = dict.fromkeys(ACTORS, PoolPlan(1, 1.0, 0.0, 1))
    found = {}
    for name, plan in (("apart", plans), ("fused", {FUSED: plans["features"]})):
        rows = block(letterboxed, square)
        total = rows.nbytes
        for pool in pool_stages(open_bundle(bundle, ""), tuple(ACTORS), plan, "none"):
            rows = pool.actor(pool.settings)(rows)
            total += rows.nbytes
        found[name] = total / ROWS
    return found


def _task(made: Plant, bundle: str, letterboxed: int, precision: str) -> Task:
    return Task([], bundle, SIDE, letterboxed, BATCH, 1, 0, precision, "part")


if __name__ == "__main__":
    torch.set_num_threads(1)
    ratios, stored, found = measure(3)
    for ratio in ratios:
        print(ratio.row())
    print(stored, found)

"""Batches beyond memory: smaller ones give the same results, single images are given up."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.models.memory import NoMemoryError, halved_batches, in_batches, is_out_of_memory
from tests.conftest import ROOT, TinyModels
from tests.faults import PAGES

HUNGRY = 255


class Network:
    """Adds one to each image's first pixel; its memory holds so many images, and no hungry one."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.shapes: list[int] = []

    def __call__(self, images: np.ndarray, size: int) -> np.ndarray:
        self.shapes.append(size)
        assert len(images) <= size
        if size > self.room or (images == HUNGRY).any():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return images[:, 0] + 1


def images(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None]


@pytest.mark.parametrize("room", [16, 15, 4, 1])
def test_halving_changes_no_result_and_no_order(room: int) -> None:
    network = Network(room)
    found = np.concatenate(in_batches(network, images(37), 16))
    assert found.tolist() == list(range(1, 38))
    assert max(size for size in network.shapes if size <= room) == 2 ** int(np.log2(room))


def test_images_that_find_no_room_alone_are_named_after_all_others_were_tried() -> None:
    batch = images(20)
    batch[[3, 18]] = HUNGRY
    network = Network(16)
    with pytest.raises(NoMemoryError) as caught:
        in_batches(network, batch, 16)
    assert caught.value.rows.tolist() == [3, 18]
    kept = np.delete(batch, caught.value.rows, axis=0)
    assert np.concatenate(in_batches(network, kept, 16)).tolist() == (kept[:, 0] + 1).tolist()


def test_work_that_ended_its_process_is_tried_in_smaller_batches() -> None:
    network = Network(16)
    with halved_batches(2):
        in_batches(network, images(16), 16)
    assert network.shapes == [4] * 4
    network.shapes.clear()
    with halved_batches(9):
        in_batches(network, images(2), 16)
    assert network.shapes == [1, 1]


def test_another_error_is_no_matter_of_memory() -> None:
    def broken(images: np.ndarray, size: int) -> np.ndarray:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(broken, images(4), 4)


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("GET was unable to find an engine to execute this computation", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_what_libraries_of_a_gpu_say_at_the_end_of_its_memory(said: str, is_memory: bool) -> None:
    assert is_out_of_memory(RuntimeError(said)) is is_memory


@pytest.mark.parametrize("kept", [True, False])
def test_memory_that_a_process_frees_is_kept_for_its_next_batch(kept: bool) -> None:
    keeping = "from pipeline.models.memory import keep_freed_memory as keep; keep()\n"
    measuring = "from tests.faults import faults_of_a_batch as faults; print(faults())"
    done = subprocess.run(
        [sys.executable, "-c", keeping * kept + measuring],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (int(done.stdout) < PAGES // 10) is kept


# Address space for a few images of the first layers, not for a batch of 64.
REAL = """
import resource, sys
import numpy as np, torch
from pipeline.models.backbone import Backbone
from pipeline.models.specs import FeatureLayout
from pipeline.models.weights import load_state
import pipeline.models.memory as memory

if sys.argv[2] == "kept":
    memory.keep_freed_memory()
torch.set_num_threads(1)
layout = FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",))
state = load_state(sys.argv[1], "backbone")
images = np.random.default_rng(0).integers(0, 255, (40, 256, 256, 3), np.uint8)
one = Backbone(state, layout, 1).features(images)  # also warms every library up
large = Backbone(state, layout, 64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
failures = []
told = memory.is_out_of_memory
memory.is_out_of_memory = lambda error: failures.append(str(error)) or told(error)
found = large.features(images)
assert failures, "the limit was not felt"
assert np.allclose(found.pooled, one.pooled, rtol=1e-4), "other numbers"
print("halved", len(failures))
"""


@pytest.mark.parametrize("freed", ["kept", "given back"])
def test_a_real_network_in_too_little_memory_comes_to_the_same_features(
    tiny_models: TinyModels, freed: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tiny_models.backbone), freed],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("halved")

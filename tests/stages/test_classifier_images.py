"""A worker's images come the same way whether they are held or streamed in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torchvision.models import resnet18

from pipeline.config import LimitsConfig
from pipeline.models.augment import Augmentation
from pipeline.models.defect_net import DefectNet
from pipeline.scoring.prepare import options_for
from pipeline.stages.classifier_failures import Failures
from pipeline.stages.classifier_images import ImageSettings, WorkerImages
from pipeline.stages.decode import prepare_block
from tests.detection import small_archive, table

SIDE = 32
LAYER2_BYTES = 128 * 4 * 4 * 4


class Stream:
    """As Ray Data's iterator gives batches; counts how often it is read."""

    def __init__(self, block: pa.Table) -> None:
        self.block, self.reads = block, 0

    def iter_batches(self, batch_size: int, **_: object) -> Iterator[pa.Table]:
        self.reads += 1
        for start in range(0, len(self.block), batch_size):
            yield self.block.slice(start, batch_size)


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    rows = small_archive(tmp_path_factory.mktemp("images"))
    Path(rows[2]["uri"]).write_bytes(b"no image")
    wanted = table(rows).select(["image_id", "uri", "sha256", "is_defect"])
    return prepare_block(wanted, options_for(LimitsConfig(), square=SIDE))


def network(trainable: str) -> DefectNet:
    torch.manual_seed(1)
    state = resnet18().state_dict()
    kept = {k: v for k, v in state.items() if not k.startswith(("layer4.", "fc."))}
    return DefectNet(kept, trainable, "w").eval()


def worker(
    block: pa.Table, trainable: str, held_bytes: int, views: int = 2
) -> tuple[WorkerImages, Stream]:
    still = Augmentation(flips=False, shift=0, brightness=0)
    settings = ImageSettings(trainable, SIDE, views, held_bytes, len(block), 4, still, seed=0)
    stream, net = Stream(block), network(trainable)
    return WorkerImages(stream, settings, lambda: net, Failures(len(block), 1.0)), stream


def test_held_and_streamed_rows_are_the_same(block: pa.Table) -> None:
    ids = np.sort(block.column("image_id").to_numpy())[::2]
    weights = np.arange(len(ids)) + 1.0
    (held, read_once), (streamed, _) = (worker(block, "layer3", size) for size in (1 << 30, 0))
    for _ in range(2):
        ours, theirs = list(held.rows(ids)), list(streamed.rows(ids))
        for name in ("ids", "is_defect"):
            one, other = (np.concatenate([getattr(b, name) for b in p]) for p in (ours, theirs))
            assert np.array_equal(np.sort(one), np.sort(other))
    assert read_once.reads == 1
    assert ours[0].inputs.dtype == torch.float32
    assert theirs[0].inputs.dtype == torch.uint8
    known = set(block.column("image_id").to_pylist()) & set(ids.tolist())
    failed = {i for i, e in zip(*(block.column(n).to_pylist() for n in FACTS), strict=True) if e}
    for images in (held, streamed):
        batches = list(images.epochs(ids, weights)(0))
        found = {int(i): w for b in batches for i, w in zip(b.ids, b.weight.tolist(), strict=True)}
        assert set(found) == known - failed
        assert sum(len(b.ids) for b in batches) == len(found)
        assert all(w == weights[np.searchsorted(ids, i)] for i, w in found.items())


FACTS = ("image_id", "error_type")


@pytest.mark.parametrize(("spare", "reads"), [(0, 1), (-1, 3)])
def test_views_are_held_as_long_as_they_fit(block: pa.Table, spare: int, reads: int) -> None:
    size = len(block) * 2 * LAYER2_BYTES + spare
    images, stream = worker(block, "layer3", size)
    ids = np.sort(block.column("image_id").to_numpy())
    for _ in range(3):
        list(images.rows(ids))
    assert stream.reads == reads


def test_a_frozen_trunks_features_are_always_held(block: pa.Table) -> None:
    images, stream = worker(block, "head", 0)
    ids = np.sort(block.column("image_id").to_numpy())
    for _ in range(2):
        batches = list(images.rows(ids))
    assert stream.reads == 1
    assert batches[0].inputs.shape[1:] == (2, 256)

"""The actors as plain objects: what a network gives no number for becomes an error row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.errors import RunError
from pipeline.models.backbone import Features
from pipeline.models.detector import Boxes
from pipeline.models.memory import in_batches
from pipeline.stages.columns import pack, unpack
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.pools import ActorSettings, DetectorActor, FeatureActor, in_memory
from tests.conftest import TINY_SIDE, TinyStore


class Overflowing:
    """A backbone whose features of one image are beyond float16."""

    def __init__(self, backbone, row: int) -> None:
        self._backbone, self._row = backbone, row

    def features(self, images: np.ndarray) -> Features:
        features = self._backbone.features(images)
        cells = features.cells.copy()
        cells[self._row, 3, 5] = np.inf
        return replace(features, cells=cells)


def block(count: int) -> pa.Table:
    images = np.random.default_rng(2).integers(0, 255, (count, TINY_SIDE, TINY_SIDE, 3), np.uint8)
    broken: list[np.ndarray | None] = [*images[:-1], None]
    return pa.table(
        {
            "uri": [f"{row}.png" for row in range(count)],
            "category": ["tile"] * count,
            "error_type": pa.array([None] * (count - 1) + ["truncated"], pa.string()),
            "error_message": pa.array([None] * (count - 1) + ["cut"], pa.string()),
            SQUARE: pack(broken, TINY_SIDE),
        }
    )


@pytest.mark.ray
def test_features_that_are_no_numbers_cost_one_row_not_the_run(tiny_store: TinyStore) -> None:
    actor = FeatureActor(ActorSettings(tiny_store.bundle, 1, (SQUARE,)))
    whole = actor(block(5))
    assert whole["error_type"].to_pylist() == [None] * 4 + ["truncated"]

    actor._scorer._backbone = Overflowing(actor._scorer._backbone, row=1)
    found = actor(block(5))
    assert found["error_type"].to_pylist() == [None, "not_finite", None, None, "truncated"]
    assert found["error_message"][1].as_py().startswith("1.png: its features are not finite")
    assert found["error_message"][4].as_py() == "cut"
    for name in ("anomaly_cells", "anomaly_pooled"):
        values = found[name].to_pylist()
        assert values[1] is None and values[4] is None
        for row in (0, 2, 3):
            assert values[row] == whole[name][row].as_py()


class Blinded:
    """A detector that gives no number for one image."""

    def __init__(self, detector: Any, row: int) -> None:
        self._detector, self._row = detector, row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, images: np.ndarray) -> list[Boxes]:
        found: list[Boxes] = self._detector.detect(images)
        found[self._row] = replace(found[self._row], finite=False)
        return found


@pytest.mark.ray
def test_boxes_that_are_no_numbers_cost_one_row_not_the_run(tiny_store: TinyStore) -> None:
    actor = DetectorActor(ActorSettings(tiny_store.bundle, 1, (LETTERBOXED,)))
    rows = block(5)
    sides = pa.array([TINY_SIDE] * 5, pa.int32())
    rows = rows.append_column("width", sides).append_column("height", sides)
    rows = rows.rename_columns([LETTERBOXED if n == SQUARE else n for n in rows.column_names])
    actor._detector = Blinded(actor._detector, row=1)
    found = actor(rows)
    assert found["error_type"].to_pylist() == [None, "not_finite", None, None, "truncated"]
    assert found["error_message"][1].as_py().startswith("1.png: its boxes are not finite")


class OneRoom:
    """A network for which memory ends at images of one colour, alone or not, or at any image."""

    def __init__(self, network: Any, at_any: bool = False) -> None:
        self._network, self._at_any = network, at_any
        self.sizes: list[int] = []

    def of_pixels(self, batch: torch.Tensor) -> Any:
        self.sizes.append(len(batch))
        pixels = batch.flatten(1)
        white = (pixels.amin(1) == 255).any()
        if white or self._at_any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._network.of_pixels(batch)


def whitened(rows: pa.Table, *places: int) -> pa.Table:
    """The block with white images in these places."""
    images, present = unpack(rows.column(SQUARE))
    images = images.copy()
    images[list(places)] = 255
    every: list[np.ndarray | None] = [None] * len(rows)
    for row, image in zip(present, images, strict=True):
        every[row] = image
    return rows.set_column(
        rows.schema.get_field_index(SQUARE), SQUARE, pack(every, images.shape[1])
    )


def sums(images: np.ndarray, size: int, most: int) -> np.ndarray:
    """A network whose memory holds images up to a brightness."""
    if images.size and images.max() > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return images.reshape(len(images), -1).sum(axis=1, dtype=np.int64)


def summed(rows: pa.Table, most: int) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    images, present = unpack(rows.column(SQUARE))

    def compute(some: np.ndarray, kept: np.ndarray) -> np.ndarray:
        assert np.array_equal(some, images[kept]) or not some.any()
        found = in_batches(lambda batch, size: sums(batch, size, most), some, 4)
        return np.concatenate([np.zeros(0, np.int64), *found])

    return in_memory(compute, images, present, rows, "x")


def test_models_are_given_the_images_as_they_lie_in_the_block() -> None:
    rows = pa.table({SQUARE: pack(list(np.zeros((3, 4, 4, 3), np.uint8)), 4)})
    images, present = unpack(rows.column(SQUARE))
    given: list[np.ndarray] = []
    in_memory(lambda some, _: given.append(some), images, present, rows, "x")
    assert [np.shares_memory(some, images) for some in given] == [True]


def test_an_image_alone_in_its_block_that_finds_no_memory_is_an_error_row() -> None:
    rows = whitened(block(5), 2)
    found, present, told = summed(rows, most=254)
    assert present.tolist() == [0, 1, 3]
    assert len(found) == 3
    assert told["error_type"].to_pylist() == [None, None, "out_of_memory", None, "truncated"]
    found, present, told = summed(rows.slice(2, 1), most=254)
    assert (len(found), len(present)) == (0, 0)
    assert told["error_type"].to_pylist() == ["out_of_memory"]
    assert told["error_message"][0].as_py().startswith("2.png: a model finds no memory for it")


def test_where_no_image_finds_memory_it_is_not_the_images() -> None:
    for rows in (block(5), block(5).slice(1, 1)):
        with pytest.raises(RunError, match="a model finds no memory for a single one of"):
            summed(rows, most=-1)


@pytest.mark.ray
def test_images_that_memory_does_not_hold_cost_their_rows_also_where_they_are_all(
    tiny_store: TinyStore,
) -> None:
    actor = FeatureActor(ActorSettings(tiny_store.bundle, 1, (SQUARE,)))
    whole = actor(block(5))
    backbone = actor._scorer._backbone
    backbone._trunk = small = OneRoom(backbone._trunk)
    found = actor(whitened(block(5), 1))
    assert found["error_type"].to_pylist() == [None, "out_of_memory", None, None, "truncated"]
    assert found["error_message"][1].as_py().startswith("1.png: a model finds no memory for it")
    assert {1, 2} < set(small.sizes)  # halved down to the image
    for row in (0, 2, 3):
        wanted = pytest.approx(whole["anomaly_cells"][row].as_py(), rel=1e-5)
        assert found["anomaly_cells"][row].as_py() == wanted

    alone = actor(whitened(block(5), 2).slice(2, 1))
    assert alone["error_type"].to_pylist() == ["out_of_memory"]
    assert alone["anomaly_cells"].to_pylist() == [None]

    backbone._trunk = OneRoom(small._network, at_any=True)
    with pytest.raises(RunError, match="no memory for a single one of 4 images; give its actors"):
        actor(block(5))

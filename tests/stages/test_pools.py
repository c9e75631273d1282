"""The actors as plain objects: what a network gives no number for becomes an error row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.models.backbone import Features
from pipeline.stages.columns import pack
from pipeline.stages.decode import SQUARE
from pipeline.stages.pools import ActorSettings, FeatureActor
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

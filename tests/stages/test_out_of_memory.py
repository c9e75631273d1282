"""A run in which one image is more than a model's memory holds: its row, and no other, is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import IndexConfig
from pipeline.stages import model_pools
from pipeline.stages.index import run_index
from pipeline.stages.pools import FeatureActor
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import TINY_SIDE, TinyStore, save, write_archive

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ONE_MODEL = {"detector": False, "classifier": False}
IMAGES = 10


def hungry_actor() -> type:
    """The feature pool's actor around a network for which memory ends at a white image."""

    class Network:
        def __init__(self, network: Any) -> None:
            self._network = network

        def of_pixels(self, batch: Any) -> Any:
            import torch

            if (batch.flatten(1).amin(1) == 255).any():
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return self._network.of_pixels(batch)

    class HungryActor(FeatureActor):
        def __init__(self, settings: Any) -> None:
            super().__init__(settings)
            backbone = self._scorer._backbone
            backbone._trunk = Network(backbone._trunk)

    return HungryActor


@pytest.mark.parametrize("block_rows", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_an_image_that_finds_no_memory_is_a_row_of_errors_and_the_others_are_scored(
    tiny_store: TinyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    """Among others, which are computed in smaller batches, and in a block of its own."""
    archive = write_archive(tmp_path / "archive", good=3, test=1)
    white = archive / "tile/test/good/white.png"
    save(white, np.full((TINY_SIDE, TINY_SIDE, 3), 255, np.uint8))
    index = run_index(IndexConfig(source=str(archive), store=str(tmp_path), name="m"))
    settings = {
        "manifest": index["manifest"],
        "run_id": "night",
        "models": ONE_MODEL,
        "block_rows": block_rows,
    }
    run_score(tiny_store.score_config(tmp_path / "calm", **settings))
    monkeypatch.setitem(model_pools.ACTORS, "features", hungry_actor())
    report = run_score(tiny_store.score_config(tmp_path / "hungry", **settings))
    counts = {"manifest": IMAGES + 1, "scored": IMAGES, "errors": 1}
    assert counts.items() <= report["images"].items()
    (error,) = load_table(str(tmp_path / "hungry"), "night", "errors").to_pylist()
    assert (error["uri"], error["error_type"]) == (str(white), "out_of_memory")
    assert error["error_message"].startswith(f"{white}: a model finds no memory for it, even alone")
    calm, hungry = (
        {
            row["uri"]: row["anomaly_cells"]
            for row in load_table(place, "night", "scores").to_pylist()
        }
        for place in (str(tmp_path / "calm"), str(tmp_path / "hungry"))
    )
    del calm[str(white)]
    assert hungry == pytest.approx(calm, rel=1e-5)

"""From images to the verdict: an archive, the same one under less light, and what the job says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import monitor
from pipeline.config import IndexConfig
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from tests.conftest import TinyStore, save

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def darkened(archive: Path, folder: Path) -> Path:
    """Every image of an archive at 70 % of its light."""
    for file in sorted(archive.rglob("*.png")):
        pixels = np.asarray(Image.open(file)).astype(float)
        masks = "ground_truth" in file.parts
        dimmed = pixels if masks else 0.7 * pixels
        save(folder / file.relative_to(archive), np.rint(dimmed).astype(np.uint8))
    return folder


def test_a_night_under_less_light_exits_with_3_and_says_so(
    tiny_store: TinyStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    dark = darkened(tiny_store.archive, tmp_path / "dark")
    index = run_index(IndexConfig(source=str(dark), store=str(store), name="dark"))
    features = {"models": {"detector": False, "classifier": False}}
    run_score(tiny_store.score_config(store, run_id="first", **features))
    night = {"run_id": "night", "manifest": index["manifest"]}
    run_score(tiny_store.score_config(store, **night, **features))
    settings = [f"store={store}", "run_id=night", "reference=first", "min_images=8"]
    # By default images of the folder `train` are left out, which the Gaussians know.
    assert monitor.main([*settings, "roles=none"]) == 3
    said = capsys.readouterr().out
    for category in ("bolt", "tile"):
        line = next(one for one in said.splitlines() if one.startswith(f"{category}: "))
        assert "brightness fell by 30 %" in line
    assert "sharpness fell" not in said

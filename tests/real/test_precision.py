"""What bfloat16 changes in the scores of real images, and that `auto` takes it only if it may."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.models.precision import AUTO, BFLOAT16, FLOAT32
from tests.real.precision import Effect, distances, effect, effects, pictures, pillow_square


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


SCORES_OF = {"features": ["cells", "pooled"]}


def test_distances_of_hazelnuts_keep_their_order_in_bfloat16(shared: Path) -> None:
    found = pictures(shared, "hazelnut")
    exact, coarse = (distances(shared, found, kind) for kind in (FLOAT32, BFLOAT16))
    reference = distances(shared, found, FLOAT32, pillow_square)
    for name in ("cells", "pooled"):
        one = effect(exact[name], coarse[name], found.defect, ~found.fit)
        assert one.auroc[0] == one.auroc[1] == 1.0
        assert one.rank > 0.99
        assert 1e-4 < one.relative < 0.03
        # The resize that is used, against Pillow's.
        resize = effect(reference[name], exact[name], found.defect, ~found.fit)
        assert resize.relative <= 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_auto_takes_bfloat16_for_the_models_that_keep_to_the_limits_and_for_no_other(
    shared: Path,
) -> None:
    found: list[dict[str, Effect]] = []
    for category in ("magnetic_tile", "hazelnut", "grid"):
        found.append(effects(shared, category))
        for name, one in found[-1].items():
            print(f"{category}: {name}: {one}")
    kept = {
        model: all(of[name].kept for of in found for name in SCORES_OF.get(model, [model]))
        for model in AUTO
    }
    for of in found:
        assert all(of[f"{name}, resize"].relative <= 1e-3 for name in ("cells", "pooled"))
    assert {m: BFLOAT16 if good else FLOAT32 for m, good in kept.items()} == dict(AUTO)

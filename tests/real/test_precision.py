"""What bfloat16 changes in the scores of real images, and that `auto` takes it only if it may."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.models.precision import AUTO, BFLOAT16, FLOAT32
from tests.real.precision import Effect, distances, effect, effects, pictures


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


def check_auto(found: dict[str, Effect]) -> None:
    scores_of = {"features": ["cells", "pooled"]}
    for model, kind in AUTO.items():
        if kind == BFLOAT16:
            assert all(found[name].kept for name in scores_of.get(model, [model]))


def test_distances_of_hazelnuts_keep_their_order_in_bfloat16(shared: Path) -> None:
    found = pictures(shared, "hazelnut")
    exact, coarse = (distances(shared, found, kind) for kind in (FLOAT32, BFLOAT16))
    for name in ("cells", "pooled"):
        one = effect(exact[name], coarse[name], found.defect, ~found.fit)
        assert one.auroc[0] == one.auroc[1] == 1.0
        assert one.rank > 0.99
        assert 1e-4 < one.relative < 0.03


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("category", ["magnetic_tile", "hazelnut", "grid"])
def test_models_in_bfloat16_keep_to_the_limits_if_auto_takes_them(
    shared: Path, category: str
) -> None:
    found = effects(shared, category)
    for name, one in found.items():
        print(f"{category}: {name}: {one}")
    check_auto(found)

"""Batches of one shape: padded with black, and fetched once the next ones are under way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.resnet import in_fixed_batches, padded

PROCESSOR = torch.device("cpu")


def test_a_batch_is_padded_with_black_and_lies_channels_last() -> None:
    images = np.random.default_rng(0).integers(1, 256, (3, 5, 7, 3), np.uint8)
    batch = padded(images, 4, PROCESSOR)
    assert batch.shape == (4, 3, 5, 7)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch[:3].permute(0, 2, 3, 1).numpy(), images)
    assert not batch[3].any()


def test_batches_are_fetched_once_the_next_ones_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a GPU would wait while the next batch is put together."""
    happened: list[str] = []
    fetch = torch.Tensor.cpu

    def fetched(tensor: torch.Tensor) -> torch.Tensor:
        happened.append("fetched")
        return fetch(tensor)

    def run(batch: torch.Tensor) -> tuple[torch.Tensor]:
        happened.append(f"batch of {len(batch)}")
        return (batch.float().mean(dim=(1, 2, 3)),)

    monkeypatch.setattr(torch.Tensor, "cpu", fetched)
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    (means,) = in_fixed_batches(run, images, 2, PROCESSOR)
    assert happened == ["batch of 2"] * 3 + ["fetched"] * 3
    np.testing.assert_allclose(means, images.mean(axis=(1, 2, 3)), rtol=1e-6)
    # Of many batches no more than a few are under way.
    happened.clear()
    images = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), np.uint8)
    (means,) = in_fixed_batches(run, images, 2, PROCESSOR)
    assert happened == ["batch of 2"] * 4 + ["fetched"] * 4 + ["batch of 2"] * 2 + ["fetched"] * 2
    np.testing.assert_allclose(means, images.mean(axis=(1, 2, 3)), rtol=1e-6)

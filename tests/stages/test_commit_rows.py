"""How many images a commit holds: what was asked for, unless a long run had too many commits."""

from __future__ import annotations

import pytest

from pipeline.stages.score import commit_rows


@pytest.mark.parametrize(
    ("asked", "images", "rows"),
    [
        (128, 0, 128),
        (128, 256_000, 128),
        (128, 256_001, 129),
        (128, 1_000_000, 500),
        (128, 8_192_000, 4096),
        (128, 10**9, 4096),
        (5000, 10**9, 5000),
        (1, 2_001, 2),
    ],
)
def test_commits_grow_with_a_long_run(asked: int, images: int, rows: int) -> None:
    assert commit_rows(asked, images, "none") == rows


def test_commits_with_features_stay_small() -> None:
    assert commit_rows(128, 1_000_000, "pooled") == 500
    assert commit_rows(128, 10**9, "pooled") == 1024
    assert commit_rows(128, 10**9, "cells") == 128

"""How many images a commit holds: what was asked for, unless a long run had too many commits."""

from __future__ import annotations

import pytest

from pipeline.stages.score import commit_rows


@pytest.mark.parametrize(
    ("asked", "images", "rows"),
    [
        (128, 0, 128),
        (128, 1_280_000, 128),
        (128, 1_280_001, 129),
        (128, 10_000_000, 1000),
        (128, 10_240_000, 1024),
        (128, 10**9, 1024),
        (5000, 10**9, 5000),
        (1, 10_001, 2),
    ],
)
def test_commits_grow_with_a_long_run(asked: int, images: int, rows: int) -> None:
    assert commit_rows(asked, images, "none") == rows


@pytest.mark.parametrize("keep", ["pooled", "cells"])
def test_commits_with_features_stay_as_large_as_asked(keep: str) -> None:
    assert commit_rows(128, 10**9, keep) == 128

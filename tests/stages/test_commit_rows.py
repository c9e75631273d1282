"""How many images a commit holds: what was asked for, unless a long run had too many commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ScoreConfig
from pipeline.stages import score
from pipeline.stages.score import commit_rows, run_score
from tests.conftest import TinyStore


def config(**changes: Any) -> ScoreConfig:
    given = {"manifest": "m", "bundle": "b", "store": "s"}
    return ScoreConfig.model_validate(given | changes)


@pytest.mark.parametrize(
    ("asked", "block", "images", "rows"),
    [
        (128, 32, 0, 128),
        (128, 32, 256_000, 128),
        (128, 32, 256_001, 160),
        (128, 32, 1_000_000, 512),
        (128, 32, 8_192_000, 4096),
        (128, 32, 10**9, 4096),
        (128, 2048, 1_000_000, 2048),
        (128, 5000, 1_000_000, 5000),
        (128, 48, 10**9, 4080),
        (5000, 32, 10**9, 5000),
        (1, 1, 2_001, 2),
    ],
)
def test_commits_grow_with_a_long_run(asked: int, block: int, images: int, rows: int) -> None:
    assert commit_rows(config(commit_rows=asked, block_rows=block), images, "none") == rows


def test_commits_with_features_stay_small() -> None:
    assert commit_rows(config(), 1_000_000, "pooled") == 512
    assert commit_rows(config(), 10**9, "pooled") == 1024
    assert commit_rows(config(), 10**9, "cells") == 128


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_a_run_has_no_more_commits_than_it_may(
    tiny_store: TinyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 images in blocks of 4: by commits of 2 they would be 20, by ones of 7 twice six."""
    monkeypatch.setattr(score, "_MOST_COMMITS", 6)
    seen: list[int] = []
    add = score.Progress.add

    def noted(self: score.Progress, scored: int, failed: int) -> None:
        seen.append(scored + failed)
        add(self, scored, failed)

    monkeypatch.setattr(score.Progress, "add", noted)
    run_score(tiny_store.score_config(tmp_path, run_id="r", block_rows=4, commit_rows=2))
    assert sum(seen) == 40
    assert max(seen) == 8
    assert len(seen) <= 6

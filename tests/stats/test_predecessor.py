"""The predecessor's real scores: its `safe` thresholds, and what its classifier misses unseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.stats.selection import Rules, Sample, all_thresholds
from pipeline.stats.thresholds import count


@pytest.fixture(scope="module")
def scores(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "seed" / "mvtec_scores.csv")


def sample(rows: pd.DataFrame, column: str) -> Sample:
    """One column in float64; the predecessor knew no groups."""
    defect = rows["label"].to_numpy() == 1
    return Sample(rows[column].to_numpy(), defect, rows.index.to_numpy())


def test_safe_is_each_categorys_lowest_defect_score(scores: pd.DataFrame) -> None:
    nobody = sample(scores.iloc[:0], "ad_score")
    seen = set()
    for category, rows in scores.groupby("category"):
        found = all_thresholds(sample(rows, "ad_score"), nobody, Rules())["safe"]
        lowest = min(rows.ad_score[rows.label == 1])
        assert found.value == lowest, category
        assert found.counts is not None
        assert (found.counts.fn, found.defects) == (0, (rows.label == 1).sum())
        assert found.says == (
            f"0 missed of {found.defects}: no bound, groups of like images are not known"
        )
        seen.add(category)
    assert len(seen) == 15


def test_the_classifier_misses_7_of_102_defects_that_it_has_not_seen(
    scores: pd.DataFrame, shared: Path
) -> None:
    file = shared / "seed" / "image_level_thresholds.json"
    threshold = json.loads(file.read_text())["image_level_global"]["tau_F1"]
    missed = {}
    for name, rows in (("all", scores), ("unseen", scores[scores.classifier_split == "test"])):
        of = sample(rows, "cls_prob")
        counts = count(of.scores, of.defect, threshold)
        missed[name] = (counts.fn, counts.fn + counts.tp)
    assert missed == {"all": (11, 633), "unseen": (7, 102)}
    assert np.isclose(7 / 102, 0.069, atol=5e-4)

"""The predecessor's real scores and thresholds: its counts, in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.policy.cube import Groups, Rows, Rules, Settings, count, plan
from pipeline.policy.formula import AnyOf, Cut, Formula

AD, CLS = Cut("ad_score", 0), Cut("cls_prob", 1)
POLICIES: dict[str, tuple[Formula, str]] = {
    "CLS_F1_ONLY": (CLS, "tau_F1"),
    "AD_SAFE_ONLY": (AD, "tau_F1"),
    "OR_AD_SAFE_OR_CLS_SAFE": (AnyOf((AD, CLS)), "tau_safe"),
}


@pytest.fixture(scope="module")
def scores(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "seed" / "mvtec_scores.csv")


def grouped(scores: pd.DataFrame, dtype: type) -> tuple[list[str], Groups, Rows]:
    """Groups (category, label): twice the category's number, and one more for a defect."""
    names = sorted(scores.category.unique())
    category = scores.category.map({name: number for number, name in enumerate(names)})
    columns = {name: scores[name].to_numpy(dtype) for name in ("ad_score", "cls_prob")}
    rows = Rows(columns, (2 * category + scores.label).to_numpy())
    return names, Groups(np.repeat(np.arange(len(names)), 2)), rows


@pytest.mark.parametrize("way", ["dense", "sparse", "bitmaps"])
def test_the_predecessors_counts(scores: pd.DataFrame, shared: Path, way: str) -> None:
    names, groups, rows = grouped(scores, np.float64)
    of_category = json.loads((shared / "seed/ad_resnet_mahalanobis_mvtec_all.json").read_text())
    overall = json.loads((shared / "seed/image_level_thresholds.json").read_text())
    rules = []
    for formula, classifier in POLICIES.values():
        tau = overall["image_level_global"][classifier]
        thresholds = [[[of_category[name]["tau_safe"], tau]] for name in names]
        rules.append(Rules(formula, np.arange(len(names)), np.array(thresholds)))
    made = plan(rules, groups, len(scores), Settings(kinds=(way,)))
    found = [flagged.sum(axis=0) for flagged in count(made, lambda: [rows])]
    total = np.bincount(rows.group, minlength=groups.count)
    expected = pd.read_csv(shared / "seed/expected_policy_counts.csv").set_index("policy")
    assert sorted(expected.index) == sorted(POLICIES)
    for name, flagged in zip(POLICIES, found, strict=True):
        fp, tp = int(flagged[::2].sum()), int(flagged[1::2].sum())
        counts = {
            "tn": int(total[::2].sum()) - fp,
            "fp": fp,
            "fn": int(total[1::2].sum()) - tp,
            "tp": tp,
        }
        assert counts == expected.loc[name].to_dict(), name


def test_one_good_image_lies_between_its_score_and_a_threshold_in_float64_alone(
    scores: pd.DataFrame,
) -> None:
    tau = 25.333640934458575
    near = scores.ad_score == 25.33364093445857
    assert near.sum() == 1
    assert scores.label[near].tolist() == [0]
    flagged = []
    for dtype in (np.float64, np.float32):
        _, groups, rows = grouped(scores[near], dtype)
        threshold = float(np.asarray(tau, dtype))
        rules = Rules(AD, np.array([0]), np.array([[[threshold, 0.0]]]))
        flagged.append(int(count(plan([rules], groups, 1), lambda rows=rows: [rows])[0].sum()))
    assert flagged == [0, 1]

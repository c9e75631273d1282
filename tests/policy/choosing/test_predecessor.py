"""The predecessor's real scores: its counts, the same judged honestly, what can be certified."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.policy.choosing.champion import compare
from pipeline.policy.choosing.confusion import Confusion, Decided, by_category, confusion, parts
from pipeline.policy.choosing.costs import expected_costs, parse_costs
from pipeline.policy.choosing.figures import columns, macro, rates, record
from pipeline.policy.choosing.guarantee import certify
from pipeline.policy.choosing.hold_out import assigned, cross_fitted, leave_one_out
from pipeline.policy.choosing.limits import parse_budget, parse_guarantee
from pipeline.policy.choosing.measured import MeasuredOn
from pipeline.policy.choosing.per_category import cheapest_each, picked, within_total
from tests.policy.choosing.counting import Images, decided

NAMES = ["CLS_F1_ONLY", "AD_SAFE_ONLY", "OR_AD_SAFE_OR_CLS_SAFE"]


@pytest.fixture(scope="module")
def rows(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "seed" / "mvtec_scores.csv")


@pytest.fixture(scope="module")
def flagged(rows: pd.DataFrame, shared: Path) -> np.ndarray:
    """(3, N) decisions of three of its policies, in float64."""
    seed = shared / "seed"
    overall = json.loads((seed / "image_level_thresholds.json").read_text())["image_level_global"]
    each = json.loads((seed / "ad_resnet_mahalanobis_mvtec_all.json").read_text())
    safe = rows.ad_score >= rows.category.map({name: of["tau_safe"] for name, of in each.items()})
    said = [rows.cls_prob >= overall["tau_F1"], safe, safe | (rows.cls_prob >= overall["tau_safe"])]
    return np.stack([flags.to_numpy() for flags in said])


def engine(rows: pd.DataFrame, flagged: np.ndarray, part: np.ndarray) -> Decided:
    defect = rows.label.to_numpy(np.int64)
    names = (rows[name].to_numpy(str) for name in ("category", "defect_type"))
    return decided(Images(*names, defect, part, np.where(flagged, 0, 2)), review=False)


def unseen(rows: pd.DataFrame) -> np.ndarray:
    """(N,) 1 where the classifier never saw the image."""
    return (rows.classifier_split == "test").to_numpy(np.int64)


def test_its_counts_are_these_counts(rows: pd.DataFrame, flagged: np.ndarray, shared: Path) -> None:
    found = engine(rows, flagged, unseen(rows))
    counts = confusion(found, by_category(found.population)).total()
    expected = pd.read_csv(shared / "seed" / "expected_policy_counts.csv").set_index("policy")
    for place, name in enumerate(NAMES):
        for column in ("tp", "fp", "tn", "fn"):
            assert getattr(counts, column)[place] == expected.loc[name, column]


def test_on_images_it_never_saw_the_classifier_misses_four_times_as_many(
    rows: pd.DataFrame, flagged: np.ndarray
) -> None:
    found = engine(rows, flagged, unseen(rows))
    by_part = parts(found, by_category(found.population))
    every, honest = (
        record(columns(counts.total()), 0, MeasuredOn("all"))
        for counts in (by_part[0] + by_part[1], by_part[1])
    )
    assert (every["fn"], every["defects"], round(every["fnr"], 3)) == (11, 633, 0.017)
    assert (honest["fn"], honest["defects"], round(honest["fnr"], 3)) == (7, 102, 0.069)
    assert honest["fnr_exact_low"] > every["fnr"]
    mean, categories = macro(rates(by_part[1])["fnr"])
    assert 0 < mean[0] < 1
    assert categories[0] == (by_part[1].defects[0] > 0).sum() <= 15


def test_neither_policy_can_be_certified_with_so_few_defects(
    rows: pd.DataFrame, flagged: np.ndarray
) -> None:
    found = engine(rows, flagged, unseen(rows))
    by_part = parts(found, by_category(found.population))
    guarantee = parse_guarantee("fnr<=0.01@0.95", "guarantee")
    answer = certify(guarantee, by_part[0].total(), by_part[1].total())
    assert answer.policy is None
    assert "cannot be certified with 102 defects; n needed: 299" in answer.says


def test_flips_from_the_classifier_to_the_safe_score(
    rows: pd.DataFrame, flagged: np.ndarray
) -> None:
    champion, challenger = np.where(flagged[:2], 0, 2)
    crossed = np.zeros((2, 3, 3), np.int64)
    np.add.at(crossed, (rows.label.to_numpy(), champion, challenger), 1)
    found = compare(crossed)
    assert (found.defects.fixed, found.defects.broken, found.defects.images) == (11, 0, 633)
    assert found.goods.broken - found.goods.fixed == 176 - 3
    assert found.defects.p_value == pytest.approx(2 / 2**11)


def test_a_threshold_for_each_category_looks_better_on_the_images_that_chose_it(
    rows: pd.DataFrame,
) -> None:
    """60 thresholds on the anomaly score; each category takes the cheapest for itself."""
    thresholds = np.quantile(rows.ad_score, np.linspace(0.01, 0.99, 60), method="inverted_cdf")
    flags = rows.ad_score.to_numpy() >= thresholds[:, None]
    found = engine(rows, flags, assigned(rows.path.to_numpy(str), 5))
    by = by_category(found.population)
    model = parse_costs({"false_negative": 5, "false_positive": 1, "defect_rate": 0.5})

    def cheapest(counts: Confusion) -> np.ndarray:
        return cheapest_each(expected_costs(counts, by, model)).policies

    whole = confusion(found, by)
    in_sample = picked(whole, cheapest(whole)).total()
    honest = cross_fitted(leave_one_out(parts(found, by)), cheapest).counts.total()
    assert (honest.defects, honest.goods) == (in_sample.defects, in_sample.goods) == (633, 236)
    assert 5 * honest.fn + honest.fp > 5 * in_sample.fn + in_sample.fp
    total = within_total(whole, parse_budget("fnr<=0.01", "budget"))
    kept = picked(whole, total.policies).total()
    assert total.met
    assert kept.fn <= 6
    # One threshold for all keeps the same budget with many more false alarms.
    alone = whole.total()
    assert kept.fp < alone.fp[alone.fn <= 6].min()

"""All rules at once: what is claimed, what is not, and what stands in where there is no ground."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from pipeline.stats.bounds import miss_bound, one_per_group
from pipeline.stats.selection import Rules, Sample, Threshold, all_thresholds
from pipeline.stats.thresholds import Costs, count

RULES = Rules(costs=Costs(1, 10, 0.02))


def sample(goods: int, defects: int, first: int = 0, seed: int = 0) -> Sample:
    """Float32 scores, defects two deviations higher, every image a group of its own."""
    rng = np.random.default_rng(seed)
    defect = np.arange(goods + defects) >= goods
    ids = np.arange(first, first + len(defect), dtype=np.int64)
    scores = (rng.standard_normal(len(defect)) + 2 * defect).astype(np.float32)
    return Sample(scores, defect, ids, ids)


NORMALS = sample(40, 0, first=10_000, seed=1)


def thresholds(of: Sample, normals: Sample = NORMALS, rules: Rules = RULES) -> dict[str, Threshold]:
    return all_thresholds(of, normals, rules)


def test_safe_prints_its_bound_and_only_safe_and_fpr_have_one() -> None:
    found = thresholds(sample(50, 59))
    assert list(found) == ["f1", "f2", "safe", "fpr", "cost"]
    assert found["safe"].says == "0 missed of 59: FNR ≤ 4.96 % at 95 %"
    bound = found["safe"].bound
    assert bound is not None
    assert (bound.rate, bound.n, bound.missed, bound.confidence) == ("fnr", 59, 0, 0.95)
    assert bound.at_most == miss_bound(0, 59, 0.95)
    conformal = found["fpr"].bound
    assert conformal is not None
    assert (conformal.rate, conformal.confidence, conformal.n) == ("expected_fpr", None, 40)
    assert conformal.at_most == 2 / 41  # ⌊41 × 0.05⌋ of 41
    assert found["fpr"].says == "from 40 held-out normals: expected FPR ≤ 4.88 %"
    for rule in ("f1", "f2", "cost"):
        assert found[rule].bound is None
        assert found[rule].says.endswith("on the images that chose it: no bound")
    assert [found[rule].in_sample for rule in found] == [True, True, True, False, True]


def test_misses_allowed_are_in_the_words_and_in_the_bound() -> None:
    found = thresholds(sample(50, 60), rules=Rules(misses_allowed=2, confidence=0.9))["safe"]
    assert found.says == "2 missed of 60 (allowed: 2): FNR ≤ 8.63 % at 90 %"
    assert found.bound is not None
    assert found.bound.at_most == miss_bound(2, 60, 0.9)
    assert found.counts is not None
    assert found.counts.fn == 2


def test_a_tie_makes_fewer_misses_but_no_smaller_bound() -> None:
    tied = sample(50, 30)
    tied.scores[tied.defect] = np.sort(tied.scores[tied.defect])
    tied.scores[50:53] = -9
    found = thresholds(tied, rules=Rules(misses_allowed=2))["safe"]
    assert found.says.startswith("0 missed of 30 (allowed: 2): FNR ≤ 19.5")
    assert found.bound is not None
    assert found.bound.at_most == miss_bound(2, 30, 0.95)


def test_counts_and_missing_scores_are_those_of_all_images() -> None:
    some = sample(50, 59)
    some.scores[[0, 1, 60]] = np.nan
    for rules in (RULES, dataclasses.replace(RULES, missing="flagged", misses_allowed=1)):
        for rule, found in thresholds(some, rules=rules).items():
            assert (found.goods, found.defects) == (50, 59)
            assert (found.missing_goods, found.missing_defects) == (2, 1)
            if found.value is None:
                assert rule == "safe"
                assert rules is RULES
                continue
            counts = found.counts
            assert counts is not None
            assert counts.tp + counts.fn == 59
            assert counts.fp + counts.tn == 50
            scored = np.nan_to_num(some.scores, nan=-99 if rules.missing == "missed" else 99)
            assert counts == count(scored, some.defect, found.value)


def test_a_defect_without_a_score_can_not_be_safe() -> None:
    some = sample(50, 20)
    some.scores[60] = np.nan
    found = thresholds(some)["safe"]
    assert (found.value, found.counts, found.bound) == (None, None, None)
    assert found.says.startswith("none: 1 of 20 defects have no score, and 0 misses are allowed")
    assert "missing_scores" in found.says
    allowed = thresholds(some, rules=Rules(misses_allowed=1))["safe"]
    assert allowed.value == some.scores[some.defect][~np.isnan(some.scores[some.defect])].min()
    assert allowed.says.startswith("1 missed of 20 (allowed: 1)")


# --- groups ---


def test_n_counts_groups_and_tau_comes_from_one_image_of_each() -> None:
    rng = np.random.default_rng(5)
    of = dataclasses.replace(sample(60, 60), groups=np.arange(120) // 3)
    of = of.where(rng.permutation(120) >= 0)
    found = thresholds(of)["safe"]
    chosen = one_per_group(of.groups[of.defect], of.ids[of.defect])  # type: ignore[index]
    assert chosen.sum() == 20
    assert found.value == of.scores[of.defect][chosen].min()
    assert found.says.startswith("0 missed of 20: FNR ≤ 13.92 %")
    assert found.defects == 60
    assert found.counts is not None
    # The other images of a group may be missed: they are counted and not claimed.
    assert found.counts.fn == (of.scores[of.defect] < found.value).sum()


def test_normals_of_a_group_count_once() -> None:
    pairs = dataclasses.replace(NORMALS, groups=np.arange(40) // 2)
    chosen = one_per_group(np.arange(40) // 2, pairs.ids)
    found = thresholds(sample(50, 20), pairs)["fpr"]
    assert found.says == "from 20 held-out normals: expected FPR ≤ 4.77 %"
    assert found.value == np.nextafter(pairs.scores[chosen].max(), np.float32(np.inf))
    assert found.normals == 20


def test_a_group_with_good_images_counts_for_its_defect() -> None:
    mixed = dataclasses.replace(sample(20, 20), groups=np.tile(np.arange(20), 2))
    assert thresholds(mixed)["safe"].says.startswith("0 missed of 20: ")


def test_without_groups_there_is_a_threshold_and_no_bound() -> None:
    alone = dataclasses.replace(sample(50, 59), groups=None)
    found = thresholds(alone)
    assert found["safe"].value == alone.scores[alone.defect].min()
    assert found["safe"].bound is None
    assert found["safe"].says == "0 missed of 59: no bound, groups of like images are not known"
    assert found["fpr"].bound is not None
    normals = dataclasses.replace(NORMALS, groups=None)
    found = thresholds(sample(50, 59), normals)
    assert found["fpr"].bound is None
    assert "no bound" in found["fpr"].says


def test_a_doubt_takes_the_bounds_away() -> None:
    doubted = dataclasses.replace(sample(50, 59), doubt="who knows")
    found = thresholds(doubted, dataclasses.replace(NORMALS, doubt="who knows"))
    assert [threshold.bound for threshold in found.values()] == [None] * 5
    assert found["safe"].says == "0 missed of 59: no bound, who knows"


# --- nothing to choose by ---


def test_without_defects_every_rule_falls_back_to_the_false_positive_side() -> None:
    good = sample(50, 0)
    found = thresholds(good)
    fpr = found["fpr"]
    assert fpr.fallback is None
    for rule in ("f1", "f2", "safe", "cost"):
        assert found[rule].value == fpr.value != good.scores.min()
        assert found[rule].fallback == "fpr"
        assert found[rule].says.startswith("fallback to fpr, no defect in validation: from 40 ")
        assert found[rule].rule == rule
        assert found[rule].bound == fpr.bound


def test_without_defects_and_with_too_few_normals_there_is_no_value_at_all() -> None:
    found = thresholds(sample(50, 0), NORMALS.where(np.arange(40) < 18))
    for threshold in found.values():
        assert (threshold.value, threshold.counts, threshold.bound) == (None, None, None)
        assert "infinite: 18 held-out normals, and a rate of 0.05 needs 19" in threshold.says


def test_without_good_images_only_safe_stands_on_its_own() -> None:
    found = thresholds(sample(0, 30))
    assert {rule: found[rule].fallback for rule in found} == {
        "f1": "fpr", "f2": "fpr", "safe": None, "fpr": None, "cost": "fpr",
    }  # fmt: skip
    assert "no good image in validation" in found["f1"].says
    assert found["safe"].counts is not None
    assert found["safe"].counts.fpr is None


def test_as_many_misses_allowed_as_defects_fall_back() -> None:
    found = thresholds(sample(50, 2), rules=Rules(misses_allowed=2))["safe"]
    assert found.fallback == "fpr"
    assert "2 misses allowed of 2 independent defects" in found.says


def test_no_score_at_all() -> None:
    blind = sample(5, 5)
    blind.scores[:] = np.nan
    normals = dataclasses.replace(NORMALS, scores=np.full(40, np.nan, np.float32))
    found = thresholds(blind, normals)
    assert {threshold.value for threshold in found.values()} == {None}
    assert "missing scores decide: 40 of 40 normals" in found["fpr"].says


def test_every_value_is_finite_and_every_word_says_something() -> None:
    for seed in range(20):
        found = thresholds(sample(seed % 4, seed % 3, seed=seed))
        for threshold in found.values():
            assert threshold.value is None or math.isfinite(threshold.value)
            assert threshold.says
            json.dumps(dataclasses.asdict(threshold), allow_nan=False)


def test_columns_of_unequal_length() -> None:
    one = sample(3, 3)
    with pytest.raises(ValueError, match=r"shapes \(6,\), \(6,\), \(5,\), \(6,\), need all \(N,\)"):
        dataclasses.replace(one, ids=one.ids[:5])

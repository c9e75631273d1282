"""Figures from a score table: by category, macro, against the category alone, per group."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.scoring.classifier_metrics import base_rates, judge, judge_left_out
from pipeline.tables.schemas import CLASSIFIER_SCORES


def scores(role: str = "validation", folds: int | None = 3, copies: int = 1) -> pa.Table:
    """Two categories; in `pill` four of five rows are defects, in `nut` one of five."""
    rng = np.random.default_rng(0)
    rows = []
    for category, share in (("nut", 0.2), ("pill", 0.8)):
        for number in range(60):
            defect = number % 5 < 5 * share
            logit = float(rng.normal(1.5 * defect, 1))
            for _ in range(copies):
                rows.append(
                    {
                        "image_id": len(rows),
                        "category": category,
                        "defect_type": "dent" if defect else "good",
                        "is_defect": defect,
                        "role": role,
                        "group_id": number + 1000 * (category == "pill"),
                        "fold": number % folds if folds else None,
                        "defect_logit": logit,
                    }
                )
    return pa.Table.from_pylist(rows, schema=CLASSIFIER_SCORES)


RATES = {"nut": 0.2, "pill": 0.8}


def arrays(table: pa.Table, category: str) -> tuple[np.ndarray, np.ndarray]:
    inside = np.array(table["category"].to_pylist()) == category
    truth = np.array(table["is_defect"].to_pylist())[inside]
    return truth, table["defect_logit"].to_numpy()[inside]


def test_figures_are_scikit_learns_and_macro_is_their_mean() -> None:
    table = scores()
    found = judge(table, RATES, seed=0)["held_out"]
    wanted = {"auroc": roc_auc_score, "average_precision": average_precision_score}
    for name, function in wanted.items():
        each = [function(*arrays(table, category)) for category in ("nut", "pill")]
        assert [e[name]["value"] for e in found["categories"]] == pytest.approx(each)
        assert found["macro"][name]["value"] == pytest.approx(np.mean(each))
        for entry in (*found["categories"], found["macro"]):
            assert entry[name]["low"] < entry[name]["value"] < entry[name]["high"]


def test_knowing_the_category_only_helps_together_and_not_within() -> None:
    found = judge(scores(), RATES, seed=0)["held_out"]
    assert [e["baseline_auroc"]["value"] for e in found["categories"]] == [0.5, 0.5]
    shares = [e["baseline_average_precision"]["value"] for e in found["categories"]]
    assert shares == pytest.approx([0.2, 0.8])
    assert found["pooled"]["baseline_auroc"]["value"] == pytest.approx(0.8)
    assert found["macro"]["baseline_auroc"]["value"] == 0.5
    # It is so by construction: no other rows could make it anything else.
    for entry in (*found["categories"], found["macro"]):
        assert entry["baseline_auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    apart = found["pooled"]["baseline_auroc"]
    assert apart["low"] < apart["value"] < apart["high"]


def test_the_gain_over_the_category_alone_is_known_better_than_both() -> None:
    entry = judge(scores(), RATES, seed=0)["held_out"]["categories"][0]
    ours, plain, gain = (
        entry[name]
        for name in ("average_precision", "baseline_average_precision", "average_precision_gain")
    )
    assert gain["value"] == pytest.approx(ours["value"] - plain["value"])
    widths = [one["high"] - one["low"] for one in (ours, plain, gain)]
    assert widths[2] < widths[0] + widths[1]
    same = scores()
    blind = same.set_column(
        same.schema.get_field_index("defect_logit"),
        "defect_logit",
        pa.array(np.zeros(len(same)), pa.float32()),
    )
    found = judge(blind, RATES, seed=0)["held_out"]["categories"][0]["average_precision_gain"]
    assert found == {"value": 0.0, "low": -1.0, "high": 1.0}


def test_copies_of_an_image_add_no_evidence() -> None:
    one, three = (judge(scores(copies=n), RATES, seed=0)["held_out"] for n in (1, 3))
    for name in ("missed", "false_alarms"):
        assert one["pooled"][name] == three["pooled"][name]
    for end in ("value", "low", "high"):
        assert one["macro"]["auroc"][end] == pytest.approx(three["macro"]["auroc"][end])


def test_test_rows_have_no_say_in_the_threshold_that_judges_them() -> None:
    held_out, tested = scores(), scores(role="test", folds=None)
    both = judge(pa.concat_tables([held_out, tested]), RATES, seed=0)
    alone = judge(held_out, RATES, seed=0)
    assert both["f1_threshold"] == alone["f1_threshold"]
    assert both["held_out"] == alone["held_out"]
    truth = np.array(tested["is_defect"].to_pylist())
    called = tested["defect_logit"].to_numpy() >= alone["f1_threshold"]
    assert both["test"]["pooled"]["missed"]["hits"] == int((truth & ~called).sum())


def test_without_rows_to_choose_a_threshold_no_rate_is_told() -> None:
    found = judge(scores(role="test", folds=None), RATES, seed=0)
    assert found["f1_threshold"] is None
    assert found["held_out"] is None
    assert found["test"]["pooled"]["missed"] | {"low": 0, "high": 0} == {
        "hits": 0,
        "of": 0,
        "low": 0,
        "high": 0,
        "value": None,
    }


def test_a_category_of_one_kind_has_no_area_and_is_left_out_of_the_mean() -> None:
    table = scores()
    good_pills = pa.compute.and_(pa.compute.equal(table["category"], "pill"), table["is_defect"])
    found = judge(table.filter(pa.compute.invert(good_pills)), RATES, seed=0)["held_out"]
    nut, pill = found["categories"]
    assert pill["auroc"] == {"value": None, "low": None, "high": None}
    assert found["macro"]["categories"] == 1
    assert found["macro"]["auroc"]["value"] == nut["auroc"]["value"]


def test_a_type_left_out_is_judged_with_its_counts() -> None:
    table = scores().filter(pa.compute.equal(scores()["category"], "nut"))
    found = judge_left_out(table, ("nut", "dent"), seed=0)
    assert (found["good"], found["defects"]) == (48, 12)
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(*arrays(table, "nut")))


def one_defect(table: pa.Table, category: str) -> pa.Table:
    """The rows without all defects of a category but its first."""
    rows = table.to_pylist()
    mine = [row["image_id"] for row in rows if row["category"] == category and row["is_defect"]]
    return pa.Table.from_pylist(
        [row for row in rows if row["image_id"] not in mine[1:]], schema=table.schema
    )


def test_one_group_of_defects_says_nothing_of_its_category_nor_of_the_mean() -> None:
    found = judge(one_defect(scores(), "nut"), RATES, seed=0)["held_out"]
    nut, pill = found["categories"]
    for entry in (nut, found["macro"]):
        for name in ("auroc", "average_precision"):
            assert (entry[name]["low"], entry[name]["high"]) == (0.0, 1.0)
        gain = entry["average_precision_gain"]
        assert (gain["low"], gain["high"]) == (-1.0, 1.0)
    assert pill["auroc"]["low"] > 0.5
    assert nut["baseline_auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_a_type_left_out_of_one_group_claims_nothing() -> None:
    table = scores().filter(pa.compute.equal(scores()["category"], "nut"))
    found = judge_left_out(one_defect(table, "nut"), ("nut", "dent"), seed=0)
    assert found["defects"] == 1
    assert (found["auroc"]["low"], found["auroc"]["high"]) == (0.0, 1.0)


def test_the_gain_of_a_perfect_ranking_is_no_surer_than_the_ranking() -> None:
    """Three groups of defects: no resample shows that the next ones may be missed."""
    rows = scores().filter(pa.compute.equal(scores()["category"], "nut")).to_pylist()
    dents = [row["image_id"] for row in rows if row["is_defect"]]
    for row in rows:
        row["defect_logit"] = 9.0 if row["is_defect"] else -9.0
        if row["is_defect"]:
            row["group_id"] = 500 + dents.index(row["image_id"]) % 3
    table = pa.Table.from_pylist(rows, schema=CLASSIFIER_SCORES)
    (found,) = judge(table, RATES, seed=0)["held_out"]["categories"]
    ours, plain, gain = (
        found[name]
        for name in ("average_precision", "baseline_average_precision", "average_precision_gain")
    )
    assert (ours["value"], ours["high"]) == (1.0, 1.0)
    assert gain["value"] == pytest.approx(1 - plain["value"])
    assert gain["low"] == pytest.approx(ours["low"] - plain["high"])
    assert gain["high"] == pytest.approx(1 - plain["low"])


def test_base_rates_are_shares_of_defects() -> None:
    categories = np.array(["a", "a", "b", "b"], dtype=object)
    assert base_rates(categories, np.array([True, False, True, True])) == {"a": 0.5, "b": 1.0}

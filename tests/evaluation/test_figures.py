"""Figures: intervals by the formulas in books, rates that don't exist, review, unlabelled rows."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from tests.evaluation.reference import exact, score_interval
from tests.evaluation.tables import SCHEMA, Bench, at_least, row

RATES = ("precision", "recall", "fpr", "fnr", "flagged_rate", "review_rate")
ENDS = ("", "_low", "_high", "_least", "_most")


def close(found: object, wanted: float) -> bool:
    return math.isclose(float(found), wanted, abs_tol=1e-9)  # type: ignore[arg-type]


def two_categories(bench: Bench) -> None:
    """tile: 2 of 3 defects caught, 1 of 4 good flagged; bolt: 1 of 2 caught, no good image."""
    rows = [row(n, True, a) for n, a in enumerate((9, 8, 1))]
    rows += [row(10 + n, False, a) for n, a in enumerate((9, 1, 2, 3))]
    rows += [row(20 + n, True, a, category="bolt") for n, a in enumerate((9, 1))]
    bench.put(rows, SCHEMA)
    bench.policy("p", at_least("a", 5))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_intervals_are_wilsons_and_clopper_and_pearsons(bench: Bench, confidence: float) -> None:
    two_categories(bench)
    bench.evaluate(confidence=confidence)
    seen = 0
    for one in bench.read("figures").query("level != 'macro'").to_dict("records"):
        caught, flagged = one["tp"], one["tp"] + one["fp"]
        shares = {
            "precision": (caught, flagged),
            "recall": (caught, one["defects"]),
            "fpr": (one["fp"], one["good"]),
            "fnr": (one["fn"], one["defects"]),
            "flagged_rate": (flagged, one["good"] + one["defects"]),
            "review_rate": (0, one["good"] + one["defects"]),
        }
        for rate, (hits, of) in shares.items():
            found = [one[f"{rate}{end}"] for end in ENDS]
            if not of:
                assert all(map(math.isnan, found)), (one["level"], rate)
                continue
            wanted = (
                hits / of,
                *score_interval(hits, of, confidence),
                *exact(hits, of, confidence),
            )
            assert all(map(close, found, wanted)), (one["level"], rate, found, wanted)
            seen += 1
    assert seen > 20


def test_macro_is_the_mean_over_the_categories_in_which_a_rate_exists(bench: Bench) -> None:
    two_categories(bench)
    bench.evaluate()
    (one,) = bench.read("figures").query("level == 'macro'").to_dict("records")
    assert close(one["fnr"], (1 / 3 + 1 / 2) / 2)
    assert close(one["recall"], (2 / 3 + 1 / 2) / 2)
    assert close(one["fpr"], 1 / 4)  # bolt has no good image
    assert close(one["precision"], (2 / 3 + 1) / 2)
    assert close(one["f1"], (4 / 6 + 2 / 3) / 2)
    assert close(one["f2"], (10 / (10 + 4 + 1) + 5 / (5 + 4)) / 2)
    assert one["categories"] == 2
    assert math.isnan(one["fnr_low"])
    assert math.isnan(one["fnr_most"])


@pytest.mark.parametrize(
    ("defect", "lost", "there"),
    [(True, ("fpr",), ("recall", "fnr")), (False, ("recall", "fnr"), ("fpr",))],
)
def test_of_one_kind_the_other_ones_rates_are_null(
    bench: Bench, defect: bool, lost: tuple[str, ...], there: tuple[str, ...]
) -> None:
    bench.put([row(n, defect, a) for n, a in enumerate((1, 2, 9))], SCHEMA)
    bench.policy("p", at_least("a", 5))
    bench.evaluate()
    for one in bench.read("figures").to_dict("records"):
        for rate in lost:
            assert all(math.isnan(one[f"{rate}{end}"]) for end in ENDS), rate
        for rate in there:
            assert not math.isnan(one[rate]), rate
    quality = bench.read("quality")
    assert quality.auroc.isna().all()
    assert quality.average_precision.isna().all()
    assert set(quality.good + quality.defects) == {3}


def test_an_empty_category_is_none_as_null_is(bench: Bench) -> None:
    """No figure tells the two apart: a table that went through CSV may have both."""
    bench.policy("p", at_least("a", 5))
    found = []
    for nothing in ("", None):
        rows = [row(n, n % 2 == 0, n, category=(nothing, None, "tile")[n % 3]) for n in range(30)]
        bench.put(rows, SCHEMA)
        bench.evaluate(html=True)
        found.append([bench.read(name) for name in ("figures", "quality", "histograms")])
    for mixed, plain in zip(*found, strict=True):
        pd.testing.assert_frame_equal(mixed, plain)


def test_rows_without_a_label_have_a_flagged_rate_of_their_own(bench: Bench) -> None:
    rows = [row(0, True, 9), row(1, False, 1)]
    rows += [row(10 + n, None, a) for n, a in enumerate((9, 8, 5, 4, 1))]
    rows += [row(20 + n, None, 9, category="new") for n in range(2)]
    bench.put(rows, SCHEMA)
    bench.policy("p", at_least("a", 5))
    bench.evaluate()
    figures = bench.read("figures")
    every, tile, new = (
        figures[(figures.level == level) & (figures.category == category if category else True)]
        .iloc[0]
        .to_dict()
        for level, category in (("all", None), ("category", "tile"), ("category", "new"))
    )
    assert (every["unlabelled"], every["flagged_unlabelled"]) == (7, 5)
    assert (tile["unlabelled"], tile["flagged_unlabelled"]) == (5, 3)
    assert (every["good"], every["defects"], every["fp"], every["fn"]) == (1, 1, 0, 0)
    assert close(every["flagged_rate"], 6 / 9)
    assert close(every["flagged_rate_most"], exact(6, 9)[1])
    assert (new["good"], new["defects"], new["unlabelled"]) == (0, 0, 2)
    assert math.isnan(new["fnr"])
    assert math.isnan(new["precision"])
    # Nobody knows their type: they are no good images of the category.
    kinds = figures[figures.level == "defect_type"]
    assert sorted(zip(kinds.category, kinds.defect_type, strict=True)) == [
        ("tile", "dent"),
        ("tile", "good"),
    ]
    assert kinds.unlabelled.sum() == 0
    assert set(kinds.flagged_rate) == {0.0, 1.0}


def test_what_a_person_sees_is_neither_right_nor_wrong(bench: Bench) -> None:
    """Flagged from 8, to a person from 5."""
    rows = [row(n, True, a) for n, a in enumerate((9, 6, 1))]
    rows += [row(10 + n, False, a) for n, a in enumerate((9, 6, 5, 1))]
    rows += [row(20 + n, None, a) for n, a in enumerate((9, 7, 1))]
    bench.put(rows, SCHEMA)
    bench.policy("p", at_least("a", 8), review=at_least("a", 5))
    report = bench.evaluate(decide="p")
    one = bench.read("figures").query("level == 'all'").iloc[0].to_dict()
    counts = ("tp", "fn", "review_defects", "fp", "tn", "review_good")
    assert [one[name] for name in counts] == [1, 1, 1, 1, 1, 2]
    assert (one["flagged_unlabelled"], one["review_unlabelled"]) == (1, 1)
    assert close(one["review_rate"], 4 / 10)
    assert close(one["flagged_rate"], 3 / 10)
    assert close(one["fnr"], 1 / 3)
    assert close(one["fpr"], 1 / 4)
    # A person finds the defect that is looked at: of 2 found and 1 false alarm.
    assert close(one["recall"], 2 / 3)
    assert close(one["precision"], 2 / 3)
    assert report["decisions"]["counts"] == {"good": 3, "review": 4, "defect": 3}
    assert set(bench.read("mistakes").image_id) == {2, 10}


def test_policies_that_decide_alike_are_told(bench: Bench) -> None:
    two_categories(bench)
    bench.policy("same", {"not": {"score": "a", "lt": 5}})
    bench.policy("also", {"any": [at_least("a", 5), at_least("a", 5)]})
    warnings = bench.evaluate()["warnings"]
    assert "p: decides every row as also does" in warnings


def test_no_row_is_judged_that_trained_or_chose(bench: Bench) -> None:
    roles = ("fit", "normal_calibration", "validation", "test", None)
    bench.put([row(n, n % 2 == 0, 9, role=role) for n, role in enumerate(roles)], SCHEMA)
    bench.policy("p", at_least("a", 5))
    report = bench.evaluate()
    assert report["rows"] == {"judged": 2, "left_out": 3}
    assert report["measured_on"].startswith("rows with the role test or none")
    assert bench.evaluate(roles=("fit", "test"))["rows"] == {"judged": 2, "left_out": 3}
    assert "in-sample" in bench.evaluate(roles=("fit", "test"))["measured_on"]

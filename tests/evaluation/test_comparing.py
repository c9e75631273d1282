"""Champion against challenger: the images that change sides, and how many of each truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.errors import InputError
from tests.evaluation.tables import SCHEMA, Bench, at_least, row


def fill(bench: Bench) -> list[dict]:
    rng = np.random.default_rng(4)
    rows = []
    for number in range(300):
        defect = [True, False, None][number % 3]
        score = float(np.round(rng.random() * 0.7 + 0.3 * bool(defect), 2))
        rows.append(row(number, defect, score, b=float(rng.random())))
    bench.put(rows, SCHEMA)
    bench.policy("old", at_least("a", 0.5), on_missing="good")
    bench.policy("new", at_least("a", 0.7), review=at_least("b", 0.8), on_missing="good")
    return rows


def decided(one: dict) -> tuple[str, str]:
    a = np.float32(one["a"])
    old = "defect" if a >= np.float32(0.5) else "good"
    new = "defect" if a >= np.float32(0.7) else "review" if one["b"] >= 0.8 else "good"
    return old, new


def test_flips_are_those_of_the_two_decisions(bench: Bench) -> None:
    rows = fill(bench)
    report = bench.evaluate(champion="old")
    (flips,) = report["flips"]
    both = {one["image_id"]: decided(one) for one in rows}
    found = bench.read("flips")
    wanted = {image: pair for image, pair in both.items() if pair[0] != pair[1]}
    columns = ("image_id", "champion_decision", "challenger_decision")
    listed = {image: (o, n) for image, o, n in zip(*(found[c] for c in columns), strict=True)}
    assert listed == wanted
    labelled = {one["image_id"]: one["is_defect"] for one in rows}
    # A defect that a person looks at is not missed.
    broken = sum(labelled[i] is True and pair[1] == "good" for i, pair in wanted.items())
    fixed = sum(labelled[i] is True and pair[0] == "good" for i, pair in wanted.items())
    calm = sum(labelled[i] is False and pair[0] == "defect" for i, pair in wanted.items())
    assert (flips["defects"]["broken"], flips["defects"]["fixed"]) == (broken, fixed)
    assert (flips["goods"]["fixed"], flips["goods"]["broken"]) == (calm, 0)
    for one, pair in ((flips["defects"], (fixed, broken)), (flips["goods"], (calm, 0))):
        p = binomtest(min(pair), sum(pair), 0.5).pvalue
        assert one["p_value"] == pytest.approx(p)


def test_an_older_evaluations_flips_do_not_stay(bench: Bench) -> None:
    fill(bench)
    bench.evaluate(champion="old")
    bench.evaluate()
    assert not (bench.report / "flips.parquet").exists()


def test_a_champion_that_is_not_there(bench: Bench) -> None:
    fill(bench)
    with pytest.raises(InputError, match="champion: best: is no policy among new, old"):
        bench.evaluate(champion="best")


@pytest.mark.parametrize("setting", ["champion", "decide"])
def test_an_oracle_is_no_policy_to_use(bench: Bench, setting: str) -> None:
    fill(bench)
    bench.policy("seer", {"defect_type": ["dent"]}, oracle=True)
    with pytest.raises(InputError, match=f"{setting}: seer: is an oracle: .*: new, old"):
        bench.evaluate(**{setting: "seer"})
    assert not bench.report.exists()

"""Which images are shown: each kind is what it says, filters leave nothing else, nearest first."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.app.comparing import changed_policies, changed_runs
from pipeline.app.deciding import DEFECT, GOOD, REVIEW
from pipeline.app.desk import Desk
from pipeline.app.gallery import Choice, chosen, neighbours
from pipeline.app.held import Held
from pipeline.app.state import KINDS
from pipeline.evaluation.run_differences import compare_runs
from pipeline.tables.run_catalogue import read_catalogue
from tests.app.stores import Place

RUN = "monday"


@pytest.fixture(scope="module")
def desk(small: Place) -> Desk:
    return Desk(small.config())


def truth(held: Held, row: int) -> bool | None:
    return held.groups[int(held.group[row])].is_defect


def choice(kind: str, **changes: object) -> Choice:
    usual: dict[str, object] = {
        "category": None,
        "defect_type": None,
        "score": "anomaly_score",
        "low": None,
        "high": None,
    }
    return Choice(kind, **(usual | changes))  # type: ignore[arg-type]


def test_each_kind_holds_what_it_says_and_all_of_it(desk: Desk) -> None:
    held, policy = desk.held(RUN), desk.policies(RUN).resolved["either"]
    outcome = desk.outcome(RUN, "either")
    rows = range(len(outcome))
    right = {
        "false_negatives": [r for r in rows if truth(held, r) and outcome[r] == GOOD],
        "false_positives": [r for r in rows if truth(held, r) is False and outcome[r] == DEFECT],
        "near_misses": [
            r
            for r in rows
            if (truth(held, r) and outcome[r] == DEFECT)
            or (truth(held, r) is False and outcome[r] == GOOD)
        ],
        "review": [r for r in rows if outcome[r] == REVIEW],
        "most_anomalous": list(rows),
        "all": list(rows),
    }
    assert set(right) == set(KINDS)
    for kind, wanted in right.items():
        found = chosen(choice(kind), policy, held, outcome)
        assert wanted
        assert sorted(found.tolist()) == wanted, kind


def test_mistakes_come_nearest_to_a_threshold_first_as_in_an_evaluation(desk: Desk) -> None:
    held, policy = desk.held(RUN), desk.policies(RUN).resolved["anomaly"]
    found = chosen(choice("false_negatives"), policy, held, desk.outcome(RUN, "anomaly"))
    away = np.abs(held.scores["anomaly_score"][found].astype(np.float64) - 24.0)
    assert len(found) > 3
    assert away.tolist() == sorted(away.tolist())


def test_the_most_anomalous_come_first(desk: Desk) -> None:
    held, policy = desk.held(RUN), desk.policies(RUN).resolved["anomaly"]
    found = chosen(choice("most_anomalous"), policy, held, desk.outcome(RUN, "anomaly"))
    values = held.scores["anomaly_score"][found].tolist()
    assert values == sorted(values, reverse=True)


def test_filters_leave_what_fits_all_of_them(desk: Desk) -> None:
    held, policy = desk.held(RUN), desk.policies(RUN).resolved["anomaly"]
    outcome = desk.outcome(RUN, "anomaly")
    asked = choice("all", category="washer", defect_type="scratch", low=24.0, high=29.0)
    found = set(chosen(asked, policy, held, outcome).tolist())
    wanted = {
        row
        for row, code in enumerate(held.group)
        if held.groups[code].category == "washer"
        and held.groups[code].defect_type == "scratch"
        and held.groups[code].is_defect
        and 24.0 <= held.scores["anomaly_score"][row] <= 29.0
    }
    assert wanted
    assert found == wanted


def test_neighbours_are_the_next_in_score_of_the_same_category(desk: Desk) -> None:
    held = desk.held(RUN)
    row = int(np.flatnonzero(held.group == 0)[0])
    category = held.part(row).category
    found = neighbours(held, row, "anomaly_score", 2)
    same = [r for r in range(len(held.group)) if held.part(r).category == category]
    ordered = sorted(same, key=lambda r: held.scores["anomaly_score"][r])
    place = ordered.index(row)
    assert found.tolist() == ordered[max(0, place - 2) : place + 3]


def test_what_changes_sides_between_policies(desk: Desk) -> None:
    held = desk.held(RUN)
    before, after = desk.outcome(RUN, "anomaly"), desk.outcome(RUN, "either")
    found = changed_policies(held, before, after)
    assert found.rows.tolist() == np.flatnonzero(before != after).tolist()
    mended = sum(
        truth(held, r) is True and before[r] == GOOD and after[r] != GOOD
        for r in range(len(before))
    )
    made = sum(
        truth(held, r) is False and before[r] != DEFECT and after[r] == DEFECT
        for r in range(len(before))
    )
    assert mended > 0
    assert int(found.comparison.defects.fixed) == mended
    assert int(found.comparison.goods.broken) == made
    assert found.crossed.sum() == found.common == len(before)


def test_what_changes_sides_between_runs(desk: Desk, small: Place) -> None:
    first, second = desk.held("monday"), desk.held("tuesday")
    a, b = desk.outcome("monday", "anomaly"), desk.outcome("tuesday", "anomaly")
    # The second run in another order: images are joined by their ids.
    order = np.random.default_rng(0).permutation(len(b))
    import dataclasses

    shuffled = dataclasses.replace(
        second, image_id=second.image_id[order], group=second.group[order]
    )
    found = changed_runs(first, shuffled, a, b[order])
    after = dict(zip(second.image_id.tolist(), b.tolist(), strict=True))
    wanted = [r for r, one in enumerate(first.image_id.tolist()) if after[one] != a[r]]
    assert wanted
    assert found.rows.tolist() == wanted
    assert (found.only_first, found.only_second) == (0, 0)
    report = compare_runs(read_catalogue(small.store), "monday", "tuesday")
    assert found.common <= report["images"]["scored_in_both"]


def test_runs_without_a_common_image_change_nothing(desk: Desk) -> None:
    first = desk.held("monday")
    import dataclasses

    other = dataclasses.replace(first, image_id=-1 - np.arange(len(first.image_id)))
    outcome = desk.outcome("monday", "anomaly")
    found = changed_runs(first, other, outcome, outcome)
    assert (len(found.rows), found.common) == (0, 0)
    assert (found.only_first, found.only_second) == (len(outcome), len(outcome))

"""What a sweep reports of its own choice, against the truth: in-sample, and on a hold-out."""

import numpy as np
import pytest

from pipeline.policy.choosing.confusion import Confusion
from pipeline.policy.cube import Groups, Rows, Rules, Settings, count, plan
from pipeline.policy.formula import Formula, holds
from tests.policy.choosing.simulation import (
    FIXED,
    FORMULA,
    SHIFTS,
    Archive,
    Outcome,
    count_by_cube,
    counted,
    draw,
    policies,
    repeat,
    true_rates,
)

WHOLE, BY_CATEGORY = Archive(), Archive(categories=15)
REPEATS = 200
# How often an honest 95 % interval may lie wholly below the truth.
ONE_SIDED = 0.025


def run(thresholds: np.ndarray, hold_out: bool, archive: Archive, repeats: int) -> Outcome:
    return repeat(count_by_cube, thresholds, repeats, hold_out, archive)


def test_the_stand_in_counts_what_the_formula_says() -> None:
    thresholds, rows = policies(40, 1), draw(np.random.default_rng(1), 300, SHIFTS)
    found = count_by_cube(FORMULA, thresholds, rows)
    assert found.tolist() == [int(holds(FORMULA, rows, row).sum()) for row in thresholds]


def test_the_true_rates_are_those_of_many_images() -> None:
    rows = draw(np.random.default_rng(2), 200_000, SHIFTS)
    thresholds = policies(30, 2)
    seen = count_by_cube(FORMULA, thresholds, rows) / 200_000
    np.testing.assert_allclose(seen, true_rates(thresholds, SHIFTS), atol=0.005)


@pytest.mark.parametrize("hold_out", [False, True])
def test_a_policy_that_was_fixed_beforehand_is_reported_honestly(hold_out: bool) -> None:
    found = run(FIXED, hold_out, WHOLE, 400)
    assert found.covered.mean() >= 0.93
    assert found.reported.mean() == pytest.approx(found.true[0], abs=0.002)


@pytest.mark.parametrize(("number", "archive"), [(100, WHOLE), (10_000, WHOLE), (400, BY_CATEGORY)])
def test_a_hold_out_tells_the_truth_and_the_images_that_chose_do_not(
    number: int, archive: Archive
) -> None:
    honest = run(policies(number, 0), True, archive, REPEATS)
    flattered = run(policies(number, 0), False, archive, REPEATS if archive is WHOLE else 50)
    assert honest.covered.mean() >= 0.93
    assert honest.above.mean() <= 0.05
    error = honest.reported - honest.true
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(REPEATS)
    assert (flattered.true - flattered.reported).mean() > (0.003 if number == 100 else 0.008)
    assert flattered.says == f"tuning: in-sample, best of {number:,}"
    if number > 100:
        assert flattered.above.mean() > 2 * ONE_SIDED
    if archive is BY_CATEGORY:
        assert flattered.covered.mean() < 0.1


def test_the_more_policies_the_more_a_budget_is_broken() -> None:
    """The budget is 5 %, kept on the images that chose, every time."""
    few, many = (run(policies(number, 0), False, WHOLE, 100) for number in (100, 10_000))
    assert max(few.reported.max(), many.reported.max()) <= 0.05
    assert (many.true > 0.05).mean() > 0.6
    assert (many.true - many.reported).mean() > (few.true - few.reported).mean() + 0.003


@pytest.mark.slow
def test_at_full_size() -> None:
    """Thousands of repeats over ten thousand policies, and by category."""
    for archive, repeats in ((WHOLE, 2000), (BY_CATEGORY, 200)):
        honest = run(policies(10_000, 0), True, archive, repeats)
        flattered = run(policies(10_000, 0), False, archive, repeats)
        assert honest.covered.mean() >= 0.93
        assert flattered.above.mean() > 2 * ONE_SIDED
        assert flattered.covered.mean() < honest.covered.mean()


def test_counts_of_the_stand_in_are_of_labelled_images() -> None:
    kinds = tuple(draw(np.random.default_rng(3), n, s) for n, s in ((20, 0 * SHIFTS), (30, SHIFTS)))
    found = counted(count_by_cube, policies(5, 3), kinds)
    assert isinstance(found, Confusion)
    assert (found.goods.tolist(), found.defects.tolist()) == ([20] * 5, [30] * 5)


def count_by_engine(formula: Formula, thresholds: np.ndarray, rows: dict) -> np.ndarray:
    """(P,) flagged rows, by the engine that users' policies are counted with."""
    rules = Rules(formula, np.zeros(1, np.int64), thresholds[None])
    images = len(rows["a"])
    chosen = plan([rules], Groups(np.zeros(1, np.int64)), images, Settings())
    found = count(chosen, lambda: [Rows(rows, np.zeros(images, np.int64))])
    return found[0][:, 0]


def test_with_the_engine_itself_a_hold_out_is_honest() -> None:
    thresholds = policies(2000, 5)
    honest = repeat(count_by_engine, thresholds, 100, True, WHOLE)
    assert honest.covered.mean() >= 0.93
    flattered = repeat(count_by_engine, thresholds, 60, False, WHOLE)
    assert flattered.says == "tuning: in-sample, best of 2,000"
    assert (flattered.true - flattered.reported).mean() > 0.004

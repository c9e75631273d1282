"""Budgets on one policy and over categories, against a search of everything."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.choosing.budgets import keeping, within, within_each
from pipeline.policy.choosing.confusion import Confusion
from pipeline.policy.choosing.guarantee import certify
from pipeline.policy.choosing.limits import parse_budget, parse_guarantee
from pipeline.policy.choosing.per_category import cheapest_each, picked, within_total
from tests.policy.choosing.counting import counts_of


@st.composite
def some_counts(draw: st.DrawFn, categories: int = 0) -> Confusion:
    """(P,) or (P, C) counts with ties and reviews."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 8)), *([categories] if categories else []))
    defects, goods = (rng.integers(1, 9, shape[1:]) for _ in range(2))
    fn, fp = rng.integers(0, defects + 1, shape), rng.integers(0, goods + 1, shape)
    sent, sent_good = rng.integers(0, defects - fn + 1), rng.integers(0, goods - fp + 1)
    whole = [np.broadcast_to(n, shape) for n in (defects, goods)]
    return Confusion(fn, fp, sent, sent_good, *whole)


@settings(max_examples=150)
@given(some_counts(), st.sampled_from(["fnr", "fpr", "review"]), st.integers(0, 10))
def test_the_best_within_a_budget(counts: Confusion, rate: str, tenths: int) -> None:
    limit = parse_budget(f"{rate}<={tenths / 10}", "budget")

    def numbers(policy: int) -> tuple[int, int, int]:
        fn, fp, sent = (int(a[policy]) for a in (counts.fn, counts.fp, counts.reviewed))
        return (fp, fn, sent) if rate == "fnr" else (fn, fp, sent)

    def value(policy: int) -> Fraction:
        return Fraction(int(limit.hits(counts)[policy]), int(limit.trials(counts)[policy]))

    policies = range(len(counts.fn))
    meeting = [p for p in policies if value(p) <= Fraction(tenths, 10)]
    found = within(counts, [limit])
    assert found.met == bool(meeting)
    assert np.flatnonzero(keeping(counts, [limit])).tolist() == meeting
    assert keeping(counts, []).all()
    if meeting:
        assert found.policy == min(meeting, key=lambda p: (numbers(p), p))
        assert found.says.startswith(
            f"{len(meeting)} of {len(policies)} policies keep {limit.says}"
        )
    else:
        assert found.policy == min(policies, key=lambda p: (value(p), numbers(p), p))
        assert found.says.startswith(f"none of {len(policies)} policies keeps")
    same = [p for p in policies if numbers(p) == numbers(found.policy)]
    assert found.equals == len(same)


def test_several_budgets_hold_together_and_the_first_tells_what_is_sought() -> None:
    counts = counts_of([0, 1, 1, 5], [9, 4, 3, 0], 100, 100, review=[0, 0, 30, 0])
    fnr, review = parse_budget("fnr<=0.01", "b"), parse_budget("review<=0.1", "b")
    assert within(counts, [fnr]).policy == 2
    assert within(counts, [fnr, review]).policy == 1
    assert within(counts, [review, fnr]).policy == 0
    assert within(counts, [fnr], np.array([True, False, False, True])).policy == 0


def test_a_choice_is_labelled_as_the_best_of_many() -> None:
    found = within(counts_of([0, 1], [3, 0], 10, 10), [parse_budget("fpr<=0.2", "b")])
    assert found.measured_on.says == "tuning: in-sample, best of 2"
    assert found.says == (
        "1 of 2 policies keep fpr<=0.2; the best: 1 of 10 defects missed, 0 of 10 good flagged, "
        "0 reviewed"
    )


def test_a_limit_is_met_exactly_at_its_number() -> None:
    """7 % of 100 is 7, though 0.07 * 100 is 7.000000000000001 in floating point."""
    at, above = counts_of([7], [0], 100, 1), counts_of([8], [0], 100, 1)
    assert within(at, [parse_budget("fnr<=0.07", "b")]).met
    assert not within(above, [parse_budget("fnr<=0.07", "b")]).met
    assert within(counts_of([29], [0], 100, 1), [parse_budget("fnr<=0.29", "b")]).met


@settings(max_examples=100)
@given(some_counts(categories=3), st.sampled_from(["fnr", "fpr"]), st.integers(0, 10))
def test_a_budget_on_the_total_is_solved_exactly(counts: Confusion, rate: str, tenths: int) -> None:
    limit = parse_budget(f"{rate}<={tenths / 10}", "budget")
    limited, other = (counts.fn, counts.fp) if rate == "fnr" else (counts.fp, counts.fn)
    trials = int(limit.trials(counts)[0].sum())
    sums = [
        (sum(int(limited[p, c]) for c, p in enumerate(picks)),
         sum(int(other[p, c]) for c, p in enumerate(picks)))
        for picks in product(range(len(counts.fn)), repeat=3)
    ]  # fmt: skip
    meeting = [
        (loss, hits) for hits, loss in sums if Fraction(hits, trials) <= Fraction(tenths, 10)
    ]
    exact = within_total(counts, limit)
    bound = within_total(counts, limit, work=0)
    total, relaxed = picked(counts, exact.policies).total(), picked(counts, bound.policies).total()
    hits, loss = (total.fn, total.fp) if rate == "fnr" else (total.fp, total.fn)
    assert exact.met == bound.met == bool(meeting)
    if not meeting:
        assert hits == min(hits for hits, _ in sums)
        assert exact.says.startswith("no assignment keeps")
        return
    assert (int(loss), int(hits)) == min(meeting)
    assert exact.beyond_best == 0
    others, spent = (relaxed.fp, relaxed.fn) if rate == "fnr" else (relaxed.fn, relaxed.fp)
    assert spent <= int(limit.at_most * trials)
    assert 0 <= int(others) - int(loss) <= bound.beyond_best


def test_an_inexact_answer_says_so() -> None:
    counts = counts_of([[0, 0], [2, 2]], [[9, 9], [0, 0]], 5, 9)
    bound = within_total(counts, parse_budget("fnr<=0.3", "b"), work=0)
    assert (bound.met, bound.beyond_best > 0) == (True, True)
    assert "the best assignment has at most" in bound.says
    assert bound.measured_on.says == "tuning: in-sample, best of 2 per category"


@settings(max_examples=60)
@given(some_counts(categories=3))
def test_each_category_chooses_by_itself(counts: Confusion) -> None:
    limit = parse_budget("fnr<=0.5", "b")
    for c, choice in enumerate(within_each(counts, [limit])):
        assert choice == within(counts.at((slice(None), c)), [limit])
    costs = np.round(counts.fn * 3.5 + counts.fp, 3).astype(float)
    best = cheapest_each(costs)
    for c, policy in enumerate(best.policies.tolist()):
        assert policy == min(range(len(costs)), key=lambda p: (costs[p, c], p))
    assert best.measured_on.per_category
    only_last = np.arange(len(costs)) == len(costs) - 1
    assert set(cheapest_each(costs, only_last).policies.tolist()) == {len(costs) - 1}


@pytest.mark.parametrize(
    "text",
    ["fnr", "fnr<0.1", "fnr<=", "fnr<=x", "fnr<=-0.1", "fnr<=nan", "fnr<=1%", "fnr<=0.1@0.95",
     "fnr<=1e999999999", 0.1, None],
)  # fmt: skip
def test_what_is_no_budget_is_refused(text: object) -> None:
    with pytest.raises(
        InputError, match=r"--budget: .* is no budget; write a rate, <= and a share"
    ):
        parse_budget(text, "--budget")


def test_impossible_budgets_are_refused() -> None:
    with pytest.raises(InputError, match="'recall' can't be limited; use one of fnr, fpr, review"):
        parse_budget("recall<=0.1", "b")
    with pytest.raises(InputError, match=r"5 is above 1: write a share, 0\.01 for 1 %"):
        parse_budget("fnr<=5", "b")
    with pytest.raises(InputError, match="the images have no defects, so the rate does not exist"):
        within(counts_of([0], [0], 0, 5), [parse_budget("fnr<=0.1", "b")])
    with pytest.raises(InputError, match="the images have no good images"):
        within_total(counts_of([[0]], [[0]], 5, 0), parse_budget("fpr<=0.1", "b"))
    with pytest.raises(InputError, match="only fnr and fpr"):
        within_total(counts_of([[0]], [[0]], 5, 5), parse_budget("review<=0.1", "b"))
    with pytest.raises(InputError, match="none of 1 policies can be chosen: oracles"):
        within(counts_of([0], [0], 5, 5), [parse_budget("fpr<=0.1", "b")], np.array([False]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fnr<=0.01", "is no guarantee; write rate, <=, share, @ and confidence"),
        ("fnr<=0@0.95", "share 0 in 'fnr<=0@0.95' needs to be above 0"),
        ("fnr<=0.01@95", "confidence 95 in"),
        ("fnr<=0.01@1", "confidence 1 in"),
        ("fnr<=1@0.95", "share 1 in"),
        (
            "fnr<=0.01@0.99999999999999999999",
            "in 'fnr<=0.01@0.99999999999999999999' is as good as 1",
        ),
        ("fnr<=0.99999999999999999999@0.95", "share 0.99999999999999999999 in"),
        ("fnr<=9e-13@0.95", "share 9e-13 in 'fnr<=9e-13@0.95' is as good as 0"),
        ("fnr<=1%@0.95", "is no guarantee"),
        ("review<=0.01@0.95", "'review' can't be limited; use one of fnr, fpr"),
        ("fnr<=nan@0.95", "is no guarantee"),
        (None, "None is no guarantee"),
    ],
)
def test_what_is_no_guarantee_is_refused(text: object, says: str) -> None:
    with pytest.raises(InputError, match="--guarantee: ") as caught:
        parse_guarantee(text, "--guarantee")
    assert says in str(caught.value)


@pytest.mark.parametrize("share", ["1e-12", "0.9999999999999999"])
@pytest.mark.parametrize("confidence", ["1e-99", "0.95", "0.9999999999999999"])
def test_what_may_be_asked_for_is_answered_at_its_very_limits(share: str, confidence: str) -> None:
    counts = counts_of([0, 50], [3, 0], 50, 50)
    wanted = parse_guarantee(f"fnr<={share}@{confidence}", "--guarantee")
    found = certify(wanted, counts, counts)
    assert found.needed >= 1
    assert (found.policy is None) == (found.needed > 50)


@pytest.mark.parametrize(
    "text",
    [
        "fnr<=0.01@0.95",
        "fnr<=0.01@0.9999999",
        "fnr<=0.9999999999999999@0.95",
        "fpr<=0.1234567@0.9876543",
        "fpr<=1e-12@1e-99",
    ],
)
def test_a_guarantee_says_what_was_asked_for(text: str) -> None:
    assert parse_guarantee(text, "--guarantee").says == text


@pytest.mark.parametrize("text", ["fnr<=0", "fnr<=1", "fpr<=0.9999999", "review<=1e-07"])
def test_a_budget_says_what_was_asked_for(text: str) -> None:
    assert parse_budget(text, "budget").says == text


def test_a_guarantee_is_read_as_written() -> None:
    found = parse_guarantee(" fpr <= 2e-2 @ .9 ", "--guarantee")
    assert (found.limit.rate, found.limit.at_most) == ("fpr", Fraction(1, 50))
    assert (found.says, found.error) == ("fpr<=0.02@0.9", 0.1)

"""Learn-then-Test by simulation: what is certified holds; what is chosen in-sample does not."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from pipeline.errors import InputError
from pipeline.policy.choosing.confusion import Confusion
from pipeline.policy.choosing.guarantee import (
    Method,
    certify,
    images_needed,
    p_values,
    path,
    rejected,
    without_candidate,
)
from pipeline.policy.choosing.limits import Guarantee, parse_guarantee
from tests.policy.choosing.counting import counts_of

METHODS: tuple[Method, ...] = ("fixed-sequence", "bonferroni")
# Of one score, of defects about `SHIFT`, of good images about 0, spread 1.
SHIFT = 3.0
THRESHOLDS = np.linspace(0, 3, 151)
TRUE_FNR = norm.cdf(THRESHOLDS - SHIFT)


def below(rng: np.random.Generator, images: int, repeats: int, centre: float) -> np.ndarray:
    """(repeats, P) images below each threshold, from so many scores each."""
    edges = np.concatenate([[-np.inf], THRESHOLDS, [np.inf]])
    chance = np.diff(norm.cdf(edges - centre))
    return rng.multinomial(images, chance, size=repeats).cumsum(1)[:, :-1]


def misses_and_alarms(seed: int, defects: int, goods: int, repeats: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    alarms = goods - below(rng, goods, repeats, 0.0)
    return below(rng, defects, repeats, SHIFT), alarms


def wrong_certificates(guarantee: Guarantee, method: Method, seed: int, defects: int) -> np.ndarray:
    """(repeats,) whether the certified policy's true miss rate exceeds the limit."""
    misses, _ = misses_and_alarms(seed, defects, 1, 4000)
    # Thresholds rise along the axis: the safest first, and each cheaper than the one before.
    level = guarantee.error / (len(THRESHOLDS) if method == "bonferroni" else 1)
    passed = rejected(p_values(misses, defects, guarantee.limit), level, method)
    last = passed.shape[1] - 1 - passed[:, ::-1].argmax(1)
    return passed.any(1) & (TRUE_FNR[last] > guarantee.limit.at_most)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", ["fnr<=0.05@0.95", "fnr<=0.02@0.95", "fnr<=0.1@0.8"])
def test_a_certificate_is_wrong_at_most_as_often_as_it_says(text: str, method: Method) -> None:
    guarantee = parse_guarantee(text, "guarantee")
    wrong = wrong_certificates(guarantee, method, seed=1, defects=1000).mean()
    noise = 3 * math.sqrt(guarantee.error * (1 - guarantee.error) / 4000)
    assert wrong <= guarantee.error + noise


def test_the_chance_of_error_is_nearly_used_up() -> None:
    """Else the guarantee would be an empty one: kept by certifying next to nothing."""
    guarantee = parse_guarantee("fnr<=0.05@0.95", "guarantee")
    assert wrong_certificates(guarantee, "fixed-sequence", seed=2, defects=1000).mean() > 0.02


def test_the_best_in_sample_breaks_the_limit_far_more_often() -> None:
    guarantee = parse_guarantee("fnr<=0.05@0.95", "guarantee")
    misses, _ = misses_and_alarms(1, 1000, 1, 4000)
    meets = misses <= 50
    naive = meets.shape[1] - 1 - meets[:, ::-1].argmax(1)
    broken = (TRUE_FNR[naive] > 0.05).mean()
    certified = wrong_certificates(guarantee, "fixed-sequence", seed=1, defects=1000).mean()
    assert broken > 0.35 > 5 * certified


def test_a_policy_just_above_the_limit_is_certified_at_most_at_delta() -> None:
    """The boundary case of one policy: the binomial test is exact but for its steps."""
    guarantee = parse_guarantee("fnr<=0.05@0.95", "guarantee")
    hits = np.arange(1001)
    passed = p_values(hits, 1000, guarantee.limit) <= guarantee.error
    assert 0.03 < binom.pmf(hits[passed], 1000, 0.05).sum() <= 0.05


@pytest.mark.parametrize("method", METHODS)
def test_many_policies_just_above_the_limit_share_one_chance_of_error(method: Method) -> None:
    """Forty of them, each tested by itself at δ, would nearly always give a wrong certificate."""
    guarantee = parse_guarantee("fnr<=0.1@0.9", "guarantee")
    rng = np.random.default_rng(5)
    tuning = counts_of(np.arange(40), np.arange(40)[::-1], 150, 150)
    wrong = alone = 0
    for _ in range(1000):
        certifying = counts_of(rng.binomial(300, 0.1001, 40), 0, 300, 1)
        found = certify(guarantee, tuning, certifying, method=method)
        assert found.tested == 40
        wrong += found.policy is not None
        alone += bool((p_values(certifying.fn, 300, guarantee.limit) <= guarantee.error).any())
    assert alone > 900
    assert wrong <= 100 + 3 * math.sqrt(1000 * 0.1 * 0.9)


def test_a_fixed_sequence_ends_at_the_first_that_fails() -> None:
    p = np.array([[0.01, 0.04, 0.06, 0.01], [0.5, 0.0, 0.0, 0.0]])
    assert rejected(p, 0.05, "fixed-sequence").tolist() == [
        [True, True, False, False],
        [False] * 4,
    ]
    assert rejected(p, 0.05, "bonferroni").tolist() == [
        [True, True, False, True],
        [False, True, True, True],
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", ["fnr", "fpr"])
def test_whole_certification_keeps_its_word(rate: str, method: Method) -> None:
    """With policies of random quality, ordered on tuning images, judged on others."""
    guarantee = parse_guarantee(f"{rate}<=0.1@0.9", "guarantee")
    rng = np.random.default_rng(3)
    true_fnr, true_fpr = rng.uniform(0, 0.4, 60), rng.uniform(0, 0.4, 60)
    true = true_fnr if rate == "fnr" else true_fpr
    wrong = certified = 0
    for _ in range(300):
        tuning, certifying = (
            counts_of(rng.binomial(150, true_fnr), rng.binomial(150, true_fpr), 150, 150)
            for _ in range(2)
        )
        found = certify(guarantee, tuning, certifying, method=method)
        if found.policy is not None:
            certified += 1
            wrong += true[found.certified].max() > 0.1
            other = tuning.fp if rate == "fnr" else tuning.fn
            assert other[found.policy] == other[found.certified].min()
    assert certified > 150
    assert wrong <= 30 + 3 * math.sqrt(300 * 0.1 * 0.9)


def two_parts(misses: int, defects: int) -> tuple[Confusion, Confusion]:
    """Three policies, of which the second is the cheapest on tuning without a miss."""
    tuning = counts_of([0, 0, 5], [50, 20, 0], 100, 100)
    return tuning, counts_of([misses, misses, defects], [50, 20, 0], defects, 100)


def test_the_cheapest_certified_policy_is_taken() -> None:
    guarantee = parse_guarantee("fnr<=0.01@0.95", "guarantee")
    found = certify(guarantee, *two_parts(0, 299))
    assert (found.policy, found.certified.tolist()) == (1, [0, 1])
    assert found.says == (
        "fnr<=0.01@0.95 certified: 0 of 299 defects missed on images that had no say in the "
        "candidates' order; 2 of 3 hold"
    )
    fpr = certify(parse_guarantee("fpr<=0.1@0.95", "g"), *two_parts(0, 299))
    assert fpr.policy == 2
    assert "0 of 100 good images flagged" in fpr.says


def test_oracles_are_never_certified() -> None:
    guarantee = parse_guarantee("fnr<=0.01@0.95", "guarantee")
    found = certify(guarantee, *two_parts(0, 299), np.array([True, False, True]))
    assert (found.policy, found.certified.tolist()) == (0, [0])


def test_too_few_defects_say_how_many_it_takes() -> None:
    guarantee = parse_guarantee("fnr<=0.01@0.95", "guarantee")
    found = certify(guarantee, *two_parts(0, 298))
    assert (found.policy, found.needed, len(found.certified)) == (None, 299, 0)
    assert found.says == (
        "fnr<=0.01@0.95 cannot be certified with 298 defects; n needed: 299, none of them missed"
    )
    missed = certify(guarantee, *two_parts(2, 400))
    assert missed.needed_at_share == least_by_hand(0.01, 0.05, Fraction(2, 400))
    assert missed.says == (
        "fnr<=0.01@0.95 cannot be certified with 400 defects; n needed: 299 with none missed; at "
        f"the share seen, 2 of 400, {missed.needed_at_share}"
    )
    hopeless = certify(guarantee, *two_parts(4, 400))
    assert hopeless.needed_at_share is None
    assert hopeless.says.endswith("at the share seen, 4 of 400, no number would do")
    bonferroni = certify(guarantee, *two_parts(0, 298), method="bonferroni")
    assert bonferroni.needed == least_by_hand(0.01, 0.05 / 3, Fraction(0)) == 408


def test_without_a_candidate_nothing_is_tested_and_the_reason_is_told() -> None:
    guarantee = parse_guarantee("fnr<=0.01@0.95", "guarantee")
    _, certifying = two_parts(0, 298)
    found = without_candidate(guarantee, certifying, "none of 3 keeps review<=0.1")
    assert (found.policy, found.tested, found.of, found.needed) == (None, 0, 298, 299)
    assert found.says == (
        "fnr<=0.01@0.95 is not certified, there is no candidate: none of 3 keeps review<=0.1"
    )


def least_by_hand(limit: float, level: float, share: Fraction) -> int:
    return next(n for n in range(1, 20_000) if binom.cdf(math.ceil(share * n), n, limit) <= level)


@settings(max_examples=25)
@given(
    st.sampled_from(["0.02", "0.05", "0.1", "0.5"]),
    st.sampled_from([0.05, 0.01, 0.25]),
    st.integers(0, 3),
    st.integers(60, 300),
)
def test_images_needed_are_those_of_a_search_one_by_one(
    limit: str, level: float, hits: int, of: int
) -> None:
    share = Fraction(hits, of)
    guarantee = parse_guarantee(f"fnr<={limit}@0.95", "guarantee")
    found = images_needed(guarantee.limit, level, share)
    if share >= Fraction(limit):
        assert found is None
    elif share < Fraction(limit) * 7 / 10:
        assert found == least_by_hand(float(limit), level, share)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25))
def test_the_path_goes_from_safe_to_cheap(errors: list[tuple[int, int]]) -> None:
    fn, fp = (np.array(column) for column in zip(*errors, strict=True))
    order = path(counts_of(fn, fp, 6, 6), parse_guarantee("fnr<=0.1@0.9", "g").limit)
    walked = list(zip(fn[order].tolist(), fp[order].tolist(), strict=True))
    assert walked == sorted(walked, key=lambda point: (-point[1], point[0]))
    assert len({alarms for _, alarms in walked}) == len(walked)
    assert [misses for misses, _ in walked] == sorted(misses for misses, _ in walked)
    # Every point of the front is there.
    for misses, alarms in errors:
        if not any(m <= misses and a <= alarms and (m, a) != (misses, alarms) for m, a in errors):
            assert (misses, alarms) in walked


def test_parts_without_the_kind_are_refused() -> None:
    guarantee = parse_guarantee("fnr<=0.01@0.95", "guarantee")
    with_defects, without = counts_of([0], [0], 5, 5), counts_of([0], [0], 0, 5)
    with pytest.raises(InputError, match="the certifying images have no defects"):
        certify(guarantee, with_defects, without)
    with pytest.raises(InputError, match="the tuning images have no defects"):
        certify(guarantee, without, with_defects)

"""Expected costs against a sum over images one by one, in fractions; prices that are refused."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.policy.choosing import costs as module
from pipeline.policy.choosing.confusion import (
    Columns,
    Confusion,
    by_category,
    by_defect_type,
    confusion,
)
from pipeline.policy.choosing.costs import expected_costs, parse_costs, unused_prices
from tests.policy.choosing.counting import Images, counts_of, decided, random_images

PRICES = {
    "false_negative": {"crack": 40, "bolt/dent": 7, "wood/*": 11, "*": 5},
    "false_positive": {"bolt": 3, "*": 2},
    "review": {"tile": 0.5, "*": 0.25},
    "defect_rate": {"wood": 0.125, "*": 0.03125},
    "mix": {"bolt": 5, "tile": 2, "wood": 1},
    "review_catches": 0.75,
}


def miss_price(category: str, kind: str) -> int:
    if category == "wood":
        return 11
    return 40 if kind == "crack" else (7 if category == "bolt" else 5)


def image_by_image(images: Images, policy: int, category: str) -> Fraction:
    """The mean cost of the category's images, each kind weighted to the line's share."""
    rate = Fraction(1, 8) if category == "wood" else Fraction(1, 32)
    alarm, look = (3 if category == "bolt" else 2), Fraction(1, 2 if category == "tile" else 4)
    total = Fraction(0)
    mine = images.category == category
    for truth, weight in ((1, rate), (0, 1 - rate)):
        of = mine & (images.defect == truth)
        spent = Fraction(0)
        for place in np.flatnonzero(of).tolist():
            miss = miss_price(category, str(images.defect_type[place]))
            per_decision = {
                1: (0, look + miss * Fraction(1, 4), miss),
                0: (alarm, look, 0),
            }
            spent += per_decision[truth][int(images.decision[policy, place])]
        total += weight * spent / int(of.sum())
    return total * Fraction(PRICES["mix"][category], 8)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_costs_are_those_of_images_on_the_line(seed: int) -> None:
    images = random_images(seed, images=120, policies=4)
    engine = decided(images)
    columns = by_defect_type(engine.population)
    found = expected_costs(confusion(engine, columns), columns, parse_costs(PRICES))
    for policy in range(4):
        for c, category in enumerate(columns.categories):
            assert found[policy, c] == pytest.approx(
                float(image_by_image(images, policy, category)), rel=1e-12
            )


def test_the_lines_defect_rate_counts_and_not_the_test_sets() -> None:
    """Half the test images are defects; on a line with one in a thousand, alarms decide."""
    columns = Columns(("bolt",), (None,), np.zeros(2, np.int64))
    counts = counts_of([[0], [10]], [[10], [0]], 100, 100)
    prices = {"false_negative": 20, "false_positive": 1}
    rare = expected_costs(counts, columns, parse_costs(prices | {"defect_rate": 0.001}))
    often = expected_costs(counts, columns, parse_costs(prices | {"defect_rate": 0.5}))
    assert rare[:, 0].argmin() == 1
    assert often[:, 0].argmin() == 0
    np.testing.assert_allclose(rare[:, 0], [0.999 * 0.1, 0.001 * 0.1 * 20])


def test_without_a_mix_categories_weigh_as_in_the_data() -> None:
    images = random_images(8)
    engine = decided(images, review=False)
    columns = by_category(engine.population)
    model = parse_costs({"false_negative": 9, "false_positive": 1, "defect_rate": 0.25})
    found = expected_costs(confusion(engine, columns), columns, model)
    for c, name in enumerate(columns.categories):
        of = images.category == name
        missed = images.decision[:, of & (images.defect == 1)] != 0
        alarms = images.decision[:, of & (images.defect == 0)] == 0
        expected = of.mean() * (0.25 * 9 * missed.mean(1) + 0.75 * alarms.mean(1))
        np.testing.assert_allclose(found[:, c], expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = decided(random_images(2))
    columns = by_defect_type(engine.population)
    counts, model = confusion(engine, columns), parse_costs(PRICES)
    whole = expected_costs(counts, columns, model)
    monkeypatch.setattr(module, "BLOCK", 3)
    np.testing.assert_allclose(expected_costs(counts, columns, model), whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"false_positive": 0}, "costs.false_positive: is 0, needs to be a number above 0"),
        ({"false_negative": {"crack": -3}}, "costs.false_negative.crack: is -3"),
        ({"false_negative": float("nan")}, "costs.false_negative: is nan"),
        ({"false_negative": float("inf")}, "costs.false_negative: is inf"),
        ({"false_positive": True}, "costs.false_positive: is True"),
        ({"false_positive": "2"}, "costs.false_positive: is '2'"),
        ({"false_positive": 10**400}, "costs.false_positive: is 1000"),
        ({"defect_rate": 1}, "costs.defect_rate: is 1, needs to be a number above 0 and below 1"),
        ({"defect_rate": {"bolt": 0}}, "costs.defect_rate.bolt: is 0"),
        ({"review": 0}, "costs.review: is 0"),
        ({"review_catches": 1.5}, "costs.review_catches: is 1.5, needs to be from 0 to 1"),
        ({"fn": 3}, "costs.fn: is unknown; known are false_negative"),
    ],
)
def test_impossible_prices_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_costs(PRICES | change)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("document", [None, 3, [1], "cheap"])
def test_what_is_no_cost_model_is_refused(document: object) -> None:
    with pytest.raises(InputError, match="is no object with false_negative, false_positive"):
        parse_costs(document)


def test_a_missing_price_is_named() -> None:
    with pytest.raises(InputError, match=r"costs.defect_rate: is missing"):
        parse_costs({"false_negative": 1, "false_positive": 1})
    engine = decided(random_images(1))
    columns = by_defect_type(engine.population)
    counts = confusion(engine, columns)
    for change, says in (
        (
            {"false_positive": {"bolt": 1}},
            "costs.false_positive: no number for category tile, wood",
        ),
        ({"mix": {"bolt": 1, "tile": 2}}, "costs.mix: no number for category wood"),
        ({"false_negative": {"crack": 1}}, "no price for bolt/dent, tile/dent, wood/dent"),
        ({"review": {}}, "costs.review: is missing, and policies send images to a person"),
    ):
        with pytest.raises(InputError) as caught:
            expected_costs(counts, columns, parse_costs(PRICES | change))
        assert says in str(caught.value)


def test_prices_of_defect_types_need_counts_of_defect_types() -> None:
    engine = decided(random_images(1))
    columns = by_category(engine.population)
    with pytest.raises(InputError, match=r"single defect types \(crack, bolt/dent\)"):
        expected_costs(confusion(engine, columns), columns, parse_costs(PRICES))


def test_a_category_without_one_kind_has_no_cost() -> None:
    columns = Columns(("bolt", "tile"), (None, None), np.zeros(2, np.int64))
    none, goods = np.zeros((1, 2), np.int64), np.array([[5, 0]])
    lacking = Confusion(none, none, none, none, none + 5, goods)
    model = parse_costs({"false_negative": 1, "false_positive": 1, "defect_rate": 0.1})
    with pytest.raises(InputError, match="costs: tile: no good images"):
        expected_costs(lacking, columns, model)


def test_misspelt_names_are_told() -> None:
    engine = decided(random_images(1))
    columns = by_defect_type(engine.population)
    assert unused_prices(columns, parse_costs(PRICES)) == ()
    wrong = PRICES | {"false_negative": {"crak": 2, "bolt/dent": 1, "*": 1}, "mix": {"blot": 1}}
    assert unused_prices(columns, parse_costs(wrong)) == ("crak", "blot")

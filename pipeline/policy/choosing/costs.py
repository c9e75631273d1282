"""What decisions cost on a line: prices of errors and reviews, at the line's own defect rate.

A test set holds far more defects than a line. Errors are therefore counted as rates of good images
and of each defect type, and weighted with what the line is expected to bring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.policy.choosing.confusion import BLOCK, Columns, Confusion

Floats = npt.NDArray[np.float64]

ANY = "*"
_KEYS = ("false_negative", "false_positive", "review", "defect_rate", "mix", "review_catches")
_REQUIRED = ("false_negative", "false_positive", "defect_rate")


@dataclass(frozen=True)
class CostModel:
    """Prices in any one unit. A mapping has names, or `*` for all others.

    Attributes:
        false_negative: of a missed defect, by `category/defect type`, `category/*` or defect type.
        false_positive: of a false alarm, by category.
        review: of a look by a person, by category; empty: there is no review.
        defect_rate: the line's expected share of defects, by category.
        mix: shares of the categories on the line; empty: as in the data.
        review_catches: the share of reviewed defects that the person recognises.
    """

    false_negative: Mapping[str, float]
    false_positive: Mapping[str, float]
    defect_rate: Mapping[str, float]
    review: Mapping[str, float]
    mix: Mapping[str, float]
    review_catches: float = 1.0


def parse_costs(document: object, field: str = "costs") -> CostModel:
    """A cost model from JSON; each price a number, or a mapping of names to numbers.

    Args:
        document: as read.
        field: where it stands, for messages.

    Raises:
        InputError: an unknown or missing key, a cost that isn't above 0, a share outside (0, 1).
    """
    if not isinstance(document, Mapping):
        raise InputError(f"{field}: {document!r} is no object with {', '.join(_REQUIRED)}")
    for key in document:
        if key not in _KEYS:
            raise InputError(f"{field}.{key}: is unknown; known are {', '.join(_KEYS)}")
    for key in _REQUIRED:
        if key not in document:
            raise InputError(f"{field}.{key}: is missing; a cost model has {', '.join(_REQUIRED)}")
    prices = {
        key: _numbers(document.get(key, {}), f"{field}.{key}", math.inf)
        for key in ("false_negative", "false_positive", "review", "mix")
    }
    rate = _numbers(document["defect_rate"], f"{field}.defect_rate", 1.0)
    catches = document.get("review_catches", 1.0)
    if _number(catches) is None or not 0 <= catches <= 1:
        raise InputError(f"{field}.review_catches: is {catches!r}, needs to be from 0 to 1")
    return CostModel(defect_rate=rate, review_catches=float(catches), **prices)


def expected_costs(counts: Confusion, columns: Columns, model: CostModel) -> Floats:
    """Expected cost per image on the line, split by category: (P, C) in `columns.categories`.

    A category's cost is w [π Σ_t s_t (c_fn(t) missed_t + c_review reviewed_t)
    + (1−π) (c_fp flagged + c_review reviewed)], with rates of the defect type t or of good images,
    the category's share w of the line, its defect rate π, and the share s_t of defect type t among
    its defects, which is taken from the data. The sum over categories is the cost per image.

    Args:
        counts: (P, K).
        columns: what the K columns are; defect types apart where their prices differ.
        model: the prices.

    Raises:
        InputError: a category or defect type without a price, a category without defects or
            without good images, reviews without a price.
    """
    first = counts.at(0)
    _require_prices(columns, model)
    _require_miss_prices(columns, first, model)
    _require_both_kinds(columns, first)
    if not model.review and counts.reviewed.any():
        raise InputError("costs.review: is missing, and policies send images to a person")
    terms = [(counts.fn, 0), (counts.fp, 1)]
    terms += [(counts.review_defects, 2), (counts.review_goods, 3)] if model.review else []
    weights = _weights(first, columns, model)
    place = [columns.categories.index(name) for name in columns.category]
    result = np.zeros((len(counts.fn), len(columns.categories)))
    for start in range(0, len(result), BLOCK):
        rows = slice(start, start + BLOCK)
        for term, price in terms:
            for column, category in enumerate(place):
                result[rows, category] += term[rows, column] * weights[price][column]
    return result


def unused_prices(columns: Columns, model: CostModel) -> tuple[str, ...]:
    """Names with a number that no column has: another data set's, or misspelt."""
    known = {ANY, *columns.category, *(kind for kind in columns.defect_type if kind)}
    pairs = zip(columns.category, columns.defect_type, strict=True)
    known |= {f"{category}/{kind or ANY}" for category, kind in pairs}
    known |= {f"{category}/{ANY}" for category in columns.category}
    given = (model.false_negative, model.false_positive, model.defect_rate, model.review, model.mix)
    return tuple(dict.fromkeys(name for prices in given for name in prices if name not in known))


def _weights(first: Confusion, columns: Columns, model: CostModel) -> tuple[Floats, ...]:
    """(K,) prices of one miss, one alarm, one reviewed defect and one reviewed good image."""
    defects, goods = _by_category(first.defects, columns), _by_category(first.goods, columns)
    shares = _mix(defects + goods, columns, model)
    rate = np.array([_price(model.defect_rate, name) for name in columns.category])
    a_defect = shares * rate / defects
    a_good = shares * (1 - rate) / goods
    miss = np.array(
        [
            _price(model.false_negative, *_miss_names(category, kind)) if n else 0.0
            for category, kind, n in zip(
                columns.category, columns.defect_type, first.defects.tolist(), strict=True
            )
        ]
    )
    alarm = np.array([_price(model.false_positive, name) for name in columns.category])
    look = np.array(
        [_price(model.review, name) if model.review else 0 for name in columns.category]
    )
    slips = (1 - model.review_catches) * miss
    return a_defect * miss, a_good * alarm, a_defect * (look + slips), a_good * look


def _by_category(images: npt.NDArray[np.int64], columns: Columns) -> Floats:
    """(K,) the images of each column's category, in all its columns."""
    names = np.asarray(columns.category)
    return np.array([images[names == name].sum() for name in columns.category], np.float64)


def _mix(images: Floats, columns: Columns, model: CostModel) -> Floats:
    """(K,) the share of each column's category on the line."""
    weight = images
    if model.mix:
        weight = np.array([_price(model.mix, name) for name in columns.category])
    once = [columns.category.index(name) for name in columns.categories]
    return np.asarray(weight / weight[once].sum())


def _require_prices(columns: Columns, model: CostModel) -> None:
    for name in ("false_positive", "defect_rate", "review", "mix"):
        prices = getattr(model, name)
        lacking = [known for known in columns.categories if _find(prices, known) is None]
        if prices and lacking:
            raise InputError(
                f"costs.{name}: no number for category {', '.join(lacking)}; add it, or {ANY!r} "
                f"for all others (given: {', '.join(prices)})"
            )


def _require_miss_prices(columns: Columns, first: Confusion, model: CostModel) -> None:
    prices = model.false_negative
    apart = [name for name in prices if name != ANY and not name.endswith(f"/{ANY}")]
    if apart and None in columns.defect_type:
        raise InputError(
            f"costs.false_negative: has prices of single defect types ({', '.join(apart)}), and "
            "these counts don't keep defect types apart; count by defect type, or give prices as "
            f"'category/{ANY}' and {ANY!r}"
        )
    pairs = zip(columns.category, columns.defect_type, first.defects.tolist(), strict=True)
    names = [_miss_names(category, kind) for category, kind, defects in pairs if defects]
    lacking = [found[0] for found in names if _find(prices, *found) is None]
    if lacking:
        raise InputError(
            f"costs.false_negative: no price for {', '.join(lacking)}; add it under that name, the "
            f"defect type, 'category/{ANY}', or {ANY!r} for all others"
        )


def _miss_names(category: str, kind: str | None) -> tuple[str, ...]:
    """Where the price of a miss may stand, the most special name first."""
    general = f"{category}/{ANY}"
    return (general,) if kind is None else (f"{category}/{kind}", general, kind)


def _require_both_kinds(columns: Columns, first: Confusion) -> None:
    for kind, array in (("defects", first.defects), ("good images", first.goods)):
        images = _by_category(array, columns)
        names = dict.fromkeys(np.asarray(columns.category)[images == 0].tolist())
        if names:
            raise InputError(
                f"costs: {', '.join(names)}: no {kind} to measure errors on, so no expected cost; "
                "leave these categories out, or label more images"
            )


def _find(prices: Mapping[str, float], *names: str) -> float | None:
    """The price under the first of the names that has one, else that of all others."""
    return next((prices[name] for name in (*names, ANY) if name in prices), None)


def _price(prices: Mapping[str, float], *names: str) -> float:
    found = _find(prices, *names)
    return math.nan if found is None else found


def _numbers(value: Any, field: str, below: float) -> dict[str, float]:
    given = value if isinstance(value, Mapping) else {ANY: value}
    for name, number in given.items():
        if _number(number) is None or not 0 < number < below:
            where = field if given is not value else f"{field}.{name}"
            wanted = "above 0 and finite" if below == math.inf else "above 0 and below 1"
            raise InputError(f"{where}: is {number!r}, needs to be a number {wanted}")
    return {name: float(number) for name, number in given.items()}


def _number(value: Any) -> float | None:
    """A finite number; bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None

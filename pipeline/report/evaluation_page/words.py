"""Numbers as people read them; what doesn't exist is a dash, never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# What stands where a number doesn't exist.
NOTHING = "–"
# Between a number and its unit: they stay on one line.
_UNIT = "\N{NO-BREAK SPACE}%"
# A smaller p-value is told as a bound: further digits mean nothing.
_LEAST_P = 0.001
# Rates below this have one more decimal place, in per cent: 0.04 % isn't 0.0 %.
_SMALL_RATE = 0.001


def exists(value: float | None) -> bool:
    """Whether there is a number: null and NaN are none."""
    return value is not None and math.isfinite(value)


def count(value: float | None) -> str:
    """A number of images, with thousands marked."""
    return f"{int(value):,}" if value is not None and exists(value) else NOTHING


def percent(value: float | None) -> str:
    """A rate in per cent."""
    if value is None or not exists(value):
        return NOTHING
    digits = 2 if 0 < value < _SMALL_RATE or 1 - _SMALL_RATE < value < 1 else 1
    return f"{100 * value:.{digits}f}{_UNIT}"


def rounded(value: float) -> str:
    """A round rate, of an axis or a legend, without places that it doesn't need."""
    return f"{100 * value:.4g}{_UNIT}"


def upper(value: float | None) -> str:
    """An upper bound in per cent, rounded up, so that the claim still holds as it is written."""
    if value is None or not exists(value):
        return NOTHING
    digits = 2 if value < _SMALL_RATE or 1 - _SMALL_RATE < value < 1 else 1
    scale = 10**digits
    # Twelve digits first: 0.07 * 1000 is 70.00000000000001 in binary and isn't meant as 70.1.
    return f"{math.ceil(round(100 * value * scale, 9)) / scale:.{digits}f}{_UNIT}"


def share(value: float | None) -> str:
    """A number between 0 and 1, with three places."""
    return f"{value:.3f}" if value is not None and exists(value) else NOTHING


def plain(value: float | None) -> str:
    """A score or threshold, with six digits."""
    return f"{value:.6g}" if value is not None and exists(value) else NOTHING


def quantile(value: float | None) -> str:
    """A quantile, with the four digits that are known of it."""
    return f"{value:.4g}" if value is not None and exists(value) else NOTHING


def p_value(value: float | None) -> str:
    """A p-value."""
    if value is None or not exists(value):
        return NOTHING
    return f"< {_LEAST_P}" if value < _LEAST_P else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """The two ends of a rate's interval, in per cent."""
    if low is None or high is None or not (exists(low) and exists(high)):
        return NOTHING
    return f"{percent(low).removesuffix(_UNIT)} to {percent(high)}"


def missed(row: Mapping[str, Any]) -> str:
    """How many defects pass unseen, and how large the share can be: of a row of `figures`."""
    if not row["defects"]:
        return NOTHING
    most = f": at most {upper(row['fnr_most'])}" if exists(row["fnr_most"]) else ""
    return f"{count(row['fn'])} missed of {count(row['defects'])}{most}"


def false_alarms(row: Mapping[str, Any]) -> str:
    """How many good images are flagged, and the rate with its interval."""
    if not row["good"]:
        return NOTHING
    rate = f": {percent(row['fpr'])}" if exists(row["fpr"]) else ""
    ends = f" [{interval(row['fpr_low'], row['fpr_high'])}]" if exists(row["fpr_low"]) else ""
    return f"{count(row['fp'])} of {count(row['good'])}{rate}{ends}"


def review(row: Mapping[str, Any]) -> str:
    """How many images a person looks at, of all rows, labelled or not."""
    images = sum(row[name] or 0 for name in ("good", "defects", "unlabelled"))
    if not images:
        return NOTHING
    looked = sum(row[f"review_{name}"] or 0 for name in ("good", "defects", "unlabelled"))
    return f"{looked:,} of {images:,}: {percent(row['review_rate'])}"


def flagged(row: Mapping[str, Any]) -> str:
    """The share of all rows that the policy decides as defects, with its interval."""
    if not exists(row["flagged_rate"]):
        return NOTHING
    ends = interval(row["flagged_rate_low"], row["flagged_rate_high"])
    return f"{percent(row['flagged_rate'])} [{ends}]"

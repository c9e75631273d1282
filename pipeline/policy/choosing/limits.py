"""Limits that people write: `fnr<=0.01` as a budget, `fnr<=0.01@0.95` as a guarantee."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipeline.errors import InputError
from pipeline.policy.choosing.confusion import Confusion, Ints

BUDGET_RATES = ("fnr", "fpr", "review")
GUARANTEE_RATES = ("fnr", "fpr")
# Short enough that its exact fraction is small, whatever was written.
_NUMBER = r"[0-9]{0,20}\.?[0-9]{1,20}(?:[eE][-+]?[0-9]{1,2})?"
_BUDGET = re.compile(rf"\s*([a-z_]+)\s*<=\s*({_NUMBER})\s*")
_GUARANTEE = re.compile(rf"\s*([a-z_]+)\s*<=\s*({_NUMBER})\s*@\s*({_NUMBER})\s*")
# Of a guarantee: floats count the images that far smaller ones would take no longer exactly.
_LEAST_SHARE = 1e-12


@dataclass(frozen=True)
class Limit:
    """A rate that may not be exceeded.

    Attributes:
        rate: `fnr`, `fpr`, or `review`: the share of all images that go to a person.
        at_most: as it was written, exactly.
    """

    rate: str
    at_most: Fraction

    @property
    def says(self) -> str:
        """As people write it."""
        return f"{self.rate}<={_written(float(self.at_most))}"

    def hits(self, counts: Confusion) -> Ints:
        """What the limit counts, in images."""
        if self.rate == "review":
            return counts.reviewed
        return counts.fn if self.rate == "fnr" else counts.fp

    def trials(self, counts: Confusion) -> Ints:
        """Of how many images."""
        if self.rate == "review":
            return counts.defects + counts.goods
        return counts.defects if self.rate == "fnr" else counts.goods

    def allowed(self, counts: Confusion) -> Ints:
        """The most hits that meet the limit, in exact arithmetic; arrays of the counts' shape."""
        trials = self.trials(counts)
        distinct, place = np.unique(trials, return_inverse=True)
        most = np.array([int(self.at_most * n) for n in distinct.tolist()], np.int64)
        return np.asarray(most[place].reshape(np.shape(trials)))


@dataclass(frozen=True)
class Guarantee:
    """A limit that shall hold on the next images.

    Attributes:
        limit: on `fnr` or `fpr`.
        confidence: the share of certifications like this one that keep what they say.
    """

    limit: Limit
    confidence: float

    @property
    def says(self) -> str:
        """As people write it."""
        return f"{self.limit.says}@{_written(self.confidence)}"

    @property
    def error(self) -> float:
        """δ: the chance that is taken of certifying a policy that exceeds the limit."""
        return float(1 - Fraction(repr(self.confidence)))


def parse_budget(text: object, field: str) -> Limit:
    """A budget such as `fnr<=0.01`; 0 means none at all.

    Args:
        text: what was written.
        field: where, for the message.

    Raises:
        InputError: another form, rate, or a number above 1.
    """
    found = _BUDGET.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InputError(
            f"{field}: {text!r} is no budget; write a rate, <= and a share, as fnr<=0.01, with "
            f"one of the rates {', '.join(BUDGET_RATES)}"
        )
    rate = _rate(found[1], BUDGET_RATES, field)
    at_most = Fraction(found[2])
    if at_most > 1:
        raise InputError(f"{field}: {found[2]} is above 1: write a share, 0.01 for 1 %")
    return Limit(rate, at_most)


def parse_guarantee(text: object, field: str) -> Guarantee:
    """A guarantee such as `fnr<=0.01@0.95`.

    Args:
        text: what was written.
        field: where, for the message.

    Raises:
        InputError: another form, rate, or a number that is not between 0 and 1, or as good as one
            of them.
    """
    found = _GUARANTEE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InputError(
            f"{field}: {text!r} is no guarantee; write rate, <=, share, @ and confidence, as "
            f"fnr<=0.01@0.95, with one of the rates {', '.join(GUARANTEE_RATES)}"
        )
    rate = _rate(found[1], GUARANTEE_RATES, field)
    for name, number, least in (("share", found[2], _LEAST_SHARE), ("confidence", found[3], 0.0)):
        if not 0 < Fraction(number) < 1:
            raise InputError(
                f"{field}: {name} {number} in {text!r} needs to be above 0 and below 1 "
                "(0.01 for 1 %)"
            )
        # What rounds to 1 leaves no chance of an error, or no rate above the limit.
        if not least <= float(number) < 1:
            raise InputError(
                f"{field}: {name} {number} in {text!r} is as good as {float(number):.0f}, which "
                "nothing can be certified for; write a number further from it"
            )
    return Guarantee(Limit(rate, Fraction(found[2])), float(found[3]))


def _written(number: float) -> str:
    """All digits that tell it from its neighbours: rounded, 0.9999999 would read 1."""
    return repr(number).removesuffix(".0")


def _rate(name: str, known: Iterable[str], field: str) -> str:
    if name not in known:
        raise InputError(f"{field}: {name!r} can't be limited; use one of {', '.join(known)}")
    return name

"""Which images a figure was measured on, and whether they had a say in the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MeasuredOn:
    """Where figures come from.

    Attributes:
        part: `tuning`, `hold-out`, `cross-fitted`, or `all` rows there are.
        best_of: policies that were compared on these very images; 1: it was fixed beforehand.
        per_category: each category chose its own of them.
    """

    part: Literal["tuning", "hold-out", "cross-fitted", "all"]
    best_of: int = 1
    per_category: bool = False

    @property
    def in_sample(self) -> bool:
        """Whether these images chose the policy, so that its figures flatter it."""
        return self.part in ("tuning", "all") and self.best_of > 1

    @property
    def says(self) -> str:
        """In words, to stand beside every figure."""
        if self.in_sample:
            return f"{self.part}: in-sample, best of {self.best_of:,}" + (
                " per category" if self.per_category else ""
            )
        return {
            "tuning": "tuning: policy fixed beforehand",
            "all": "all images: policy fixed beforehand",
            "hold-out": "hold-out",
            "cross-fitted": "cross-fitted: of the way of choosing, not of one policy",
        }[self.part]

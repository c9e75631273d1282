"""What is kept of a run to compare it: counts in frozen bins, kinds, rates; no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.stats.drift import Binned

Category = str | None


@dataclass(frozen=True)
class Cut:
    """A threshold of a policy.

    Attributes:
        policy: the policy's name.
        score: that is compared.
        threshold: as it is shown.
        within: how near is near.
    """

    policy: str
    score: str
    threshold: float
    within: float


@dataclass
class CategorySketch:
    """One category of a run.

    Attributes:
        images: with scores, that are compared.
        independent: what they are worth: images of a group count as few.
        defects: of them labelled as defects.
        labelled: of them labelled at all.
        numbers: by column.
        spreads: by column its standard deviation in the reference.
        kinds: by name how many images of each kind.
        flagged: by a policy's digest the images it decides as defects.
        near: by threshold the images near it, and those that have the score.
        errors: by type the images that have no scores.
    """

    images: int = 0
    independent: float = 0.0
    defects: int = 0
    labelled: int = 0
    numbers: dict[str, Binned] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    flagged: Counter[str] = field(default_factory=Counter)
    near: dict[Cut, tuple[int, int]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def all_images(self) -> int:
        """With and without scores."""
        return self.images + self.errors.total()


@dataclass(frozen=True)
class RunSketch:
    """A run.

    Attributes:
        run_id: its id.
        scorer_digest: what its scores depend on.
        rows: which of its rows are compared, in words.
        categories: by name.
        about: what is told of it.
    """

    run_id: str
    scorer_digest: str
    rows: str
    categories: Mapping[Category, CategorySketch]
    about: Mapping[str, Any]


def told(category: Category) -> str:
    """A category's name for people."""
    return "(no category)" if category is None else category

"""The drawing of a score's distribution as data for the page: good upwards, defects downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.app.held import Held
from pipeline.app.policies import Slider
from pipeline.policy.language import Resolved
from pipeline.report.evaluation_page import words
from pipeline.report.evaluation_page.scales import ticks

# Bins of a drawing: fewer where there are few images.
_LEAST_BINS, _MOST_BINS = 20, 60
_TICKS = 7
_KINDS = {"good": 0, "defects": 1, "unlabelled": -1}

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Distribution:
    """Images per bin of a score.

    Attributes:
        score: the column.
        category: None: all.
        edges: (bins + 1,).
        counts: by good, defects and unlabelled (bins,).
        missing: rows without this score.
    """

    score: str
    category: str | None
    edges: npt.NDArray[np.float64]
    counts: dict[str, Counts]
    missing: int


def distribution(held: Held, score: str, category: str | None) -> Distribution:
    """One pass over a score."""
    low, high = held.ends[score]
    high = high if high > low else low + 1.0
    values = held.scores[score]
    bins = int(np.clip(np.sqrt(len(values)), _LEAST_BINS, _MOST_BINS))
    edges = np.linspace(low, high, bins + 1)
    fits = np.array([category in (None, g.category) for g in held.groups], bool)
    inside = fits[held.group]
    finite = np.isfinite(values) & inside
    place = ((values[finite] - low) * (bins / (high - low))).astype(np.intp)
    truth = np.array([-1 if g.is_defect is None else int(g.is_defect) for g in held.groups])
    key = (truth[held.group[finite]] + 1) * bins + np.clip(place, 0, bins - 1)
    found = np.bincount(key, minlength=3 * bins).reshape(3, bins)
    counts = {name: found[code + 1] for name, code in _KINDS.items()}
    return Distribution(score, category, edges, counts, int((inside & np.isnan(values)).sum()))


def drawn(about: Distribution) -> dict[str, Any]:
    """The distribution as the page's script draws it.

    Good images and defects fill the same area; unlabelled ones are drawn at the scale of the good.
    """
    shares = {name: counts / max(counts.sum(), 1) for name, counts in about.counts.items()}
    top = max(float(shares[name].max()) for name in ("good", "defects")) or 1.0
    known = about.counts["good"].sum()
    if known:
        shares["unlabelled"] = np.minimum(about.counts["unlabelled"] / known, top)
    totals = {name: int(counts.sum()) for name, counts in about.counts.items()}
    low, high = float(about.edges[0]), float(about.edges[-1])
    whose = about.category if about.category is not None else "all categories"
    says = (
        f"Distribution of {about.score}, {whose}: {totals['good']:,} good images upwards, "
        f"{totals['defects']:,} defects downwards, {totals['unlabelled']:,} without a label, "
        f"between {words.plain(low)} and {words.plain(high)}"
    )
    return {
        "score": about.score,
        "says": says,
        "low": low,
        "high": high,
        "ticks": [[t, f"{t:.6g}"] for t in ticks(low, high, _TICKS)],
        "bars": {name: np.round(share / top, 4).tolist() for name, share in shares.items()},
        "totals": totals,
        "missing": about.missing,
    }


def lines(policy: Resolved, score: str, category: str | None) -> list[float]:
    """Thresholds of a score that decide images of a category, or of any (None); at most 24."""
    found = {
        number.shown
        for part, ruling in policy.rulings.items()
        if category in (None, part.category)
        for slot, number in zip(ruling.ruling.slots, ruling.numbers, strict=True)
        if slot.score == score
    }
    return sorted(found)[:24]


def slider_data(slider: Slider, at: float) -> dict[str, Any]:
    """A slider as the page's script builds it."""
    says = f"{slider.name}, all categories moved by" if slider.shift else slider.name
    return {
        "number": slider.number,
        "score": slider.score,
        "label": says,
        "own": slider.value,
        "value": at,
        "low": slider.low,
        "high": slider.high,
        "step": slider.step,
    }

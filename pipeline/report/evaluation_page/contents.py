"""What the HTML report of an evaluation is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.tables.evaluation_schemas import FIGURES, MISTAKES, QUALITY

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """How a score is distributed, by truth, in n bins.

    Attributes:
        score: its name.
        category: of these rows; None: all categories.
        edges: (n+1,) finite, increasing.
        good: (n,) images labelled good.
        defects: (n,) images labelled defects.
        unlabelled: (n,) images that nobody has labelled.
        thresholds: name (a policy or a threshold) and value.
    """

    score: str
    category: str | None
    edges: Floats
    good: Ints
    defects: Ints
    unlabelled: Ints
    thresholds: Sequence[tuple[str, float]] = ()

    def __post_init__(self) -> None:
        bins = len(self.edges) - 1
        for name in ("good", "defects", "unlabelled"):
            if len(getattr(self, name)) != bins or bins < 1:
                raise ValueError(
                    f"histogram of {self.score}: {name} has {len(getattr(self, name))} bins, "
                    f"the {len(self.edges)} edges need {max(bins, 1)}"
                )
        if not (np.isfinite(self.edges).all() and (np.diff(self.edges) > 0).all()):
            raise ValueError(f"histogram of {self.score}: edges must be finite and increasing")


@dataclass(frozen=True)
class Points:
    """What the P policies of a front do on some rows.

    Attributes:
        fp: (P,) false alarms.
        fn: (P,) missed defects.
        review: (P,) images that a person looks at.
        good: images labelled good.
        defects: images labelled defects.
        measured_on: which rows, and whether they chose anything.
    """

    fp: Ints
    fn: Ints
    review: Ints
    good: int
    defects: int
    measured_on: str

    def __post_init__(self) -> None:
        lengths = {len(self.fp), len(self.fn), len(self.review)}
        if len(lengths) > 1:
            raise ValueError(f"fp, fn and review of a front have {sorted(lengths)} points")


@dataclass(frozen=True)
class Front:
    """A sweep's policies that none beats in both kinds of mistakes.

    Attributes:
        labels: (P,) names of the policies.
        tuning: on the rows that made the front.
        held_out: the same policies on rows that had no say; None: there are none.
        chosen: place of the chosen policy; None: none was chosen.
    """

    labels: Sequence[str]
    tuning: Points
    held_out: Points | None = None
    chosen: int | None = None

    def __post_init__(self) -> None:
        for points in (self.tuning, self.held_out):
            if points is not None and len(points.fp) != len(self.labels):
                raise ValueError(
                    f"a front of {len(self.labels)} labels has {len(points.fp)} points "
                    f"on {points.measured_on}"
                )
        if self.chosen is not None and not 0 <= self.chosen < len(self.labels):
            raise ValueError(f"chosen is {self.chosen}, the front has {len(self.labels)} points")


@dataclass(frozen=True)
class FlipCounts:
    """Decisions that change from champion to challenger, among images of one truth.

    Attributes:
        fixed: the champion errs, the challenger does not.
        broken: the challenger errs, the champion does not.
        both: both err.
        to_review: the challenger sends to a person what the champion decided.
        from_review: the challenger decides what the champion sent to a person.
        images: all of this truth.
        p_value: McNemar's, exact; None or NaN where nothing is fixed or broken.
    """

    fixed: int
    broken: int
    both: int
    to_review: int
    from_review: int
    images: int
    p_value: float | None


@dataclass(frozen=True)
class Flip:
    """A challenger against the champion.

    Attributes:
        champion: name of the policy in use.
        challenger: name of the other one.
        defects: flips among defects, where an error is a miss.
        good: flips among good images, where an error is a false alarm.
    """

    champion: str
    challenger: str
    defects: FlipCounts
    good: FlipCounts


@dataclass(frozen=True)
class EvaluationReport:
    """All that the page tells; it computes nothing that isn't in here.

    Attributes:
        title: of the page.
        provenance: nested JSON: runs, digests, policy files, rows, command, time, versions.
        warnings: what a reader has to know first.
        measured_on: which rows were judged, and whether they chose anything.
        figures: `figures` table.
        quality: `quality` table.
        mistakes: `mistakes` table.
        histograms: of scores.
        front: of a sweep; None: there was no sweep.
        flips: of challengers against the champion.
        guarantee: what is certified, or why nothing is; None: nothing was asked for.
        thumbnails: PNG, JPEG or WebP bytes by uri; an image of the gallery that is missing here
            is said not to have been readable. None: no pictures were asked for.
        confidence: of the intervals in the tables.
    """

    title: str
    provenance: Mapping[str, Any]
    warnings: Sequence[str]
    measured_on: str
    figures: pa.Table
    quality: pa.Table
    mistakes: pa.Table
    histograms: Sequence[Histogram] = ()
    front: Front | None = None
    flips: Sequence[Flip] = ()
    guarantee: str | None = None
    thumbnails: Mapping[str, bytes] | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, schema in (("figures", FIGURES), ("quality", QUALITY), ("mistakes", MISTAKES)):
            missing = set(schema.names) - set(getattr(self, name).column_names)
            if missing:
                raise ValueError(f"{name} lacks the columns {', '.join(sorted(missing))}")

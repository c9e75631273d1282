"""A made-up evaluation: rows of scores, policies that cut them, and the tables of their figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from pipeline.evaluation.figures import Judged, figures_table
from pipeline.images.thumbnail import thumbnail
from pipeline.policy.choosing.confusion import Decided, Population
from pipeline.report.evaluation_html import (
    EvaluationReport,
    Flip,
    FlipCounts,
    Front,
    Histogram,
    Points,
)
from pipeline.tables.evaluation_schemas import MISTAKES, QUALITY

MEASURED = "test rows: they chose no threshold"
CATEGORIES = ("bottle", "cable", "carpet", "hazelnut", "metal_nut", "tile", "transistor", "zipper")
KINDS = ("scratch", "hole", "stain")


@dataclass(frozen=True)
class Cut:
    """A policy of the example: `defect` from `high` on, `review` from `low` on."""

    name: str
    high: float
    low: float | None = None
    oracle: bool = False

    @property
    def digest(self) -> str:
        return f"digest of {self.name}"


CUTS = (
    Cut("AD_SAFE", 0.9),
    Cut("AD_F1", 1.9),
    Cut("CLS_F1_AND_A_RATHER_LONG_NAME_OF_A_POLICY", 2.4),
    Cut("WITH_REVIEW", 2.6, 1.2),
    Cut("MIX_PAIRS", 1.5, oracle=True),
)


@dataclass(frozen=True)
class Images:
    """N rows: category and type codes, truth (1, 0, -1), scores."""

    category: np.ndarray
    kind: np.ndarray
    truth: np.ndarray
    score: np.ndarray
    names: Sequence[str] = CATEGORIES

    def uri(self, n: int) -> str:
        return f"s3://archive/{self.names[self.category[n]]}/test/{n:05d}.png"


def images(names: Sequence[str] = CATEGORIES, count: int = 1200, seed: int = 5) -> Images:
    """Rows of which a tenth has no label; categories are of different difficulty."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 0, -1], count, p=[0.35, 0.55, 0.1])
    category, kind = rng.integers(0, len(names), count), rng.integers(0, len(KINDS), count)
    defect = np.where(truth < 0, rng.random(count) < 0.1, truth == 1)
    gap = 3.2 - 0.25 * (category % len(CATEGORIES)) - 0.3 * kind
    return Images(category, kind, truth, rng.normal(0, 0.8, count) + defect * gap, names)


def decided(rows: Images, cuts: Sequence[Cut]) -> Decided:
    """What the policies decide about each group."""
    key = (rows.category * 3 + rows.truth + 1) * len(KINDS) + rows.kind * (rows.truth == 1)
    codes, group = np.unique(key, return_inverse=True)
    first = np.array([np.flatnonzero(group == n)[0] for n in range(len(codes))], int)
    people = Population(
        [rows.names[rows.category[n]] for n in first],
        rows.truth[first],
        np.bincount(group, minlength=len(codes)),
        [KINDS[rows.kind[n]] if rows.truth[n] == 1 else "good" for n in first],
        np.zeros(len(codes), np.int64),
    )
    flagged = [np.bincount(group[rows.score >= c.high], minlength=len(codes)) for c in cuts]
    review = [np.bincount(group[_looked(rows, c)], minlength=len(codes)) for c in cuts]
    shape = (len(cuts), len(codes))
    return Decided(np.reshape(flagged, shape), np.reshape(review, shape), people)


def _looked(rows: Images, cut: Cut) -> np.ndarray:
    low = cut.high if cut.low is None else cut.low
    return (rows.score >= low) & (rows.score < cut.high)


def figures(rows: Images, cuts: Sequence[Cut], measured_on: str = MEASURED) -> pa.Table:
    """The `figures` table, by the evaluation's own arithmetic."""
    named = [(cut.name, cut.digest, cut.oracle) for cut in cuts]
    return figures_table(decided(rows, cuts), Judged(named, measured_on, 0.95))


def mistakes(rows: Images, cuts: Sequence[Cut], most: int = 40) -> pa.Table:
    """The `mistakes` table, nearest first."""
    found: list[dict[str, Any]] = []
    for cut in cuts:
        passed = rows.score < (cut.high if cut.low is None else cut.low)
        wrong = {
            "false_negative": (rows.truth == 1) & passed,
            "false_positive": (rows.truth == 0) & (rows.score >= cut.high),
        }
        for kind, places in wrong.items():
            near = sorted(np.flatnonzero(places), key=lambda n: abs(rows.score[n] - cut.high))
            found += [_mistake(rows, cut, kind, r, n) for r, n in enumerate(near[:most], 1)]
    return pa.Table.from_pylist(found, schema=MISTAKES)


def _mistake(rows: Images, cut: Cut, kind: str, rank: int, n: int) -> dict[str, Any]:
    name, value = rows.names[rows.category[n]], float(rows.score[n])
    sign = "≥" if kind == "false_positive" else "<"
    return {
        "policy": cut.name,
        "digest": cut.digest,
        "kind": kind,
        "rank": rank,
        "image_id": int(n) - 2**62,
        "uri": rows.uri(n),
        "category": name,
        "defect_type": KINDS[rows.kind[n]] if rows.truth[n] == 1 else "good",
        "score": "anomaly_score",
        "value": value,
        "threshold": cut.high,
        "distance": abs(value - cut.high),
        "reason": f"{name}: anomaly_score {value:.6g} {sign} {cut.high} (safe, of {name})",
    }


def quality(names: Sequence[str] = CATEGORIES) -> pa.Table:
    """The `quality` table; of the last category there are no areas."""
    rows: list[dict[str, Any]] = []
    for score in ("anomaly_score", "defect_probability"):
        for place, name in enumerate([None, *names]):
            row = {"score": score, "category": name, "good": 80, "defects": 50, "missing": place}
            if place < len(names):
                for area in ("auroc", "average_precision"):
                    value = 0.99 - 0.013 * place
                    row |= {area: value, f"{area}_low": value - 0.05, f"{area}_high": 0.995}
                row["interval"] = "bootstrap over groups, 1000 draws"
            else:
                row["defects"] = 0
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=QUALITY)


def histograms(rows: Images, cuts: Sequence[Cut]) -> list[Histogram]:
    """Of all categories, and of each."""
    edges = np.linspace(rows.score.min(), rows.score.max(), 41)
    found = []
    for number, name in [(None, None), *enumerate(rows.names)]:
        inside = np.ones(len(rows.score), bool) if number is None else rows.category == number
        good, defects, unknown = (
            np.histogram(rows.score[inside & (rows.truth == kind)], edges)[0] for kind in (0, 1, -1)
        )
        lines = [(cut.name, cut.high) for cut in cuts]
        found.append(Histogram("anomaly_score", name, edges, good, defects, unknown, lines))
    return found


def front(points: int = 14) -> Front:
    """A sweep's front, flattered on tuning."""
    rng = np.random.default_rng(1)
    fp = np.sort(rng.choice(np.arange(0, 3 * points), points, replace=False))
    fn = np.sort(rng.choice(np.arange(0, 3 * points), points, replace=False))[::-1]
    nothing = np.zeros(points, np.int64)
    more = rng.integers(0, 9, (2, points))
    return Front(
        [f"sweep {n}: high = {n / 10:g}" for n in range(points)],
        Points(fp, fn, nothing, 330, 210, "tuning: in-sample, best of 10,000"),
        Points(fp + more[0], fn + more[1], nothing, 310, 205, "hold-out"),
        points // 3,
    )


def flips() -> list[Flip]:
    """Two challengers; the second never differs on good images."""

    def one(fixed: int, broken: int, images: int) -> FlipCounts:
        n = fixed + broken
        p = binomtest(min(fixed, broken), n).pvalue if n else float("nan")
        return FlipCounts(fixed, broken, 3, 5, 1, images, p)

    return [
        Flip("AD_SAFE", "AD_F1", one(1, 17, 420), one(60, 2, 660)),
        Flip("AD_SAFE", "WITH_REVIEW", one(4, 6, 420), one(0, 0, 660)),
    ]


def pictures(rows: Images) -> dict[str, bytes]:
    """Thumbnails of nine images in ten."""
    rng = np.random.default_rng(2)
    found = {}
    for n in range(len(rows.score)):
        if n % 10:
            y, x = np.mgrid[:60, :80]
            pixels = (120 + 60 * np.sin(x / (3 + n % 7)) + 40 * np.cos(y / 5))[..., None]
            colour = rng.integers(-30, 30, 3)
            found[rows.uri(n)] = thumbnail((pixels + colour).clip(0, 255).astype(np.uint8))
    return found


def example(**changes: Any) -> EvaluationReport:
    """The whole report; `changes` replace parts of it."""
    return EvaluationReport(**_parts() | changes)


@cache
def _parts() -> dict[str, Any]:
    rows = images()
    return {
        "title": "Night of 12 March against the policies in use",
        "provenance": {
            "runs": ["2026-03-12", "2026-03-13"],
            "scorer_digest": "5f1d" * 16,
            "thresholds": {"safe": {"bottle": 0.9, "digest": "ab" * 32}, "missing": None},
            "policies": [{"name": cut.name, "oracle": cut.oracle} for cut in CUTS],
            "rows": {"judged": 1200, "left_out": 17},
            "command": "jobs/evaluate.py store=… policies=configs/policies",
        },
        "warnings": ["17 images of these runs have no scores and are in no figure"],
        "measured_on": MEASURED,
        "figures": figures(rows, CUTS),
        "quality": quality(),
        "mistakes": mistakes(rows, CUTS),
        "histograms": histograms(rows, CUTS),
        "front": front(),
        "flips": flips(),
        "guarantee": "fnr<=0.01@0.95 cannot be certified with 102 defects; n needed: 299",
        "thumbnails": pictures(rows),
    }


def level(report: EvaluationReport, name: str) -> list[dict[str, Any]]:
    return [row for row in report.figures.to_pylist() if row["level"] == name]

"""Real tiles under another lamp, out of focus, from another place; and 200 nights of no change."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.stats import binom

from pipeline.images.fingerprint import HASH_SIDE, perceptual_hash
from pipeline.images.geometry import resize_square
from pipeline.tables import storage
from tests.evaluation.monitor.nights import Line
from tests.real import drifting
from tests.real.drifting import Camera, Change, blur, camera, gain, gamma, good_tiles, shift, shown

pytestmark = pytest.mark.timeout(300)

FIT, REFERENCE = 75, 50
# Nights without a change: some, and as many as the docs tell of.
SOME, RESAMPLINGS = 80, 200
# Categories of a night, each with halves of its own: a family of 28 comparisons. Without the
# correction a third of the nights would alarm at 5 %.
LINES = ("line 1", "line 2", "line 3", "line 4")
# Bits in which two views of one tile differ at most, as the groups of the whole set show.
ONE_TILE = 60


@dataclass(frozen=True)
class Tiles:
    """A camera that knows some tiles, and what it makes of the others."""

    camera: Camera
    files: list[Path]
    folder: Path
    rows: pd.DataFrame

    @property
    def reference(self) -> pd.DataFrame:
        return self.rows[:REFERENCE]

    def night(self, change: Change) -> pd.DataFrame:
        """The other tiles, changed."""
        return self.camera.rows(self.files[REFERENCE:], self.folder / uuid.uuid4().hex, change)


@pytest.fixture(scope="module")
def tiles(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    folder = tmp_path_factory.mktemp("tiles")
    files = good_tiles(shared)
    seeing = camera(shared).fitted(shown(files[:FIT], folder / "fit"))
    others = files[FIT:]
    return Tiles(seeing, others, folder, seeing.rows(others, folder / "plain"))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """In memory: two hundred nights are written and read."""
    place = f"memory://{uuid.uuid4().hex}"
    yield Line(tmp_path, place)
    storage.remove(place)


def compared(line: Line, tiles: Tiles, change: Change) -> tuple[str, str]:
    report = line.compare(tiles.reference, tiles.night(change))
    (entry,) = report["categories"]
    print(report["verdict"], entry["reason"])
    return report["verdict"], entry["reason"]


def test_the_same_camera_on_other_tiles_is_no_drift(line: Line, tiles: Tiles) -> None:
    assert compared(line, tiles, drifting.plain)[0] == "ok"


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        pytest.param(gain(0.6), "brightness fell by 4", id="lamp at 60 %"),
        pytest.param(gamma(1.4), "brightness fell by 3", id="another response"),
        pytest.param(blur(1), "sharpness fell by 7", id="out of focus by 1 px"),
        pytest.param(gain(1.6), "brightness rose by", id="lamp at 160 %", marks=pytest.mark.slow),
        pytest.param(blur(2), "sharpness fell by 8", id="by 2 px", marks=pytest.mark.slow),
    ],
)
def test_a_changed_lamp_or_focus_is_drift_and_the_first_reason(
    line: Line, tiles: Tiles, change: Change, fact: str
) -> None:
    verdict, reason = compared(line, tiles, change)
    assert verdict == "drift"
    told = [part for part in reason.split("; ") if "anomaly_score" not in part]
    assert told[0].startswith(fact)
    other = "sharpness" if fact.startswith("brightness") else "brightness"
    assert other not in reason


def test_a_camera_that_was_pushed_is_seen_by_the_scores_alone(line: Line, tiles: Tiles) -> None:
    verdict, reason = compared(line, tiles, shift(0.08, 0.08))
    assert verdict == "drift"
    assert reason.startswith("mean anomaly_score rose")
    assert "look at where camera and part stand" in reason
    for fact in ("brightness", "contrast", "sharpness"):
        assert f"{fact} rose" not in reason
        assert f"{fact} fell" not in reason


# --- without a change ---


def alarms(line: Line, halves: Iterator[tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, int]:
    """Of nights without a change: verdicts of drift, and chances at or below 1 and 5 %."""
    found = {"drift": 0, "0.01": 0, "0.05": 0}
    for first, night in halves:
        # Without the size of a change, which is on top: every change counts here.
        limits = {"psi_watch": 1e-9, "psi_drift": 1e-9, "fact_change": 0.0}
        report = line.compare(first, night, html=False, alpha=0.05, min_images=15, limits=limits)
        drift = storage.read_parquet(report["tables"]["drift"])["corrected"].to_numpy()
        found["drift"] += report["verdict"] == "drift"
        for alpha in (0.01, 0.05):
            found[str(alpha)] += drift.min() <= alpha
    return found


def most(alpha: float, nights: int) -> int:
    """More alarms than this in nights without a change come up once in a thousand times."""
    return int(binom.ppf(0.999, nights, alpha))


@pytest.mark.parametrize("nights", [SOME, pytest.param(RESAMPLINGS, marks=pytest.mark.slow)])
def test_halves_of_one_run_alarm_at_most_as_often_as_said(
    line: Line, tiles: Tiles, nights: int
) -> None:
    def halves() -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        for seed in range(nights):
            rng = np.random.default_rng(seed)
            split = [in_halves(tiles.rows.assign(category=name), rng) for name in LINES]
            yield pd.concat([a for a, _ in split]), pd.concat([b for _, b in split])

    found = alarms(line, halves())
    print(f"random halves: {found} of {nights}")
    assert found["drift"] <= most(0.05, nights)
    assert found["0.05"] <= most(0.05, nights)
    assert found["0.01"] <= most(0.01, nights)


def in_halves(rows: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    order = rng.permutation(len(rows))
    half = len(order) // 2
    return rows.iloc[order[:half]], rows.iloc[order[half:]]


@pytest.mark.slow
def test_200_halves_that_keep_a_tiles_views_together(line: Line, tiles: Tiles) -> None:
    rows = tiles.rows.assign(group_id=groups(tiles))
    names = rows["group_id"].unique()

    def halves() -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        for seed in range(RESAMPLINGS):
            chosen = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
            first = rows["group_id"].isin(chosen)
            yield rows[first], rows[~first]

    found = alarms(line, halves())
    print(f"halves of {len(names)} groups: {found} of {RESAMPLINGS}")
    assert found["drift"] <= most(0.05, RESAMPLINGS)
    assert found["0.01"] <= most(0.01, RESAMPLINGS)


def groups(tiles: Tiles) -> np.ndarray:
    """(N,) which images show one tile."""
    images = shown(tiles.files, tiles.folder / "hashed")
    hashes = [
        np.unpackbits(perceptual_hash(resize_square(image.square, HASH_SIDE)))
        for image in images
        if image.square is not None
    ]
    bits = np.stack(hashes).astype(np.int64)
    apart = (bits[:, None, :] != bits[None, :, :]).sum(axis=2)
    return np.asarray(connected_components(apart <= ONE_TILE)[1], np.int64)

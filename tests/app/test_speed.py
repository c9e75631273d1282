"""How long the app takes over many rows, in a real browser: printed, never asserted."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page

from pipeline.config import EvaluateConfig
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.evaluation.figures import records
from pipeline.tables import storage
from tests.app.browsing import running, watched
from tests.app.stores import Place, at_least, large_store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

# From a slider's event to the next frame after the new number of missed defects stands there.
MOVE = """(slider, to) => new Promise((done) => {
  const card = slider.getRootNode().querySelector('[data-figure="fn"] strong');
  const began = performance.now();
  const seen = new MutationObserver(() => {
    seen.disconnect();
    requestAnimationFrame(() => done(performance.now() - began));
  });
  seen.observe(card, { childList: true, characterData: true, subtree: true });
  slider.value = to;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
})"""
PLACES = [22.0, 23.5, 25.0, 26.5, 21.0, 24.5, 23.0, 25.5, 22.5, 24.0]


def cards(page: Page) -> tuple[int, int]:
    texts = [page.locator(f'[data-figure="{n}"] strong').inner_text() for n in ("fn", "fp")]
    return int(texts[0].replace(",", "")), int(texts[1].replace(",", ""))


def engine(place: Place, at: float) -> tuple[int, int]:
    """FN and FP that an evaluation counts with this threshold."""
    asked = Place(place.folder / "asked")
    asked.folder.mkdir(exist_ok=True)
    asked.policy("asked", at_least("anomaly_score", at))
    config = EvaluateConfig(
        store=place.store, run_id=("big",), policies=(str(asked.policies),), html=False,
        mistakes=0, scores=(), name="asked",
    )  # fmt: skip
    row = next(records(storage.read_parquet(run_evaluate(config)["tables"]["figures"])))
    return row["fn"], row["fp"]


def moves(slider: Locator) -> list[float]:
    """Milliseconds from each move to its answer; half a second lies between two moves."""
    found = []
    for to in PLACES:
        found.append(float(slider.evaluate(MOVE, str(to))))
        slider.page.wait_for_timeout(500)
    return found


@pytest.mark.parametrize(
    "rows", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=["short", "full"]
)
def test_the_first_view_and_a_moved_threshold_over_many_rows(
    rows: int, chrome: Browser, tmp_path: Path
) -> None:
    place = large_store(tmp_path, rows)
    with running(place, log=tmp_path / "log") as url:
        seen = watched(chrome)
        began = time.perf_counter()
        seen.page.goto(url)
        seen.page.locator('[data-figure="fn"] strong').wait_for()
        first = time.perf_counter() - began
        assert cards(seen.page) == engine(place, 24.0)
        slider = seen.page.get_by_label("anomaly_score ≥", exact=True)
        took = moves(slider)
        assert cards(seen.page) == engine(place, PLACES[-1])
        seen.page.goto(f"{url}?policy=either")
        both = moves(seen.page.get_by_label("anomaly_score ≥", exact=True))
        assert seen.errors == []
    load = os.getloadavg()[0]
    print(f"\n{rows:,} rows: first view after the app's start {first:.2f} s (load {load:.0f})")
    for name, found in (("one threshold", took), ("three thresholds", both)):
        middle, worst = statistics.median(found), max(found)
        print(f"{name}: a move is answered in {middle:.0f} ms (median), {worst:.0f} ms at most")

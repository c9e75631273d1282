"""The app in a real browser: what a person does, and what they then read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.config import EvaluateConfig
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.evaluation.figures import records
from pipeline.tables import storage
from pipeline.tables.labels import labels_folder, read_labels
from tests.app.browsing import WAIT_S, Watched, running, watched
from tests.app.stores import Place, at_least, small_store

expect.set_options(timeout=WAIT_S * 1000)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def engine(place: Place, run_id: str, decide: Any, category: str | None = None) -> dict[str, Any]:
    """The figures that `linescore evaluate` tells of a policy with these thresholds."""
    policies = place.folder / "asked"
    asked = Place(place.folder)
    own = policies / "asked.json"
    policies.mkdir(exist_ok=True)
    own.write_text(
        json.dumps({"policy": "v1", "name": "asked", "decide": decide, "on_missing": "review"})
    )
    report = run_evaluate(
        EvaluateConfig(
            store=asked.store, run_id=(run_id,), policies=(str(own),), html=False, name="asked"
        )
    )
    table = storage.read_parquet(report["tables"]["figures"])
    level = "all" if category is None else "category"
    return next(row for row in records(table, level) if row["category"] == category)


def card(page: Page, name: str) -> Any:
    return page.locator(f'[data-figure="{name}"] strong')


def quiet(seen: Watched) -> None:
    """Nothing went wrong in the page, and nobody else was asked for anything."""
    assert seen.errors == []
    assert seen.strangers == []


def test_a_threshold_is_moved_and_the_counts_are_the_engines(
    small: Place, chrome: Browser, tmp_path: Path
) -> None:
    with running(small, log=tmp_path / "log") as url:
        seen = watched(chrome)
        page = seen.page
        page.goto(url)
        before = engine(small, "tuesday", at_least("anomaly_score", 24.0))
        expect(card(page, "fn")).to_have_text(str(before["fn"]))
        expect(card(page, "fp")).to_have_text(str(before["fp"]))
        # By keyboard alone: a slider is moved a step at a time.
        slider = page.get_by_label("anomaly_score ≥", exact=True)
        slider.focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        moved = float(slider.input_value())
        assert moved > 24.0
        after = engine(small, "tuesday", at_least("anomaly_score", moved))
        assert (after["fn"], after["fp"]) != (before["fn"], before["fp"])
        expect(card(page, "fn")).to_have_text(str(after["fn"]))
        expect(card(page, "fp")).to_have_text(str(after["fp"]))
        expect(page).to_have_url(re.compile(f"move0={moved}"))
        # The table beside it tells the same.
        row = page.locator('tr[data-row="all categories"]')
        expect(row.locator("[data-fn]")).to_have_attribute("data-fn", str(after["fn"]))
        # A colleague opens the address and sees the same numbers.
        colleague = watched(chrome)
        colleague.page.goto(page.url)
        expect(card(colleague.page, "fn")).to_have_text(str(after["fn"]))
        expect(card(colleague.page, "fp")).to_have_text(str(after["fp"]))
        quiet(seen)
        quiet(colleague)


def test_a_missed_defect_is_opened_explained_labelled_and_counted(
    chrome: Browser, tmp_path: Path
) -> None:
    place = small_store(tmp_path)
    with running(place, "--allow-labels", log=tmp_path / "log") as url:
        seen = watched(chrome)
        page = seen.page
        page.goto(f"{url}?run=monday&policy=anomaly")
        missed = int(card(page, "fn").inner_text())
        assert missed > 0
        page.get_by_text("Gallery", exact=True).click()
        page.locator("figure.ls").first.wait_for()
        page.get_by_role("button", name=re.compile(r"^Open .*png$")).first.click()
        expect(page.get_by_text("What the policies decide, and why")).to_be_visible()
        expect(page).to_have_url(re.compile("page=image"))
        image = int(re.search(r"image=(\d+)", page.url)[1])  # type: ignore[index]
        row = page.locator("table.ls", has_text="because").locator("tr", has_text="anomaly").first
        expect(row).to_contain_text("good")
        expect(row).to_contain_text("is not ≥ 24")
        page.get_by_role("radiogroup", name="This image is").get_by_text("good").click()
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Save label").click()
        expect(page.get_by_text("Saved: good.")).to_be_visible()
        found = read_labels(labels_folder(place.store))
        assert found.image_id.tolist() == [image]
        assert found.label.to_pylist() == ["good"]
        # With people's labels it is no missed defect any more.
        page.get_by_text("Counts and thresholds", exact=True).click()
        expect(card(page, "fn")).to_have_text(str(missed))
        page.get_by_text(re.compile("Count with people's labels")).click()
        expect(card(page, "fn")).to_have_text(str(missed - 1))
        quiet(seen)

"""The app in a real browser: what a person does, and what they then read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.app.desk import Desk
from pipeline.app.uploads import Upload, UploadScorer
from pipeline.config import EvaluateConfig, LimitsConfig
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.evaluation.figures import records
from pipeline.policy.language import explain
from pipeline.tables import storage
from pipeline.tables.labels import labels_folder, read_labels
from tests.app.browsing import WAIT_S, Watched, running, watched
from tests.app.stores import EVIL, Place, at_least, small_store
from tests.conftest import TinyModels

expect.set_options(timeout=WAIT_S * 1000)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def engine(
    place: Place, run_id: str, decide: Any, category: str | None = None, **more: Any
) -> dict[str, Any]:
    """The figures that `linescore evaluate` tells of a policy with these thresholds."""
    policies = place.folder / "asked"
    asked = Place(place.folder)
    own = policies / "asked.json"
    policies.mkdir(exist_ok=True)
    own.write_text(
        json.dumps(
            {"policy": "v1", "name": "asked", "decide": decide, "on_missing": "review"} | more
        )
    )
    report = run_evaluate(
        EvaluateConfig(
            store=asked.store, run_id=(run_id,), policies=(str(own),), html=False, name="asked"
        )
    )
    table = storage.read_parquet(report["tables"]["figures"])
    level = "all" if category is None else "category"
    return next(row for row in records(table, level) if row["category"] == category)


@pytest.fixture(scope="module")
def app(small: Place, chrome: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on the small store, as it starts unless told otherwise: read-only."""
    with running(small, log=tmp_path_factory.mktemp("app") / "log") as url:
        yield url


def card(page: Page, name: str) -> Any:
    return page.locator(f'[data-figure="{name}"] strong')


def quiet(seen: Watched) -> None:
    """Nothing went wrong in the page, and nobody else was asked for anything."""
    assert seen.errors == []
    assert seen.strangers == []


def test_a_threshold_is_moved_and_the_counts_are_the_engines(
    small: Place, chrome: Browser, app: str
) -> None:
    seen = watched(chrome)
    page = seen.page
    page.goto(app)
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
    # By mouse: dragged to another place, answered while it moves.
    box = slider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.35, middle, steps=8)
    page.mouse.up()
    dragged = float(slider.input_value())
    assert dragged < moved
    after = engine(small, "tuesday", at_least("anomaly_score", dragged))
    expect(card(page, "fn")).to_have_text(str(after["fn"]))
    expect(card(page, "fp")).to_have_text(str(after["fp"]))
    expect(page).to_have_url(re.compile(f"move0={dragged}"))
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


def test_choices_are_made_by_keyboard_and_the_counts_follow(
    small: Place, chrome: Browser, app: str
) -> None:
    seen = watched(chrome)
    page = seen.page
    page.goto(app)
    card(page, "fn").wait_for()
    for label, option in (("Run", "monday"), ("Policy", "either"), ("Category", "washer")):
        page.get_by_role("combobox", name=label, exact=True).focus()
        page.keyboard.type(option)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"{label.lower()}={option}"))
    rule = {"any": [at_least("anomaly_score", 26.0), at_least("defect_probability", 0.7)]}
    review = at_least("defect_probability", 0.4)
    wanted = engine(small, "monday", rule, "washer", review=review)
    expect(card(page, "fn")).to_have_text(str(wanted["fn"]))
    expect(card(page, "fp")).to_have_text(str(wanted["fp"]))
    looked = wanted["review_good"] + wanted["review_defects"] + wanted["review_unlabelled"]
    expect(card(page, "review")).to_have_text(str(looked))
    # Forwards and backwards by the browser's own buttons.
    page.go_back()
    expect(page).not_to_have_url(re.compile("category=washer"))
    quiet(seen)


def test_a_link_with_hostile_names_and_places_shows_a_page_and_no_file(
    chrome: Browser, app: str
) -> None:
    seen = watched(chrome)
    page = seen.page
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.goto(
        f"{app}?run=../../etc/passwd&policy=<script>alert(1)</script>&category=**x**"
        "&score=:red[x]&sheet=-1&page=nowhere&image=../../etc/passwd"
    )
    expect(page.get_by_text("The run '../../etc/passwd' isn't here")).to_be_visible()
    expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
    expect(page.get_by_text("image: '../../etc/passwd': is no whole number")).to_be_visible()
    card(page, "fn").wait_for()
    page.goto(f"{app}?page=image&image=12345")
    expect(page.get_by_text("is not among the judged images")).to_be_visible()
    quiet(seen)


def test_names_from_the_data_are_text_wherever_they_are_shown(chrome: Browser, app: str) -> None:
    seen = watched(chrome)
    page = seen.page
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.goto(f"{app}?run=monday&page=gallery&kind=all&low=0")
    page.locator("figure.ls").first.wait_for()
    while not page.get_by_text(EVIL).count():
        page.get_by_role("button", name="further →").click()
        page.wait_for_timeout(500)
    assert page.locator('img[src="x"]').count() == 0
    page.locator("figure.ls", has_text=EVIL).first.wait_for()
    figure = page.locator("figure.ls", has_text=EVIL).first
    image = figure.get_attribute("data-image")
    page.goto(f"{app}?run=monday&page=image&image={image}")
    expect(page.get_by_text("What the policies decide, and why")).to_be_visible()
    expect(page.locator("dl.ls")).to_contain_text(EVIL)
    assert page.locator('img[src="x"]').count() == 0
    quiet(seen)


def test_one_image_large_with_boxes_mask_reasons_and_neighbours(
    small: Place, chrome: Browser, app: str
) -> None:
    desk = Desk(small.config())
    held = desk.held("monday")
    row = next(r for r in range(len(held.group)) if held.groups[int(held.group[r])].is_defect)
    image = int(held.image_id[row])
    seen = watched(chrome)
    page = seen.page
    page.goto(f"{app}?run=monday&page=image&image={image}&policy=either&move0=40")
    table = page.locator("table.ls", has_text="because")
    expect(table.locator("tbody tr")).to_have_count(3)
    part, scores = held.part(row), held.score_of(row)
    resolved = desk.policies("monday").resolved
    told = table.inner_text()
    for name in ("anomaly", "by-category"):
        why = explain(resolved[name], part, scores)
        assert why.because[0].says in told
    assert "moved in the app" in told
    expect(page.get_by_text("boxes (2)")).to_be_visible()
    expect(page.get_by_text("outline of the mask")).to_be_visible()
    picture = page.locator('[data-testid="stImage"] img').first
    with_marks = picture.get_attribute("src")
    page.get_by_text("boxes (2)").click()
    expect(picture).not_to_have_attribute("src", str(with_marks))
    expect(page.get_by_role("button", name="shown above")).to_be_disabled()
    assert page.locator("figure.ls").count() >= 4
    expect(page.get_by_text("This app is read-only")).to_be_visible()
    assert page.get_by_role("button", name="Save label").count() == 0
    quiet(seen)


def test_two_policies_and_two_runs_are_compared(small: Place, chrome: Browser, app: str) -> None:
    desk = Desk(small.config())
    seen = watched(chrome)
    page = seen.page
    differ = int((desk.outcome("monday", "anomaly") != desk.outcome("monday", "either")).sum())
    page.goto(f"{app}?run=monday&page=compare&policy=anomaly&other_policy=either")
    expect(page.get_by_text(f"{differ} of 126 images change sides")).to_be_visible()
    expect(page.locator("figure.ls")).to_have_count(min(differ, 24))
    a, b = desk.held("monday"), desk.held("tuesday")
    after = dict(zip(b.image_id.tolist(), desk.outcome("tuesday", "anomaly").tolist(), strict=True))
    before = desk.outcome("monday", "anomaly").tolist()
    pairs = zip(a.image_id.tolist(), before, strict=True)
    changed = sum(after[one] != was for one, was in pairs)
    page.goto(f"{app}?run=monday&page=compare&policy=anomaly&other_run=tuesday")
    expect(page.get_by_text(f"{changed} of 126 images change sides")).to_be_visible()
    quiet(seen)


def test_uploads_are_scored_and_what_is_no_image_is_told(
    chrome: Browser, tiny_models: TinyModels, tmp_path: Path
) -> None:
    place = small_store(tmp_path, weights=tiny_models.backbone)
    image = next((tmp_path / "archive" / "label" / "test" / "good").glob("*.png"))
    again = tmp_path / "twice" / image.name
    again.parent.mkdir()
    again.write_bytes(image.read_bytes())
    bad = tmp_path / "no-image.png"
    bad.write_bytes(b"no image")
    with running(place, "--allow-uploads", log=tmp_path / "log") as url:
        seen = watched(chrome)
        page = seen.page
        page.goto(f"{url}?page=upload&category=label")
        page.locator('input[type="file"]').set_input_files([str(image), str(again), str(bad)])
        page.get_by_role("button", name="Score", exact=True).click()
        table = page.locator("table.ls", has_text="anomaly_score").first
        table.wait_for()
        rows = table.locator("tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.nth(0)).to_contain_text(f"1 · {image.name}")
        expect(rows.nth(1)).to_contain_text(f"2 · {image.name}")
        refused = page.locator("table.ls", has_text="Not scored").locator("tbody tr")
        expect(refused).to_have_count(1)
        expect(refused).to_contain_text("3 · no-image.png")
        expect(refused).to_contain_text("not_an_image: no-image.png")
        scorer = UploadScorer("latest", place.store, LimitsConfig())
        (answer,) = scorer.score([Upload("x", image.read_bytes())], "label")
        assert answer.scores is not None
        expect(rows.nth(0)).to_contain_text(f"{answer.scores['anomaly_score']:.6g}")
        page.locator("summary", has_text=f"2 · {image.name}").click()
        because = page.locator("table.ls", has_text="because").nth(1)
        expect(because).to_contain_text("anomaly_score")
        quiet(seen)
    # Nothing of it is kept.
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and "upload" in f.name]

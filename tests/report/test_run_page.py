"""A run's page: what its report says, of older runs too; nothing runs, nothing reaches out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.report import main
from pipeline.errors import InputError
from pipeline.report.run_file import run_html, with_run_page, write_run_page
from pipeline.tables import storage
from pipeline.tables.runs import RunPlaces
from tests.report.page import Element, parsed, section
from tests.report.runs import EVIL, EVIL_NAMES, new_report, old_report, published


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> RunPlaces:
    return published(tmp_path_factory.mktemp("store"))


def page_of(report: dict[str, Any], record: dict[str, Any] | None = None) -> Element:
    return parsed(run_html(report, record or {}))


def test_counts_stand_by_category_and_kind(places: RunPlaces) -> None:
    rows = section(page_of(new_report(places)), "categories").rows()
    # Columns: images, scored, errors, then the kinds, the most frequent first.
    assert rows == [
        ["bolt", "45", "44", "1", "0", "1"],
        ["tile", "47", "45", "2", "1", "1"],
        ["no category", "49", "46", "3", "2", "1"],
        ["all", "141", "135", "6", "3", "3"],
    ]
    head = section(page_of(new_report(places)), "categories").one("thead").text
    assert head.endswith("errors not_found truncated")


def test_images_left_to_earlier_runs_have_a_column(places: RunPlaces) -> None:
    report = new_report(places)
    report["images"] |= {"manifest": 151, "skipped": 10}
    report["categories"][1] |= {"images": 57, "skipped": 10}
    page = section(page_of(report), "categories")
    assert page.rows()[1] == ["tile", "57", "45", "2", "10", "1", "1"]
    assert page.rows()[0][4] == "0"
    assert page.rows()[-1] == ["all", "151", "135", "6", "10", "3", "3"]
    assert "41 reused, 10 skipped" in page.text


def of_a_night(report: dict[str, Any], scored: int, errors: int) -> str:
    """The header of a page of 2,000 new images in an archive of a million."""
    images = {"manifest": 998_000 + scored + errors, "scored": scored, "errors": errors}
    return page_of(report | {"images": images | {"skipped": 998_000}}).one("header").text


def test_failures_of_a_night_are_told_of_its_own_images(places: RunPlaces) -> None:
    report = new_report(places)
    header = of_a_night(report, 500, 1500)
    assert "1,500 of 2,000 images (75.0 %) have no score" in header
    assert "the scores and errors of 998,000 skipped images are in earlier runs" in header
    assert "1,000,000 images 500 scored 1,500 errors 998,000 skipped" in header
    assert "2,000 of 2,000 images (100.0 %) have no score" in of_a_night(report, 0, 2000)
    assert "Read this first" not in of_a_night(report | {"attempts": []}, 2000, 0)


def test_failures_of_a_whole_archive_are_told_of_the_manifest(places: RunPlaces) -> None:
    images = {"manifest": 141, "scored": 0, "errors": 141}
    header = page_of(new_report(places) | {"images": images}).one("header").text
    assert "141 of 141 images (100.0 %) have no score" in header
    assert "skipped" not in header


def test_throughput_stages_and_ways_are_told(places: RunPlaces) -> None:
    page = page_of(new_report(places))
    header = page.one("header").text
    for says in (
        "141 images",
        "135 scored",
        "6 errors",
        "4.0 images/s",
        "2.0 MB/s",
        "123.5 MB read",
    ):
        assert says in header
    assert "6 of 141 images (4.3 %) have no score" in header
    assert "cut off and continued: 2 attempts" in header
    rows = section(page, "work").rows()
    assert [row[:2] for row in rows] == [
        ["decode", "30.0"],
        ["features", "60.0"],
        ["commit", "10.0"],
    ]
    assert [row[2].split()[0] for row in rows] == ["30.0", "60.0", "10.0"]
    assert rows[1][3:] == ["141", f"{60_000 / 141:.2f}"]
    assert "100 decoded, 41 reused" in section(page, "categories").text


def test_distributions_stand_as_numbers_and_drawings(places: RunPlaces) -> None:
    report = new_report(places)
    found = section(page_of(report), "distributions")
    everywhere = [row for row in report["distributions"] if row["level"] == "all"]
    tables = found.all("table")
    assert [row[0] for row in tables[0].rows()] == [row["score"] for row in everywhere]
    first = everywhere[0]
    assert tables[0].rows()[0][1:3] == [str(first["n"]), str(first["missing"])]
    assert tables[0].rows()[0][3] == f"{first['min']:.6g}"
    assert tables[0].rows()[0][7] == f"{first['quantiles']['0.5']:.4g}"
    assert tables[0].rows()[0][-1] == f"{first['max']:.6g}"
    assert len(tables[1].rows()) == len(report["distributions"]) - len(everywhere)
    captions = [figure.one("figcaption").text for figure in found.all("figure")]
    assert (
        "anomaly_score, all categories: 93 good, 27 defects, 15 without a label (dashed)"
        in captions
    )
    assert "anomaly_score, tile: 31 good, 9 defects, 5 without a label (dashed)" in captions
    assert any(caption.startswith("anomaly_score, (none)") for caption in captions)


def test_errors_and_suspects_have_their_images(places: RunPlaces) -> None:
    report = new_report(places)
    page = page_of(report)
    for kind in section(page, "errors").all("details"):
        name = kind.one("summary").text.partition(":")[0]
        mine = [row for row in report["error_examples"] if row["error_type"] == name]
        assert [(row[0], row[2]) for row in kind.rows()] == [
            (row["uri"], row["error_message"]) for row in mine
        ]
    suspects = section(page, "suspects").all("details")
    assert [one.one("summary").text for one in suspects] == ["bolt", "tile", "no category"]
    for one, name in zip(suspects, ("bolt", "tile", None), strict=True):
        mine = [row for row in report["suspects"] if row["category"] == name]
        assert [row[1] for row in one.rows()] == [f"{row['anomaly_score']:.6g}" for row in mine]


def test_settings_versions_and_digests_are_told(places: RunPlaces) -> None:
    record = {"config": {"block_rows": 77}, "bundle": {"scorer_digest": "ab12"}, "identity": {}}
    told = section(page_of(new_report(places), record), "provenance").text
    for says in ("block_rows 77", "scorer_digest ab12", "ray 2.60.0", "committed_before 2"):
        assert says in told


def test_a_run_of_an_older_version_has_a_page(places: RunPlaces) -> None:
    storage.write_json(places.report, old_report(places))
    page = parsed(Path(write_run_page(places)).read_text())
    # The counts by kind come from the tables; what nobody noted is left out.
    assert section(page, "categories").rows()[1] == ["tile", "47", "45", "2", "1", "1"]
    assert "did not note what its stages took" in section(page, "work").text
    assert "images/s" not in page.one("header").text
    assert section(page, "distributions").all("figure")
    assert "distributions" not in storage.read_json(places.report)


def test_a_perfect_run_has_no_section_of_errors(places: RunPlaces) -> None:
    report = new_report(places) | {"errors_by_type": {}, "error_examples": [], "distributions": []}
    report["images"] = {"manifest": 9, "scored": 9, "errors": 0}
    html = run_html(report | {"attempts": [], "suspects": []}, {})
    page = parsed(html)
    assert not page.all("section", id="errors")
    assert not page.all("section", id="distributions")
    assert "Read this first" not in html


def test_names_stay_text_wherever_they_stand(tmp_path: Path) -> None:
    places = published(tmp_path, EVIL_NAMES)
    report = new_report(places) | {"run_id": EVIL, "pools": {EVIL: f"{EVIL}\x07\ud800"}}
    report["errors_by_type"] = {EVIL: 3} | report["errors_by_type"]
    for example in report["error_examples"]:
        example["error_type"] = EVIL
    html = run_html(report, {"config": {EVIL: [EVIL]}})
    page = parsed(html)
    known = {e.tag for e in page_of(new_report(published(tmp_path / "calm"))).walk()}
    assert {e.tag for e in page.walk()} <= known | {"span", "code"}
    for element in page.walk():
        assert element.tag not in ("script", "link", "iframe", "object", "embed", "img", "base")
        assert not [name for name in element.attributes if name.startswith("on")]
        assert element.attributes.get("href", "#").startswith("#")
        assert not element.attributes.keys() & {"src", "style", "action", "srcset"}
    for name in ("categories", "distributions", "errors", "suspects", "provenance"):
        assert EVIL in section(page, name).text
    assert EVIL in page.one("header").text
    assert "{{ 7 * 191 }}" in section(page, "categories").text
    assert "1337" not in section(page, "categories").text
    html.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", html)
    turned = [
        e for e in page.walk() if any("\u202e" in c for c in e.children if isinstance(c, str))
    ]
    assert {e.tag for e in turned} <= {"bdi", "title", "li"}
    assert not re.search(r"url\(|@import|@font-face|https?://", html.replace("s3://", ""))
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_many_categories_and_kinds_make_no_endless_page(places: RunPlaces) -> None:
    report = new_report(places)
    many = [
        {"category": f"c{n:04d}", "images": n, "scored": n, "errors": 0, "errors_by_type": {}}
        for n in range(3000)
    ]
    base = next(row for row in report["distributions"] if row["level"] == "category")
    report["distributions"] += [base | {"category": row["category"]} for row in many]
    report["categories"] = many
    report["errors_by_type"] = {f"kind_{n}": 1 for n in range(30)}
    html = run_html(report, {})
    page = parsed(html)
    rows = section(page, "categories").rows()
    assert rows[-2][0] == "2800 smaller categories"
    assert rows[-3][0] == "c2999"
    assert len(section(page, "distributions").all("figure")) < 40
    assert len(html) < 1_000_000


def test_a_page_that_can_not_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    places = published(tmp_path)
    report = new_report(places)
    storage.write_json(places.report, report)
    Path(places.page).mkdir()
    caplog.set_level("WARNING", "linescore")
    assert with_run_page(dict(report), str(tmp_path)) == report
    said = caplog.text + capsys.readouterr().err
    assert "the page could not be written" in said
    Path(places.page).rmdir()
    assert with_run_page(dict(report), str(tmp_path))["page"] == places.page


def test_a_published_runs_page_is_made_only_where_it_is_missing(tmp_path: Path) -> None:
    places = published(tmp_path)
    storage.write_json(places.report, new_report(places))
    again = new_report(places) | {"already_published": True}
    assert with_run_page(again, str(tmp_path))["page"] == places.page
    Path(places.page).write_text("mine")
    assert with_run_page(again, str(tmp_path))["page"] == places.page
    assert Path(places.page).read_text() == "mine"


def test_the_job_makes_the_page_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = published(tmp_path)
    storage.write_json(places.report, new_report(places))
    assert main([f"store={tmp_path}", "run_id=r"]) == 0
    assert capsys.readouterr().out == f"report: {places.page}\n"
    assert Path(places.page).exists()


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (None, "report.json: is gone"),
        ({"kind": "fit"}, "is a 'fit' run"),
        ([], "no report of a run"),
    ],
)
def test_what_is_no_scored_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], report: Any, says: str
) -> None:
    assert main([f"store={tmp_path}", "run_id=r"]) == 2
    assert "isn't in the store" in capsys.readouterr().err
    places = published(tmp_path)
    if report is not None:
        storage.write_json(places.report, report)
    assert main([f"store={tmp_path}", "run_id=r"]) == 2
    assert says in capsys.readouterr().err
    with pytest.raises(InputError, match="run r: "):
        write_run_page(places)

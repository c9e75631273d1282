"""The numbers of the report's page are those of the tables."""

import re

import pytest

from pipeline.report.evaluation_html import EvaluationReport, evaluation_html, shown_images
from tests.report.example import CUTS, example, level
from tests.report.page import Element, numbers, parsed, section, shown_order


def test_the_page_is_well_formed_and_its_ids_and_links_meet(page: Element) -> None:
    ids = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [e.attributes["href"] for e in page.walk() if e.attributes.get("href", "")[:1] == "#"]
    assert links
    assert {link[1:] for link in links} <= set(ids)
    assert page.one("html").attributes["lang"] == "en"


def test_the_summary_has_the_numbers_of_the_figures(
    page: Element, report: EvaluationReport
) -> None:
    rows = {row["policy"]: row for row in level(report, "all")}
    shown = section(page, "policies").one("table").rows()
    assert len(shown) == len(rows) == len(CUTS)
    for cells in shown:
        row = next(row for name, row in rows.items() if cells[0].split()[1] == name)
        fn, defects, most = numbers(cells[1])
        assert (fn, defects) == (row["fn"], row["defects"])
        assert 100 * row["fnr_most"] <= most + 1e-9 < 100 * row["fnr_most"] + 0.1 + 1e-9
        fp, good, *rate = numbers(cells[2])
        assert (fp, good) == (row["fp"], row["good"])
        ends = [100 * row[name] for name in ("fpr", "fpr_low", "fpr_high")]
        assert rate == pytest.approx(ends, abs=0.051)
        looked = sum(row[f"review_{kind}"] for kind in ("good", "defects", "unlabelled"))
        assert numbers(cells[3])[:2] == [looked, 1200]
        assert numbers(cells[3])[2] == pytest.approx(100 * row["review_rate"], abs=0.051)
        assert cells[4:6] == [f"{row['precision']:.3f}", f"{row['f2']:.3f}"]


def test_fewest_misses_stand_first_and_oracles_last(page: Element) -> None:
    shown = section(page, "policies").one("table").rows()
    assert [cells[0].split()[1] for cells in shown] == [
        "AD_SAFE",
        "WITH_REVIEW",
        "AD_F1",
        "CLS_F1_AND_A_RATHER_LONG_NAME_OF_A_POLICY",
        "MIX_PAIRS",
    ]
    says = "oracle: reads the true defect type, can't be used on a line"
    assert [says in cells[0] for cells in shown] == [False, False, False, False, True]
    assert "champion" in shown[0][0]
    assert "challenger" in shown[1][0]


def test_categories_and_their_mean_are_the_figures(page: Element, report: EvaluationReport) -> None:
    wanted = level(report, "category")
    tables = section(page, "categories").all("table")
    assert len(tables) == len(CUTS)
    for table, name in zip(tables, shown_order(page), strict=True):
        rows = [row for row in wanted if row["policy"] == name]
        *shown, total, mean = table.rows()
        assert [cells[0] for cells in shown] == [row["category"] for row in rows]
        for cells, row in zip(shown, rows, strict=True):
            assert numbers(cells[1])[:2] == [row["fn"], row["defects"]]
            assert numbers(cells[2])[:2] == [row["fp"], row["good"]]
        macro = next(row for row in level(report, "macro") if row["policy"] == name)
        assert numbers(total[1])[0] == sum(row["fn"] for row in rows)
        assert numbers(mean[1]) == pytest.approx([100 * macro["fnr"], len(rows)], abs=0.051)


@pytest.mark.parametrize(
    ("name", "kind", "hits", "of", "heads"),
    [("misses", "defect_type", "fn", "defects", 2), ("alarms", "category", "fp", "good", 1)],
)
def test_heat_maps_tell_number_and_n_beside_their_colour(
    page: Element, report: EvaluationReport, name: str, kind: str, hits: str, of: str, heads: int
) -> None:
    wanted = {
        (row["policy"], row["category"], row["defect_type"]): row
        for row in level(report, kind)
        if row[of]
    }
    order, seen = shown_order(page), 0
    for tr in section(page, name).one("table").one("tbody").all("tr"):
        place = [cell.text for cell in tr.all("th")]
        for policy, cell in zip(order, tr.all("td"), strict=True):
            row = wanted[policy, place[0], place[1] if heads == 2 else None]
            assert cell.text == f"{row[hits]}/{row[of]}"
            rate, step = row[hits] / row[of], int(cell.attributes["class"][1:])
            assert step == sum(rate > end for end in (0, 0.02, 0.05, 0.1, 0.25))
            seen += 1
    assert seen == len(wanted)


def test_flips_are_told_both_ways_by_truth(page: Element, report: EvaluationReport) -> None:
    rows = section(page, "flips").one("table").rows()
    wanted = [counts for flip in report.flips for counts in (flip.defects, flip.good)]
    for cells, it in zip(rows, wanted, strict=True):
        told = [int(cell.replace(",", "")) for cell in cells[-7:-1]]
        assert told == [it.images, it.fixed, it.broken, it.both, it.to_review, it.from_review]
    assert rows[3][-1] == "–"
    assert rows[0][-1] == "< 0.001"


def test_quality_has_areas_with_their_intervals(page: Element, report: EvaluationReport) -> None:
    rows = section(page, "quality").one("table").rows()
    for cells, row in zip(rows, report.quality.to_pylist(), strict=True):
        assert cells[:5] == [
            row["score"],
            row["category"] or "all",
            *(str(row[name]) for name in ("good", "defects", "missing")),
        ]
        if row["auroc"] is None:
            assert cells[5] == cells[6] == "–"
        else:
            ends = [row["auroc"], row["auroc_low"], row["auroc_high"]]
            assert numbers(cells[5]) == pytest.approx(ends, abs=0.00051)


def test_the_gallery_shows_each_picture_once_and_says_which_are_missing(
    page: Element, report: EvaluationReport
) -> None:
    assert report.thumbnails is not None
    wanted = shown_images(report)
    cards = section(page, "mistakes").all("li")
    pictured = [card for card in cards if card.all("use")]
    lacking = [card for card in cards if "the image could not be read" in card.text]
    assert len(pictured) + len(lacking) == len(cards)
    assert lacking
    there = {uri for uri in wanted if uri in report.thumbnails}
    assert len(page.all("image")) == len(there) < len(pictured)
    by_id = {e.attributes["id"]: e.attributes["href"] for e in page.all("image")}
    assert len(set(by_id)) == len(by_id)
    for card in pictured:
        assert by_id[card.one("use").attributes["href"][1:]].startswith("data:image/jpeg;base64,")


def test_mistakes_stand_in_order_with_value_and_threshold(
    page: Element, report: EvaluationReport
) -> None:
    first = section(page, "mistakes").all("details")[0]
    assert [h.text.split(":")[0] for h in first.all("h3")] == ["Missed defects", "False alarms"]
    rows = [
        row
        for kind in ("false_negative", "false_positive")
        for row in report.mistakes.to_pylist()
        if row["policy"] == "AD_SAFE" and row["kind"] == kind and row["rank"] <= 12
    ]
    for card, row in zip(first.all("li"), rows, strict=True):
        assert f"{row['score']} {row['value']:.6g}, threshold {row['threshold']:.6g}" in card.text
        assert {row["category"], row["uri"]} <= set(re.split(r"[\s,]+", card.text))
        assert row["reason"] in card.text
        assert str(row["image_id"]) in card.text
    assert "12 are shown; mistakes.parquet has 40." in first.text


def test_pictures_that_nobody_asked_for_are_not_called_unreadable() -> None:
    text = section(parsed(evaluation_html(example(thumbnails=None))), "mistakes").text
    assert "Pictures were not asked for." in text
    assert "could not be read" not in text

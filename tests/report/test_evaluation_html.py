"""The report's page: well-formed, its numbers the tables', nothing from outside, names harmless."""

import dataclasses
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.evaluation_html import (
    EvaluationReport,
    Front,
    Histogram,
    Points,
    evaluation_html,
    shown_images,
)
from pipeline.tables.evaluation_schemas import FIGURES, MISTAKES, QUALITY
from tests.report.example import (
    CUTS,
    Cut,
    Images,
    decided,
    example,
    figures,
    front,
    histograms,
    images,
    mistakes,
)
from tests.report.page import Element, parsed

EVIL = "<script>alert(1)</script>"
NOWHERE = re.compile(r"(?:NaN|\bnan\b|\binf\b|None|undefined)")


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return example()


@pytest.fixture(scope="module")
def page(report: EvaluationReport) -> Element:
    return parsed(evaluation_html(report))


def level(report: EvaluationReport, name: str) -> list[dict[str, Any]]:
    return [row for row in report.figures.to_pylist() if row["level"] == name]


def section(page: Element, name: str) -> Element:
    return page.one("section", id=name)


def numbers(text: str) -> list[float]:
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def test_the_page_is_well_formed_and_its_ids_and_links_meet(page: Element) -> None:
    ids = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [e.attributes["href"] for e in page.walk() if e.attributes.get("href", "")[:1] == "#"]
    assert links
    assert {link[1:] for link in links} <= set(ids)
    assert page.one("html").attributes["lang"] == "en"


def test_nothing_comes_from_outside_and_nothing_runs(report: EvaluationReport) -> None:
    html = evaluation_html(report)
    page = parsed(html)
    allowed = re.compile(r"#|data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/=]+$")
    for element in page.walk():
        assert element.tag not in ("script", "link", "iframe", "object", "embed", "img", "base")
        assert not [name for name in element.attributes if name.startswith("on")]
        assert "style" not in element.attributes
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert allowed.match(element.attributes.get(name, "#"))
    assert not re.search(r"url\(|@import|@font-face", html)
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "script" not in policy


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


def shown_order(page: Element) -> list[str]:
    table = section(page, "policies").one("table")
    return [table_row[0].split()[1] for table_row in table.rows()]


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


def test_headers_have_a_scope_and_drawings_a_name(page: Element) -> None:
    assert all(th.attributes.get("scope") for th in page.all("th"))
    drawings = page.all("svg", role="img")
    assert len(drawings) > len(CUTS) * 2
    for svg in drawings:
        assert svg.attributes["aria-label"]
        assert svg.all("title")
    for region in page.all("div", role="region"):
        assert region.attributes["tabindex"] == "0"
        assert region.attributes["aria-label"]


def test_colours_are_the_style_sheets_alone(report: EvaluationReport) -> None:
    html = evaluation_html(report)
    body = html[html.index("</style>") :]
    assert not re.search(r"(?:fill|stroke|color|background)\s*[=:]", body)


def test_every_text_stands_out_from_its_ground_in_light_and_dark(report: EvaluationReport) -> None:
    style = evaluation_html(report).split("</style>")[0]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    for block in (light, dark):
        colour = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
        grounds = ["paper", "panel", "note", *(f"h{n}" for n in range(6))]
        pairs = [("ink", ground) for ground in grounds]
        pairs += [(text, ground) for text in ("soft", "focus") for ground in ("paper", "panel")]
        pairs += [("oracle", "paper"), ("oracle", "panel")]
        for text, ground in pairs:
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
        for drawn in ("good", "bad", "other", "mark"):
            assert contrast(colour[drawn], colour["paper"]) >= 3, drawn


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def evil_report() -> EvaluationReport:
    names = (EVIL, '"><img src=x onerror=alert(1)>', "{{ 7 * 191 }}", "a\x00b", "\u202eabc")
    rows = images(names, 300)
    cuts = [Cut(EVIL, 1.0), Cut("' onload='alert(1)", 2.0)]
    made = [
        row | {"uri": f"javascript:{EVIL}", "reason": EVIL, "defect_type": "</bdi></style>"}
        for row in mistakes(rows, cuts).to_pylist()
    ]
    tuning = Points(np.array([1]), np.array([2]), np.array([0]), 9, 9, EVIL)
    drawn = histograms(rows, cuts)
    return example(
        title=f"</title>{EVIL}\ud800",
        provenance={EVIL: [EVIL, {"a": f"{EVIL}\x07"}]},
        warnings=[EVIL],
        measured_on=EVIL,
        figures=figures(rows, cuts, EVIL),
        mistakes=pa.Table.from_pylist(made, schema=MISTAKES),
        histograms=[*drawn, dataclasses.replace(drawn[0], score=EVIL)],
        front=Front([EVIL], tuning, tuning, 0),
        guarantee=EVIL,
        thumbnails={f"javascript:{EVIL}": b"<svg onload=alert(1)>"},
    )


def test_names_stay_text_wherever_they_stand() -> None:
    html = evaluation_html(evil_report())
    page = parsed(html)
    known = {e.tag for e in parsed(evaluation_html(example())).walk()} | {"span"}
    assert {e.tag for e in page.walk()} <= known
    for element in page.walk():
        assert not [name for name in element.attributes if name.startswith("on")]
        assert element.tag != "script"
        assert "javascript" not in element.attributes.get("href", "")
    for name in ("policies", "categories", "misses", "alarms", "distributions", "front"):
        assert EVIL in section(page, name).text
    for name in ("mistakes", "provenance"):
        assert EVIL in section(page, name).text
    assert EVIL in page.one("header").text
    assert "{{ 7 * 191 }}" in section(page, "misses").text
    assert "1337" not in section(page, "misses").text
    # What no page may hold, and what UTF-8 can't write, is replaced.
    html.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", html)
    # A name that turns the direction of writing doesn't reach out of its own element.
    turned = [
        e for e in page.walk() if any("\u202e" in c for c in e.children if isinstance(c, str))
    ]
    assert {e.tag for e in turned} <= {"bdi", "title"}


def test_what_is_no_picture_is_never_embedded() -> None:
    page = parsed(evaluation_html(evil_report()))
    assert not page.all("image")
    assert "the image could not be read" in section(page, "mistakes").text


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


def without_rows(rows: Images, truth: int) -> Images:
    kept = rows.truth != truth
    return Images(rows.category[kept], rows.kind[kept], rows.truth[kept], rows.score[kept])


@pytest.mark.parametrize(
    ("absent", "column", "name", "says"),
    [
        (1, 1, "misses", "There are no defects"),
        (0, 2, "alarms", "There are no good images"),
    ],
)
def test_rates_that_do_not_exist_are_dashes(absent: int, column: int, name: str, says: str) -> None:
    rows = without_rows(images(), absent)
    report = example(figures=figures(rows, CUTS), mistakes=mistakes(rows, CUTS), front=None)
    page = parsed(evaluation_html(report))
    assert {cells[column] for cells in section(page, "policies").one("table").rows()} == {"–"}
    assert says in section(page, name).text
    assert not section(page, name).all("table")
    assert not NOWHERE.search(page.one("main").text)


def test_without_labels_the_flagged_rate_remains() -> None:
    rows = without_rows(without_rows(images(), 0), 1)
    report = example(figures=figures(rows, CUTS), mistakes=mistakes(rows, CUTS))
    page = parsed(evaluation_html(report))
    table = section(page, "policies").one("table")
    wanted = {row["policy"]: row["flagged_rate"] for row in level(report, "all")}
    for cells in table.rows():
        assert cells[1:3] == ["–", "–"]
        rate = numbers(cells[6])[0]
        assert rate == pytest.approx(100 * wanted[cells[0].split()[1]], abs=0.051)


def test_an_evaluation_of_nothing_is_a_page_that_says_so() -> None:
    empty = {
        "figures": FIGURES.empty_table(),
        "quality": QUALITY.empty_table(),
        "mistakes": MISTAKES.empty_table(),
        "histograms": (),
        "front": None,
        "flips": (),
        "guarantee": None,
        "thumbnails": {},
        "provenance": {},
        "warnings": (),
    }
    page = parsed(evaluation_html(example(**empty)))
    text = page.one("main").text
    for says in ("No policy was evaluated.", "No score was rated.", "No policy's mistakes"):
        assert says in text
    assert not page.all("section", id="front") + page.all("section", id="distributions")
    assert not NOWHERE.search(text)


def test_policies_without_a_mistake_have_an_empty_gallery() -> None:
    rows = images(count=200)
    perfect = dataclasses.replace(rows, score=np.where(rows.truth == 1, 5.0, -5.0))
    report = example(figures=figures(perfect, CUTS), mistakes=mistakes(perfect, CUTS))
    page = parsed(evaluation_html(report))
    assert not section(page, "mistakes").all("li")
    assert "Missed defects: 0" in section(page, "mistakes").text
    assert shown_images(report) == []
    defects = int((rows.truth == 1).sum())
    first = section(page, "policies").one("table").rows()[0]
    assert first[1].startswith(f"0 missed of {defects}: at most ")
    assert numbers(first[1])[2] > 0


def test_a_small_bound_is_rounded_up() -> None:
    none = Images(*(np.zeros(28, int), np.zeros(28, int), np.ones(28, int), np.full(28, 9.0)))
    table = figures(none, [Cut("A", 1.0)])
    page = parsed(evaluation_html(example(figures=table)))
    # Two-sided 95 %: 1 - 0.025 ** (1 / 28) = 12.34 %.
    cells = section(page, "policies").one("table").rows()[0]
    assert cells[1] == "0 missed of 28: at most 12.4 %"


def test_a_thousand_policies_are_a_page_of_the_thirty_best() -> None:
    rows = images()
    cuts = [Cut(f"p{n:04d}", n / 250, oracle=n % 97 == 0) for n in range(1000)]
    report = example(
        figures=figures(rows, cuts), mistakes=mistakes(rows, cuts, 3), flips=(), front=None
    )
    html = evaluation_html(report)
    page = parsed(html)
    shown = shown_order(page)
    assert len(shown) == 30
    rows_of = {row["policy"]: row for row in level(report, "all")}
    usable = sorted((row["fn"], row["fp"]) for row in rows_of.values() if not row["oracle"])
    told = [(rows_of[name]["fn"], rows_of[name]["fp"]) for name in shown]
    assert told[:25] == usable[:25]
    assert [rows_of[name]["oracle"] for name in shown] == [False] * 25 + [True] * 5
    text = section(page, "policies").text
    assert "970 more policies are left out here (6 of them oracles)" in text
    assert "figures.parquet" in text
    assert len(section(page, "misses").all("table")) == 3
    assert len(html) < 3_000_000


def test_champion_and_challengers_are_never_left_out(report: EvaluationReport) -> None:
    rows = images()
    cuts = [*(Cut(f"p{n:03d}", n / 250) for n in range(100)), *CUTS]
    many = dataclasses.replace(report, figures=figures(rows, cuts), mistakes=mistakes(rows, cuts))
    shown = shown_order(parsed(evaluation_html(many)))
    assert len(shown) == 30
    assert {flip.champion for flip in report.flips} <= set(shown)
    assert {flip.challenger for flip in report.flips} <= set(shown)


def test_rows_that_chose_stand_apart_from_rows_that_judge() -> None:
    rows, other = images(seed=1), images(seed=2)
    both = pa.concat_tables(
        [figures(rows, CUTS, "tuning: in-sample, best of 5"), figures(other, CUTS, "hold-out")]
    )
    page = parsed(evaluation_html(example(figures=both)))
    table = section(page, "policies").one("table")
    heads = [th.text for th in table.all("th", scope="rowgroup")]
    assert heads == ["measured on tuning: in-sample, best of 5", "measured on hold-out"]
    bodies = table.all("tbody")
    for body, where in zip(bodies, (rows, other), strict=True):
        wanted = {row["policy"]: row["fn"] for row in figures(where, CUTS).to_pylist()[: len(CUTS)]}
        told = {tr.one("th").text.split()[1]: tr.all("td")[0].text for tr in body.all("tr")[1:]}
        assert {name: numbers(text)[0] for name, text in told.items()} == wanted


def test_histograms_have_their_bins_heights_and_thresholds() -> None:
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    cuts = [("a", 1.0), ("b", 1.0), ("c", 3.0), ("d", 9.0), ("e", float("nan"))]
    one = Histogram(
        "s", None, edges, np.array([8, 0, 0]), np.array([0, 4, 4]), np.array([0, 0, 0]), cuts
    )
    page = parsed(evaluation_html(example(histograms=[one])))
    figure = section(page, "distributions").one("figure")
    # From 8 to 332 for 0 to 4; the middle is 102, the highest bin reaches 26 or 178.
    assert figure.one("path", **{"class": "good"}).attributes["d"].startswith("M8.0 102V26.0H89.0")
    defects = figure.one("path", **{"class": "bad"}).attributes["d"]
    # Half of the defects in a bin of width 1, half in one of width 2: heights 1/2 and 1/4.
    assert defects == "M8.0 102V102.0H89.0V140.0H170.0V121.0H332.0V102Z"
    assert [line.attributes["x1"] for line in figure.all("line")] == ["89.0", "251.0"]
    assert [li.text for li in figure.all("li")] == [
        "1: 1, a, b",
        "2: 3, c",
        "3: 9 (outside the drawing), d",
    ]
    assert not figure.all("path", **{"class": "other"})


def test_the_front_draws_both_sides_and_rings_the_chosen(page: Element) -> None:
    made = front()
    assert made.held_out is not None
    part = section(page, "front")
    dots = part.all("circle", **{"class": "good"})
    assert len(dots) == len(made.labels) == len(part.all("path", **{"class": "held"}))
    assert len(part.all("circle", **{"class": "ring"})) == 2
    # Places are linear in the rates: with their origin and scale undone, rates come back.
    for axis, rates in (("cx", made.tuning.fp / 330), ("cy", made.tuning.fn / 210)):
        places = np.array([float(dot.attributes[axis]) for dot in dots])
        slope, origin = np.polyfit(rates, places, 1)
        assert places == pytest.approx(origin + slope * rates, abs=0.11)
        assert (slope > 0) == (axis == "cx")
    rows = part.one("table").rows()
    for n, cells in enumerate(rows):
        told = [numbers(text)[0] for text in cells[1:]]
        sides = (made.tuning, made.held_out)
        assert told == [v for p in sides for v in (p.fn[n], p.fp[n], p.review[n])]
    assert [n for n, cells in enumerate(rows) if "chosen" in cells[0]] == [made.chosen]
    assert "tuning: in-sample, best of 10,000" in part.text


def test_a_long_front_is_thinned_and_keeps_the_chosen() -> None:
    made = dataclasses.replace(front(1500), chosen=701)
    part = section(parsed(evaluation_html(example(front=made))), "front")
    assert len(part.all("circle", **{"class": "good"})) <= 200
    assert len(part.all("circle", **{"class": "ring"})) == 2
    rows = part.one("table").rows()
    assert len(rows) <= 30
    assert made.labels[701] in [cells[0].removesuffix(" chosen") for cells in rows]
    assert "1,500 policies that none beats" in part.text


def test_a_front_without_hold_out_or_rates_says_so() -> None:
    tuning = Points(np.array([0]), np.array([0]), np.array([0]), 0, 9, "tuning")
    part = section(parsed(evaluation_html(example(front=Front(["a"], tuning)))), "front")
    assert "no estimate" in part.text
    assert "There is no drawing" in part.text
    assert not part.all("svg")


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


def test_provenance_is_whole_and_a_long_list_is_cut_with_its_count() -> None:
    deep: dict[str, Any] = {"runs": [f"run {n}" for n in range(100)], "empty": [], "none": None}
    text = section(parsed(evaluation_html(example(provenance=deep))), "provenance").text
    assert "run 59" in text
    assert "run 60" not in text
    assert "40 more in evaluation.json" in text


def test_tables_and_drawings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="figures lacks the columns fn"):
        example(figures=FIGURES.empty_table().drop_columns(["fn"]))
    three = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="has 3 bins"):
        Histogram("s", None, np.arange(3.0), three, three, three)
    with pytest.raises(ValueError, match="increasing"):
        Histogram("s", None, np.array([0.0, 2.0, 1.0, 3.0]), three, three, three)
    with pytest.raises(ValueError, match="chosen is 3"):
        Front(["a"] * 3, Points(three, three, three, 9, 9, ""), None, 3)
    with pytest.raises(ValueError, match="2 labels has 3 points"):
        Front(["a"] * 2, Points(three, three, three, 9, 9, ""))
    with pytest.raises(ValueError, match="points"):
        Points(three, three, three[:2], 9, 9, "")


def test_the_example_counts_what_its_policies_decide() -> None:
    rows = images()
    table = figures(rows, CUTS)
    for place, cut in enumerate(CUTS):
        row = table.slice(place, 1).to_pylist()[0]
        low = cut.high if cut.low is None else cut.low
        assert row["fn"] == ((rows.truth == 1) & (rows.score < low)).sum()
        assert row["fp"] == ((rows.truth == 0) & (rows.score >= cut.high)).sum()
    assert decided(rows, CUTS).population.images.sum() == len(rows.score)

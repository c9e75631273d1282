"""The report's page of nothing, of one kind of images, of a thousand policies."""

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
    images,
    level,
    mistakes,
)
from tests.report.page import numbers, parsed, section, shown_order

NOWHERE = re.compile(r"(?:NaN|\bnan\b|\binf\b|None|undefined)")


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

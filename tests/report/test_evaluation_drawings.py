"""Drawings and colours of the report's page: places of what is drawn, names, contrast."""

import dataclasses
import re

import numpy as np
import pytest

from pipeline.report.evaluation_html import (
    EvaluationReport,
    Front,
    Histogram,
    Points,
    evaluation_html,
)
from tests.report.example import CUTS, example, front
from tests.report.page import Element, numbers, parsed, section


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

"""Nothing on the report's page comes from outside, runs, or reaches out of its place."""

import dataclasses
import re

import numpy as np
import pyarrow as pa

from pipeline.report.evaluation_html import EvaluationReport, Front, Points, evaluation_html
from pipeline.tables.evaluation_schemas import MISTAKES
from tests.report.example import Cut, example, figures, histograms, images, mistakes
from tests.report.page import parsed, section

EVIL = "<script>alert(1)</script>"


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

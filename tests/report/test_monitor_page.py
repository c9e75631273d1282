"""The page of two runs: what it tells, and that no name becomes markup or leaves the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import monitor
from tests.evaluation.monitor.nights import Line, failed, images
from tests.report.page import parsed, section

HOSTILE = "<img src=x onerror=alert(1)>&\"'\x07"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def page(line: Line, **changes: object) -> str:
    assert monitor.main(line.arguments(**changes)) in (0, 3)
    return (Path(line.store) / "reports/drift-night/report.html").read_text(encoding="utf-8")


def test_the_page_tells_the_worst_first_and_every_comparison(line: Line) -> None:
    line.publish("first", images(1), images(2, category="bolt"), errors=[failed(2)])
    line.publish("night", images(3, brightness=lambda b: 0.79 * b), images(4, category="bolt"))
    html = parsed(page(line, policies=line.policy("stop", "anomaly_score", 23.5)))
    rows = section(html, "verdicts").rows()
    assert [row[:2] for row in rows] == [["tile", "drift"], ["bolt", "ok"]]
    assert rows[0][2].startswith("brightness fell by 21 %")
    assert rows[0][3:] == ["300 (300)", "300 (300)"]
    measures = section(html, "measures").rows()
    assert len(measures) == len(line.read("drift"))
    assert measures[0][:3] == ["tile", "brightnessfact", "drift"]
    assert len(section(html, "flagged").rows()) == 4
    assert len(section(html, "near").rows()) == 2


def test_no_name_becomes_markup_and_nothing_is_fetched(line: Line) -> None:
    line.publish("first", images(1, category=HOSTILE, format="<b>JPEG</b>"))
    line.publish("night", images(2, category=HOSTILE, format="<i>PNG</i>"))
    html = page(line)
    root = parsed(html)
    assert not [one for one in root.walk() if one.tag in ("img", "script", "link", "b", "i", "a")]
    assert "\x07" not in html
    policy = next(one for one in root.all("meta") if "http-equiv" in one.attributes)
    assert policy.attributes["content"].startswith("default-src 'none'; style-src")
    assert "http" not in html.replace("http-equiv", "")
    assert "<img src=x onerror=alert(1)>" in section(root, "verdicts").text


def test_without_a_page_an_older_one_does_not_stay(line: Line) -> None:
    line.publish("first", images(1))
    line.publish("night", images(2))
    page(line)
    assert monitor.main(line.arguments(html="false")) == 0
    folder = Path(line.store) / "reports/drift-night"
    assert sorted(file.name for file in folder.iterdir()) == [
        "drift.parquet",
        "flagged.parquet",
        "monitor.json",
        "near.parquet",
        "verdicts.parquet",
    ]

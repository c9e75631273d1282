"""The page of an evaluation of the predecessor's scores says what its CSV says, counted anew."""

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline.evaluation.pictures import thumbnails
from pipeline.report.evaluation_file import with_page
from tests.evaluation.tables import Bench
from tests.report.page import Element, parsed

FLAGGED = {"probability": ("cls_prob", 0.82), "distance": ("ad_score", 20.0)}
ORACLE = "cracks_by_distance"


@pytest.fixture(scope="module")
def scores(shared: Path) -> pd.DataFrame:
    """Its rows, and what each policy flags."""
    frame = pd.read_csv(shared / "seed" / "mvtec_scores.csv")
    for name, (score, value) in FLAGGED.items():
        frame[name] = frame[score] >= value
    by_type = frame.defect_type.isin(["crack", "hole"])
    frame[ORACLE] = (by_type & frame["distance"]) | frame["probability"]
    return frame


@pytest.fixture(scope="module")
def page(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Element:
    """The job's page of three policies; no image can be read."""
    bench = Bench(tmp_path_factory.mktemp("page"))
    columns = ["path", "category", "defect_type", "label", "cls_prob", "ad_score"]
    table = pa.Table.from_pandas(scores[columns], preserve_index=False)
    bench.put(table.to_pylist(), table.schema)
    rules = {name: {"score": score, "ge": value} for name, (score, value) in FLAGGED.items()}
    for name, rule in rules.items():
        bench.policy(name, rule)
    cracks = {"all": [{"defect_type": ["crack", "hole"]}, rules["distance"]]}
    bench.policy(ORACLE, {"any": [cracks, rules["probability"]]}, oracle=True)
    report = bench.evaluate(columns={"is_defect": "label", "uri": "path"})
    told = with_page(report, html=True, pictures=thumbnails)
    return parsed(Path(told["html"]).read_text())


def names(page: Element) -> list[str]:
    """Policies in the order of the page."""
    rows = page.one("section", id="policies").one("table").one("tbody").all("tr")
    return [row.all("bdi")[0].text for row in rows]


def told(cells: list[str]) -> list[int]:
    """FN, defects, FP, good of a row of figures."""
    return [int(n) for cell in cells for n in re.findall(r"\d+", cell)[:2]]


def counted(rows: pd.DataFrame, policy: str) -> list[int]:
    defect = rows.label == 1
    missed, alarms = defect & ~rows[policy], ~defect & rows[policy]
    return [int(one.sum()) for one in (missed, defect, alarms, ~defect)]


def test_policies_are_counted_as_in_the_file(page: Element, scores: pd.DataFrame) -> None:
    order = names(page)
    rows = page.one("section", id="policies").one("table").rows()
    assert [told(row[1:3]) for row in rows] == [counted(scores, name) for name in order]
    assert order[-1] == ORACLE
    says = "oracle: reads the true defect type, can't be used on a line"
    assert [says in row[0] for row in rows] == [False, False, True]


def test_every_category_is_counted_as_in_the_file(page: Element, scores: pd.DataFrame) -> None:
    tables = page.one("section", id="categories").all("table")
    for policy, table in zip(names(page), tables, strict=True):
        *rows, _, _ = table.rows()
        wanted = {category: counted(rows, policy) for category, rows in scores.groupby("category")}
        assert {row[0]: told(row[1:3]) for row in rows} == wanted
        assert len(rows) == 15


def test_every_defect_type_is_counted_as_in_the_file(page: Element, scores: pd.DataFrame) -> None:
    defects = scores[scores.label == 1].groupby(["category", "defect_type"])
    rows = page.one("section", id="misses").one("table").rows()
    assert len(rows) == defects.ngroups
    found = {tuple(row[:2]): row[2:] for row in rows}
    for place, group in defects:
        wanted = [f"{(~group[name]).sum()}/{len(group)}" for name in names(page)]
        assert found[place] == wanted, place


def test_the_gallery_has_the_files_mistakes_and_says_that_none_can_be_read(
    page: Element, scores: pd.DataFrame
) -> None:
    gallery = page.one("section", id="mistakes")
    for policy, part in zip(names(page), gallery.all("details"), strict=True):
        fn, defects, fp, good = counted(scores, policy)
        assert told(part.one("summary").text.split(":", 1)[1].split(";")) == [fn, defects, fp, good]
        wrong = scores[(scores.label == 1) != scores[policy]]
        cards = part.all("li")
        assert len(cards) == min(fn, 12) + min(fp, 12)
        for card in cards:
            assert any(card.text.endswith(path) for path in wrong.path), card.text
            assert "the image could not be read" in card.text

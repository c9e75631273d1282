"""report.html as the job writes it: from the tables, with pictures where they can be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.evaluate import main
from tests.evaluation.tables import SCHEMA, Bench, at_least, row


def fill(bench: Bench) -> None:
    """60 images; two missed defects, of which one picture is there."""
    rng = np.random.default_rng(0)
    there = bench.folder / "there.png"
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(there)
    rows = [row(number, False, 0.1 + number / 100) for number in range(30)]
    rows += [row(99, False, 0.1, category="<b>odd")]
    rows += [row(100 + number, True, 0.9 - number / 100) for number in range(28)]
    rows += [
        row(200, True, 0.2, uri=str(there)),
        row(201, True, 0.25, uri="gone.png", category="<b>odd"),
    ]
    bench.put(rows, SCHEMA)
    bench.policy("plain", at_least("a", 0.5))
    bench.policy("sharp", at_least("a", 0.39))
    variables = {"x": {"values": [0.2, 0.39, 0.5]}}
    template = {"policy": "v1", "name": "t", "decide": at_least("a", {"var": "x"})}
    document = {"sweep": "v1", "template": template, "variables": variables}
    (bench.folder / "sweep.json").write_text(json.dumps(document))


def page(bench: Bench, capsys: pytest.CaptureFixture[str], **changes: object) -> str:
    changes |= {"sweep": str(bench.folder / "sweep.json"), "champion": "plain"}
    assert main(bench.arguments(**changes)) == 0
    said = capsys.readouterr().out
    file = bench.report / "report.html"
    assert said.rstrip().endswith(f"report: {file}")
    return file.read_text()


def test_the_page_tells_what_the_tables_hold(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(bench)
    found = page(bench, capsys)
    assert "2 missed of 30" in found
    assert "&lt;b&gt;odd" in found
    assert "<b>odd" not in found
    assert "in-sample, best of 3" in found
    assert found.count("data:image/jpeg;base64,") >= 1
    assert "gone.png" in found
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)", found)
    assert "<script" not in found


def test_pictures_and_the_page_can_be_left_out(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(bench)
    assert "data:image" not in page(bench, capsys, thumbnails=False)
    (bench.report / "report.html").unlink()
    assert main(bench.arguments(html=False)) == 0
    assert not Path(bench.report / "report.html").exists()


def test_a_sweep_alone_has_a_page_too(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    fill(bench)
    changes = {"policies": None, "sweep": str(bench.folder / "sweep.json")}
    assert main(bench.arguments(**changes)) == 0
    assert "The front" in (bench.report / "report.html").read_text()


def test_an_older_page_does_not_stay_beside_new_tables(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(bench)
    page(bench, capsys)
    assert main(bench.arguments(html=False)) == 0
    assert not (bench.report / "report.html").exists()


@pytest.mark.parametrize("uri", ["/dev/zero", "memory://elsewhere/x.png", "http://[", "\0"])
def test_a_foreign_tables_uris_are_not_followed_anywhere(
    bench: Bench, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    bench.put([row(1, True, 0.2, uri=uri), row(2, False, 0.1)], SCHEMA)
    bench.policy("plain", at_least("a", 0.5))
    assert main(bench.arguments()) == 0
    assert "data:image" not in (bench.report / "report.html").read_text()

"""The Grafana dashboard: well-formed, and about metrics that there are, all of ours among them."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ray.dashboard.modules.metrics import dashboards

from tests.stages.exported import exported_names

FILE = Path(__file__).parents[2] / "configs/grafana/linescore.json"
COLUMNS = 24
METRIC = re.compile(r"\bray_\w+")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def expressions(dashboard: dict[str, Any]) -> list[str]:
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    variables = dashboard["templating"]["list"]
    return queries + [v["query"]["query"] for v in variables if v["type"] == "query"]


def test_the_dashboard_names_our_metrics_and_no_others(dashboard: dict[str, Any]) -> None:
    named = {name for text in expressions(dashboard) for name in METRIC.findall(text)}
    ours = {name for name in named if name.startswith("ray_linescore_")}
    series = exported_names()
    assert ours <= set().union(*series.values())
    assert [name for name, exported in series.items() if not ours & exported] == []


def test_the_other_metrics_are_those_of_rays_own_dashboards(dashboard: dict[str, Any]) -> None:
    named = {name for text in expressions(dashboard) for name in METRIC.findall(text)}
    files = Path(dashboards.__file__).parent.glob("*_dashboard_panels.py")
    known = set(METRIC.findall("".join(file.read_text() for file in files)))
    rays = {name for name in named if not name.startswith("ray_linescore_")}
    assert rays
    assert rays <= known
    assert any("gpu" in name for name in rays)
    assert any("queue" in name for name in rays)


def test_every_query_balances_and_uses_variables_that_there_are(dashboard: dict[str, Any]) -> None:
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    for text in expressions(dashboard):
        for opening, closing in ("()", "[]", "{}"):
            assert text.count(opening) == text.count(closing), text
        used = set(re.findall(r"\$(\w+)", text)) - {"__rate_interval"}
        assert used <= names, text


def test_it_is_a_dashboard(dashboard: dict[str, Any]) -> None:
    assert isinstance(dashboard["schemaVersion"], int)
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["title"] == "linescore"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", dashboard["uid"])
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in ("row", "stat", "timeseries")
        if panel["type"] != "row":
            assert panel["description"]
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references) > 0
            for part in (panel, *panel["targets"]):
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_lie_within_the_grid_and_beside_each_other(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert min(place["x"], place["y"]) >= 0
        assert min(place["w"], place["h"]) >= 1
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_it_names_no_host() -> None:
    text = FILE.read_text()
    assert not re.search(r"https?://|\d+\.\d+\.\d+\.\d+|localhost|\.(?:com|io|net|org)\b", text)

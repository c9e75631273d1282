"""Thresholds from a bundle's file and from tables: what is found, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.policy.language import Threshold, Thresholds
from pipeline.policy.language.where import Where
from pipeline.scoring.calibration import as_json
from pipeline.stats.selection import Rules, Sample, all_thresholds

HERE = Where("f.json", "decide.ge.ref")


def calibrated(good: int, defects: int) -> Any:
    """Thresholds of one score of one population, as a calibration finds them."""
    images = good + defects
    sample = Sample(
        np.arange(images, dtype=np.float32),
        np.arange(images) >= good,
        np.arange(images),
        np.arange(images),
    )
    normals = Sample(
        np.arange(19, dtype=np.float32), np.zeros(19, bool), np.arange(19), np.arange(19)
    )
    return all_thresholds(sample, normals.where(np.arange(19) < good * 4), Rules())


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What a calibration writes; `wood` has too few images for any threshold."""
    found = {None: calibrated(5, 5), "tile": calibrated(5, 5), "wood": calibrated(2, 0)}
    cloth = {"cloth": calibrated(5, 0)}
    return {
        "schema_version": "1",
        "digest": "0",
        "thresholds": as_json({"anomaly_score": found | cloth}),
    }


def test_a_bundles_thresholds_are_found_by_score_and_rule(content: dict[str, Any]) -> None:
    found = Thresholds.from_bundle(content)
    categories = content["thresholds"]["anomaly_score"]["categories"]
    assert found.find("anomaly_score.safe", "tile", HERE) == Threshold(
        categories["tile"]["safe"]["value"], "thresholds.json, anomaly_score safe of tile"
    )
    assert found.find("anomaly_score.safe", "tile", HERE).value == 5
    fallback = found.find("anomaly_score.safe", "cloth", HERE)
    assert fallback == Threshold(
        categories["cloth"]["fpr"]["value"],
        "thresholds.json, anomaly_score safe of cloth (by fpr, the calibration's fallback)",
    )
    assert found.find("anomaly_score.overall.f1", "never seen", HERE) == Threshold(
        5.0, "thresholds.json, anomaly_score f1 of all categories together"
    )


def test_a_threshold_without_a_value_says_why(content: dict[str, Any]) -> None:
    reason = content["thresholds"]["anomaly_score"]["categories"]["wood"]["safe"]["reason"]
    assert reason
    with pytest.raises(InputError) as error:
        Thresholds.from_bundle(content).find("anomaly_score.safe", "wood", HERE)
    assert str(error.value) == (
        "f.json: decide.ge.ref: the threshold 'anomaly_score.safe' has no value for the category "
        f"'wood': {reason}; use another rule of the calibration, or a number"
    )


def test_a_category_that_was_not_calibrated(content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="for the category 'glass'; there are those for cloth, t"):
        Thresholds.from_bundle(content).find("anomaly_score.safe", "glass", HERE)
    with pytest.raises(InputError, match="for the category None; there are those for cloth, tile"):
        Thresholds.from_bundle(content).find("anomaly_score.safe", None, HERE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": "2"}, "schema_version: is the text '2'; this linescore reads '1': cal"),
        ({"thresholds": []}, "is an object without `thresholds`; give a thresholds.json"),
        ({"thresholds": {"a": 3}}, "thresholds.a: is the number 3; an object belongs here"),
        ({"thresholds": {"a": {"categories": []}}}, "thresholds.a.categories: is a list []"),
        (
            {"thresholds": {"a": {"categories": {"p": {"f1": {"value": "7"}}}}}},
            "thresholds.a.categories.p.f1.value: is the text '7'; a threshold is a finite number",
        ),
    ],
)
def test_a_file_that_is_none(content: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        Thresholds.from_bundle(content | change)
    assert str(error.value).startswith(f"thresholds.json: {says}")


def test_a_table_of_ones_own() -> None:
    found = Thresholds.from_table({"low": 3, "high": {"tile": 7.5}}, "mine.json")
    assert found.names == {"low", "high"}
    assert found.find("low", "any", HERE) == Threshold(3.0, "mine.json, low")
    assert found.find("high", "tile", HERE) == Threshold(7.5, "mine.json, high of tile")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([], "is a list []; an object belongs here"),
        ({"": 3}, "is the text ''; a text belongs here"),
        ({"low": "3"}, "low: is the text '3'; a threshold is a finite number"),
        ({"low": True}, "low: is true; a threshold is a finite number"),
        ({"low": None}, "low: is null; a threshold is a finite number"),
        ({"low": {"tile": float("nan")}}, "low.tile: is the number nan; a threshold is a finite"),
        ({"low": {"tile": float("inf")}}, "low.tile: is the number inf; a threshold is a finite"),
        ({"low": {"tile": [3]}}, "low.tile: is a list [3]; a threshold is a finite number"),
    ],
)
def test_a_table_with_a_mistake(table: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        Thresholds.from_table(table, "mine.json")
    assert str(error.value).startswith(f"mine.json: {says}")


def test_of_two_tables_the_second_goes_first() -> None:
    first = Thresholds.from_table({"a": 1, "b": {"p": 2}, "c": 3, "d": {"p": 1}}, "first")
    second = Thresholds.from_table({"a": {"p": 10}, "b": 20, "e": 5}, "second")
    both = first | second
    assert both.names == {"a", "b", "c", "d", "e"}
    values = {name: both.find(name, "p", HERE).value for name in sorted(both.names)}
    assert values == {"a": 10, "b": 20, "c": 3, "d": 1, "e": 5}

"""What can't be compared is said, in one line, and no half-written report is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import monitor
from tests.evaluation.monitor.nights import Line, images


def told(line: Line, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """The one line of a comparison that is refused; nothing is written."""
    before = sorted(Path(line.store).rglob("*"))
    assert monitor.main(line.arguments(**changes)) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert sorted(Path(line.store).rglob("*")) == before
    return message


@pytest.fixture
def two(line: Line) -> Line:
    line.publish("first", images(1))
    line.publish("night", images(2))
    return line


def test_a_reference_of_other_categories(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.publish("first", images(1, category="bolt"), images(2, category="nut"))
    line.publish("night", images(3), images(4, category=None))
    message = told(line, capsys)
    assert "reference: first: has bolt, nut, and night has tile, (no category)" in message
    assert "no category is in both; name another reference" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reference": "night"}, "reference= is run_id= itself, 'night': name another run"),
        ({"reference": None}, "give reference= (a published run) or frozen= (a name)"),
        ({"frozen": "spring"}, "give reference= (a published run) or frozen= (a name)"),
        ({"run_id": None}, "give run_id= (the run that is looked at), freeze=, or both"),
        ({"reference": "lost"}, "reference: run lost: isn't in the store"),
        ({"run_id": "lost"}, "run_id: run lost: isn't in the store"),
        ({"run_id": "../night"}, "run_id: a run id has letters, digits"),
        ({"freeze": "a b"}, "freeze: String should match pattern"),
        ({"scores": "anomaly"}, "scores: anomaly: is no score of first; it has "),
        ({"scores": "brightness"}, "scores: brightness: is no score of first; it has "),
        ({"roles": "tset"}, "roles: tset: no row of first has this role; there are none 300"),
        ({"alpha": 0}, "alpha: Input should be greater than 0"),
        ({"limits.psi_watch": 0.5}, "a measure is watched before it has drifted"),
        ({"policies": "none.json"}, "policies: none.json: there is no such file"),
    ],
    ids=str,
)
def test_settings_that_make_no_comparison(
    two: Line, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], says: str
) -> None:
    assert says in told(two, capsys, **changes)


def test_a_policy_that_no_line_can_run_or_that_asks_for_an_unknown_threshold(
    two: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = two.policy("best", "anomaly_score", 3.0, oracle=True)
    assert "best: is an oracle: it reads the true defect type" in told(two, capsys, policies=oracle)
    asks = two.policy("safe", "anomaly_score", {"ref": "anomaly_score.safe"})  # type: ignore[arg-type]
    message = told(two, capsys, policies=asks)
    assert "asks for the threshold 'anomaly_score.safe'" in message


def test_a_category_that_is_too_small_is_not_judged_and_one_that_came_or_went_is_told(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1), images(2, 29, category="rare"), images(3, category="old"))
    line.publish("night", images(4), images(5, 300, category="rare"), images(6, category="new"))
    assert monitor.main(line.arguments()) == 0
    verdicts = line.read("verdicts").set_index("category")
    assert dict(verdicts.verdict) == {
        "new": "not_comparable",
        "old": "not_comparable",
        "rare": "not_comparable",
        "tile": "ok",
    }
    assert "too few images: the reference has 29 with scores" in verdicts.reason["rare"]
    assert verdicts.reason["old"] == (
        "is missing: the reference has 300 images of it, this run none"
    )
    assert "is new" in verdicts.reason["new"]
    assert "old: is missing" in capsys.readouterr().out


def test_where_nothing_can_be_compared_there_is_no_all_clear(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1, 20))
    line.publish("night", images(2, 20))
    assert monitor.main(line.arguments()) == 1
    assert "no category could be compared: this is no verdict on the run" in capsys.readouterr().out
    assert list(line.read("verdicts").verdict) == ["not_comparable"]


def test_scores_of_another_scorer_are_not_compared_and_the_images_are(line: Line) -> None:
    line.publish("first", images(1))
    line.publish(
        "night",
        images(2, anomaly_score=lambda a: 9 * a, brightness=lambda b: 0.8 * b),
        scorer="0f" * 32,
    )
    report = line.monitor(policies=line.policy("stop", "anomaly_score", 23.5))
    assert report["verdict"] == "drift"
    (reason,) = (one["reason"] for one in report["categories"])
    assert reason.startswith("brightness fell by 20 %")
    assert "anomaly_score, defect_logit" in reason
    assert "scored by 5c5c5c5c5c5c…, this run by 0f0f0f0f0f0f…" in reason
    verdicts = line.read("drift").set_index("measure").verdict
    assert verdicts["anomaly_score"] == "not_comparable"
    assert verdicts["contrast"] == "ok"
    assert len(line.read("flagged")) == 0


def test_a_reference_from_before_images_were_measured(line: Line) -> None:
    facts = ["brightness", "contrast", "sharpness", "bytes"]
    line.publish("first", images(1))
    for file in (Path(line.store) / "tables/scores/run=first").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(facts), file)
    line.publish("night", images(2, anomaly_score=lambda a: 1.3 * a))
    report = line.monitor()
    assert report["verdict"] == "drift"
    assert any("was scored before images were measured" in one for one in report["warnings"])
    (reason,) = (one["reason"] for one in report["categories"])
    assert "; format, size stayed: look at where camera and part stand" in reason


def test_a_damaged_table_is_named(two: Line, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(two.store) / "tables/scores/run=night/part-00000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert "part-00000.parquet: can't be read as Parquet" in told(two, capsys)

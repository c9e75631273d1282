"""What can't be compared is said, in one line, and no half-written report is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import monitor
from pipeline.scoring.bundle import open_bundle
from tests.evaluation.monitor.nights import Line, failed, images
from tests.scoring.runs import make_bundle


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


def test_a_night_of_too_few_images_is_no_all_clear_and_no_failure(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1), images(2, 20, category="rare"))
    line.publish("night", images(3, 20), images(4, 300, category="rare"))
    assert monitor.main(line.arguments()) == 4
    said = capsys.readouterr().out
    assert "night against first: NO VERDICT, too few images" in said
    assert "no category has images enough to be compared: this is no all-clear" in said
    assert list(line.read("verdicts").verdict) == ["not_comparable"] * 2


def test_a_reference_that_can_judge_no_night_is_refused(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1, 20), images(2, 10, category="rare"))
    line.publish("night", images(3, 20))
    message = told(line, capsys)
    assert "reference: first: no category of night can be compared with it, however many" in message
    assert "tile too few images: the reference has 20 with scores" in message
    assert message.endswith("name or freeze another reference")


def test_a_night_on_which_every_image_failed_is_drift_of_the_failures(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1), images(2, category="bolt"), errors=[failed(3)])
    line.publish("night", errors=[failed(40), failed(2, kind="empty_file")])
    assert monitor.main(line.arguments()) == 3
    said = capsys.readouterr().out
    assert "no image of night was scored: 42 failed (empty_file 2, truncated 40), 0 were" in said
    assert "tile: images that failed with truncated: 0.99 %, now 95.2 %" in said
    assert "bolt: is missing: the reference has 300 images of it, this run none" in said
    frozen = line.monitor(freeze="spring") and line.monitor(reference=None, frozen="spring")
    assert frozen["verdict"] == "drift"
    assert frozen["run"]["errors"] == {"tile": 42}


def test_failures_are_counted_of_the_rows_that_are_compared_where_no_image_was_scored(
    line: Line,
) -> None:
    line.publish("first", images(1, split="test"), images(2, 50, split="train"))
    line.publish("night", errors=[failed(40, split="train"), failed(9, split="test")])
    report = line.monitor()
    assert report["run"]["errors"] == {"tile": 9}
    assert not any("other rows are compared" in warning for warning in report["warnings"])


def test_a_night_without_a_new_image_says_so(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1))
    line.publish("night", skipped=300)
    assert monitor.main(line.arguments()) == 4
    said = capsys.readouterr().out
    assert "no image of night was scored: 0 failed, 300 were left to earlier runs" in said
    assert "tile: is missing: the reference has 300 images of it, this run none" in said
    line.publish("night", images(1))
    line.publish("first", errors=[failed(9)])
    assert "reference: first: no row is left to compare with" in told(line, capsys)


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


def test_thresholds_of_the_new_scorer_dont_keep_images_from_being_compared(line: Line) -> None:
    """After a refit `latest` is of another scorer than the reference: that is no mistake."""
    for run_id, fitted in (("first", [1, 2]), ("night", [3, 4])):
        seen = {"gaussians": fitted, "classifier": [], "detector": []}
        bundle = open_bundle(make_bundle(str(line.store), seen), str(line.store))
        line.publish(run_id, images(1 + (run_id == "night")), scorer=bundle.scorer_digest)
    report = line.monitor(policies=line.policy("stop", "anomaly_score", {"ref": "x.safe"}))
    assert report["verdict"] == "ok"
    verdicts = line.read("drift").set_index("measure").verdict
    assert verdicts["anomaly_score"] == "not_comparable"


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

"""What a night is told about itself: every figure against the plain one, and every verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, fisher_exact, ks_2samp, wasserstein_distance

from jobs import monitor
from pipeline.errors import InputError
from pipeline.evaluation.monitor import counting
from tests.conftest import run_job
from tests.evaluation.monitor.nights import Line, failed, images


def entry(report: dict, category: str | None = "tile") -> dict:
    return next(one for one in report["categories"] if one["category"] == category)


def measure(line: Line, name: str, category: str = "tile") -> pd.Series:
    rows = line.read("drift")
    (found,) = [row for _, row in rows[rows.measure == name].iterrows() if row.category == category]
    return found


# --- figures ---


def test_figures_are_those_of_the_plain_formulas(line: Line) -> None:
    first, night = images(1, 400), images(2, 350, anomaly_score=lambda a: 1.2 * a)
    line.compare(first, night)
    for name in ("anomaly_score", "defect_logit", "brightness", "bytes"):
        found = measure(line, name)
        before, now = (frame[name].astype(np.float32) for frame in (first, night))
        exact = ks_2samp(before, now).statistic
        # The difference can be larger by one image just below a number of the reference.
        assert found.ks - 1e-9 <= exact <= min(found.ks_most, found.ks + 1 / 350) + 1e-9
        assert found.chance == pytest.approx(ks_2samp(before, now, method="asymp").pvalue, rel=0.25)
        area = wasserstein_distance(before, now)
        assert 0.97 * area < found.wasserstein < area * (1 + 1e-6)
        assert (found.reference_value, found.value) == pytest.approx((before.mean(), now.mean()))


def test_a_column_with_ties_has_a_distance_below_the_plain_one_and_within_what_it_says(
    line: Line,
) -> None:
    first, night = images(1, 400), images(2, 300, detection_max_confidence=lambda c: c * 0.8)
    line.compare(first, night)
    found = measure(line, "detection_max_confidence")
    exact = ks_2samp(first.detection_max_confidence, night.detection_max_confidence).statistic
    assert found.ks - 1e-6 <= exact <= found.ks_most + 1e-6


def test_bins_hold_on_more_images_than_fix_them(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SAMPLE", 64)
    first, night = images(1, 3000), images(2, 2000, anomaly_score=lambda a: a + 2)
    line.compare(first, night)
    found = measure(line, "anomaly_score")
    exact = ks_2samp(first.anomaly_score, night.anomaly_score).statistic
    assert found.ks <= exact + 1e-6 <= found.ks_most + 2e-6
    assert found.ks == pytest.approx(exact, abs=0.03)
    assert found.wasserstein == pytest.approx(2, abs=0.3)
    assert found.psi == pytest.approx((2 / first.anomaly_score.std()) ** 2, rel=0.3)


def test_the_order_and_the_files_of_a_run_change_nothing(line: Line, tmp_path: Path) -> None:
    first, night = images(1, 500), images(2, 500, brightness=lambda b: b - 3)
    line.compare(first, night)
    other = Line(tmp_path / "other")
    shuffled = first.sample(frac=1, random_state=0)
    other.publish("first", shuffled[:77], shuffled[77:301], shuffled[301:])
    mixed = night.sample(frac=1, random_state=1)
    other.publish("night", *(mixed[place::5] for place in range(5)))
    other.monitor()
    pd.testing.assert_frame_equal(line.read("drift"), other.read("drift"), rtol=1e-9)


def test_rates_of_a_policy_in_both_runs_with_their_intervals(line: Line) -> None:
    first, night = images(1, 400), images(2, 300, anomaly_score=lambda a: 1.2 * a)
    file = line.policy("stop", "anomaly_score", 24.0)
    report = line.compare(first, night, policies=file)
    rates = line.read("flagged").set_index("of")
    hits = []
    for of, frame in (("reference", first), ("run", night)):
        flagged = int((frame.anomaly_score.astype(np.float32) >= 24).sum())
        hits.append(flagged)
        row = rates.loc[of]
        assert (row.flagged, row.images) == (flagged, len(frame))
        wilson = binomtest(flagged, len(frame)).proportion_ci(method="wilson")
        exact = binomtest(flagged, len(frame)).proportion_ci(method="exact")
        assert (row.low, row.high) == pytest.approx((wilson.low, wilson.high))
        assert (row.least, row.most) == pytest.approx((exact.low, exact.high))
    table = [[hits[0], 400 - hits[0]], [hits[1], 300 - hits[1]]]
    assert measure(line, "stop").chance == pytest.approx(fisher_exact(table).pvalue)
    assert measure(line, "stop").verdict == "drift"
    assert "stop flags" in entry(report)["reason"]


def test_policies_that_decide_alike_are_counted_once_and_named_each(line: Line) -> None:
    first, night = images(1, 400), images(2, 300, anomaly_score=lambda a: 1.2 * a)
    stop = line.policy("stop", "anomaly_score", 19.0)
    alone = line.compare(first, night, policies=stop)
    before, rates = measure(line, "stop"), line.read("flagged").drop(columns="policy")
    assert before.verdict == "watch"
    report = line.monitor(policies=(stop, line.policy("copy", "anomaly_score", 19.0)))
    assert report["verdict"] == alone["verdict"]
    flagged = line.read("flagged").set_index("policy")
    assert (flagged.flagged <= flagged.images).all()
    for name in ("stop", "copy"):
        now = measure(line, name)
        for figure in ("verdict", "chance", "reference_value", "value"):
            assert now[figure] == before[figure]
        pd.testing.assert_frame_equal(flagged.loc[name].reset_index(drop=True), rates)
        assert f"{name} flags" in entry(report)["reason"]


def test_scores_near_a_threshold_are_counted_in_both(line: Line) -> None:
    first, night = images(1, 400), images(2, 300)
    file = line.policy("stop", "anomaly_score", 22.0)
    line.compare(first, night, policies=file, near=0.2)
    (row,) = line.read("near").to_dict("records")
    spread = np.subtract(*np.quantile(first.anomaly_score, [0.75, 0.25])) / 1.349
    assert row["within"] == pytest.approx(0.2 * spread, rel=1e-3)
    for name, frame in (("reference_near", first), ("near", night)):
        assert row[name] == (np.abs(frame.anomaly_score - 22) <= row["within"]).sum()
    assert (row["reference_images"], row["images"]) == (400, 300)


# --- verdicts ---


def test_a_night_like_the_reference_is_ok_and_exits_with_0(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.publish("first", images(1))
    line.publish("night", images(2))
    assert monitor.main(line.arguments()) == 0
    assert "night against first: ok" in capsys.readouterr().out
    assert set(line.read("drift").verdict) == {"ok"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"brightness": lambda b: 0.79 * b}, "brightness fell by 21 %"),
        ({"sharpness": lambda s: 0.6 * s}, "sharpness fell by 40 %"),
        ({"contrast": lambda c: 1.3 * c}, "contrast rose by 30 %"),
        ({"bytes": lambda b: 2 * b}, "file size rose by 100 %"),
        ({"format": "JPEG"}, "format JPEG: 0 % of the images, now 100 %"),
        ({"width": 1280}, "size 1280 × 480: 0 % of the images, now 100 %"),
        ({"anomaly_score": lambda a: 1.3 * a}, "mean anomaly_score rose from"),
        ({"defect_logit": lambda a: a + 2}, "mean defect_logit rose from"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_change_is_drift_with_its_reason_and_nothing_else(
    line: Line, change: dict, says: str
) -> None:
    report = line.compare(images(1), images(2, **change))
    assert report["verdict"] == "drift"
    reason = entry(report)["reason"]
    assert reason.startswith(says)
    drift = line.read("drift").set_index("measure").verdict
    assert list(drift[drift != "ok"].index) == ["size" if "width" in change else next(iter(change))]
    assert ("look at where camera and part stand" in reason) == (
        next(iter(change)) in ("anomaly_score", "defect_logit")
    )


def test_one_category_drifts_and_the_other_does_not(line: Line) -> None:
    line.publish("first", images(1), images(2, category="bolt"), images(3, category=None))
    line.publish(
        "night",
        images(4),
        images(5, category="bolt", brightness=lambda b: 0.7 * b),
        images(6, category=None),
    )
    report = line.monitor()
    assert report["verdict"] == "drift"
    verdicts = {one["category"]: one["verdict"] for one in report["categories"]}
    assert verdicts == {"bolt": "drift", "tile": "ok", None: "ok"}


def test_what_is_more_than_chance_but_small_is_no_alarm(line: Line) -> None:
    """With many images every difference is more than chance; it has to matter as well."""
    first = images(1, 8000)
    report = line.compare(first, images(2, 8000, anomaly_score=lambda a: a * 1.02))
    assert measure(line, "anomaly_score").corrected < 1e-6
    assert report["verdict"] == "ok"
    report = line.compare(first, images(2, 8000, anomaly_score=lambda a: a * 1.07))
    assert measure(line, "anomaly_score").verdict == report["verdict"] == "watch"
    assert monitor.main(line.arguments(name="again")) == 0
    # A lamp held to a thousandth: plain to see, and of no meaning for a score.
    steady = images(3, 2000, brightness=np.random.default_rng(0).normal(131, 0.1, 2000))
    moved = images(4, 2000, brightness=np.random.default_rng(1).normal(132, 0.1, 2000))
    assert line.compare(steady, moved)["verdict"] == "watch"
    assert "brightness rose by 1 %" in entry(line.monitor())["reason"]


def test_errors_that_come_are_drift(line: Line) -> None:
    line.publish("first", images(1), errors=[failed(3), failed(5, kind="not_found")])
    line.publish("night", images(2), errors=[failed(60), failed(5, kind="not_found")])
    report = line.monitor()
    assert report["verdict"] == "drift"
    share = 100 * 60 / 365
    assert (
        f"images that failed with truncated: {100 * 3 / 308:.3g} %, now {share:.3g} %"
        in (entry(report)["reason"])
    )
    assert measure(line, "not_found").verdict == "ok"


def test_a_camera_whose_every_image_fails_is_drift_though_no_score_is_left(line: Line) -> None:
    line.publish("first", images(1), images(2, category="bolt"))
    line.publish("night", images(3), errors=[failed(200, category="bolt")])
    report = line.monitor()
    assert report["verdict"] == "drift"
    bolt = entry(report, "bolt")
    assert bolt["verdict"] == "drift"
    assert bolt["reason"].startswith("images that failed with truncated: 0 %, now 100 %")
    assert "too few images: this run has 0 with scores" in bolt["reason"]


def test_scores_that_are_missing_are_drift(line: Line) -> None:
    gone = images(2)
    gone.loc[:99, "anomaly_score"] = np.nan
    report = line.compare(images(1), gone)
    assert "100 images are without it" in entry(report)["reason"]
    assert measure(line, "anomaly_score").missing == 100
    report = line.compare(images(1), images(2, anomaly_score=np.nan))
    assert "anomaly_score is missing in every image" in entry(report)["reason"]


def test_a_model_that_is_off_in_both_is_no_finding(line: Line) -> None:
    off = {"defect_logit": np.nan, "detection_count": np.nan, "detection_max_confidence": np.nan}
    report = line.compare(images(1, **off), images(2, **off))
    assert report["verdict"] == "ok"
    assert "defect_logit" not in set(line.read("drift").measure)
    report = line.compare(images(1, **off), images(2))
    assert "defect_logit, detection" in entry(report)["reason"].replace("detection_max", "")
    assert measure(line, "defect_logit").verdict == "not_comparable"


# --- what is compared ---


def test_copies_of_a_part_are_no_proof(line: Line) -> None:
    """Twelve parts a night, each twenty times: their scores differ from night to night."""

    def parts(seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        of = np.repeat(np.arange(12), 20)
        score = rng.normal(20, 4, 12)[of] + rng.normal(0, 0.05, 240)
        return images(seed, 240, anomaly_score=score, group_id=of + 1000 * seed)

    report = line.compare(parts(1), parts(2), min_images=10)
    assert report["verdict"] == "ok"
    found = entry(report)
    assert (found["independent"], found["reference_images"]) == (pytest.approx(12), 240)
    with pytest.raises(InputError, match=r"has 240 with scores, worth 12\.0 indep"):
        line.monitor()
    alone = [frame.drop(columns="group_id") for frame in (parts(1), parts(2))]
    assert line.compare(*alone)["verdict"] == "drift"


def test_images_that_the_gaussians_know_are_left_out(line: Line) -> None:
    fit = images(1, 200, role="fit", anomaly_score=lambda a: 0.5 * a)
    line.publish("first", fit, images(2, 200, role="test"))
    line.publish("night", images(3, 200))
    report = line.monitor()
    assert report["verdict"] == "ok"
    assert entry(report)["reference_images"] == 200
    assert any("other rows are compared" in warning for warning in report["warnings"])
    assert line.monitor(roles=("fit", "none"))["verdict"] == "drift"


def test_defects_of_the_reference_can_be_left_out(line: Line) -> None:
    good = images(1, 200, is_defect=False)
    defects = images(2, 200, is_defect=True, anomaly_score=lambda a: 2 * a)
    line.publish("first", good, defects)
    line.publish("night", images(3, 200))
    report = line.monitor()
    assert report["verdict"] == "drift"
    assert any("good_only=true" in warning for warning in report["warnings"])
    report = line.monitor(good_only=True)
    assert (report["verdict"], report["warnings"]) == ("ok", [])
    assert entry(report)["reference_images"] == 200


def test_a_clock_that_runs_backwards_between_nights_changes_nothing(line: Line) -> None:
    first, night = images(1), images(2, brightness=lambda b: 0.8 * b)
    reports = []
    for at in ("2026-03-01T00:00:00+00:00", "1970-01-01T00:00:00+00:00"):
        line.publish("first", first)
        line.publish("night", night, finished_at=at)
        reports.append(line.monitor())
        assert reports[-1]["run"]["finished_at"] == at
    assert reports[0]["categories"] == reports[1]["categories"]
    assert reports[1]["verdict"] == "drift"


def test_the_command_exits_with_3_on_drift(line: Line) -> None:
    line.publish("first", images(1))
    line.publish("night", images(2, brightness=lambda b: 0.7 * b))
    done = run_job("monitor", *line.arguments(), timeout=120)
    assert (done.returncode, done.stderr) == (3, "")
    assert "tile: brightness fell by 30 %" in done.stdout

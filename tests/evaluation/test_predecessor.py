"""The predecessor's table from its own scores, and the honest one of the images unseen before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, run_job
from tests.evaluation.reference import exact, score_interval
from tests.evaluation.tables import Bench

POLICIES = ROOT / "configs" / "policies" / "predecessor"
COUNTS = ("tn", "fp", "fn", "tp")
COLUMNS = {"is_defect": "label", "uri": "path"}


@pytest.fixture
def seed(shared: Path, bench: Bench) -> Bench:
    """Its scores as Parquet, and one table of its thresholds."""
    folder = shared / "seed"
    frame = pd.read_csv(folder / "mvtec_scores.csv")
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), bench.table)
    anomaly = json.loads((folder / "ad_resnet_mahalanobis_mvtec_all.json").read_text())
    of_all = json.loads((folder / "image_level_thresholds.json").read_text())
    table: dict[str, Any] = {
        f"cls_{name}": of_all["image_level_global"][f"tau_{tau}"]
        for name, tau in (("f1", "F1"), ("f2", "F2"), ("safe", "safe"))
    }
    table |= {
        f"ad_{name}": {category: values[f"tau_{tau}"] for category, values in anomaly.items()}
        for name, tau in (("f1", "F1"), ("f2", "F2"), ("safe", "safe"))
    }
    (bench.folder / "thresholds.json").write_text(json.dumps(table))
    return bench


def settings(seed: Bench) -> dict[str, Any]:
    return {"policies": str(POLICIES), "thresholds": str(seed.folder / "thresholds.json")}


def expected(shared: Path) -> dict[str, dict[str, int]]:
    frame = pd.read_csv(shared / "seed" / "expected_policy_counts.csv").set_index("policy")
    assert list(frame.index) == ["CLS_F1_ONLY", "AD_SAFE_ONLY", "OR_AD_SAFE_OR_CLS_SAFE"]
    return frame[list(COUNTS)].to_dict("index")


def overall(figures: pd.DataFrame) -> pd.DataFrame:
    return figures[figures.level == "all"].set_index("policy")


def test_its_three_policies_count_as_it_counted(seed: Bench, shared: Path) -> None:
    report = seed.evaluate(columns=COLUMNS, **settings(seed))
    assert report["rows"] == {"judged": 869, "left_out": 0}
    found = overall(seed.read("figures"))
    for policy, counts in expected(shared).items():
        assert found.loc[policy, list(COUNTS)].to_dict() == counts, policy
    assert "not known" in report["measured_on"]
    # Every policy that ships is evaluated, and the one that reads the truth is marked so.
    assert set(found.index) == {file.stem for file in POLICIES.glob("*.json")}
    assert found.index[found.oracle].tolist() == ["MIX_PAIRS"]
    assert found.loc["MIX_PAIRS", list(COUNTS)].to_dict() == {
        "tn": 233,
        "fp": 3,
        "fn": 0,
        "tp": 633,
    }


def test_on_images_that_the_classifier_never_saw_it_misses_7_of_102(seed: Bench) -> None:
    columns = COLUMNS | {"role": "classifier_split"}
    report = seed.evaluate(columns=columns, roles="test", **settings(seed))
    assert report["rows"] == {"judged": 134, "left_out": 735}
    one = overall(seed.read("figures")).loc["CLS_F1_ONLY"]
    assert (one.fn, one.defects, one.good) == (7, 102, 32)
    assert one.fnr == 7 / 102
    assert [one.fnr_low, one.fnr_high] == pytest.approx(score_interval(7, 102))
    assert [one.fnr_least, one.fnr_most] == pytest.approx(exact(7, 102))
    # The thresholds came from somewhere else, perhaps from these very rows.
    assert "not known" in report["measured_on"]
    assert "thresholds.json" in report["measured_on"]


def test_a_split_of_other_names_can_be_judged_too(seed: Bench) -> None:
    frame = pq.read_table(seed.table).to_pandas()
    for split, rows in frame.groupby("classifier_split"):
        columns = COLUMNS | {"role": "classifier_split"}
        report = seed.evaluate(columns=columns, roles=split, **settings(seed))
        assert report["rows"]["judged"] == len(rows), split
        assert str(split) in report["measured_on"]


def test_the_job_prints_it_from_a_process_of_its_own(seed: Bench, shared: Path) -> None:
    given = {f"columns.{meaning}": name for meaning, name in COLUMNS.items()}
    done = run_job("evaluate", *seed.arguments(**settings(seed), **given))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = overall(seed.read("figures"))
    for policy, counts in expected(shared).items():
        assert found.loc[policy, list(COUNTS)].to_dict() == counts, policy
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{policy} "))
        assert f"{counts['fn']} of 633: at most" in line
        assert f"{counts['fp']} of 236" in line
    assert "MIX_PAIRS (oracle: reads the truth)" in done.stdout
    assert str(seed.report) in done.stdout


def test_in_float32_one_good_image_changes_sides(seed: Bench) -> None:
    """What comparing in the column's own type is there for."""
    wide = overall_counts(seed)
    table = pq.read_table(seed.table)
    place = table.schema.get_field_index("ad_score")
    narrow = replace(seed, folder=seed.folder / "narrow")
    narrow.folder.mkdir()
    column = table.column("ad_score").cast(pa.float32())
    pq.write_table(table.set_column(place, "ad_score", column), narrow.table)
    changed = seed.evaluate(table=str(narrow.table), columns=COLUMNS, **settings(seed))
    assert changed["rows"]["judged"] == 869
    found = overall(seed.read("figures")).loc["AD_SAFE_ONLY"]
    assert (found.fp - wide.fp, found.fn - wide.fn) == (1, 0)


def overall_counts(seed: Bench) -> pd.Series:
    seed.evaluate(columns=COLUMNS, **settings(seed))
    return overall(seed.read("figures")).loc["AD_SAFE_ONLY"]

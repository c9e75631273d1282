"""Calibrating a published run: only its own rows, only what it may claim, nothing half-written."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.config import CalibrateConfig, load
from pipeline.errors import InputError
from pipeline.report.calibration import calibrate_summary
from pipeline.scoring.bundle import open_bundle
from pipeline.scoring.calibrate import RELIABILITY_TABLE, THRESHOLDS_TABLE, run_calibrate
from pipeline.scoring.calibration import probability_map, score_thresholds
from pipeline.scoring.calibration_rows import MODEL_OF, CalibrationRows, calibration_rows
from pipeline.stats.probability import apply_map
from pipeline.stats.selection import Rules
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest, write_manifest
from pipeline.tables.runs import RunPlaces, load_table
from pipeline.tables.schemas import RELIABILITY, THRESHOLDS
from tests.scoring.runs import FIT_IDS, MODELS, image_rows, make_bundle, make_run, usual_rows

SEEN = dict.fromkeys(MODELS, FIT_IDS)
COST = {"false_positive": 1, "false_negative": 20, "defect_rate": 0.01}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def config(store: str, **changes: Any) -> CalibrateConfig:
    return CalibrateConfig.model_validate({"run_id": "r", "store": store} | changes)


def prepared(
    store: str, rows: list[dict[str, Any]] | None = None, seen: Any = None, errors: Any = ()
) -> str:
    """A bundle and a run in the store; the bundle's place."""
    bundle = make_bundle(store, SEEN if seen is None else seen)
    make_run(store, bundle, usual_rows() if rows is None else rows, errors)
    return bundle


def thresholds(store: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = run_calibrate(config(store, **changes))["content"]["thresholds"]
    return found


def refused(store: str, **changes: Any) -> str:
    """What a calibration says that must leave the store as it was."""
    before = sorted(str(path) for path in Path(store).rglob("*"))
    with pytest.raises(InputError) as error:
        run_calibrate(config(store, **changes))
    assert sorted(str(path) for path in Path(store).rglob("*")) == before
    return str(error.value)


# --- what is found ---


def test_thresholds_are_those_of_the_validation_rows_and_of_no_others(store: str) -> None:
    rows = usual_rows()
    for row in rows:  # a test or fit row that took part would show
        if row["role"] in ("test", "fit"):
            row["anomaly_score"] = -1000.0 if row["is_defect"] else 1000.0
    prepared(store, rows)
    found = thresholds(store, cost=COST)
    assert list(found) == list(MODEL_OF)
    table = load_table(store, "r", "scores").to_pandas()
    for category in ("tile", "bolt"):
        mine = table[(table.category == category) & (table.role == "validation")]
        entry = found["anomaly_score"]["categories"][category]
        lowest = mine.anomaly_score[mine.is_defect.astype(bool)].min()
        assert np.float32(entry["safe"]["value"]) == lowest
        assert entry["safe"]["value"] == float(lowest)
        assert entry["safe"]["says"] == "0 missed of 20: FNR ≤ 13.92 % at 95 %"
        assert entry["safe"]["validation"]["defects"] == 20
        assert entry["safe"]["achieved"]["fn"] == 0
        normals = table[(table.category == category) & (table.role == "normal_calibration")]
        edge = np.sort(normals.anomaly_score.to_numpy())[-1]  # ⌊26 × 0.05⌋ = 1 may lie above
        assert entry["fpr"]["value"] == float(np.nextafter(edge, np.float32(np.inf)))
        assert list(entry) == ["f1", "f2", "safe", "fpr", "cost"]
    overall = found["anomaly_score"]["overall"]["safe"]
    assert overall["value"] == min(
        found["anomaly_score"]["categories"][name]["safe"]["value"] for name in ("tile", "bolt")
    )
    assert overall["bound"]["n"] == 40


def test_the_bundle_holds_json_and_tables_that_say_the_same(store: str) -> None:
    plain = prepared(store)
    report = run_calibrate(config(store, cost=COST))
    bundle = open_bundle("latest", store)
    assert bundle.uri == report["bundle"] != plain
    assert bundle.scorer_digest == open_bundle(plain, store).scorer_digest
    content = json.loads((bundle.folder / "thresholds.json").read_text())
    assert content == report["content"] == bundle.calibration
    assert content["provenance"]["run"]["run_id"] == "r"
    assert content["provenance"]["run"]["manifest_digest"] == "ab" * 32
    assert content["provenance"]["roles"]["validation"] == {
        "images": 100, "good": 60, "defects": 40, "unlabelled": 0, "errors": 0,
    }  # fmt: skip
    assert "exchangeable" in content["assumption"]
    table = pq.read_table(bundle.folder / THRESHOLDS_TABLE)
    assert table.schema.equals(THRESHOLDS, check_metadata=True)
    assert table.num_rows == len(MODEL_OF) * 3 * 5
    for row in table.to_pylist():
        found = content["thresholds"][row["score"]]
        category = row["category"]
        entry = (found["overall"] if category is None else found["categories"][category])[
            row["rule"]
        ]
        assert row["value"] == entry["value"]
        assert row["says"] == entry["says"]
        assert row["fn"] == entry["achieved"]["fn"]
        assert row["bound"] == (entry["bound"] or {}).get("at_most")
    bins = pq.read_table(bundle.folder / RELIABILITY_TABLE)
    assert bins.schema.equals(RELIABILITY, check_metadata=True)
    for rows in ("as_scored", "cross_validated"):
        assert pc.sum(bins.filter(pc.equal(bins["rows"], rows))["images"]).as_py() == 100


def test_the_probability_map_is_applied_to_logits_as_they_are_stored(store: str) -> None:
    prepared(store)
    facts = run_calibrate(config(store))["content"]["probability"]["defect_probability"]
    assert facts["from"] == "defect_logit"
    assert facts["map"]["method"] == "sigmoid"
    assert facts["validation"] == {"images": 100, "defects": 40, "without_score": 0}
    assert facts["ece"]["rows"] == "cross_validated"
    table = load_table(store, "r", "scores")
    table = table.filter(pc.equal(table["role"], "validation"))
    logits = table["defect_logit"].to_numpy().astype(np.float64)
    # Platt's fit keeps the mean: as many defects are predicted as there are.
    assert apply_map(facts["map"], logits).mean() == pytest.approx(0.4, abs=0.02)


def test_the_same_command_again_makes_the_same_bundle(store: str) -> None:
    prepared(store)
    first = run_calibrate(config(store))
    again = run_calibrate(config(store))  # `latest` is the calibrated one now
    assert again["bundle"] == first["bundle"]
    assert again["bundle_digest"] == first["bundle_digest"]
    other = run_calibrate(config(store, misses_allowed=1))
    assert other["bundle"] != first["bundle"]
    assert other["scorer_digest"] == first["scorer_digest"]


def test_the_summary_names_every_score_and_bound(store: str) -> None:
    prepared(store)
    text = calibrate_summary(run_calibrate(config(store)))
    assert "anomaly_score, tile: safe: 0 missed of 20: FNR ≤ 13.92 % at 95 %" in text
    assert "from 25 held-out normals: expected FPR ≤ 3.85 %" in text
    assert "defect_probability: sigmoid on 100 images" in text
    assert "exchangeable" in text


# --- categories and labels that lack something ---


def test_a_category_without_defects_falls_back_and_says_so(store: str) -> None:
    rows = [r for r in usual_rows() if r["category"] == "tile" or not r["is_defect"]]
    prepared(store, rows)
    entry = thresholds(store)["anomaly_score"]["categories"]["bolt"]
    assert {rule: entry[rule]["fallback"] for rule in entry} == {
        "f1": "fpr", "f2": "fpr", "safe": "fpr", "fpr": None,
    }  # fmt: skip
    assert entry["safe"]["value"] == entry["fpr"]["value"]
    assert entry["safe"]["says"].startswith("fallback to fpr, no defect in validation")
    assert "(fpr)" in calibrate_summary(run_calibrate(config(store)))


def test_no_defects_anywhere_fall_back_everywhere(store: str) -> None:
    prepared(store, [row for row in usual_rows() if not row["is_defect"]])
    report = run_calibrate(config(store))
    for score in report["content"]["thresholds"].values():
        for rules in (score["overall"], *score["categories"].values()):
            assert rules["safe"]["fallback"] == "fpr"
            assert rules["safe"]["value"] is not None
    assert report["content"]["probability"]["defect_probability"]["map"] is None
    assert "no map: 0 defects and 60 good images" in calibrate_summary(report)


def test_neither_defects_nor_enough_normals_are_refused(store: str) -> None:
    rows = [row for row in usual_rows(["tile"]) if not row["is_defect"]]
    normals = [row for row in rows if row["role"] == "normal_calibration"][:18]
    prepared(store, [row for row in rows if row["role"] == "validation"] + normals)
    message = refused(store)
    assert "no threshold can be found" in message
    assert "no defect in validation; infinite: 18 held-out normals" in message


def test_rows_without_a_label_or_a_category_are_counted(store: str) -> None:
    rows = usual_rows()
    rows += image_rows(5000, 7, "validation", None)
    rows += image_rows(6000, 3, "validation", True, category=None)
    prepared(store, rows)
    content = run_calibrate(config(store))["content"]
    assert content["provenance"]["roles"]["validation"] == {
        "images": 110, "good": 60, "defects": 43, "unlabelled": 7, "errors": 0,
    }  # fmt: skip
    found = content["thresholds"]["anomaly_score"]
    assert found["overall"]["safe"]["validation"]["defects"] == 43
    assert sorted(found["categories"]) == ["bolt", "tile"]


def test_images_that_could_not_be_scored_are_missed_defects(store: str) -> None:
    """One has no distance, one could not be read at all: both stand in the counts."""
    rows = usual_rows(["tile"])
    rows += image_rows(5000, 1, "validation", True, anomaly_score=None)
    error = {
        "image_id": 6000, "uri": "gone.png", "category": "tile", "role": "validation",
        "group_id": 6000, "is_defect": True, "error_type": "not_found", "error_message": "gone",
    }  # fmt: skip
    prepared(store, rows, errors=[error])
    safe = thresholds(store)["anomaly_score"]["categories"]["tile"]["safe"]
    assert safe["value"] is None
    assert safe["validation"]["defects"] == 22
    assert safe["validation"]["defects_without_score"] == 2
    assert "2 of 22 defects have no score" in safe["says"]
    two = thresholds(store, misses_allowed=2)["anomaly_score"]["categories"]["tile"]["safe"]
    assert two["says"].startswith("2 missed of 22 (allowed: 2)")
    caught = thresholds(store, missing_scores="flagged")
    safe = caught["anomaly_score"]["categories"]["tile"]["safe"]
    assert safe["says"] == "0 missed of 22: FNR ≤ 12.74 % at 95 %"
    f1 = caught["anomaly_score"]["categories"]["tile"]["f1"]
    assert f1["achieved"]["tp"] + f1["achieved"]["fn"] == 22
    report = run_calibrate(config(store, misses_allowed=2))
    assert "1 that could not be scored" in calibrate_summary(report)


def test_unknown_groups_take_the_bound_away(store: str) -> None:
    rows = usual_rows()
    next(row for row in rows if row["role"] == "validation")["group_id"] = None
    prepared(store, rows)
    found = thresholds(store)["anomaly_score"]["categories"]
    assert found["tile"]["safe"]["bound"] is None
    assert found["tile"]["safe"]["says"].endswith(
        "no bound, group_id is null in 1 of 50 rows, which may be alike"
    )
    assert found["bolt"]["safe"]["bound"]["n"] == 20


def test_alike_images_count_once(store: str) -> None:
    rows = usual_rows()
    for row in rows:
        row["group_id"] //= 2
    prepared(store, rows)
    safe = thresholds(store)["anomaly_score"]["categories"]["tile"]["safe"]
    assert safe["validation"]["defects"] == 20
    assert safe["bound"]["n"] == 10
    assert "of 10: FNR ≤ 25.89 %" in safe["says"]


# --- leaks ---


@pytest.mark.parametrize("role", ["test", "fit", None])
def test_a_row_of_another_role_is_an_error(store: str, role: str | None) -> None:
    prepared(store)
    rows = calibration_rows(store, "r")
    place = rows.validation.schema.get_field_index("role")
    roles = pa.array(["validation"] * (len(rows.validation) - 1) + [role], pa.string())
    leaked = rows.validation.set_column(place, "role", roles)
    changed = CalibrationRows("r", leaked, rows.normals, rows.everything, rows.columns, rows.facts)
    with pytest.raises(InputError, match=f"calibrate: image .* has the role {role!r}"):
        score_thresholds(changed, "anomaly_score", Rules(), None)
    with pytest.raises(InputError, match=f"calibrate: image .* has the role {role!r}"):
        probability_map(leaked, "sigmoid")
    swapped = CalibrationRows(
        "r", rows.validation, leaked, rows.everything, rows.columns, rows.facts
    )
    with pytest.raises(InputError, match=r"calibrate: image .* outside normal_calibration"):
        score_thresholds(swapped, "anomaly_score", Rules(), None)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seen", [105, 305])
def test_a_row_that_a_model_has_seen_is_refused_for_its_scores_alone(
    store: str, model: str, seen: int
) -> None:
    prepared(store, seen=SEEN | {model: [*FIT_IDS, seen]})
    message = refused(store)
    assert f"bundle: its {model} has seen image {seen}" in message
    assert "1 of the 150 rows" in message
    others = [column for column, of in MODEL_OF.items() if of != model]
    assert f"scores=[{','.join(others)}]" in message
    assert list(thresholds(store, scores=others)) == others


def test_a_near_duplicate_of_a_seen_image_is_refused(store: str) -> None:
    rows = usual_rows()
    alike = next(row for row in rows if row["role"] == "validation")
    alike["group_id"] = next(row for row in rows if row["role"] == "fit")["group_id"]
    prepared(store, rows)
    assert f"has seen image {alike['image_id']} or one of its group" in refused(store)


def leave_fit_images_to_an_earlier_run(store: str, rows: list[dict[str, Any]]) -> str:
    """The run `r` of some rows that were scored with `skip_scored`; its manifest's place.

    The manifest holds all of the rows; those with the role fit have an earlier run's score.
    """
    new = [row for row in rows if row["role"] != "fit"]
    prepared(store, new)
    manifest = storage.join(store, "manifests", "m.parquet")
    columns = {
        name: [row[name] for row in rows] for name in ("image_id", "uri", "category", "group_id")
    }
    write_manifest(manifest, pa.table(columns | {"sha256": ["ab" * 32] * len(rows)}))
    places = RunPlaces(store, "r")
    storage.write_json(places.record, {"config": {"manifest": manifest}})
    digest = open_manifest(manifest).digest
    left = {"skipped": len(rows) - len(new), "skipped_by": ["e"], "manifest_digest": digest}
    storage.write_json(places.published, storage.read_json(places.published) | left)
    return manifest


def test_a_near_duplicate_of_a_seen_image_that_an_earlier_run_has_is_refused(store: str) -> None:
    rows = usual_rows()
    alike = next(row for row in rows if row["role"] == "validation")
    alike["group_id"] = next(row for row in rows if row["role"] == "fit")["group_id"]
    leave_fit_images_to_an_earlier_run(store, rows)
    message = refused(store)
    assert f"has seen image {alike['image_id']} or one of its group" in message
    assert "1 of the 150 rows" in message


def test_images_left_to_earlier_runs_take_no_bound_where_their_groups_are_known(store: str) -> None:
    leave_fit_images_to_an_earlier_run(store, usual_rows())
    content = run_calibrate(config(store))["content"]
    found = content["thresholds"]["anomaly_score"]
    assert found["overall"]["safe"]["bound"]["n"] == 40
    assert sorted(found["categories"]) == ["bolt", "tile"]
    assert content["provenance"]["models"]["gaussians"] == "saw none of these images"


@pytest.mark.parametrize("fate", ["gone", "written anew", "not named", "not recorded"])
def test_without_the_manifest_images_left_to_earlier_runs_take_the_bounds_away(
    store: str, fate: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are made anew with each split, so that an earlier run's rows can't tell them."""
    manifest = leave_fit_images_to_an_earlier_run(store, usual_rows())
    record = RunPlaces(store, "r").record
    if fate == "gone":
        Path(manifest).unlink()
    elif fate == "written anew":
        rows = pq.read_table(manifest)
        write_manifest(manifest, rows.slice(1))
    elif fate == "not named":
        storage.write_json(record, {"config": None})
    else:
        Path(record).unlink()
    monkeypatch.setattr(logging.getLogger("linescore"), "propagate", True)
    with caplog.at_level("WARNING", "linescore"):
        content = run_calibrate(config(store))["content"]
    assert "40 images were left to earlier runs" in caplog.text
    for column in ("anomaly_score", "defect_logit"):
        for rule in ("safe", "fpr"):
            entry = content["thresholds"][column]["categories"]["tile"][rule]
            assert entry["value"] is not None
            assert entry["bound"] is None
            assert "40 images were left to earlier runs" in entry["says"]
    assert "saw none" not in content["provenance"]["models"]["gaussians"]


def test_a_model_without_a_record_gets_thresholds_without_a_bound(
    store: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(store, seen={"gaussians": FIT_IDS, "detector": FIT_IDS})
    monkeypatch.setattr(logging.getLogger("linescore"), "propagate", True)
    with caplog.at_level("WARNING", "linescore"):
        content = run_calibrate(config(store))["content"]
    assert "no record of the images that its classifier has seen" in caplog.text
    found = content["thresholds"]
    assert found["anomaly_score"]["categories"]["tile"]["safe"]["bound"] is not None
    for rule in ("safe", "fpr"):
        entry = found["defect_logit"]["categories"]["tile"][rule]
        assert entry["bound"] is None
        assert "no record of the images that its classifier has seen" in entry["says"]
        assert entry["value"] is not None
    assert content["provenance"]["models"]["gaussians"] == "saw none of these images"
    told = run_calibrate(config(store, assume_unseen=True))["content"]
    assert told["thresholds"]["defect_logit"]["categories"]["tile"]["safe"]["bound"] is not None
    assert told["provenance"]["models"]["classifier"].startswith("said to have seen none")


# --- what is given wrongly ---


def test_thresholds_of_a_run_of_another_scorer(store: str) -> None:
    bundle = prepared(store)
    other = make_bundle(store)  # fitted since, and `latest` now
    message = refused(store)
    assert "run_id: r: was scored with the scorer" in message
    assert other in message
    assert f"bundle={Path(bundle).name}" in message
    assert run_calibrate(config(store, bundle=Path(bundle).name))["bundle"]


def test_a_run_that_is_not_there(store: str) -> None:
    make_bundle(store)
    assert refused(store) == f"run r: isn't in the store {store}, which has no published run"


def test_a_run_without_roles(store: str) -> None:
    prepared(store, image_rows(0, 5, "test", True) + image_rows(10, 4, "fit", False))
    message = refused(store)
    assert "no labelled row with the role validation or normal_calibration" in message
    assert "test 5" in message
    assert "fit 4" in message


def test_a_defect_among_the_held_out_normals(store: str) -> None:
    prepared(store, usual_rows() + image_rows(7000, 2, "normal_calibration", True))
    message = refused(store)
    assert "image 7000 has the role normal_calibration and is a defect, as 2 of 52" in message


def test_a_score_that_the_run_has_not(store: str) -> None:
    rows = [row | {"defect_logit": None, "defect_probability": None} for row in usual_rows()]
    prepared(store, rows)
    message = refused(store, scores=["anomaly_score", "defect_logit"])
    assert "scores: defect_logit: is null throughout the run r" in message
    content = run_calibrate(config(store))["content"]
    assert "defect_logit" not in content["thresholds"]
    assert content["probability"] == {}


def test_isotonic_regression_on_too_few_images(store: str) -> None:
    prepared(store)
    message = refused(store, probability="isotonic")
    assert message.startswith("probability: isotonic: needs 1000 validation images")
    assert "there are 100" in message


def test_isotonic_regression_on_enough(store: str) -> None:
    rows = image_rows(10_000, 700, "validation", False) + image_rows(
        20_000, 300, "validation", True
    )
    prepared(store, rows + usual_rows()[:20])
    content = run_calibrate(config(store, probability="isotonic"))["content"]
    assert content["probability"]["defect_probability"]["map"]["method"] == "isotonic"


@pytest.mark.parametrize("value", ["0", "-1", ".inf", ".nan", "nan"])
@pytest.mark.parametrize("name", ["false_positive", "false_negative"])
def test_costs_that_are_none(name: str, value: str) -> None:
    values = COST | {name: value}
    settings = ["run_id=r", "store=s", *(f"cost.{key}={given}" for key, given in values.items())]
    with pytest.raises(InputError, match=rf"cost\.{name}: .*not '{value}'"):
        load(CalibrateConfig, None, settings)


@pytest.mark.parametrize(
    "setting",
    ["misses_allowed=-1", "confidence=1", "confidence=95", "false_positive_rate=0", "scores=[]",
     "scores=[anomaly]", "cost.defect_rate=1"],
)  # fmt: skip
def test_settings_outside_their_range(setting: str) -> None:
    with pytest.raises(InputError, match=setting.partition("=")[0].split(".")[0]):
        load(CalibrateConfig, None, ["run_id=r", "store=s", setting])

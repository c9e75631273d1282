"""Rows that trained a model or chose a threshold judge nothing unsaid, whatever their role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import CalibrateConfig
from pipeline.errors import InputError
from pipeline.scoring.bundle import TRAINED_ON_FILES, open_bundle
from pipeline.scoring.calibrate import run_calibrate
from pipeline.tables import storage
from pipeline.tables.manifest import open_manifest
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import MANIFEST
from tests.evaluation.tables import Bench, at_least
from tests.scoring.runs import FIT_IDS, image_rows, make_bundle, make_run, usual_rows

SAFE = at_least("anomaly_score", {"ref": "anomaly_score.safe"})
LOGIT = at_least("defect_logit", {"ref": "defect_logit.f1"})
# Defects of `usual_rows` that are tests there: the classifier below saw them under an older split.
TEST_IDS = [*range(400, 410), *range(1400, 1410)]
ROWS = usual_rows() + image_rows(8000, 5, "test", False)
HONEST = "no model behind these scores was trained and no threshold calibrated on them"


def calibrated(bench: Bench, classifier: list[int], detector: list[int] | None = None) -> str:
    """A run `r` and the bundle that was calibrated on it; its classifier has seen these ids."""
    store = str(bench.store)
    seen = {"gaussians": FIT_IDS, "classifier": classifier}
    if detector is not None:
        seen["detector"] = detector
    make_run(store, make_bundle(store, seen), ROWS)
    run_calibrate(CalibrateConfig(run_id="r", store=store))
    return open_bundle("latest", store).uri


def measured_on(bench: Bench, **changes: Any) -> str:
    return str(bench.evaluate(**({"table": None, "run_id": "r"} | changes))["measured_on"])


def test_a_split_made_anew_does_not_hide_what_the_classifier_has_seen(bench: Bench) -> None:
    calibrated(bench, [*FIT_IDS, *TEST_IDS[:12]])
    bench.policy("logit", LOGIT)
    says = measured_on(bench)
    assert "in-sample: 12 of 25 rows trained the classifier" in says
    assert "trained and no threshold" not in says
    assert bench.read("figures").measured_on.str.contains("in-sample: 12 of 25").all()
    # Another model's scores are none the worse for it.
    (bench.policies / "logit.json").unlink()
    bench.policy("safe", SAFE)
    assert measured_on(bench) == f"rows with the role test or none; {HONEST}"
    # The quality of a score is told too.
    assert "12 of 25 rows trained the classifier" in measured_on(bench, scores=("defect_logit",))


def test_a_manifest_that_was_never_split_does_not_hide_what_was_seen(bench: Bench) -> None:
    bundle = calibrated(bench, [*FIT_IDS, *TEST_IDS])
    unsplit = [
        one | {"role": None, "split": "train" if one["role"] == "fit" else "test"} for one in ROWS
    ]
    new = [one | {"role": None, "split": "test"} for one in image_rows(9000, 5, "", False)]
    make_run(str(bench.store), bundle, [*unsplit, *new], run_id="u")
    bench.policy("both", {"any": [SAFE, LOGIT]})
    says = measured_on(bench, run_id="u")
    assert says.startswith("rows outside the split train")
    # Of two categories 50 validated, 25 were normals and 10 tests; nobody has seen the 10 others.
    assert "in-sample: 20 of 180 rows trained the classifier" in says
    assert "in-sample: 150 of 180 rows chose the thresholds" in says
    assert "trained the Gaussians" not in says
    # The Gaussians' own rows, asked for by name.
    whole = measured_on(bench, run_id="u", roles="none")
    assert "in-sample: 40 of 220 rows trained the Gaussians" in whole


def test_what_can_not_be_looked_up_is_not_claimed(bench: Bench) -> None:
    bundle = calibrated(bench, FIT_IDS)
    store = str(bench.store)
    make_run(store, bundle, image_rows(9000, 8, "test", True), run_id="u")
    bench.policy("any", {"any": [SAFE, at_least("detection_max_confidence", 0.5)]})
    no_record = "whether they trained the detector is not known: the bundle has no record"
    assert measured_on(bench, run_id="u") == f"rows with the role test or none; {no_record}"
    # The run that chose the thresholds, published anew under its name, and gone.
    published = RunPlaces(store, "r").published
    storage.write_json(published, storage.read_json(published) | {"finished_at": "later"})
    assert "whether they chose the thresholds is not known: the run r was made anew" in (
        measured_on(bench, run_id="u")
    )
    storage.remove(published)
    assert "not known: the run r that it was made on can't be read" in (
        measured_on(bench, run_id="u")
    )
    # A record that was exchanged says nothing; neither does a bundle that is gone.
    bench.policy("any", at_least("defect_logit", 1))
    seen = Path(bundle) / TRAINED_ON_FILES["classifier"]
    assert "no model behind these scores was trained on them" in measured_on(bench, run_id="u")
    gone = "whether they trained a model is not known: the run's bundle can't be read"
    content = (Path(bundle) / TRAINED_ON_FILES["gaussians"]).read_bytes()
    seen.unlink()
    seen.write_bytes(content + b" ")
    assert measured_on(bench, run_id="u") == f"rows with the role test or none; {gone}"
    storage.remove(f"{store}/bundles")
    assert measured_on(bench, run_id="u") == f"rows with the role test or none; {gone}"


def test_a_bundle_in_another_store_is_found_through_the_run(bench: Bench, tmp_path: Path) -> None:
    calibrated(bench, TEST_IDS)
    other = tmp_path / "elsewhere"
    (bench.store / "bundles").rename(other)
    bench.policy("logit", at_least("defect_logit", 1))
    assert "can't be read" in measured_on(bench)
    (place,) = (one for one in other.iterdir() if (one / "thresholds.json").exists())
    storage.write_json(RunPlaces(str(bench.store), "r").record, {"bundle": {"uri": str(place)}})
    assert "in-sample: 20 of 25 rows trained the classifier" in measured_on(bench)


def test_rows_of_a_table_are_not_looked_up(bench: Bench) -> None:
    calibrated(bench, TEST_IDS)
    (table,) = (bench.store / "tables/scores").rglob("*.parquet")
    bench.policy("safe", SAFE)
    says = measured_on(bench, run_id=None, table=str(table))
    assert says.endswith("was not looked up: the table is no published run")


def test_files_that_were_looked_through_are_not_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(bench, TEST_IDS[:7])
    bench.policy("logit", LOGIT)
    plain = measured_on(bench)
    assert "in-sample: 7 of 25" in plain
    assert measured_on(bench, keep_cells=True) == plain
    (kept,) = (bench.store / "cells").rglob("overlaps-*.json")
    told = storage.read_json(str(kept))
    storage.write_json(str(kept), told | {"trained the classifier": [3]})
    assert "in-sample: 3 of 25" in measured_on(bench, keep_cells=True)
    # Another model has seen other images.
    make_run(str(bench.store), make_bundle(str(bench.store), {"classifier": [400]}), ROWS)
    bench.policy("logit", at_least("defect_logit", 1))
    assert "in-sample: 1 of 25" in measured_on(bench, keep_cells=True)


def alike(ids: list[int], group: int) -> list[dict[str, Any]]:
    """`ROWS`, some of them in one group."""
    return [one | ({"group_id": group} if one["image_id"] in ids else {}) for one in ROWS]


ALIKE = "3 of 25 rows are near-duplicates of images that trained the classifier"


def test_near_duplicates_of_what_was_seen_are_in_sample_too(bench: Bench) -> None:
    bundle = calibrated(bench, TEST_IDS[:4])
    store = str(bench.store)
    # Three tests show the part of one that the classifier has seen, one that of a validated image.
    grouped = alike([*TEST_IDS[3:7]], 77)
    grouped = [one | ({"group_id": 100} if one["image_id"] == 1409 else {}) for one in grouped]
    # Another run may call another part so.
    other = image_rows(9000, 5, "test", False, group_id=77)
    for run_id, rows in (("u", grouped), ("v", other)):
        make_run(store, bundle, rows, run_id=run_id)
    bench.policy("logit", LOGIT)
    says = measured_on(bench, run_id="u")
    assert "in-sample: 4 of 25 rows trained the classifier" in says
    assert f"in-sample: {ALIKE}" in says
    assert "in-sample: 1 of 25 rows are near-duplicates of images that chose the thr" in says
    both = measured_on(bench, run_id=["u", "v"])
    assert f"in-sample: {ALIKE.replace('25', '30')}" in both
    # Where no row says which are alike nobody is taken to be.
    make_run(store, bundle, [one | {"group_id": None} for one in ROWS], run_id="w")
    assert "near-duplicates" not in measured_on(bench, run_id="w")
    # An image that failed tells its group all the same.
    failed = [
        {name: one[name] for name in ("image_id", "uri", "category", "role", "group_id")}
        for one in grouped
        if one["image_id"] == TEST_IDS[3]
    ]
    failed = [one | {"error_type": "truncated", "error_message": "short"} for one in failed]
    scored = [one for one in grouped if one["image_id"] != TEST_IDS[3]]
    make_run(store, bundle, scored, failed, run_id="x")
    assert f"in-sample: {ALIKE.replace('25', '24')}" in measured_on(bench, run_id="x")


def test_near_duplicates_of_images_that_were_left_to_earlier_runs(bench: Bench) -> None:
    bundle = calibrated(bench, TEST_IDS[:4])
    store = str(bench.store)
    grouped = alike([*TEST_IDS[3:7]], 77)
    manifest = pa.table({f.name: [one.get(f.name) for one in grouped] for f in MANIFEST}, MANIFEST)
    place = f"{store}/manifests/all.parquet"
    storage.write_bytes(place, storage.parquet_bytes(manifest))
    night = [one for one in grouped if one["image_id"] in TEST_IDS[4:]]
    make_run(store, bundle, night, run_id="u")
    published = RunPlaces(store, "u").published
    facts = {"skipped": 200, "manifest_digest": open_manifest(place).digest}
    storage.write_json(published, storage.read_json(published) | facts)
    storage.write_json(RunPlaces(store, "u").record, {"config": {"manifest": place}})
    bench.policy("logit", LOGIT)
    says = measured_on(bench, run_id="u")
    assert "in-sample: 3 of 16 rows are near-duplicates of images that trained the cl" in says
    storage.remove(place)
    says = measured_on(bench, run_id="u")
    assert "images that trained or chose is not known: images of u were left to earlier" in says
    assert "no model behind these scores" not in says
    # What was found out before stays true.
    storage.write_bytes(place, storage.parquet_bytes(manifest))
    kept = measured_on(bench, run_id="u", keep_cells=True)
    storage.remove(place)
    assert "in-sample: 3 of 16 rows are near" in kept
    assert measured_on(bench, run_id="u", keep_cells=True) == kept


def test_groups_that_were_looked_through_are_not_read_again(bench: Bench) -> None:
    bundle = calibrated(bench, TEST_IDS[:4])
    make_run(str(bench.store), bundle, alike(TEST_IDS[3:7], 77), run_id="u")
    bench.policy("logit", LOGIT)
    plain = measured_on(bench, run_id="u")
    assert measured_on(bench, run_id="u", keep_cells=True) == plain
    (kept,) = (bench.store / "cells").rglob("alike-*.json")
    told = storage.read_json(str(kept))
    assert told["trained the classifier"] == TEST_IDS[4:7]
    storage.write_json(str(kept), {name: [] for name in told})
    assert "near-duplicates" not in measured_on(bench, run_id="u", keep_cells=True)


def test_near_duplicates_of_what_was_seen_certify_nothing(bench: Bench) -> None:
    seen = TEST_IDS[:10]
    bundle = calibrated(bench, seen)
    # Each shows a part that another one shows too; those that were seen neither choose nor judge.
    grouped = [
        one
        | ({"group_id": one["image_id"] % 1000} if one["image_id"] in TEST_IDS else {})
        | ({"role": "validation"} if one["image_id"] in seen else {})
        for one in ROWS
    ]
    make_run(str(bench.store), bundle, grouped, run_id="u")
    template = {"policy": "v1", "name": "p", "decide": at_least("defect_logit", {"var": "x"})}
    grid = {"x": {"values": [-1, 0, 1]}}
    file = bench.folder / "sweep.json"
    file.write_text(json.dumps({"sweep": "v1", "template": template, "variables": grid}))
    changes = {"table": None, "run_id": "u", "policies": None, "sweep": str(file)}
    changes["holdout"] = {"by": "group"}
    warnings = "\n".join(bench.evaluate(**changes)["sweep"]["warnings"])
    assert "rows are near-duplicates of images that trained the classifier" in warnings
    assert "rows trained" not in warnings
    with pytest.raises(InputError, match="rows that would certify are near-duplicates of images t"):
        bench.evaluate(**changes, guarantee="fnr<=0.5@0.9")


def test_a_sweep_warns_of_judges_that_a_model_has_seen(bench: Bench) -> None:
    calibrated(bench, TEST_IDS[:7], [])
    decide = {"any": [SAFE, at_least("defect_logit", {"var": "x"})]}
    template = {"policy": "v1", "name": "either", "decide": decide}
    grid = {"x": {"values": [-1, 0, 1]}}
    file = bench.folder / "sweep.json"
    file.write_text(json.dumps({"sweep": "v1", "template": template, "variables": grid}))
    changes = {"table": None, "run_id": "r", "policies": None, "sweep": str(file)}
    warnings = bench.evaluate(**changes)["sweep"]["warnings"]
    assert "rows that judge: in-sample: 7 of 25 rows trained the classifier" in warnings
    assert not any("chose the thresholds" in warning for warning in warnings)
    # And no guarantee is given by them.
    with pytest.raises(InputError, match="7 of 25 rows that would certify trained the classifier"):
        bench.evaluate(**changes, guarantee="fnr<=0.5@0.9")
